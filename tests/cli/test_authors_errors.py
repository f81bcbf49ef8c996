"""An author's mistakes, each tried through ``buttress train``: one message with plugin, hook, file, line and cure."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .conftest import CONFIG, Verb

HEAD = "import torch\nfrom collections.abc import Callable\nfrom buttress import hookimpl\n"

HELPER = (
    HEAD
    + """
class Scale:
    @hookimpl
    def adjust_grads(self, model):
        for weight in model.parameters():
            weight.grad *= factor_of([])

def factor_of(factors):
    return first(factors)

def first(factors):
    return factors[0]
"""
)
GIVES = (
    HEAD
    + """
class Soften:
    gives = ("soft label",)

    @hookimpl
    def transform_batch(self, batch):
        return batch
"""
)
SETTING = (
    HEAD
    + """
class Decay:
    def __init__(self, *, rate: Callable[[int], float]) -> None:
        self.rate = rate

    @hookimpl
    def adjust_grads(self, model): ...
"""
)
DETACHED = (
    HEAD
    + """
class Detached:
    @hookimpl
    def compute_loss(self, model, batch, adv):
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")
"""
)


@pytest.fixture
def logs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of temporary files."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def error_of(text: str, name: str, expect: Verb, *words: str, code: int, **settings: object) -> str:
    """The one message of a run with the plugin ``name`` of a file that holds ``text``."""
    Path("mine.py").write_text(text)
    plugins = [{"pgd": {"steps": 1}}, {name: settings}]
    config = {**CONFIG, "epochs": 1, "plugins_file": "mine.py", "plugins": plugins}
    Path("own.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    output = expect("train", "own.yaml", "--run", "a", *words, code=code)
    (message,) = re.findall(r"^(?:error|buttress): (plugin .*|.*own\.yaml.*|.*Decay.*)\n((?:  .*\n)*)", output, re.M)
    return "\n".join(message)


def kept_log(message: str) -> str:
    """The text of the file that the message names."""
    (path,) = re.findall(r"The traceback is in (.*)", message)
    return Path(path).read_text()


def test_a_helper_that_raises_shows_its_own_line(expect: Verb, workspace: Path, logs: Path):
    message = error_of(HELPER, "scale", expect, code=1)
    assert re.match(r"plugin 'scale' \(mine\.py sha256:\w+\), hook adjust_grads, ", message)
    assert "  IndexError: list index out of range (mine.py:15)" in message
    assert str(logs) in message  # no run folder has been made when the cost is forecast
    assert 'mine.py", line 12, in factor_of' in kept_log(message)
    assert not Path("runs").exists()


def test_a_traceback_of_a_run_is_in_its_log(expect: Verb, workspace: Path, logs: Path):
    late = HELPER.replace("return factors[0]", "return factors[0] if Path('out/small/a').exists() else 1.0")
    late = late.replace("import torch\n", "import torch\nfrom pathlib import Path\n")
    message = error_of(late, "scale", expect, "--runs", "out", code=1)
    assert "The traceback is in out/small/a/log.txt" in message
    log = kept_log(message)
    assert log.startswith("loss: ")
    assert "in first\n" in log
    assert "IndexError: list index out of range" in log
    assert not list(logs.iterdir())


def test_a_misspelt_word_is_named_with_its_line(expect: Verb, workspace: Path, logs: Path):
    message = error_of(GIVES, "soften", expect, code=2)
    place = r"own\.yaml:\d+: plugins\.soften"
    assert re.match(rf"{place}: plugin 'soften' from mine\.py sha256:\w+: gives: unknown word 'soft label'", message)
    assert "did you mean 'soft labels'?" in message
    assert "(mine.py:6)" in message
    assert "Traceback" in kept_log(message)


def test_a_setting_that_no_config_can_hold_is_named_with_its_line(expect: Verb, workspace: Path, logs: Path):
    message = error_of(SETTING, "decay", expect, code=2, rate=1)
    assert re.search(r"setting 'rate' is a .*Callable\[\[int\], float\], and nothing in a config can be one", message)
    assert "take a name (str), a number, a bool, a Path" in message
    assert "and make the object in __init__" in message
    assert "(mine.py:6)" in message
    assert "Traceback" in kept_log(message)


def test_a_loss_without_a_graph_is_named_with_its_line(expect: Verb, workspace: Path, logs: Path):
    message = error_of(DETACHED, "detached", expect, code=1)
    assert re.match(r"plugin 'detached' \(mine\.py sha256:\w+\), hook compute_loss, epoch 1, step 1:\n", message)
    assert "expected losses with a gradient to the weights, got detached ones" in message
    assert "(mine.py:7)" in message
    assert "leave out detach() and torch.no_grad()" in message
    assert "Traceback" in kept_log(message)


def test_a_mistyped_key_needs_no_traceback(expect: Verb, workspace: Path, logs: Path):
    output = expect("train", "small.yaml", "epoch=3", code=2)
    assert "did you mean 'epochs'" in output
    assert "traceback" not in output
    assert not list(logs.iterdir())
