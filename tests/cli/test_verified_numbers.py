"""One edited digit in any file of results: refused, or left out by name; never quoted by a report or a card."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from buttress.cli import main
from buttress.storage.results import NOT_VERIFIED
from buttress.storage.seals import read_sealed
from tests.sealing import as_older, rewrite_metrics, unsealed

QUICK = ["plugins=[clean, {ema: {tau: 0.5}}]", "evaluation.every=1", "epochs=2"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with every kind of result in it; not to be written to."""
    from .conftest import make_workspace

    folder = tmp_path_factory.mktemp("shown")
    make_workspace(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "small.yaml", *QUICK, "--run", "a"]) == 0
        assert main(["evaluate", "runs/small/a", "--attack", "fgsm"]) == 0
        assert main(["audit", "runs/small/a", "--examples", "8"]) in (0, 1)
        assert main(["analyze", "runs/small/a", "--part", "classes", "--part", "histogram"]) == 0
    return folder


@pytest.fixture
def run(shown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy of it, in the working folder."""
    work = Path(shutil.copytree(shown, tmp_path / "work"))
    monkeypatch.chdir(work)
    capsys.readouterr()
    return Path("runs/small/a")


def edit(path: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, path.read_text())
    assert count, f"{path} has no {pattern}"
    path.write_text(text)


def only(folder: Path, pattern: str = "*.json") -> Path:
    (found,) = folder.glob(pattern)
    return found


Edit = Callable[[Path], Path]


def metrics(run: Path) -> Path:
    edit(run / "metrics.jsonl", r'"robust": \d\.\d+', '"robust": 0.975')
    return run / "metrics.jsonl"


def evaluation(run: Path) -> Path:
    edit(path := only(run / "eval"), r'"accuracy": \d\.\d+', '"accuracy": 0.975')
    return path


def audit(run: Path) -> Path:
    edit(run / "audit.json", '"(WARN|FAIL)"', '"PASS"')
    return run / "audit.json"


def analysis(run: Path) -> Path:
    edit(run / "analysis/classes.json", r'"n": \d+', '"n": 31337')
    return run / "analysis/classes.json"


def verdicts(run: Path) -> Path:
    path = only(run / "eval", "*.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("change", [metrics, evaluation, audit, verdicts], ids=lambda change: change.__name__)
def test_a_card_is_not_made_of_an_edited_file(change: Edit, run: Path, capsys: pytest.CaptureFixture[str]):
    path = change(run)
    assert main(["export", str(run), "--output", "shelf"]) == 2
    said = capsys.readouterr().err
    assert f"{path} is" in said
    assert "damaged" in said
    assert any(cure in said for cure in ("put it back", "evaluate again", "buttress audit"))
    assert not Path("shelf").exists()


@pytest.mark.parametrize("change", [evaluation, audit, analysis], ids=lambda change: change.__name__)
def test_a_report_leaves_an_edited_file_out_and_names_it(change: Edit, run: Path, capsys: pytest.CaptureFixture[str]):
    path = change(run)
    assert main(["report", str(run)]) == 0
    assert f"left out: {path} is damaged" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert f"{path} is damaged" in page
    assert "97.5" not in page
    assert "31337" not in page


@pytest.mark.parametrize("verb", ["report", "export", "audit", "analyze", "reproduce"])
def test_edited_metrics_are_refused_by_every_command_that_quotes_them(
    verb: str, run: Path, capsys: pytest.CaptureFixture[str]
):
    metrics(run)
    words = {"export": ["--output", "shelf"], "audit": ["--examples", "4"], "analyze": ["--part", "gap"]}
    code = main([verb, str(run), *words.get(verb, [])])
    said = capsys.readouterr().err
    if verb == "audit":  # it quotes the evaluations alone
        assert code in (0, 1)
        return
    assert (code, "metrics.jsonl is damaged or edited" in said) == (2, True)
    assert f"put it back, or let buttress resume {run} write the evaluations anew" in said


@pytest.mark.parametrize("line", ["null", '{"event": 5}', '{"event": "evaluation"}', "{"])
def test_a_record_of_another_shape_is_named_with_a_cure(line: str, run: Path, capsys: pytest.CaptureFixture[str]):
    with (run / "metrics.jsonl").open("a") as file:
        print(line, file=file)
    assert main(["report", str(run)]) == 2
    assert re.search(
        r"metrics\.jsonl:\d+.* is .*; put the file back as the run wrote it$", capsys.readouterr().err.strip()
    )


def test_records_after_the_last_checkpoint_are_marked(run: Path, capsys: pytest.CaptureFixture[str]):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    first = "".join(line for line in lines if json.loads(line)["epoch"] == 1)
    rewrite_metrics(run, first.encode())  # the run vouches for its first epoch alone
    (run / "metrics.jsonl").write_text("".join(lines))
    assert main(["report", str(run)]) == 0
    assert "evaluations from epoch 2 on: not verified yet" in (run / "report.html").read_text()
    assert main(["export", str(run), "--output", "shelf", "--checkpoint", "last"]) == 0
    assert "not verified yet (newer than the run" in Path("shelf/README.md").read_text()


def test_files_of_older_versions_are_read_and_marked(run: Path, capsys: pytest.CaptureFixture[str]):
    for path in (only(run / "eval"), run / "analysis/classes.json", run / "analysis/histogram.json"):
        as_older(path)
    as_older(run / "audit.json", unsealed(run / "audit.json")["findings"])
    assert main(["report", str(run)]) == 0
    assert "left out" not in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert page.count(f"Caution: {NOT_VERIFIED}") >= 5  # a table, the findings, figures
    assert main(["export", str(run), "--output", "shelf"]) == 0
    card = Path("shelf/README.md").read_text()
    assert f"| fgsm, {NOT_VERIFIED} |" in card
    assert re.search(rf"Audit: .*{re.escape(NOT_VERIFIED)}\.", card)
    assert NOT_VERIFIED in json.loads(Path("shelf/robustbench.json").read_text())["footnote"]
    main(["audit", str(run), "--track", "ema", "--examples", "8"])  # seals the file, but not what was not verified
    findings = read_sealed(run / "audit.json")["findings"]
    assert {row.get("mark") for row in findings if row["track"] == "live"} == {NOT_VERIFIED}
    assert {row.get("mark") for row in findings if row["track"] == "ema"} == {None}


def test_an_exported_model_knows_whether_it_is_whole(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["export", str(run), "--output", "shelf"]) == 0
    path = Path("shelf/model.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert main(["evaluate", str(path), "--config", str(run / "config.yaml"), "--attack", "fgsm"]) == 2
    assert "is damaged: the sha256 of its contents is not the recorded one" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["eval", "analysis", "weights"])
def test_what_a_killed_writer_left_is_no_result(run: Path, capsys: pytest.CaptureFixture[str], folder: str):
    kind = "safetensors" if folder == "weights" else "json"
    (run / folder / f".live.{kind}.0123abcd.tmp.{kind}").write_text("")
    assert main(["report", str(run)]) == main(["export", str(run), "--output", "shelf"]) == 0
    assert "0123abcd" not in capsys.readouterr().err + (run / "report.html").read_text()
