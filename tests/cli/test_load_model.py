"""``buttress.load_model``: the model that ``evaluate`` attacks, in code of one's own."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import buttress
from buttress.errors import CheckpointError, ConfigError, DataError, InputError, ModelError, RunFolderError
from buttress.evaluation.subject import load_subject


@pytest.mark.parametrize("choice", [{}, {"checkpoint": "last"}, {"track": "meat", "checkpoint": "last"}], ids=str)
def test_the_model_is_the_one_that_is_evaluated(noisy: Path, choice: dict[str, str]):
    before = torch.random.get_rng_state()
    model, subject = buttress.load_model(noisy / "s0", **choice), load_subject(noisy / "s0", **choice)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not any(module.training for module in model.modules())
    expected = subject.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    name = f"{choice.get('checkpoint', 'best')}-{choice.get('track', 'live')}.safetensors"
    kept = load_file(noisy / "s0" / "weights" / name)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items() if name in kept)
    x = subject.data.test.x[:3]
    x.requires_grad_()
    model(x).sum().backward()  # a teacher or an attacked model: gradients go to inputs and weights
    assert x.grad is not None


def test_a_file_of_a_run_names_its_weights_and_so_does_a_checkpoint(noisy: Path, monkeypatch: pytest.MonkeyPatch):
    file = noisy / "s0" / "weights" / "last-live.safetensors"
    last = buttress.load_model(str(noisy / "s0"), checkpoint="last").state_dict()
    monkeypatch.chdir(file.parent)
    for model in (
        buttress.load_model(file),
        buttress.load_model(file.name),
        buttress.load_model(noisy / "s1", checkpoint=str(file)),
    ):
        assert all(torch.equal(value, last[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("path", "choice", "error", "message"),
    [
        ("s9", {}, RunFolderError, "s9 does not exist; expected a run folder"),
        (".", {}, RunFolderError, "is no run folder"),
        ("s0", {"track": "liev"}, InputError, "liev"),
        ("s0", {"checkpoint": "best.pt"}, CheckpointError, r"best\.pt does not exist"),
        ("s0", {"track": "live", "checkpoint": "x.safetensors"}, ConfigError, "one file of weights"),
        ("s0/weights/best-live.safetensors", {"track": "live"}, ConfigError, "track and checkpoint choose among"),
        ("s0/config.yaml", {}, ConfigError, r"lies in no run's folder weights/.*buttress\.nn\.load_weights"),
        ("alone.safetensors", {}, ConfigError, "lies in no run's folder"),
    ],
    ids=str,
)
def test_what_is_not_there_is_refused(
    noisy: Path, path: str, choice: dict[str, str], error: type[Exception], message: str
):
    shutil.copy(noisy / "s0" / "weights" / "best-live.safetensors", noisy / "alone.safetensors")
    with pytest.raises(error, match=message):
        buttress.load_model(noisy / path, **choice)


def test_damaged_weights_and_weights_of_another_model_are_refused(noisy: Path):
    file = noisy / "s0" / "weights" / "best-live.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises((CheckpointError, DataError)):
        buttress.load_model(noisy / "s0")
    torch.save({"w": torch.ones(2)}, noisy / "other.pt")
    with pytest.raises(ModelError, match="weights of another model"):
        buttress.load_model(noisy / "s1", checkpoint=str(noisy / "other.pt"))
