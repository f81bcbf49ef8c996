"""The state of a plugin comes back from a checkpoint as it was, or is refused in the plugin's name."""

import json
from pathlib import Path

import pytest

from buttress.cli import main
from buttress.config.file import load_config
from buttress.errors import HookError
from buttress.storage import seals
from buttress.storage.files import json_text
from buttress.testing import promises
from buttress.training.checkpoint import list_checkpoints
from buttress.training.launch import launch

from .conftest import Verb, stopped_at

NORMS = '''
"""Source: nobody."""
import torch
from buttress import hookimpl


class Norms:
    """Keeps a running norm of each layer's gradient, and scales by their sum."""

    def __init__(self) -> None:
        self.norms = {}

    @hookimpl
    def adjust_grads(self, model):
        for name, p in model.named_parameters():
            self.norms[name] = 0.9 * self.norms.get(name, torch.zeros(())) + 0.1 * p.grad.norm()
        total = torch.zeros(())
        for norm in self.norms.values():
            total = total + norm  # in float32 the order counts
        for p in model.parameters():
            p.grad.mul_(1 / (1 + total))

    def state_dict(self):
        return {"norms": dict(self.norms)}

    def load_state_dict(self, state):
        self.norms = dict(state["norms"])
'''

KEEPS = '''
"""Source: nobody."""
from buttress import hookimpl


class Keeps:
    """Keeps what no checkpoint can hold."""

    def __init__(self) -> None:
        self.steps = 0

    @hookimpl
    def adjust_grads(self):
        self.steps += 1

    def state_dict(self):
        return {state}

    def load_state_dict(self, state):
        pass
'''


@pytest.fixture(autouse=True)
def files(workspace: Path) -> None:
    (workspace / "norms.py").write_text(NORMS)


def keep(state: str) -> list[str]:
    """The words of a run whose plugin has that state."""
    Path("keeps.py").write_text(KEEPS.replace("{state}", state))
    return ["small.yaml", "plugins=[fgsm, keeps]", "plugins_file=keeps.py"]


STACKS = {
    "order of keys": ["plugins=[fgsm, norms]", "plugins_file=norms.py"],
    "order of records": ["plugins=[fgsm, drop_easy, rwp]"],
}


@pytest.mark.parametrize("stack", STACKS)
def test_a_resumed_run_has_the_order_that_its_state_had(expect: Verb, stack: str):
    words = ["small.yaml", *STACKS[stack], "log_every=3"]
    expect("train", *words, "--run", "whole")
    with stopped_at(5):
        expect("train", *words, "--run", "half", code=1)
    expect("resume", "runs/small/half")
    for name in ("metrics.jsonl", "weights/last-live.safetensors", "summary.json"):
        assert Path("runs/small/whole", name).read_bytes() == Path("runs/small/half", name).read_bytes(), name


def test_a_promise_notices_a_state_whose_order_is_lost(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    namespace: dict[str, type] = {}
    exec(NORMS, namespace)
    promise = next(each for each in promises(namespace["Norms"]) if str(each) == "plain_state")
    promise.check()
    monkeypatch.setattr(seals, "json_text", lambda value: json_text(value, sort_keys=True))
    monkeypatch.setattr(seals, "expect_seal", lambda path, found: None)
    monkeypatch.setattr("buttress.training.checkpoint_file.expect_seal", lambda path, found: None)
    with pytest.raises(AssertionError, match="does not come back from a checkpoint as it was"):
        promise.check()


@pytest.mark.parametrize("words", [["--dry-run"], []], ids=["dry run", "run"])
def test_a_state_that_no_checkpoint_can_hold_is_refused_before_the_run_folder_exists(expect: Verb, words: list[str]):
    said = expect("train", *keep('{"seen": [{1, 2}]}'), *words, code=2)
    assert "plugin 'keeps': its state at 'seen.0' cannot be kept in a checkpoint: " in said
    assert "expected tensors and plain values, got set; use sorted(value), a list" in said
    assert not Path("runs").exists()


def test_a_state_that_becomes_bad_later_costs_no_checkpoint(workspace: Path):
    config, *overrides = keep('{"seen": self.steps if self.steps < 6 else {self.steps}}')
    with pytest.raises(HookError, match="plugin 'keeps': its state at 'seen' cannot be kept in a checkpoint: "):
        launch(load_config(Path(config), overrides), Path("runs"), "a", forecast=False)
    newest, *_ = list_checkpoints(Path("runs/small/a/checkpoints"))
    assert json.loads(newest.read_text())["step"] == 4


def test_a_state_dict_that_raises_is_named(expect: Verb):
    said = expect("train", *keep("self.missing"), code=1)
    assert "plugin 'keeps': its state_dict raised AttributeError: " in said
    assert not Path("runs").exists()


def test_a_number_of_any_kind_can_be_recorded(workspace: Path):
    Path("records.py").write_text(
        "import numpy as np\nfrom buttress import hookimpl\n\n\nclass Records:\n"
        "    @hookimpl\n    def adjust_grads(self, ctx):\n        ctx.record('x', np.float64(0.5))\n"
    )
    words = ["small.yaml", "plugins=[fgsm, records]", "plugins_file=records.py", "epochs=1", "log_every=3"]
    assert main(["train", *words, "--run", "a"]) == 0
