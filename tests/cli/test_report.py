"""``buttress report`` as a user runs it: what the page holds, from finished, unfinished and damaged runs."""

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import torch

from buttress.analysis.parts.images import pictures
from buttress.audit.audit_file import write_audit
from buttress.cli import main
from buttress.console.tables import percent
from buttress.errors import CheckpointError, RunFolderError
from buttress.report.bundle import unpacked
from buttress.report.figures import side_by_side
from buttress.report.material import Run, RunsOfConfig, Trained, group_runs, read_run
from buttress.report.page import page_html
from buttress.report.run import write_report
from buttress.scoring.worst_case import interval
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import read_sealed, write_sealed
from buttress.threat import ThreatModel
from buttress.training.records import read_metrics
from buttress.training.selection import Record, summarize
from tests.sealing import rewrite_metrics


def figures(page: str) -> dict[str, dict[str, Any]]:
    """Plotly's figures in a page, by title."""
    titles = re.findall(r'<h3>(.*?)</h3>\s*<div class="plot">', page)
    (texts,) = re.findall(r'id="figures">(.*?)</script>', page)
    return {unescape(title): json.loads(text) for title, text in zip(titles, unpacked(texts), strict=True)}


def cells(page: str) -> list[list[str]]:
    """The rows of all tables, without the smaller lines in their cells."""
    page = re.sub(r"<small>.*?</small>", "", page)
    return [[unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", row)] for row in re.findall(r"<tr.*?</tr>", page)]


def curve(figure: dict[str, Any], name: str) -> dict[str, Any]:
    (actual,) = [trace for trace in figure["data"] if trace.get("name") == name]
    return dict(actual)


def share(actual: dict[str, Any]) -> list[str]:
    """A share with its interval, as a table shows it."""
    accuracy, low, high = (f"{100 * actual[key]:.1f}" for key in ("accuracy", "low", "high"))
    return [accuracy, f"{low} to {high}", str(actual["n"])]


def test_a_page_of_one_run_stands_in_its_folder(noisy: Path, capsys: pytest.CaptureFixture[str]):
    run = noisy / "s0"
    assert main(["evaluate", str(run), "--attack", "fgsm", "--track", "meat"]) == 0
    assert main(["analyze", str(run), "--points", "3", "--examples", "20"]) == 0
    about = {"checkpoint": "best", "epoch": 2, "weights_sha256": "0"}
    write_audit(
        run / "audit.json",
        [
            {"check": "inputs in box", "status": "PASS", "reason": "all <1> do", "cure": "", "track": "live", **about},
            {"check": "inputs in box", "status": "FAIL", "reason": "none", "cure": "scale", "track": "meat", **about},
        ],
    )
    capsys.readouterr()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"report: {run / 'report.html'}\n"
    page = (run / "report.html").read_text()
    assert "Not there" not in page
    assert ["PASS", "inputs in box", "all <1> do"] in cells(page)  # without a column of cures
    assert ["FAIL", "inputs in box", "none", "scale"] in cells(page)
    (result,) = (json.loads(path.read_text()) for path in (run / "eval").glob("*.json"))
    for row in result["attacks"]:
        assert [row["attack"], str(row["attacked"]), str(row["wrong"]), *share(row["left"])] in cells(page)
    assert ["worst case", "", "", *share(result["worst"])] in cells(page)
    assert "which is not an attack's own accuracy" in unescape(page)
    assert set(figures(page)) == {
        "noisy: robust accuracy (pgd-2)",
        "noisy: clean accuracy",
        "noisy",  # the gap
        "Loss over the plane of two directions",
        "noisy, live, last (epoch 4)",
        "noisy, meat, last (epoch 4)",
        "noisy: layer4.0.conv2.weight",
        "noisy: distance by layer group",
        "noisy: losses by group",
        "noisy: flipped labels, clean inputs are predicted as",
        "noisy: flipped labels, attacked inputs are predicted as",
        "noisy: accuracy by class",
        "Training loss",
        "Learning rate",
    }
    assert "label_noise: 0.25" in page  # the config
    assert "&#34;torch_threads&#34;" in page  # the manifest


def test_numbers_are_those_of_the_run(noisy: Path):
    page = write_report([noisy / "s0"]).read_text()
    summary = json.loads((noisy / "s0" / "summary.json").read_text())["tracks"]
    for row in summary:
        measures = [
            percent(row[f"{kind}_{measure}"]) for kind in ("clean", "robust") for measure in ("best", "last", "diff")
        ]
        assert [row["track"], *measures, str(row["best_epoch"]), "1", str(row["n"])] in cells(page)
    records = read_run(noisy / "s0").records
    figure = figures(page)["noisy: robust accuracy (pgd-2)"]
    for name, track, split in (("live", "live", "test"), ("meat, training set", "meat", "train")):
        drawn, own = curve(figure, name), [r for r in records if (r.track, r.split) == (track, split)]
        assert drawn["x"] == [record.epoch for record in own]
        assert drawn["y"] == [100 * record.robust for record in own]
        assert drawn["customdata"] == [percent(record.robust) for record in own]  # what hovering shows
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [2]  # the learning-rate drop


def test_a_seed_counts_once_however_many_runs_of_it_are_given(noisy: Path, capsys: pytest.CaptureFixture[str]):
    once = write_report([noisy / "s0", noisy / "s1"], noisy / "once.html").read_text()
    for name in ("s0", "s1"):
        shutil.copytree(noisy / name, noisy / f"{name}-copy")
    shutil.copytree(noisy / "s0", noisy / "s0-cut")
    metrics = noisy / "s0-cut" / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    rewrite_metrics(metrics.parent, "".join(line for line in lines if json.loads(line)["epoch"] <= 2).encode())
    # the run that is cut off comes first, and yet the whole one of its seed counts
    runs = [noisy / name for name in ("s0-cut", "s0", "s1", "s0-copy", "s1-copy")]
    assert main(["report", *map(str, runs), "--output", str(noisy / "all.html")]) == 0
    page = (noisy / "all.html").read_text()
    assert cells(page) == cells(once)
    assert [row[-2] for row in cells(page) if row[:1] in (["live"], ["meat"])] == ["2", "2"]
    assert figures(page) == figures(once)
    printed = capsys.readouterr().out
    for name, seed in (("s0-cut", 0), ("s0-copy", 0), ("s1-copy", 1)):
        line = f"noisy/{name}, since noisy/s{seed} has its config and its seed {seed} too"
        assert f"not counted: {line}\n" in printed
        assert f"Not counted: {line}." in page


def test_seeds_of_one_config_are_one_curve_with_a_band(noisy: Path, tmp_path: Path):
    output = tmp_path / "new" / "both.html"
    assert main(["report", str(noisy / "s1"), str(noisy / "s0"), "--output", str(output)]) == 0
    page = output.read_text()
    runs = [read_run(noisy / name) for name in ("s0", "s1")]
    last = [100 * run.rows[0].robust_last for run in runs]
    row = next(row for row in cells(page) if row[:1] == ["live"])
    assert row[5] == f"{mean(last):.1f} ± {stdev(last):.1f}"
    assert row[-2] == "2"
    figure = figures(page)["noisy: robust accuracy (pgd-2)"]
    assert curve(figure, "live")["y"][-1] == pytest.approx(mean(last))
    bands = [trace for trace in figure["data"] if trace.get("fill") == "toself" and trace["legendgroup"] == "live"]
    assert any(max(band["y"]) >= mean(last) + stdev(last) - 1e-9 for band in bands)
    assert "Mean of 2 seeds; band: one standard deviation." in page
    assert "Methods side by side" not in page


def test_the_first_table_says_what_n_examples_can_tell(noisy: Path):
    page = write_report([noisy / "s0"]).read_text()
    (row, *_) = read_run(noisy / "s0").rows
    for share in (row.clean_best, row.clean_last, row.robust_best, row.robust_last):
        low, high = interval(round(share * row.n), row.n)
        assert f"<td>{percent(share)}<small>{percent(low)} to {percent(high)}</small></td>" in page
    assert f"<td>{row.n}</td>" in page


def test_losses_and_learning_rates_are_those_that_were_trained_with(noisy: Path):
    page = write_report([noisy / "s0"]).read_text()
    epochs = read_metrics(RunFolder(noisy / "s0")).events("epoch")
    for title, key in (("Training loss", "loss"), ("Learning rate", "lr")):
        drawn = curve(figures(page)[title], "noisy")
        assert drawn["x"] == [line["epoch"] for line in epochs]
        assert drawn["y"] == [line[key] for line in epochs]


def test_classes_and_images_come_from_the_analysis(noisy: Path):
    run = noisy / "s0"
    assert "Adversarial images" in write_report([run]).read_text()
    assert main(["analyze", str(run), "--part", "classes", "--part", "images", "--examples", "50"]) == 0
    page = write_report([run]).read_text()
    numbers = json.loads((run / "analysis" / "classes.json").read_text())
    assert sum(numbers["sizes"]) == numbers["n"] == 37
    live = next(row for row in numbers["rows"] if (row["track"], row["checkpoint"]) == ("live", "best"))
    drawn = curve(figures(page)["noisy: accuracy by class"], "live, attacked")
    shares = {k: 100 * live["attacked"][k] / n for k, n in enumerate(numbers["sizes"]) if n}
    assert {k: x for (k, _), x in zip(drawn["customdata"], drawn["x"], strict=True)} == pytest.approx(shares)
    images = json.loads((run / "analysis" / "images-live-last.json").read_text())
    for kind in ("clean", "attacked", "difference"):
        assert len(images[kind]) == 8
        assert all(f"data:image/png;base64,{data}" in page for data in images[kind])
    label, clean, attacked = (images[key][0] for key in ("labels", "predicted", "predicted_attacked"))
    assert f"{label}: {clean} \u2192 {attacked}" in page
    assert (run / "analysis" / "images-live-last.png").is_file()
    assert write_report([run], run / "again.html").read_text() == page  # the same numbers, the same page


def many(run: Run, images: dict[str, Any], methods: int = 10, seeds: int = 3, epochs: int = 100) -> list[RunsOfConfig]:
    """Methods as large as those of a real comparison: four tracks, every epoch scored on three splits."""
    records = [
        Record(epoch, track, split, (epoch % 97) / 97, (epoch % 89) / 89, 10_000)
        for epoch in range(1, epochs + 1)
        for track in ("live", "meat", "ema", "swa")
        for split in ("validation", "test", "train")
    ]
    trained = [Trained(epoch, 1 / epoch, 0.1 / epoch) for epoch in range(1, epochs + 1)]
    rows = summarize(records, "validation")
    made = replace(run, records=records, rows=rows, trained=trained, analysis={**run.analysis, "images-live": images})
    return [RunsOfConfig(f"method-{number}", [made] * seeds) for number in range(methods)]


def test_a_page_of_ten_methods_is_below_2_mb(noisy: Path):
    pixels = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))  # hard to compress
    images = pictures(pixels, pixels.flip(0), ThreatModel("linf", "8/255"))
    places = ("positions", "labels", "predicted", "predicted_attacked")
    facts = {"track": "live", "checkpoint": "last", "epoch": 100, "attack": "pgd-20", "threat": "linf"}
    page = page_html(
        many(read_run(noisy / "s0"), {**images, **facts, **{key: list(range(8)) for key in places}, "mark": ""})
    )
    assert len(page.encode()) < 2_000_000
    assert len(page_html(group_runs([read_run(noisy / "s0")])).encode()) < 1_000_000


def test_pictures_are_left_out_before_the_page_grows_too_large(noisy: Path):
    picture = {key: ["A" * 70_000] * 2 for key in ("clean", "attacked", "difference")}
    places = {key: [0, 1] for key in ("positions", "labels", "predicted", "predicted_attacked")}
    facts = {"track": "live", "checkpoint": "last", "epoch": 100, "attack": "pgd-20", "threat": "linf"}
    images = {**picture, **places, **facts, "amplified": 5.0, "mark": ""}
    page = page_html(many(read_run(noisy / "s0"), images, methods=3, epochs=2))
    assert page.count('class="pictures"') == 1
    assert "Left out, for the size of the page: method-1, live, last (epoch 100)" in page


def test_ten_methods_have_ten_colours_and_symbols_and_the_baseline_is_thick(noisy: Path):
    figure = side_by_side(many(read_run(noisy / "s0"), {}, epochs=3, seeds=1))
    live = [trace for trace in figure.data if trace.visible is True]
    assert len({trace.line.color for trace in live}) == len({trace.marker.symbol for trace in live}) == 10
    (thick,) = [trace for trace in live if trace.line.width == 4]
    assert (thick.name, thick.line.color) == ("method-0 (baseline)", "#000000")


def started_with(run: Path, changes: dict[str, str]) -> None:
    """Makes of a run one that was started with another config."""
    folder = RunFolder(run)
    manifest, text = read_sealed(folder.manifest), folder.config.read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    folder.config.write_text(text)
    write_sealed(folder.manifest, {**manifest, "config": text})


def test_other_configs_stand_side_by_side_in_colours_of_their_own(noisy: Path, tmp_path: Path):
    started_with(noisy / "s1", {"lr: 0.1": "lr: 0.2"})
    page = write_report([noisy / "s0", noisy / "s1"], tmp_path / "a.html").read_text()
    figure = figures(page)["Methods side by side"]
    one, two = (
        curve(figure, "s0 (baseline)"),
        curve(figure, "s1"),
    )  # the configs have one name, so the folders tell them apart
    assert one["line"]["color"] != two["line"]["color"]
    assert one["line"]["width"] > two["line"]["width"]
    assert "Thick and black: s0, the baseline" in page
    assert curve(figure, "s0, meat")["visible"] == "legendonly"
    assert figure["layout"]["xaxis"]["dtick"] == 1  # four epochs, each written once
    assert "do not compare" not in page


def test_methods_under_other_threat_models_are_not_to_be_compared(noisy: Path, tmp_path: Path):
    started_with(noisy / "s1", {"eps: 1/10": "eps: 1/5"})
    page = write_report([noisy / "s0", noisy / "s1"], tmp_path / "a.html").read_text()
    assert "The methods differ in threat model: their robust accuracies do not compare." in page
    assert "linf eps 1/10, box [0, 1]; linf eps 1/5, box [0, 1]" in page


def test_names_of_methods_are_the_shortest_that_differ(noisy: Path, tmp_path: Path):
    copies = []
    for number, (name, lr) in enumerate((("at-s0", 0.1), ("rwp-s0", 0.2), ("rwp-s1", 0.2))):
        copies.append(Path(shutil.copytree(noisy / "s0", tmp_path / "compare" / name)))
        started_with(copies[-1], {"lr: 0.1": f"lr: {lr}", "\nseed: 0": f"\nseed: {number}"})
    actual = group_runs([read_run(path) for path in copies])
    assert [(method.label, len(method.runs)) for method in actual] == [("at", 1), ("rwp", 2)]


def test_a_page_fetches_nothing(noisy: Path):
    page = write_report([noisy / "s0"]).read_text()
    assert "default-src 'none'" in page
    own = re.sub(r'<script type="application/gzip".*?</script>', "", page)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:)|@import|url\(""", own)


def test_text_of_a_run_is_no_html_of_the_page(noisy: Path):
    about = {"track": "live", "checkpoint": "best", "epoch": 2, "weights_sha256": "0"}
    finding = {"check": "</td><script>alert(1)</script>", "status": "FAIL", "reason": "", "cure": "", **about}
    write_audit(noisy / "s0" / "audit.json", [finding])
    evil = read_sealed(noisy / "s0" / "manifest.json") | {"command": ["</pre><script>alert(2)</script>"]}
    write_sealed(noisy / "s0" / "manifest.json", evil)
    page = write_report([noisy / "s0"]).read_text()
    assert "alert(1)" in page
    assert "alert(2)" in page
    assert "<script>alert" not in page


def test_a_run_that_is_not_finished_is_shown_as_far_as_it_goes(noisy: Path):
    run = noisy / "s0"
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    first = [line for line in lines if json.loads(line)["epoch"] <= 2]
    train = next(line for line in lines if '"epoch": 4' in line and '"split": "train"' in line)
    (run / "metrics.jsonl").write_text("".join(first) + train + lines[-1][:9])  # stopped in the middle of a line
    (run / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged or edited.*step-\d+\.json knows"):
        write_report([run])
    shutil.rmtree(run / "checkpoints")
    page = write_report([run]).read_text()
    assert "Caution: noisy/s0, evaluations from epoch 2 on: not verified yet (newer than" in unescape(page)
    assert "Not finished yet: noisy/s0." in page
    assert curve(figures(page)["noisy: clean accuracy"], "live")["x"] == [2]
    (run / "metrics.jsonl").write_text("")
    assert "No run has been evaluated yet." in write_report([run]).read_text()


def test_damaged_results_are_left_out_and_named(noisy: Path, capsys: pytest.CaptureFixture[str]):
    run = noisy / "s0"
    for folder in ("eval", "analysis"):
        (run / folder).mkdir()
        (run / folder / "gap.json").write_text("{")
    (run / "audit.json").write_text("[1, {}]")
    (run / "eval" / "other.json").write_text('{"attacks": [{"attack": "new kind"}, 3], "samples": "b.npz"}')
    assert main(["report", str(run)]) == 0
    printed = capsys.readouterr().out.splitlines()
    for line, file in zip(
        printed[:-1], ("eval/gap.json", "eval/other.json", "audit.json", "analysis/gap.json"), strict=True
    ):
        assert line.startswith(f"left out: {run / file}")
    page = (run / "report.html").read_text()
    left_out = re.findall(
        r'<p class="missing">(.*?)</p>', page.partition('id="left-out"')[2].partition("</section>")[0]
    )
    assert [f"left out: {unescape(line)}" for line in left_out] == printed[:-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is no run folder"),
        (["{run}", "{run}/../s0"], "is given twice"),
        (["{run}", "--output", "page.pdf"], "--output page.pdf: expected the name of a file that ends in .html"),
    ],
)
def test_bad_input_is_refused(trained: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["report", *(word.format(run=trained / "s0") for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert not (trained / "s0" / "report.html").exists()


def test_a_report_names_what_is_wrong_from_python_too(tmp_path: Path):
    with pytest.raises(RunFolderError, match="is no run folder"):
        write_report([tmp_path])
