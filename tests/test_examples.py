"""The examples run as they are, and stay as short as they are said to be."""

import ast
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from buttress.errors import ButtressError
from buttress.storage.seals import read_sealed

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, cwd: Path) -> str:
    """What an example says in a process of its own, which has to succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"examples/{name}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs an example in ``tmp_path`` and in this process, which has torch loaded already; returns what it said."""

    def run_here(name: str, *words: str | Path) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_here


def needs(package: str) -> None:
    """Skip where a package of the tests is missing, with the reason; where all are promised (CI) that is a failure."""
    if find_spec(package) is None:
        reason = f"needs the package {package}: pip install '.[dev]'"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


def scores(said: str) -> dict[str, tuple[float, float]]:
    """Name to clean and robust accuracy in %, of each line that has them."""
    found = re.findall(r"^(.+): clean ([\d.]+) %, PGD-20 ([\d.]+) %, n = 397$", said, flags=re.MULTILINE)
    return {name: (float(clean), float(robust)) for name, clean, robust in found}


def code_lines(name: str) -> list[str]:
    """The lines that are neither blank nor part of the module's docstring."""
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    docstring = ast.parse(source).body[0]
    return [line for line in source.splitlines()[docstring.end_lineno :] if line.strip()]


@pytest.mark.parametrize(("name", "most"), [("own_loop.py", 25), ("lightning_loop.py", 60), ("offline_median.py", 60)])
def test_an_example_is_short(name: str, most: int):
    assert 10 < len(code_lines(name)) <= most


def test_own_loop_trains_and_scores_both_tracks(here: Callable[..., str], tmp_path: Path):
    found = scores(here("own_loop.py"))
    assert list(found) == ["live", "meat"]
    for clean, robust in found.values():
        assert clean > 85  # ten classes: chance is 10
        assert 50 < robust < clean
    assert not list(tmp_path.iterdir())


def test_the_lightning_loop_counts_steps_resumes_exactly_and_scores_both_tracks(tmp_path: Path):
    needs("lightning")
    said = run("lightning_loop.py", cwd=tmp_path)
    assert "84 steps; resumed as if never stopped, to the last bit: True" in said  # 6 epochs of 1400 / 100
    found = scores(said)
    assert list(found) == ["live", "meat"]
    for clean, robust in found.values():
        assert clean > 85
        assert 50 < robust < clean
    assert not list(tmp_path.iterdir())


# The median of foreign checkpoints


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three checkpoints of a plain loop, each wrapped as another training script would."""
    folder, example = tmp_path_factory.mktemp("foreign"), runpy.run_path(str(EXAMPLES / "offline_median.py"))
    torch.manual_seed(0)
    model, (train, _) = example["network"](), example["data"]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    states = []
    for _ in range(3):
        for batch in torch.randperm(len(train)).split(100):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(train.x[batch]), train.y[batch]).backward()
            optimizer.step()
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    save_file(states[0], folder / "plain.safetensors")
    torch.save({"epoch": 1, "state_dict": states[1], "optimizer": optimizer.state_dict()}, folder / "wrapped.pth")
    torch.save({"net": {f"module.{name}": tensor for name, tensor in states[2].items()}}, folder / "parallel.pth")
    return [folder / name for name in ("plain.safetensors", "wrapped.pth", "parallel.pth")]


def test_the_offline_median_is_the_median_with_statistics_of_its_own(
    here: Callable[..., str], foreign: list[Path], tmp_path: Path
):
    found = scores(here("offline_median.py", *foreign, "--output", "median.safetensors"))
    assert list(found) == [path.name for path in foreign] + [
        "median, batch norm too",
        "median, batch norm measured afresh",
    ]
    assert all(clean > 80 for clean, _ in found.values())

    example = runpy.run_path(str(EXAMPLES / "offline_median.py"))
    states, made = [example["read"](path) for path in foreign], load_file(tmp_path / "median.safetensors")
    model = example["network"]().double()
    for name, _ in model.named_parameters():
        stacked = torch.stack([state[name] for state in states]).double()
        assert torch.equal(made[name].double(), stacked.median(dim=0).values), name
    model.load_state_dict({name: tensor.double() for name, tensor in made.items()})
    inner = model[0](example["data"]()[0].x.double())  # what batch norm sees, of all training inputs
    assert torch.allclose(made["1.running_mean"].double(), inner.mean((0, 2, 3)), atol=1e-6)
    batches = torch.stack([part.var((0, 2, 3)) for part in inner.split(100)])
    assert torch.allclose(made["1.running_var"].double(), batches.mean(0), atol=1e-6)


def test_the_offline_median_runs_no_code_of_a_checkpoint(here: Callable[..., str], foreign: list[Path], tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    torch.save({"0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    for name, message in (
        ("evil.pth", "refused by torch's restricted loader"),
        ("other.pth", r"other\.pth holds the weights of an"),
    ):
        with pytest.raises(ButtressError, match=message):
            here("offline_median.py", foreign[0], name, "--output", "m.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"evil.pth", "other.pth"}


# The notebook


def test_the_notebook_runs_and_draws_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needs("nbclient")
    needs("ipykernel")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(EXAMPLES / "robust_overfitting.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # what is committed has no results in it
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    assert "image/png" in outputs[-1]["data"]
    (summary,) = tmp_path.glob("tmp*/demo/notebook/summary.json")
    live, meat = read_sealed(summary)["tracks"]
    assert live["robust_diff"] > 0.03  # the fall that it is about
    assert meat["robust_last"] > live["robust_last"]
