"""The precision of a run and of its evaluations stands in every file, table and card; the audit warns of a low one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from buttress.cli import main
from buttress.config.file import load_config
from buttress.evaluation.saved_run import load_run
from buttress.exporting.model_card import model_card, robustbench_entry
from buttress.storage.reading import read_facts
from buttress.storage.seals import read_sealed
from buttress.training.launch import launch

CONFIG = {
    "name": "low",
    "data": {"name": "npz", "path": "small.npz", "batch_size": 12},
    "model": {"name": "mlp"},
    "threat": {"norm": "linf", "eps": "8/255"},
    "plugins": ["fgsm", {"meat": {"start": 0}}],
    "optimizer": {"lr": 0.1},
    "epochs": 1,
    "evaluation": {"attack": {"pgd": {"steps": 1}}},
    "precision": {"attack": "bf16", "train": "float32", "score": "bf16"},
}
WORDS = CONFIG["precision"]
FULL = "precision={score: float32}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``low/a``, which was evaluated in three precisions."""
    folder = tmp_path_factory.mktemp("low")
    rng, arrays = np.random.default_rng(0), {}
    for split, n in (("train", 24), ("val", 12), ("test", 12)):
        x = rng.integers(0, 256, (n, 1, 3, 3)) / 255
        arrays |= {f"x_{split}": x.astype(np.float32), f"y_{split}": np.arange(n) % 3}
    np.savez(folder / "small.npz", **arrays)
    (folder / "low.yaml").write_text(yaml.safe_dump(CONFIG))
    launch(load_config(folder / "low.yaml"), folder, "a", forecast=False)
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a verb in the folder; returns what it said."""
    monkeypatch.chdir(folder)

    def call(*words: str, code: int = 0) -> str:
        found = main(list(words))
        said = capsys.readouterr()
        assert found == code, said
        return said.out

    return call


def audited(run: Any) -> dict[str, dict[str, Any]]:
    run("audit", "low/a", "--examples", "6")
    return {row["check"]: row for row in read_sealed(Path("low/a/audit.json"))["findings"]}


def test_a_run_says_in_which_precision_it_attacked_trained_and_was_scored(folder: Path):
    for file in ("summary.json", "manifest.json"):
        assert read_sealed(folder / "low" / "a" / file)["precision"] == WORDS
    log = (folder / "low" / "a" / "log.txt").read_text()
    assert "n = 12, bf16, seed 0, one run" in log


def test_evaluations_have_the_precision_of_the_score_or_of_an_override_and_the_audit_warns_of_a_low_one(run: Any):
    rows = audited(run)
    assert {row["precision"] for row in rows.values()} == {"bf16"}
    assert rows["audit is precise"]["status"] == rows["scores are precise"]["status"] == "WARN"
    assert rows["scores are precise"]["reason"].startswith("pgd-1 in bf16: of lower precision than float32")
    cure = "buttress evaluate low/a --track live --checkpoint best 'precision={score: float32}'"
    assert rows["scores are precise"]["cure"].startswith(cure)
    assert "live weights, best (epoch 1), linf eps 8/255, box [0, 1], bf16\n" in run("audit", "low/a")
    said = run("evaluate", "low/a")
    assert "test split, linf eps 8/255, box [0, 1], bf16, seed 0\n" in said
    assert json.loads(run("evaluate", "low/a", "--json", "--attack", "pgd-3"))["precision"] == "bf16"
    assert audited(run)["scores are precise"]["reason"].startswith("pgd-1 in bf16, clean in bf16, fgsm in bf16 ...: of")
    assert ", float32, seed 0\n" in run("evaluate", "low/a", FULL)
    assert audited(run)["scores are precise"]["reason"].startswith("pgd-3 in bf16: of lower precision")
    assert (
        json.loads(run("evaluate", "low/a", "--json", "--attack", "pgd-3", "precision=float64"))["precision"]
        == "float64"
    )
    rows = audited(run)
    assert rows["scores are precise"]["status"] == "PASS"
    assert rows["audit is precise"]["status"] == "WARN"
    card = model_card(load_run(Path("low/a")), {})
    assert "| precision | attack bf16, train float32, score bf16 |" in card
    for row in ("| pgd-1 |", "| fgsm |", "| pgd-3 |"):
        words = {line.split("|")[5].strip() for line in card.splitlines() if line.startswith(row)}
        assert words == {"bf16", "float64" if "3" in row else "float32"}
    assert "WARN audit is precise" in card
    run("report", "low/a", "--output", "low.html")
    page = Path("low.html").read_text()
    assert "attack bf16, train float32, score bf16" in page
    assert ", float64, seed 0." in page


def test_float64_gives_the_verdicts_of_float32_and_of_nothing_else(folder: Path):
    from buttress.evaluation.subject import load_subject

    double = load_subject(folder / "low" / "a", overrides=["precision=float64"])
    assert {weight.dtype for weight in double.model.parameters()} == {torch.float64}
    assert next(iter(double.data.test.batches(torch.arange(2), 2))).x.dtype == torch.float64
    x = double.data.test.x
    single = load_subject(folder / "low" / "a", overrides=[FULL])
    low = load_subject(folder / "low" / "a")
    logits = double.at_work.logits(x)
    assert 0 < (logits - single.at_work.logits(x.float())).abs().max() < 1e-5
    assert (logits - low.at_work.logits(x.float())).abs().max() > 1e-4


def test_robustbench_s_fields_name_the_precision_of_autoattack(folder: Path):
    saved = load_run(folder / "low" / "a")
    row = {"attack": "autoattack", "accuracy": 0.5, "n": 12, "left": {"accuracy": 0.5}}
    result = {"attacks": [{**row, "attack": "clean"}, row], "seed": 0, "precision": "bf16", "mark": ""}
    saved.__dict__["evaluations"] = lambda: [result]
    assert robustbench_entry(saved)["footnote"].endswith("AutoAttack on 12 test examples, in bf16.")


def test_pseudo_labels_and_ensembles_have_it_too(run: Any):
    for precision, word in (([], "bf16"), (["precision=float64"], "float64")):
        output = f"{word}.npz"
        said = run("pseudo-label", "low/a", "--data", "{name: npz, path: small.npz}", "--output", output, *precision)
        assert f"train split of npz, {word}\n" in said
        assert read_sealed(Path(f"{word}.json"))["precision"] == word
        with np.load(output) as file, np.load("small.npz") as given:
            assert file["image"].dtype == np.uint8
            np.testing.assert_array_equal(file["image"][..., 0], np.rint(255 * given["x_train"][:, 0]))
    weights = [f"low/a/weights/{which}-live.safetensors" for which in ("best", "last")]
    run("ensemble", *weights, "--output", "e.safetensors", "--reestimate", "low/a")
    assert read_facts(Path("e.safetensors"))["precision"] == "bf16"


def test_an_analysis_is_made_in_the_precision_of_evaluations(run: Any):
    run("analyze", "low/a", "--part", "classes")
    (path,) = Path("low/a/analysis").glob("classes*.json")
    assert read_sealed(path)["precision"] == "bf16"


def test_a_precision_without_effect_on_an_evaluation_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(folder)
    assert main(["evaluate", "low/a", "precision=bf16"]) == 2
    said = capsys.readouterr().err
    assert "override 'precision=bf16': it changes attacks and losses of training, and leaves evaluations in" in said
    assert "give precision={score: bf16}" in said
