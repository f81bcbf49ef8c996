"""What a comparison says of hand-written numbers."""

import numpy as np
import pytest

from buttress.comparing.comparison import Comparison, Row


def values(best: float, last: float) -> dict[str, float]:
    found = {}
    for attack in ("clean", "pgd-20"):
        found |= {f"{attack} best": best, f"{attack} last": last, f"{attack} diff": best - last}
    return found


@pytest.fixture
def found() -> Comparison:
    at = Row("at", "live", 100, {0: values(0.80, 0.70), 1: values(0.82, 0.76), 4: values(0.79, 0.72)})
    meat = Row("at", "meat", 100, {0: values(0.80, 0.75), 1: values(0.82, 0.79), 4: values(0.8, 0.8)})
    awp = Row("awp", "live", 100, {1: values(0.85, 0.8501)})
    reason = "it said | " + "no " * 100
    return Comparison(["pgd-20"], [at, meat, awp], {("awp", 0): reason}, {"at": "at", "awp": "at"}, "validation")


def test_the_table_has_means_sample_deviations_and_pairs(found: Comparison):
    lines = found.table().splitlines()
    assert lines[0].split("  ")[0].strip() == "method"
    last = 100 * np.array([0.70, 0.76, 0.72])
    assert f"{last.mean():.1f} +-  {last.std(ddof=1):.1f}" in lines[2]
    assert lines[2].split()[-2:] == ["0", "3"]
    paired = 100 * np.array([0.05, 0.03, 0.08])
    assert f"+{paired.mean():.1f} +-  {paired.std(ddof=1):.1f}" in lines[3]
    # one seed: no deviation; paired with the one seed that both have; no minus before a zero
    assert lines[4].split() == ["awp", "live", *["85.0", "85.0", "0.0"] * 2, "+9.0", "1"]
    assert lines[5].split()[:5] == ["awp", "failed", "seed", "0:", "it"]
    assert len(lines[5]) < 400


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
    assert lines[1].startswith("|---|")
    assert lines[2].startswith("| at | live | 80.3 +- 1.5 |")


def test_notes_say_what_the_numbers_are(found: Comparison):
    assert "n = 100: mean +- sample standard deviation over seeds; best epoch chosen on validation" in found.notes()
    assert "minus that of the live model of at, seed by seed" in found.notes()
    found.by, found.rows = "test", []
    assert "Test accuracies in %: mean" in found.notes()
    assert "biased upward" in found.notes()
