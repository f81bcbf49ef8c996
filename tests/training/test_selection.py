"""Best, last and their difference, on a history whose answers are plain to see."""

import pytest

from buttress.training.selection import Record, best_epoch, summarize


def history(track: str, validation: list[float], test: list[float]) -> list[Record]:
    records = []
    for epoch, (v, t) in enumerate(zip(validation, test, strict=True)):
        records.append(Record(epoch, track, "validation", 0.9, v, 50))
        records.append(Record(epoch, track, "test", 0.8 - epoch / 100, t, 70))
    return records


LIVE = history("live", [0.3, 0.5, 0.5, 0.2], [0.40, 0.45, 0.55, 0.35])
MEAT = history("meat", [0.1, 0.2, 0.3, 0.4], [0.10, 0.20, 0.30, 0.40])


def test_the_best_epoch_is_chosen_on_the_validation_split_and_scored_on_the_test_split():
    (row,) = summarize(LIVE, "validation")
    assert (row.best_epoch, row.robust_best, row.robust_last, row.n) == (1, 0.45, 0.35, 70)
    assert (row.clean_best, row.clean_last) == (0.79, 0.77)
    assert row.robust_diff == pytest.approx(0.10)
    assert row.clean_diff == pytest.approx(0.02)


def test_the_papers_protocol_takes_the_maximum_over_the_test_split():
    (row,) = summarize(LIVE, "test")
    assert (row.best_epoch, row.robust_best) == (2, 0.55)


def test_of_equal_epochs_the_first_is_best():
    assert best_epoch(LIVE, "live", "validation") == 1


def test_every_track_has_a_row_of_its_own_in_order_of_appearance():
    rows = summarize([*MEAT, *LIVE], "validation")
    assert [(row.track, row.best_epoch) for row in rows] == [("meat", 3), ("live", 1)]
    assert rows[0].robust_diff == 0


def test_the_last_epoch_is_the_largest_whatever_the_order_of_records():
    (row,) = summarize(list(reversed(LIVE)), "test")
    assert row.robust_last == 0.35


def test_the_train_split_takes_no_part():
    flattering = [Record(epoch, "live", "train", 1.0, 1.0 - epoch, 9) for epoch in range(4)]
    assert summarize([*flattering, *LIVE], "validation") == summarize(LIVE, "validation")


def test_a_row_as_json_holds_the_differences():
    (row,) = summarize(LIVE, "validation")
    written = row.to_json()
    assert written["robust_diff"] == row.robust_diff
    assert written["n"] == 70
    assert set(written) == {
        "track",
        "best_epoch",
        "clean_best",
        "clean_last",
        "clean_diff",
        "robust_best",
        "robust_last",
        "robust_diff",
        "n",
    }
