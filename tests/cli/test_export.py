"""An exported model needs torch and safetensors, and nothing else; its card says what was measured."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from buttress.audit.findings_of_run import write_findings
from buttress.cli import main
from buttress.errors import CheckpointError, WorkError
from buttress.evaluation.saved_run import load_run
from buttress.exporting.export import _expect_same_logits, bare_copy, load_exported
from buttress.nn import Normalize
from buttress.nn.modes import Modes
from buttress.storage.reading import file_sha256
from buttress.storage.seals import read_sealed, write_sealed
from tests.sealing import rewrite_metrics

from .conftest import CONFIG, make_workspace

# A reader without buttress: whatever imports it ends the process.
READER = """
import sys
for name in ("buttress", "buttress_plugins", "timm", "torchvision"):
    sys.modules[name] = None
import torch
from safetensors.torch import load_file, save_file

model = torch.export.load("model.pt2").module()
model.load_state_dict(load_file("model.safetensors"), assign=True)
save_file({"logits": model(load_file("x.safetensors")["x"]).detach()}, "logits.safetensors")
"""

MODEL = {
    "name": "preact_tiny",
    "width": 16,  # a narrower one is not safe in the channels-last layout
    "normalize": {"mean": [0.3], "std": [0.4]},
    "memory_format": "channels_last",
}


@pytest.fixture(scope="module")
def exported_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose model has normalisation, and of its exported weights; not to be written to."""
    folder = tmp_path_factory.mktemp("exported")
    make_workspace(folder)
    config = {**CONFIG, "model": MODEL, "epochs": 2, "evaluation": {"every": 1, "attack": {"pgd": {"steps": 2}}}}
    (folder / "normal.yaml").write_text(yaml.safe_dump(config))
    last = ["runs/small/a", "--track", "meat", "--checkpoint", "last"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "normal.yaml", "--run", "a"]) == 0
        assert main(["evaluate", *last, "--attack", "fgsm"]) == 0
        assert main(["export", *last, "--output", "shelf/out"]) == 0
    return folder


@pytest.fixture
def exported(exported_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The last weights of the track meat in the folder ``shelf/out``, beside a copy of their run."""
    shutil.copytree(exported_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shelf" / "out"


def test_the_exported_model_needs_torch_and_safetensors_only(exported: Path):
    run = load_run(Path("runs/small/a"), "meat", "last")
    x = run.data.test.x[:7]  # a batch of another size than the program was made with
    save_file({"x": x}, exported / "x.safetensors")
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", READER], capture_output=True, text=True, cwd=exported, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad(), Modes(run.model).evaluating():
        expected = run.model(x)
    torch.testing.assert_close(load_file(exported / "logits.safetensors")["logits"], expected, rtol=1e-5, atol=1e-6)


def test_weights_are_the_state_dict_of_the_network_and_the_program_holds_the_normalisation(exported: Path):
    run = load_run(Path("runs/small/a"), "meat", "last")
    weights = load_file(exported / "model.safetensors")
    assert set(weights) == set(run.model.state_dict())
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    buffers = dict(load_exported(exported).named_buffers())
    assert buffers["normalize.mean"].flatten().tolist() == pytest.approx([0.3])
    assert (
        '| model | preact_tiny {"width": 16, "normalize": {"mean": [0.3], "std": [0.4]}}'
        in (exported / "README.md").read_text()
    )


WRAPPED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.body(x))


class Anything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Net()

    def forward(self, *inputs, **options):
        return self.inner(*inputs)


def compiled() -> nn.Module:
    return torch.compile(Net(), backend="eager")


def compiled_in_place() -> nn.Module:
    net = Net()
    net.compile(backend="eager")
    return net


def compiled_inside() -> nn.Module:
    net = Net()
    net.body = torch.compile(net.body, backend="eager")
    return net


def parallel() -> nn.Module:
    return nn.DataParallel(Net())
"""
PLAIN = {"body.1.weight", "body.1.bias", "head.weight", "head.bias"}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile looks at it
@pytest.mark.parametrize("kind", ["compiled", "compiled_in_place", "compiled_inside", "parallel", "Anything"])
def test_a_wrapped_model_is_exported_as_the_network_inside(kind: str, workspace: Path):
    (workspace / f"wrapped_{kind}.py").write_text(WRAPPED)  # two modules of one name are refused
    words = [f'model={{target: "wrapped_{kind}:{kind}"}}', "epochs=1", "plugins=[clean]"]
    assert main(["train", "small.yaml", "--run", "a", *words]) == 0
    assert main(["export", "runs/small/a", "--output", "out"]) == 0
    expected = {f"inner.{name}" for name in PLAIN} if kind == "Anything" else PLAIN
    assert set(load_file("out/model.safetensors")) == expected
    for other in (kind, "Net"):  # back into the wrapper, and into the plain network
        start = [
            f'model={{target: "wrapped_{kind}:{other}"}}',
            "model.weights=out/model.safetensors",
            "plugins=[clean]",
        ]
        assert main(["train", "small.yaml", "--dry-run", *start]) == 0


def test_the_card_and_the_entry_say_what_was_measured(exported: Path):
    run = load_run(Path("runs/small/a"), "meat", "last")
    card = (exported / "README.md").read_text()
    (result,) = run.evaluations()
    rows = {row["attack"]: row for row in result["attacks"]}
    assert set(rows) == {"clean", "fgsm"}
    own = run.own_result()
    assert own is not None
    for name, accuracy in (("fgsm", rows["fgsm"]["accuracy"]), ("pgd-2", own["robust"])):
        assert f"| {name} | {100 * accuracy:.2f} | " in card
    for said in (
        "linf eps 8/255, box [0, 1]",
        "| 20 | float32 | 0 |",
        "| precision | attack float32, train float32, score float32 |",
        "AutoAttack has not been run",
        "seed | 2, 12, 3 |",
        '"steps": 2',
    ):
        assert said in card, said
    for name in ("model.safetensors", "model.pt2", "robustbench.json"):
        assert f"| `{name}` | `{file_sha256(exported / name)}` |" in card
    entry = json.loads((exported / "robustbench.json").read_text())
    assert (entry["eps"], entry["dataset"], entry["architecture"]) == ("8/255", "npz", "preact_tiny")
    assert entry["clean_acc"] == f"{100 * rows['clean']['accuracy']:.2f}"
    assert (entry["autoattack_acc"], entry["unreliable"], entry["additional_data"]) == (None, None, False)


def test_the_entry_quotes_autoattack_and_the_audit(exported: Path, monkeypatch: pytest.MonkeyPatch):
    from buttress.exporting.model_card import model_card, robustbench_entry

    run = load_run(Path("runs/small/a"), "meat", "last")
    (path,) = run.folder.eval.glob("*.json")
    result = read_sealed(path)
    none = {"accuracy": None, "low": None, "high": None, "n": 20}
    left = {"accuracy": 0.25, "low": 0.1, "high": 0.5, "n": 20}
    result["attacks"].append({"attack": "autoattack", **none, "left": left, "attacked": 9, "wrong": 4})
    result["attacks"][-1] |= {"seconds": 1.0, "settings": {}}
    write_sealed(path, result)
    write_findings(run, [{"check": "inputs", "status": "FAIL", "reason": "outside", "cure": "scale"}])
    entry = robustbench_entry(run)
    assert (entry["autoattack_acc"], entry["reported"], entry["unreliable"]) == ("25.00", "25.00", True)
    assert entry["footnote"].endswith("AutoAttack on what other attacks had left of 20 test examples, in float32.")
    card = model_card(run, {})
    assert "FAIL inputs: outside" in card
    assert "Audit: 0 PASS, 0 SKIP, 0 WARN, 1 FAIL." in card
    assert "| autoattack | broke 4 of 9 that others had left | | 20 | float32 | 0 |" in card
    assert "AutoAttack has not been run" not in card
    assert "The run has not finished" not in card
    run.folder.summary.unlink()
    assert "The run has not finished: these are its weights so far." in model_card(run, {})
    monkeypatch.setitem(run.facts, "weights_sha256", "of weights that a resumed run has replaced")
    assert (run.evaluations(), robustbench_entry(run)["unreliable"]) == ([], None)


def test_the_worst_case_is_over_all_evaluations_of_the_same_examples(exported: Path):
    from buttress.exporting.model_card import model_card, worst_cases

    words = ["runs/small/a", "--track", "meat", "--checkpoint", "last"]
    assert main(["evaluate", *words, "--attack", "pgd-3", "--attack", "cw-2", "--examples", "7"]) == 0
    assert main(["evaluate", *words, "--attack", "fgsm", "threat.eps=1"]) == 0  # of another threat model: not counted
    run = load_run(Path("runs/small/a"), "meat", "last")
    first = run.evaluations()[0]["samples"]
    with np.load(first) as file:
        arrays, n = dict(file), len(file["worst"])
    arrays["worst"] = np.arange(n) < 12
    result = read_sealed(Path(first).with_suffix(".json"))
    np.savez(first, **arrays)
    with pytest.raises(CheckpointError, match=r"its sha256 is not the recorded one"):
        worst_cases(run)
    write_sealed(Path(first).with_suffix(".json"), {**result, "samples_sha256": file_sha256(Path(first))})
    second = first.replace(".npz", "-2")  # the same examples again, attacked by something else
    arrays["worst"] = np.arange(n) > 10
    np.savez(f"{second}.npz", **arrays)
    own = {"samples_sha256": file_sha256(Path(f"{second}.npz"))}
    write_sealed(Path(f"{second}.json"), {**result, **own})
    rows = worst_cases(run)
    assert [row["n"] for row in rows] == [7, 20]
    assert rows[1]["accuracy"] == 1 / 20
    assert "| **worst case** | 5.00 | 0.89 to 23.61 | 20 | | |" in model_card(run, {})
    Path(first).unlink()
    with pytest.raises(CheckpointError, match="is missing or damaged"):
        worst_cases(run)


def test_the_worst_case_is_not_above_the_run_s_own_attack(exported: Path):
    from buttress.exporting.model_card import model_card

    run = load_run(Path("runs/small/a"), "meat", "last")
    text = run.folder.metrics.read_text()
    own = run.own_result()
    assert own is not None
    assert "| **worst case** | 0.00 |" not in model_card(run, {})
    rewrite_metrics(run.home, text.replace(f'"robust": {own["robust"]}', '"robust": 0.0').encode())
    assert "| **worst case** | 0.00 |" in model_card(run, {})


def test_the_folder_is_made_whole_or_not_at_all(exported: Path, capsys: pytest.CaptureFixture[str]):
    assert {path.name for path in exported.parent.iterdir()} == {"out"}
    assert main(["export", "runs/small/a", "--output", "shelf/out"]) == 2
    assert "shelf/out exists and is never overwritten" in capsys.readouterr().err
    assert main(["export", "runs/small/a", "--track", "mat", "--output", "shelf/new"]) == 2
    assert "has no track 'mat'; did you mean 'meat'?" in capsys.readouterr().err
    assert {path.name for path in exported.parent.iterdir()} == {"out"}


def test_a_model_that_cannot_be_followed_is_said_and_leaves_no_folder(
    workspace: Path, capsys: pytest.CaptureFixture[str]
):
    (workspace / "winding.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.linear = nn.Linear(64, 4)\n\n    def forward(self, x):\n        z = self.linear(x.flatten(1))\n"
        "        return z if z.sum() > 0 else 2 * z\n"
    )
    words = ['model={target: "winding:Net"}', "epochs=1", "plugins=[clean]"]
    assert main(["train", "small.yaml", "--run", "a", *words]) == 0
    assert main(["export", "runs/small/a", "--output", "out"]) == 1
    assert "torch.export cannot follow Net" in capsys.readouterr().err
    assert not list(workspace.glob("*out*"))


def test_other_logits_are_refused(exported: Path):
    x = torch.rand(3, 1, 8, 8)
    with pytest.raises(WorkError, match="gives other logits than the run's, by up to"):
        _expect_same_logits(exported, x, torch.ones(3, 4))


def test_a_bare_copy_leaves_the_model_alone():
    model = nn.Sequential(Normalize([0.5], [0.2]), nn.Flatten(), nn.Linear(4, 2))
    copy = bare_copy(model)
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    copy[2].bias.fill_(3.0)
    assert not bool((model[2].bias == 3.0).any())
    assert all(parameter.requires_grad for parameter in model.parameters())
