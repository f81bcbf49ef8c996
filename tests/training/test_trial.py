"""Precisions and layouts that a config's model or device does not have: one error each, before anything is made."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from buttress.config.file import load_config
from buttress.errors import ConfigError, InputError, ModelError
from buttress.evaluation.subject import load_subject
from buttress.precision import Precision
from buttress.training.assembly import check_config
from buttress.training.trial import expect_precision

LAYERS = '''
"""Networks with a layer that some precision does not suit."""

import torch
from torch import nn


class Refusing(nn.Module):
    """As operations of torch do that have no kernel for bfloat16."""

    def forward(self, x):
        if x.dtype is torch.bfloat16:
            raise NotImplementedError("'spectrum' not implemented for 'BFloat16'")
        return x.abs()


class RefusingInEval(Refusing):
    def forward(self, x):
        return x if self.training else super().forward(x)


class _OfWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight.to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        if ctx.needs_input_grad[1] and grad.dtype is torch.bfloat16:
            raise NotImplementedError("no weight gradient in bfloat16")
        return grad * weight, (grad * x).sum(0) if ctx.needs_input_grad[1] else None


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x):
        return _OfWeights.apply(x, self.weight)


class Constant(nn.Module):
    """Its constant stays in float32."""

    def forward(self, x):
        return x @ torch.eye(8)


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("broken in any precision")


def net(layer: str) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), globals()[layer](), nn.BatchNorm1d(8), nn.Linear(8, 3))


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), Refusing(), nn.LazyLinear(3))
'''


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    rng, arrays = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        arrays |= {f"x_{split}": rng.random((6, 1, 4, 4), dtype=np.float32), f"y_{split}": np.arange(6) % 3}
    np.savez(folder / "six.npz", **arrays)
    (folder / "layers_for_trial.py").write_text(LAYERS)
    path = folder / "six.yaml"
    sections = {
        "name": "six",
        "data": {"name": "npz", "path": "six.npz", "batch_size": 3},
        "model": {"target": "layers_for_trial:lazy"},
        "threat": {"norm": "linf", "eps": "8/255"},
        "plugins": ["fgsm"],
        "optimizer": {"lr": 0.1},
        "epochs": 1,
        "precision": "float32",
    }
    path.write_text(yaml.safe_dump(sections, sort_keys=False))
    return path


def with_layer(name: str) -> str:
    return f"model={{target: 'layers_for_trial:net', args: {{layer: {name}}}}}"


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        (["precision=bf61"], ConfigError, r"precision: expected one of float32, .* got 'bf61'; did you mean 'bf16'\?"),
        (["precision=float16"], ConfigError, "precision: float16 is not offered: input gradients underflow"),
        (["precision={train: half}"], ConfigError, "precision: train: float16 is not offered"),
        (["precision={attack: float64}"], ConfigError, "precision: float64 is the dtype of the weights, so"),
        (["precision=tf32", "device=cpu"], ConfigError, "precision: model Sequential: precision tf32: .* on cpu"),
        (
            ["model={name: mlp, memory_format: channels_last}", "data={name: circles}", "threat.box=null"],
            ConfigError,
            "channels_last is a layout of images",
        ),
        (
            ["precision=bf16"],
            ModelError,
            r"precision: model Sequential does not give input gradients in bf16: NotImplementedError: .*BFloat16.*"
            r"\(layers_for_trial\.py:13\); in float32 it does: set precision: float32$",
        ),
        (
            [with_layer("Scaled"), "precision=bf16"],
            ModelError,
            r"does not give weight gradients in bf16: NotImplementedError: no weight gradient in bfloat16 .*set "
            r"precision: float32, or \{attack: bf16, train: float32, score: float32\}$",
        ),
        (
            [with_layer("RefusingInEval"), "precision={attack: bf16, train: bf16, score: bf16}"],
            ModelError,
            r"input gradients in bf16: .*, or \{attack: float32, train: bf16, score: float32\}$",
        ),
        (
            [with_layer("Constant"), "precision=float64"],
            ModelError,
            r"does not give input gradients in float64: RuntimeError: .*dtype.*; in float32 it does: set precision: "
            r"float32$",
        ),
        ([with_layer("Broken"), "precision=bf16"], ModelError, "cannot take inputs of shape .*broken in any precision"),
    ],
)
def test_it_is_one_error_before_anything_is_made(
    overrides: list[str], error: type[InputError], said: str, config: Path
):
    with pytest.raises(error, match=said):
        check_config(load_config(config, overrides))
    assert not (config.parent / "runs").exists()


@pytest.mark.parametrize("overrides", [[], ["precision={score: bf16}", with_layer("Scaled")], ["precision=float64"]])
def test_what_works_is_accepted(overrides: list[str], config: Path):
    check_config(load_config(config, overrides))


def test_an_evaluation_asks_for_the_precision_of_its_score_alone(config: Path):
    engine = check_config(load_config(config)).engine
    weights = config.parent / "w.pt"
    torch.save(engine.model.state_dict(), weights)
    text, other = config.read_text(), config.with_name("other.yaml")
    for precision in ("tf32", "bf16", "{attack: bf16, train: tf32}"):
        other.write_text(text.replace("precision: float32", f"precision: {precision}"))
        assert load_subject(weights, config=other).facts["precision"] == "float32"
        with pytest.raises(ConfigError, match=r"override 'precision=.*leaves evaluations in float32; give precision={"):
            load_subject(weights, config=config, overrides=[f"precision={precision}"])
    other.write_text(text.replace("precision: float32", "precision: {attack: float32}"))
    with pytest.raises(ConfigError, match=r"override 'precision.attack=bf16': .*leaves evaluations in float32"):
        load_subject(weights, config=other, overrides=["precision.attack=bf16"])
    with pytest.raises(ModelError, match=r"model Sequential does not give input gradients in bf16: .*: float32$"):
        load_subject(weights, config=config, overrides=["precision={score: bf16}"])


def test_no_trace_stays(config: Path):
    assembly = check_config(load_config(config, [with_layer("Scaled")]))
    model, x = assembly.engine.model, assembly.data.train.x[:2]
    before, drawn = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    expect_precision(model, x, Precision(), ("attack", "train"))
    with pytest.raises(ModelError, match="does not give weight gradients in bf16"):
        expect_precision(model, x, Precision.read("bf16"), ("attack", "train", "score"))
    assert torch.equal(torch.random.get_rng_state(), drawn)
    for name, value in model.state_dict(keep_vars=True).items():
        assert torch.equal(value, before[name])
        assert value.grad is None
    assert all(module.training for module in model.modules())
    assert all(weight.requires_grad for weight in model.parameters())


class Cached(nn.Module):
    """Keeps a tensor of its first forward, as positions of a network are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.utils.spectral_norm(nn.Linear(3, 3))
        self.scale: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.scale is None:
            self.scale = torch.ones(3).to(x) * self.layer.weight_orig.sum().detach()
        return self.layer(x * self.scale)


def test_no_tensor_of_a_trial_stays_in_an_attribute():
    model, x = Cached(), torch.rand(2, 3)
    expect_precision(model, x, Precision.read("float64"), ("attack",))
    expect_precision(model, x, Precision.read("bf16"), ("attack", "train"))
    assert model.scale is None
    copy.deepcopy(model)  # torch refuses a tensor with a graph
    assert model(x).dtype == torch.float32
