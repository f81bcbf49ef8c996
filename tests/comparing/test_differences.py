"""The picture of differences: what is drawn of hand-written numbers, and under which titles."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from buttress.comparing.comparison import ComparedTrack, Comparison
from buttress.comparing.differences import Differences, differences_of, draw_differences, figure_of
from buttress.comparing.groups import groups_of
from buttress.comparing.picture import draw_comparison

PLUGINS: dict[str, list[Any]] = {
    "d-at": [{"pgd": {"steps": 2}}, {"meat": {"track": "median"}}],
    "d-more-steps": [{"pgd": {"steps": 9}}],
    "d-awp": ["pgd", "buttress:awp"],
    "d-fgsm": ["fgsm"],
    "d-two": ["pgd", "buttress:rwp", "trades"],
    "d-swa": ["pgd", {"swa": None}],
    "d-l2": ["pgd", "l2_groups"],
    "d-own": ["pgd", "a_plugin_of_a_file"],
    "d-vit": ["pgd", "awp"],
}
TRACKS = {"d-at": ["live", "median"], "d-swa": ["live", "swa"]}
GROUPS = {
    ("d-at", "live"): "other settings",  # of the baseline itself, which is not drawn
    ("d-at", "median"): "ensembles",
    ("d-more-steps", "live"): "other settings",
    ("d-awp", "live"): "weight perturbations",
    ("d-fgsm", "live"): "attacks",
    ("d-two", "live"): "several of these",
    ("d-swa", "live"): "other settings",
    ("d-swa", "swa"): "ensembles",
    ("d-l2", "live"): "parameter groups",
    ("d-own", "live"): "other plugins",
    ("d-vit", "live"): "another model",
}


def measured(number: float, seeds: tuple[int, ...] = (0, 1)) -> dict[int, dict[str, float]]:
    """Accuracies of ``number`` percent at seed 0, two points more at seed 1, and five more at the best epoch."""
    several: dict[int, dict[str, float]] = {}
    for seed in seeds:
        for attack in ("clean", "pgd-2"):
            last = (number + 2 * seed) / 100
            several.setdefault(seed, {}).update({f"{attack} last": last, f"{attack} best": last + 0.05})
    return several


@pytest.fixture
def comparison() -> Comparison:
    rows = [
        ComparedTrack(label, track, 100, measured(50 + place))
        for place, (label, track) in enumerate(
            (each, track) for each in PLUGINS for track in TRACKS.get(each, ["live"])
        )
    ]
    return Comparison(["pgd-2"], rows, {}, dict.fromkeys(PLUGINS, "d-at"), "validation")


def configs() -> dict[str, dict[str, Any]]:
    return {label: {"model": {"name": "vit" if label == "d-vit" else "net"}, "plugins": PLUGINS[label]}
            for label in PLUGINS}  # fmt: skip


def test_a_row_is_grouped_by_what_its_baseline_lacks(comparison: Comparison):
    assert groups_of(comparison, configs()) == GROUPS
    comparison.baselines = {"d-awp": "d-at"}
    assert groups_of(comparison, configs()) == {("d-awp", "live"): "weight perturbations"}


def test_differences_are_those_of_common_seeds_in_points(comparison: Comparison):
    comparison.rows[3].values = {1: measured(60)[1], 7: measured(99, (7,))[7]}
    del comparison.rows[4].values[0]["pgd-2 best"]
    median, _, awp, fgsm, *_ = differences_of(comparison, GROUPS)
    assert (median.name, median.group) == ("at: median", "ensembles")
    assert set(median.values) == {"clean best", "clean last", "pgd-2 best", "pgd-2 last"}
    assert [round(value, 9) for values in median.values.values() for value in values] == [1.0] * 8
    assert (awp.name, awp.values["clean last"]) == ("awp", [pytest.approx(10)])
    assert fgsm.values["pgd-2 best"] == [pytest.approx(4)]
    assert len(differences_of(comparison, GROUPS)) == len(comparison.rows) - 1


def test_names_are_whole_where_they_begin_otherwise(comparison: Comparison):
    comparison.rows[2].label = "other"
    comparison.baselines = {**comparison.baselines, "other": "d-at"}
    names = [row.name for row in differences_of(comparison, {**GROUPS, ("other", "live"): "attacks"})]
    assert names[:3] == ["d-at: median", "other", "d-awp"]


def drawn(rows: list[Differences]) -> tuple[list[str], list[str], dict[str, list[tuple[float, float]]]]:
    """Labels of the lines, texts at arrows, and the marks of both panels by their name in the legend."""
    panels = figure_of(rows, ["pgd-2"], "at").axes
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    marks: dict[str, list[tuple[float, float]]] = {}
    for line in (line for axes in panels for line in axes.get_lines() if not line.get_label().startswith("_")):
        marks.setdefault(line.get_label(), []).extend(zip(*line.get_data(), strict=True))
    return labels, [text.get_text() for axes in panels for text in axes.texts], marks


def row(name: str, group: str, *last: float, best: float | None = None) -> Differences:
    several = {"clean last": last, "pgd-2 last": last}
    return Differences(name, group, several if best is None else {**several, "clean best": [best]})


def test_groups_are_in_the_order_of_a_step_and_rows_from_the_highest():
    rows = [row("a", "losses", 1.0, 2.0), row("b", "attacks", 1.0), row("c", "losses", 3.0, 2.0, best=4.0)]
    labels, texts, marks = drawn(rows)
    assert labels == ["attacks", "b", "losses", "c", "a"]
    assert texts == []
    assert sorted(marks["mean, last epoch"]) == sorted([(1.0, 1), (2.5, 3), (1.5, 4)] * 2)
    assert marks["mean, best epoch"] == [(4.0, 3)]
    assert len(marks["each seed, last epoch"]) == 10


def test_a_row_far_off_is_an_arrow_with_its_numbers_and_nothing_else():
    rows = [row(str(value), "losses", value) for value in (1.0, 2.0, 3.0, 4.0)]
    _, texts, marks = drawn([*rows, row("far", "attacks", -60.0, -62.0, best=2.0)])
    assert texts == ["last -61.0, best +2.0", "last -61.0"]
    assert min(value for value, _ in chain(*marks.values())) == 1.0


def test_one_row_is_drawn_whatever_it_is(tmp_path: Path):
    draw_differences(tmp_path / "b.png", [row("far", "losses", -90.0)], ["pgd-2", "cw"], "at")
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_a_dollar_sign_is_no_formula(tmp_path: Path, comparison: Comparison):
    name = r"data.path=$\nothing$"
    draw_differences(tmp_path / "c.png", [row(name, "losses", 1.0)], [name], name)
    comparison.rows[0].label = name
    draw_comparison(tmp_path / "d.png", Comparison([name], comparison.rows[:1], {}, {name: name}, "test"))


def test_the_picture_of_the_documentation_has_every_recorded_row():
    from differences_picture import rows_of
    from method_results import read

    _, rows = rows_of("compare-digits.json")
    recorded = [(row["method"], row["track"]) for row in read("compare-digits.json")["rows"]]
    assert len({row.name for row in rows}) == len(rows) == len(recorded) - 1
    assert {row.group for row in rows if row.name in ("trades", "at: meat", "vit_at", "trades_rwp")} == {
        "losses",
        "ensembles",
        "another model",
        "several of these",
    }
