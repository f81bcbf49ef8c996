"""Percentages and tables, the same wherever they are shown."""

from fractions import Fraction

import pytest

from buttress.audit.probe import share
from buttress.comparing.comparison import ComparedTrack, Comparison
from buttress.console.tables import percent, wrapped
from buttress.report.elements import spread
from buttress.training import selection
from buttress.training.conclusion import summary_table


@pytest.mark.parametrize(
    ("value", "places", "sign", "text"),
    [
        (0.6415, 1, False, "64.2"),
        (0.6425, 1, False, "64.3"),
        (0.6435, 1, False, "64.4"),
        (1 - 0.3585, 1, False, "64.2"),  # 64.149999999999991 as a binary number
        (-0.0005, 1, False, "-0.1"),
        (-0.0004, 1, False, "0.0"),
        (-0.0004, 1, True, "+0.0"),
        (0.0, 1, True, "+0.0"),
        (0.09, 1, True, "+9.0"),
        (-0.012, 1, True, "-1.2"),
        (1.0, 1, False, "100.0"),
        (0.64145, 2, False, "64.15"),
        (float("nan"), 1, False, "NaN"),
    ],
)
def test_a_percentage_rounds_the_decimal_number_and_halves_away_from_zero(
    value: float, places: int, sign: bool, text: str
):
    assert percent(value, places, sign=sign) == text


def test_every_share_of_a_thousand_and_of_two_thousand_rounds_as_its_fraction():
    for n in (1000, 2000, 10_000):
        for right in range(n + 1):
            halves = Fraction(right * 2000 + n, 2 * n)  # in tenths of a percent, plus one half
            assert percent(right / n) == f"{(halves // 1) / 10:.1f}", (right, n)


def test_terminal_comparison_report_and_audit_round_alike():
    """A test accuracy of 1283 of 2000 is 64.15 %."""
    import torch

    right = 1283 / 2000
    row = selection.TrackSummary("live", 3, right, right, right, right, 2000)
    assert summary_table([row], "pgd-20").splitlines()[-1].split()[2:4] == ["64.2", "64.2"]
    values = {f"{attack} {measure}": right for attack in ("clean", "pgd-20") for measure in ("best", "last", "diff")}
    compared = Comparison(["pgd-20"], [ComparedTrack("at", "live", 2000, {0: values})], {}, {"at": "at"}, "validation")
    assert compared.table().splitlines()[4].split()[2:4] == ["64.2", "64.2"]
    assert (percent(right), spread([right]), spread([0.6405, 0.6425])) == ("64.2", "64.2", "64.2 ± 0.1")
    assert percent(share(torch.arange(2000) < 1283)) == "64.2"


@pytest.mark.parametrize("attack", ["pgd-20", "pgd-100x10-margin", "autoattack"])
def test_the_table_of_a_run_fits_80_columns(attack: str):
    rows = [
        selection.TrackSummary(track, 100, 1.0, 1.0, 1.0, 0.0, 10_000)
        for track in ("live", "an_ensemble_with_a_long_name")
    ]
    text = summary_table(rows, attack)
    assert max(map(len, text.splitlines())) <= 80
    assert attack in text


@pytest.mark.parametrize("head", ["", "   cure: "])
def test_a_command_stays_whole_on_its_line(head: str):
    command = f"{head}buttress evaluate runs/digits-at/2026 --attack pgd-100 --attack spsa --examples 100"
    assert wrapped(command, 80) == command
    assert "\n" in wrapped(f"the verb {command}", 80)
