"""Models by target of kinds that nobody had in mind: they work, or are one message at their line, never a traceback."""

from pathlib import Path

import pytest
import yaml

from buttress.cli import main
from buttress.config.file import load_config
from buttress.errors import InputError
from buttress.training.assembly import check_config

from .conftest import CONFIG

NETS = '''
import warnings

import torch
from torch import nn


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


def plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


class Silent(nn.Sequential):
    """Whose train and to return nothing."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 4))

    def train(self, mode=True):
        super().train(mode)

    def to(self, *args, **kwargs):
        super().to(*args, **kwargs)


class Uninitialised(nn.Module):
    def __init__(self):
        pass

    def forward(self, x):
        return x


class Stubborn(Silent):
    def to(self, *args, **kwargs):
        raise RuntimeError("will not move")


class WithoutParameters(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :4]


class Abstract(nn.Module):
    def __new__(cls):
        return "no module"


class Exits(nn.Module):
    def __init__(self):
        raise SystemExit(3)


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return plain()


def lazy_that_cannot() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 1, 9), nn.LazyLinear(4))


def returns_a_class() -> nn.Module:
    return nn.Linear


def returns_nothing() -> nn.Module:
    pass


def returns_a_list() -> nn.Module:
    return [plain()]


def raises() -> nn.Module:
    raise KeyError("width")


def no_python() -> "this is no type":
    return plain()


def names_nothing() -> "Missing":
    return plain()


instance = plain()


def one() -> nn.Module:
    return instance


def frozen() -> nn.Module:
    return plain().requires_grad_(False)


def complex_weights() -> nn.Module:
    net = plain()
    net.odd = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    return net


def scripted() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):  # it is deprecated
        return torch.jit.script(plain())


def traced() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.trace(plain(), torch.rand(2, 1, 8, 8))


nothing = None
number = 3
lamb = lambda: plain()


def __getattr__(name):
    raise KeyError(name)
'''


@pytest.fixture
def odd(workspace: Path) -> Path:
    (workspace / "odd_nets.py").write_text(NETS)
    return workspace


def write(folder: Path, name: str) -> Path:
    config = {**CONFIG, "model": {"target": f"odd_nets:{name}"}, "plugins": [{"pgd": {"steps": 1}}], "epochs": 1}
    (folder / "odd.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / "odd.yaml"


@pytest.mark.parametrize("name", ["plain", "lazy", "Silent"])
def test_it_trains(name: str, odd: Path):
    assert main(["train", str(write(odd, name)), "--run", "a"]) == 0


def test_lazy_weights_follow_the_seed(odd: Path):
    def weights(seed: int) -> list[float]:
        model = check_config(load_config(write(odd, "lazy"), [f"seed={seed}"])).engine.model
        return [float(weight.detach().sum()) for weight in model.parameters()]

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


def test_lazy_weights_can_be_resumed_and_evaluated(odd: Path):
    assert main(["train", str(write(odd, "lazy")), "--run", "a", "checkpoint.every=1"]) == 0
    run = odd / "runs" / "small" / "a"
    assert main(["evaluate", str(run), "--attack", "fgsm"]) == 0
    assert main(["resume", str(run)]) == 0


MISTAKES = {
    "Uninitialised": r"model Uninitialised cannot be made ready for training: AttributeError",
    "Stubborn": r"model Stubborn cannot be made ready for training: RuntimeError: will not move",
    "WithoutParameters": r"model WithoutParameters has no parameters: there is nothing to train",
    "Abstract": r"expected an nn\.Module, got str",
    "Exits": r"refused args \{\}: SystemExit: 3 \(odd_nets\.py:",
    "on_meta": r"model Sequential cannot be made ready for training: NotImplementedError: Cannot copy out",
    "lazy_that_cannot": r"model Sequential cannot be made ready for training: RuntimeError: Given groups=1",
    "frozen": r"model Sequential: no parameter of the model requires a gradient",
    "complex_weights": r"model Sequential: parameter 'odd' is of complex numbers",
    "traced": r"model TopLevelTracedModule: it is TorchScript, .*; train the module that it was made of",
    "scripted": r"model RecursiveScriptModule: it is TorchScript, .*; train the module that it was made of",
    "returns_a_class": r"expected an nn\.Module, got type",
    "returns_nothing": r"expected an nn\.Module, got NoneType",
    "returns_a_list": r"expected an nn\.Module, got list",
    "raises": r"odd_nets:raises refused args \{\}: KeyError: 'width' \(odd_nets\.py:",
    "no_python": r"odd_nets:no_python is refused: expected a class derived from torch\.nn\.Module, or a function",
    "names_nothing": r"odd_nets:names_nothing is refused: expected a class derived",
    "instance": r"odd_nets:instance is refused: expected a class derived",
    "nothing": r"odd_nets:nothing is refused: expected a class derived",
    "number": r"odd_nets:number is refused: expected a class derived",
    "lamb": r"odd_nets:lamb is refused: expected a class derived",
    "not_there": r"module odd_nets has no 'not_there'",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_one_message_at_its_line(name: str, odd: Path):
    path = write(odd, name)
    with pytest.raises(InputError, match=rf"odd\.yaml:\d+: model\.target: .*{MISTAKES[name]}") as caught:
        check_config(load_config(path))
    assert "\n" not in str(caught.value)


def test_a_function_that_returns_one_module_for_ever_is_refused(odd: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", str(write(odd, "one"))]) == 2
    assert "odd_nets:one returned the module that it returned before" in capsys.readouterr().err
    assert not (odd / "runs").exists()
