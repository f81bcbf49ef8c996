"""What a comparison says of hand-written numbers."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from buttress.comparing.comparison import ComparedTrack, Comparison
from buttress.comparing.picture import draw_comparison
from buttress.console.tables import wrapped
from buttress.precision import Precision


def values(best: float, last: float, validation: float | None = None) -> dict[str, float]:
    found = {}
    for attack in ("clean", "pgd-20"):
        found |= {f"{attack} best": best, f"{attack} last": last, f"{attack} diff": best - last}
    return found if validation is None else {**found, "validation": validation}


@pytest.fixture
def found() -> Comparison:
    at = ComparedTrack("at", "live", 100, {0: values(0.80, 0.70), 1: values(0.82, 0.76), 4: values(0.79, 0.72)})
    meat = ComparedTrack("at", "meat", 100, {0: values(0.80, 0.75), 1: values(0.82, 0.79), 4: values(0.8, 0.8)})
    awp = ComparedTrack("awp", "live", 100, {1: values(0.85, 0.8501)})
    reason = "it said | " + "no " * 100
    return Comparison(["pgd-20"], [at, meat, awp], {("awp", 0): reason}, {"at": "at", "awp": "at"}, "validation")


def test_the_table_has_means_sample_deviations_and_pairs(found: Comparison):
    text = found.table()
    header, _, at, meat, awp = text.split("Under pgd-20:\n\n")[1].split("\n\n")[0].splitlines()
    assert header.split() == ["method", "track", "best", "last", "diff"]
    last = 100 * np.array([0.70, 0.76, 0.72])
    assert f"{last.mean():.1f} +-  {last.std(ddof=1):.1f}" in at
    assert meat.split()[:2] == ["at", "meat"]
    # one seed: no deviation; no minus before a zero
    assert awp.split() == ["awp", "live", "85.0", "85.0", "0.0"]
    header, _, at, meat, awp = text.split("Compared:\n\n")[1].split("\n\n")[0].splitlines()
    assert header.split() == ["method", "track", "paired", "seeds"]
    assert at.split() == ["at", "live", "0", "3"]
    paired = 100 * np.array([0.05, 0.03, 0.08])
    assert f"+{paired.mean():.1f} +-  {paired.std(ddof=1):.1f}" in meat
    assert awp.split() == ["awp", "live", "+9.0", "1"]  # paired with the one seed that both have
    failed = text.split("\n\n")[-1]
    assert failed.startswith("failed: awp, seed 0: it said | no no")
    assert len(failed) < 200


def test_text_is_at_most_80_columns_wide_and_loses_nothing(found: Comparison):
    words = "method-of-a-long-name weights.rwp.c_min=0.123456789 data.batch_size=128 optimizer.lr=0.30000000000000004"
    for label, track in ((words, "an_ensemble_of_weights_of_late_epochs"), ("m" * 150, "live"), ("at 2", "live")):
        found.rows.append(ComparedTrack(label, track, 100, {s: values(0.8, 0.7) for s in (0, 1)}, method="m"))
    found.attacks.append("pgd: {steps: 200, step_size: 1/2550, loss: margin, restarts: 10, start: uniform, norm: x}")
    text = found.table()
    assert max(map(len, text.splitlines())) <= 80
    assert max(map(len, wrapped(found.notes(), 80).splitlines())) <= 80
    joined = "".join(line[:40].split("  ")[0].strip() for line in text.split("Under pgd-20:\n\n")[1].splitlines())
    assert words.replace(" ", "") in joined.replace(" ", "")


def sweep(*means: tuple[float, float], seeds: tuple[int, ...] = (0, 1)) -> Comparison:
    """Variants of one method by their validation and their test accuracy."""
    rows = [
        ComparedTrack(
            f"rwp rwp.c_min={n}", "live", 100, {s: values(test, test, validation) for s in seeds}, method="rwp"
        )
        for n, (validation, test) in enumerate(means)
    ]
    return Comparison(["pgd-20"], rows, {}, {row.label: rows[0].label for row in rows}, "validation")


def test_the_variant_of_a_sweep_is_chosen_by_validation_and_marked_everywhere(tmp_path: Path):
    found = sweep((0.70, 0.60), (0.75, 0.50), (0.72, 0.65))  # the best on the test set is another one
    assert [found.is_chosen(row) for row in found.rows] == [False, True, False]
    compared = found.table().split("Compared:\n\n")[1].splitlines()
    assert compared[0].split() == ["method", "track", "validation", "paired", "seeds"]
    assert [" * " in line for line in compared[2:]] == [False, True, False]
    lines = found.table(markdown=True).splitlines()
    column = [cell.strip() for cell in lines[0].split("|")].index("validation")
    assert [line.split("|")[column].strip().endswith(" *") for line in lines[2:]] == [False, True, False]
    rows = found.to_json()["rows"]
    assert [row["chosen"] for row in rows] == [False, True, False]
    assert rows[1]["statistics"]["validation"]["mean"] == pytest.approx(0.75)
    assert rows[1]["seeds"][0]["validation"] == 0.75
    assert "choose settings by it, not by a test column" in found.notes()
    titles = []
    with patch("matplotlib.axes.Axes.set_title", lambda axes, text, **options: titles.append(text)):
        draw_comparison(tmp_path / "a.png", found)
    assert ["* best on validation: live" in title for title in titles] == [False, True, False]


def test_variants_are_chosen_over_the_seeds_that_all_have_and_only_among_variants_of_one_method():
    found = sweep((0.70, 0.60), (0.75, 0.50))
    found.rows[0].values[7] = values(0.5, 0.5, 0.99)  # a lucky seed that the other one does not have
    assert [found.is_chosen(row) for row in found.rows] == [False, True]
    found.rows[1].values = {8: values(0.5, 0.5, 0.75)}  # no seed in common: nothing is chosen
    assert not any(map(found.is_chosen, found.rows))
    found = sweep((0.70, 0.60), (0.75, 0.50))
    found.rows[0].method = "at"
    assert not any(map(found.is_chosen, found.rows))
    found = sweep((0.70, 0.60), (0.75, 0.50))
    for row in found.rows:
        del row.values[0]["validation"], row.values[1]["validation"]
    assert not any(map(found.is_chosen, found.rows))
    assert "validation" not in found.table().split("Compared:")[1]


def test_an_attack_that_some_runs_have_not_seen_leaves_cells_empty(found: Comparison):
    found.attacks.append("cw-100")
    found.rows[1].values[0] |= {f"cw-100 {measure}": 0.5 for measure in ("best", "last", "diff")}
    lines = found.table().split("Under cw-100:\n\n")[1].splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["at", "live"],
        ["at", "meat", "50.0", "50.0", "50.0"],
        ["awp", "live"],
    ]
    assert "cw-100 last" in found.to_json()["rows"][1]["statistics"]
    assert "cw-100 last" not in found.to_json()["rows"][0]["statistics"]


def test_what_is_not_finished_is_named(found: Comparison):
    found.unfinished = [("at", 7), ("awp", 8)]
    assert "Not finished yet, and not in the numbers: at, seed 7; awp, seed 8." in found.notes()
    assert found.to_json()["unfinished"] == [{"method": "at", "seed": 7}, {"method": "awp", "seed": 8}]
    found.unfinished = [("at", seed) for seed in range(9)]
    assert "at, seed 4; and 4 more." in found.notes()


def test_json_has_every_value_and_its_statistics(found: Comparison):
    rows = found.to_json()["rows"]
    meat = rows[1]
    assert meat["seeds"][1]["pgd-20 last"] == 0.79
    last = np.array([0.75, 0.79, 0.8])
    assert meat["statistics"]["pgd-20 last"]["mean"] == pytest.approx(last.mean(), rel=1e-12)
    assert meat["statistics"]["pgd-20 last"]["std"] == pytest.approx(last.std(ddof=1), rel=1e-12)
    assert meat["statistics"]["paired"]["mean"] == pytest.approx(0.16 / 3, rel=1e-12)
    assert rows[2]["statistics"]["clean best"] == {"mean": 0.85, "std": None}
    assert found.to_json()["failed"][0]["error"] == found.failed["awp", 0]  # all of it


def test_markdown_has_as_many_cells_in_every_line(found: Comparison):
    lines = found.table(markdown=True).replace(r"\|", "/").splitlines()
    assert {line.count("|") for line in lines} == {11}
    assert lines[1].startswith("|:---")
    assert [cell.strip() for cell in lines[2].split("|")][1:4] == ["at", "live", "80.3 +- 1.5"]


def test_the_precision_is_noted_and_scores_of_several_are_a_caution(found: Comparison):
    assert "seed by seed. Precision: float32." in found.notes()
    assert "Caution" not in found.notes()
    found.rows[2].precision = Precision.read("bf16")
    assert "Precision: float32 in at; bf16 in awp." in found.notes()
    assert "Caution" not in found.notes()  # bf16 leaves the score in float32
    found.rows[2].precision = Precision.read({"score": "bf16"})
    assert "float32 in at; attack float32, train float32, score bf16 in awp. Caution: not all were" in found.notes()
    words = [row["precision"]["score"] for row in found.to_json()["rows"]]
    assert words == ["float32", "float32", "bf16"]


def test_notes_say_what_the_numbers_are(found: Comparison):
    assert "n = 100: mean +- sample standard deviation over seeds; best epoch chosen on validation" in found.notes()
    assert "minus that of the live model of at, seed by seed" in found.notes()
    found.by, found.rows = "test", []
    assert "Test accuracies in %: mean" in found.notes()
    assert "biased upward" in found.notes()
