"""``model.normalize`` belongs to any model of a config; runs saved with ``mean`` and ``std`` are read as before."""

from pathlib import Path

import pytest
import torch
from torch import nn

from buttress import Data, Split
from buttress.config.file import load_config
from buttress.errors import ConfigError, ModelError
from buttress.nn import normalized
from buttress.training.assembly import assemble, build_model

NUMBERS = {"mean": [0.25], "std": [0.5]}


def data_of(*shape: int) -> Data:
    split = Split(torch.rand(8, *shape, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2)
    return Data(train=split, test=split, num_classes=2)


def config_of(folder: Path, model: str) -> Path:
    path = folder / "small.yaml"
    path.write_text(
        f"name: small\ndata: {{name: digits, batch_size: 4}}\nmodel: {model}\nthreat: {{norm: linf, eps: 1/10}}\n"
        "plugins: [clean]\noptimizer: {name: sgd, lr: 0.1}\nepochs: 1\n"
        "evaluation: {attack: {clean: {}}, best_by: test}\n"
    )
    return path


def built(folder: Path, model: str, data: Data | None = None) -> nn.Module:
    return build_model(load_config(config_of(folder, model)), data or data_of(1, 8, 8))[0]


def expect_normalized(folder: Path, model: str) -> None:
    plain, scaled = built(folder, "{name: preact_tiny, width: 2}").eval(), built(folder, model).eval()
    assert list(plain.state_dict()) == list(scaled.state_dict())
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(scaled(x), plain((x - 0.25) / 0.5))


def test_a_model_normalises_its_input(tmp_path: Path):
    expect_normalized(tmp_path, "{name: preact_tiny, width: 2, normalize: {mean: [1/4], std: [0.5]}}")


def test_mean_and_std_of_a_saved_config_are_its_normalisation(tmp_path: Path):
    expect_normalized(tmp_path, "{name: preact_tiny, width: 2, mean: [0.25], std: [0.5]}")


@pytest.mark.parametrize(
    "model",
    ["{name: preact_tiny, width: 2, mean: [0.25], std: [0.5]}", f"{{name: preact_tiny, normalize: {NUMBERS}}}"],
    ids=["old", "new"],
)
def test_a_run_records_the_normalisation_in_one_form(model: str, tmp_path: Path):
    assembly = assemble(load_config(config_of(tmp_path, model)), data_of(1, 8, 8), {}, tmp_path)
    section = assembly.resolved["model"]
    assert section["normalize"] == NUMBERS
    assert not {"mean", "std"} & set(section)


def test_means_and_deviations_that_are_null_are_none(tmp_path: Path):
    model = built(tmp_path, "{name: preact_tiny, width: 2, mean: null, std: null}")
    assert not hasattr(model, "normalize")


def test_a_sequential_of_flat_inputs_normalises_before_its_first_layer(tmp_path: Path):
    flat = built(tmp_path, "{name: mlp, normalize: {mean: [1, 2, 3], std: [1, 1, 2]}}", data_of(3))
    plain = built(tmp_path, "{name: mlp}", data_of(3))
    assert list(flat.state_dict()) == list(plain.state_dict())
    x = torch.rand(2, 3)
    torch.testing.assert_close(flat(x), plain((x - torch.tensor([1.0, 2, 3])) / torch.tensor([1.0, 1, 2])))


def test_a_model_of_ones_own_is_normalised_too(tmp_path: Path):
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.body = nn.Linear(64, 2)\n\n    def forward(self, x):\n        return self.body(x.flatten(1))\n"
    )
    scaled = built(tmp_path, f"{{target: 'own_net:Net', normalize: {NUMBERS}}}")
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(scaled(x), scaled.body(((x - 0.25) / 0.5).flatten(1)))
    assert list(scaled.state_dict()) == ["body.weight", "body.bias"]


def test_a_sequential_whose_first_layer_runs_twice_is_refused():
    layer = nn.Linear(3, 3)
    for model in (nn.Sequential(layer, layer), nn.Sequential()):
        with pytest.raises(ValueError, match="whose first layer runs once"):
            normalized(model, [0.0] * 3, [1.0] * 3, (3,))


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        ("{name: preact_tiny, normalize: {mean: [0.5]}}", ConfigError, "model.normalize.std: required"),
        ("{name: preact_tiny, mean: [0.5]}", ConfigError, "model.std: required"),
        ("{name: preact_tiny, normalize: {mean: [1, 2], std: [1]}}", ConfigError, "one value a channel, got 2 and 1"),
        ("{name: preact_tiny, normalize: {mean: [1], std: [0]}}", ConfigError, "without 0"),
        ("{name: preact_tiny, normalize: {mean: [1, 1], std: [1, 1]}}", ModelError, "expected 1 values, .* got 2"),
        ("{name: preact_tiny, normalize: [0.5, 0.5]}", ConfigError, "model.normalize"),
    ],
    ids=str,
)
def test_a_wrong_normalisation_is_refused(model: str, kind: type[Exception], message: str, tmp_path: Path):
    with pytest.raises(kind, match=message):
        built(tmp_path, model)
