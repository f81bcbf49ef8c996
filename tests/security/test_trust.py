"""Code that came with a run or is named by a config runs only where its user has trusted it."""

import importlib
import importlib.machinery
import importlib.util
import itertools
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from buttress.authoring.targets import candidates
from buttress.cli import main
from buttress.components.own_folders import let_import
from buttress.components.own_imports import reached
from buttress.components.own_modules import import_target
from buttress.components.plugins_file import read_plugins_file
from buttress.components.trust import memory
from buttress.config.file import load_config
from buttress.config.own_code import OwnCode
from buttress.errors import TrustError

from .conftest import CANARY, CONFIG, executed

RUNS = {name: f"runs/tiny/{name}" for name in ("file", "attack", "target")}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("words", [("report",), ("config", "show"), ("config", "validate")], ids=" ".join)
def test_looking_at_a_run_executes_nothing_of_it(
    stranger: Path, words: tuple[str, ...], run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    looked_at = run if words == ("report",) else f"{run}/config.yaml"
    assert main([*words, looked_at]) == 0
    assert not executed()
    output = "".join(capsys.readouterr())
    assert ("are not checked" in output) == (words != ("report",))


def test_a_report_knows_the_attack_and_the_drops_of_code_that_it_does_not_execute(stranger: Path) -> None:
    from buttress.report.material import read_run

    assert read_run(Path(RUNS["attack"])).attack == "still"
    assert read_run(Path(RUNS["target"])).drops == [1]
    assert not executed()


@pytest.mark.parametrize("run", [RUNS["attack"], RUNS["target"]], ids=["file", "target"])
@pytest.mark.parametrize(
    "words",
    [
        "resume {run}",
        "reproduce {run} --run again",
        "analyze {run} --part gap",
        "train {run}/config.yaml --dry-run",
        "train {run}/config.yaml",
        "compare {run}/config.yaml --seeds 1",
        "search {run}/config.yaml optimizer.lr=0.1:1",
        "ensemble {run}/weights/best-live.safetensors --output all.safetensors --reestimate {run}",
        "ensemble {run}/weights/best-live.safetensors --output all.safetensors --reestimate {run}/config.yaml",
        "evaluate {run}/weights/best-live.safetensors --config {run}/config.yaml --attack still",
    ],
    ids=[
        "resume",
        "reproduce",
        "analyze",
        "dry_run",
        "train",
        "compare",
        "search",
        "ensemble",
        "ensemble_config",
        "evaluate_file",
    ],
)
def test_what_needs_the_code_of_a_run_asks(
    stranger: Path, words: str, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().rglob("*"))
    assert main(words.format(run=run).split()) == 2
    assert not executed()
    assert sorted(Path().rglob("*")) == before
    output = capsys.readouterr().err
    if "--attack still" in words and "target" in run:
        return  # refused, since the config has no such attack
    names = ("own_net.py", "helper.py") if "target" in run else ("mine.py",)
    assert all(name in output for name in names)
    assert all(word in output for word in ("sha256 ", " bytes", "--trust", str(memory())))


@pytest.mark.parametrize(
    "words",
    [
        "evaluate {run} --attack fgsm",
        "audit {run} --examples 8",
        "export {run} --output shelf",
        'pseudo-label {run} --data {{"name":"npz","path":"tiny.npz"}} --output labels.npz',
    ],
    ids=["evaluate", "audit", "export", "pseudo_label"],
)
def test_weights_of_an_installed_model_need_no_code_of_the_run(stranger: Path, words: str) -> None:
    assert main(words.format(run=RUNS["attack"]).split()) in (0, 1)  # an audit may fail
    assert not executed()
    assert main(words.format(run=RUNS["target"]).split()) == 2
    assert not executed()


def test_the_runs_own_attack_asks(stranger: Path) -> None:
    assert main(["evaluate", RUNS["attack"]]) == 2
    assert not executed()
    assert main(["evaluate", RUNS["attack"], "--trust"]) == 0
    assert executed()


@pytest.mark.parametrize("run", ["file", "target"])
def test_trust_is_given_once(stranger: Path, run: str) -> None:
    assert main(["train", f"{RUNS[run]}/config.yaml", "--dry-run", "--trust"]) == 0
    assert executed()
    assert main(["train", f"{RUNS[run]}/config.yaml", "--dry-run"]) == 0
    assert executed()
    assert main(["config", "validate", f"{RUNS[run]}/config.yaml"]) == 0
    assert executed()
    own = "mine.py" if run == "file" else "own_net.py"
    known = json.loads((stranger.parent / "home" / "buttress" / "trusted.json").read_text())["trusted"]
    assert own in {Path(each["file"]).name for each in known.values()}


def test_what_a_trusted_module_imports_is_trusted_by_its_own_bytes(
    stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = f"{RUNS['target']}/config.yaml"
    assert main(["train", config, "--dry-run", "--trust"]) == 0
    executed()
    capsys.readouterr()
    (stranger / "other").mkdir()
    for name, text in (("own_net.py", (stranger / "own_net.py").read_text()), ("helper.py", "WIDTH = 5\n")):
        (stranger / "other" / name).write_text(text)
    assert main(["train", config, f"modules={stranger / 'other'}", "--dry-run"]) == 2
    output = capsys.readouterr().err
    assert "helper.py" in output
    assert "own_net.py" not in output
    assert not executed()


def test_a_config_of_the_users_own_runs_and_its_runs_are_not_asked_about(stranger: Path) -> None:
    assert main(["train", "file.yaml", "--run", "mine"]) == 0
    assert executed()
    for words in (["resume", "runs/tiny/mine"], ["analyze", "runs/tiny/mine", "--part", "gap"]):
        assert main(words) == 0
        assert executed()
    assert main(["resume", RUNS["file"]]) == 0  # the same bytes


def test_looking_at_a_config_of_ones_own_executes_nothing_either(
    stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "validate", "target.yaml"]) == 0
    assert "plugins, data and model are not checked" in capsys.readouterr().out
    assert not executed()
    assert main(["config", "show", "target.yaml"]) == 0
    assert "own_net:net" in capsys.readouterr().out
    assert not executed()
    assert main(["config", "show", "target.yaml", "--trust"]) == 0
    assert executed()


def test_the_question_says_why_it_is_asked(stranger: Path) -> None:
    why = "It came with a run, as the manifest.json beside"
    with pytest.raises(TrustError, match=f"{why} {RUNS['target']}/config.yaml says"):
        load_config(Path(RUNS["target"]) / "config.yaml").own.expect_trusted()
    Path("mine/manifest.json").parent.mkdir()
    Path("mine/manifest.json").write_text("{}")  # of another program
    Path("mine/plugins.py").write_text(f"{CANARY}")
    with pytest.raises(TrustError, match=f"{why} mine/plugins.py says"):
        candidates("mine/plugins.py")
    own = OwnCode("tiny.yaml", read_plugins_file(Path("mine/plugins.py")), {}, {}, Path.cwd(), trusted_only=True)
    with pytest.raises(TrustError) as looked_at:  # as `config show` does
        own.expect_trusted()
    assert "came with a run" not in str(looked_at.value)
    assert not executed()


def test_a_file_of_plugins_in_a_run_folder_is_not_examined_unasked(stranger: Path) -> None:
    with pytest.raises(TrustError, match=r"mine\.py (.|\n)*--trust"):
        candidates(f"{RUNS['file']}/mine.py")
    assert not executed()
    candidates(f"{RUNS['file']}/mine.py", trust=True)
    assert executed()
    candidates(f"{RUNS['file']}/mine.py")
    assert executed()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[1]",
        '{"format": 1}',
        '{"format": 1, "trusted": 3}',
        '{"format": 9, "trusted": {}}',
        "\0",
        "[" * 100_000,
    ],
    ids=["empty", "null", "list", "no_list", "number", "later", "binary", "deep"],
)
def test_a_damaged_memory_trusts_nothing_and_is_replaced(stranger: Path, text: str) -> None:
    path = memory()
    assert path is not None
    path.parent.mkdir(parents=True)
    path.write_text(text)
    words = ["train", f"{RUNS['file']}/config.yaml", "--dry-run"]
    assert main(words) == 2
    assert not executed()
    assert main([*words, "--trust"]) == 0
    assert executed()
    assert main(words) == 0


@pytest.mark.parametrize("kind", ["a file in its place", "no home"])
def test_where_nothing_can_be_remembered_trust_holds_for_one_command(
    stranger: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "no home":
        monkeypatch.setenv("XDG_CONFIG_HOME", "relative/is/ignored")
        monkeypatch.setattr(Path, "home", _no_home)
    else:
        (stranger.parent / "home").write_text("")
    words = ["train", f"{RUNS['file']}/config.yaml", "--dry-run"]
    assert main([*words, "--trust"]) == 0
    assert executed()
    assert main(words) == 2
    assert not executed()
    assert main(["train", "file.yaml", "--run", "mine"]) == 0  # the user's own


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_comparison_goes_on_with_its_own_runs_without_a_memory(stranger: Path) -> None:
    (stranger.parent / "home").write_text("")
    words = ["compare", "file.yaml", "--seeds", "1", "--name", "c"]
    assert main(words) == 0
    run = next(Path("runs/c").glob("*-s0"))
    (run / "summary.json").unlink()
    assert main([*words, "--attack", "pgd-2"]) == 0
    assert (run / "summary.json").exists()


def test_what_is_remembered_is_added_to_what_was(stranger: Path) -> None:
    from buttress.components import trust

    one, two = (trust.Code("plugins_file", Path(name), name * 64, 1) for name in "ab")
    trust.remember([one])
    trust.remember([two])
    assert trust.untrusted([one, two]) == []


def test_forged_bytecode_beside_a_module_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib._bootstrap_external import _code_to_hash_pyc  # type: ignore[attr-defined]

    monkeypatch.chdir(tmp_path)
    for name, package in (("forged_one", ""), ("forged_two", "inside/")):
        path = tmp_path / f"{package}{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("from torch import nn\n\ndef net() -> nn.Module:\n    return nn.Identity()\n")
        cached = Path(importlib.util.cache_from_source(str(path)))
        cached.parent.mkdir()
        evil = compile(CANARY + path.read_text(), str(path), "exec")
        cached.write_bytes(_code_to_hash_pyc(evil, b"\0" * 8, False))
        import_target(f"{package.replace('/', '.')}{name}:net", "here")
        assert not executed()


def test_modules_beside_a_target_are_not_taken_for_installed_ones_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = list(sys.path)
    (tmp_path / "lone_net.py").write_text("from torch import nn\n\ndef net() -> nn.Module:\n    return nn.Identity()\n")
    for name in ("colorsys", "not_installed_at_all"):
        (tmp_path / f"{name}.py").write_text(CANARY)
        sys.modules.pop(name, None)
    import_target("lone_net:net", "here")
    import_target("torchvision.models:resnet18", "here")
    import colorsys

    assert hasattr(colorsys, "rgb_to_hls")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("not_installed_at_all")
    assert not executed()
    assert sys.path == before


def test_an_installed_target_imports_nothing_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colorsys.py").write_text(CANARY)
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "some_net.py").write_text("import colorsys\nfrom torch.nn import Identity\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    sys.modules.pop("colorsys", None)
    import_target("some_net:Identity", "here")
    assert not executed()


def test_modules_are_imported_later_and_by_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "late_net.py").write_text(
        "import importlib\n\nfrom torch import nn\n\n\ndef net() -> nn.Module:\n    from late_one import x\n\n"
        "    return nn.Linear(x, importlib.import_module('late_two').x)\n"
    )
    (tmp_path / "late_one.py").write_text("x = 2\n")
    (tmp_path / "late_two.py").write_text("x = 3\n")
    assert import_target("late_net:net", "here")().weight.shape == (3, 2)


def test_every_file_that_imports_reach_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {
        "pkg/__init__.py": "from . import first",
        "pkg/first.py": "def later():\n    from .below.deep import x\n    import torch",
        "pkg/below/__init__.py": "__all__ = ['starred']",
        "pkg/below/starred.py": "",
        "pkg/below/deep.py": "from ..second import *\nfrom . import *\nimport plain, space.inner",
        "pkg/second.py": "import pkg.first",
        "plain.py": "if True:\n  import gone, os",
        "space/inner.py": "this is no Python",
        "other.py": "",
    }
    (tmp_path / "mine.py").write_text("import other")  # what it imports is installed
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    config = {**CONFIG, "model": {"target": "pkg.first:net"}, "plugins_file": "mine.py"}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
    files = load_config(Path("a.yaml")).own.files
    assert {str(each.path.relative_to(tmp_path)) for each in files if each.place == "model.target"} == {
        name for name in texts if name != "other.py"
    }
    assert [each.path.name for each in files if each.place == "plugins_file"] == ["mine.py"]


def test_the_file_that_is_listed_is_the_one_that_python_would_execute(tmp_path: Path) -> None:
    suffixes = [".py", ".pyc", importlib.machinery.EXTENSION_SUFFIXES[0], importlib.machinery.EXTENSION_SUFFIXES[-1]]
    for number, kinds in enumerate(itertools.product([False, True], repeat=2 * len(suffixes))):
        name, files = f"shadow_{number}", []
        for at, (present, suffix) in enumerate(zip(kinds, suffixes * 2, strict=True)):
            files += [tmp_path / (f"{name}{suffix}" if at < len(suffixes) else f"{name}/__init__{suffix}")] * present
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.touch()
        let_import([name], [tmp_path])
        spec = importlib.util.find_spec(name)
        listed = reached(name, [tmp_path]).get(name)
        assert (spec.origin if spec else None) == (str(listed) if listed else None), [file.name for file in files]


def test_a_zip_file_is_no_folder_of_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = "from torch import nn\n\n\ndef net() -> nn.Module:\n    return nn.Identity()\n"
    (tmp_path / "zipped_net.py").write_text(net)  # the user's own
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("zipped_net.py", CANARY + net)
    monkeypatch.chdir(tmp_path)
    import_target("zipped_net:net", "here", tmp_path / "code.zip")
    assert not executed()


@pytest.mark.parametrize("words", ["config validate {}", "config show {}", "train {} --dry-run"], ids=lambda w: w[:8])
def test_an_installed_target_is_not_called_with_the_args_of_others_unasked(
    stranger: Path, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    net = {"target": "torchvision.models:get_model", "args": {"name": "resnet18", "weights": "gone"}}
    run = stranger / "runs" / "their"
    run.mkdir()
    (run / "manifest.json").write_text("{}")
    (run / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "model": net}))
    code = main(words.format(run / "config.yaml").split())
    output = "".join(capsys.readouterr())
    assert code == (2 if "train" in words else 0)
    assert "torchvision.models:get_model, which is installed, with args" in output
    assert "refused args" not in output
    assert main(["train", str(run / "config.yaml"), "--dry-run", "--trust"]) == 2
    assert "refused args" in capsys.readouterr().err


def test_a_run_of_ones_own_with_an_installed_target_is_not_asked_about(stranger: Path) -> None:
    net = {"target": "torchvision.ops:MLP", "args": {"in_channels": 4, "hidden_channels": [3]}}
    rng, arrays = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        arrays |= {f"x_{split}": rng.random((12, 4), dtype=np.float32), f"y_{split}": np.arange(12) % 3}
    np.savez(stranger / "flat.npz", **arrays)
    data = {"name": "npz", "path": "flat.npz", "batch_size": 6}
    Path("installed.yaml").write_text(yaml.safe_dump({**CONFIG, "data": data, "model": net}))
    assert main(["train", "installed.yaml", "--run", "mine"]) == 0
    assert main(["resume", "runs/tiny/mine"]) == 0
    assert main(["config", "validate", "runs/tiny/mine/config.yaml"]) == 0
    assert main(["compare", "installed.yaml", "--seeds", "1", "--name", "c"]) == 0
    (stranger.parent / "home" / "buttress" / "trusted.json").unlink()
    assert main(["resume", "runs/tiny/mine"]) == 2
    assert main(["compare", "installed.yaml", "--seeds", "1", "--name", "c", "--attack", "pgd-2"]) == 0
