"""The result of a search: its trials in their order of merit, as a table and as JSON, and the test of the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from buttress.comparing.jobs import Job
from buttress.console.tables import WIDTH, fitted, markdown_table, percent, wrapped
from buttress.searching.progress import short
from buttress.searching.study import SearchTrial
from buttress.training.summary_file import read_summary

_MEASURES = ("best", "last", "diff")
# Characters of a reason in the notes, at most.
_LONGEST_REASON = 120


@dataclass(frozen=True)
class TestScores:
    """Test accuracies of the runs of one trial, in [0, 1].

    Args:
        n: number of test examples.
        values: measure (``"clean best"``, ``"robust last"``) to the accuracies of all seeds.
    """

    n: int
    values: Mapping[str, Sequence[float]]


def scores_of(jobs: Sequence[Job], track: str) -> TestScores:
    """The test accuracies of the runs of a trial; read when nothing is left to decide.

    Raises:
        CheckpointError: a summary is damaged.
    """
    rows = [
        next(row for row in read_summary(job.folder.summary).body["tracks"] if row["track"] == track) for job in jobs
    ]
    names = [f"{kind} {measure}" for kind in ("clean", "robust") for measure in _MEASURES]
    return TestScores(rows[0]["n"], {name: [row[name.replace(" ", "_")] for row in rows] for name in names})


@dataclass(frozen=True)
class SearchResult:
    """All trials of a search, and the test of the best one.

    Args:
        trials: trials in the order in which they were begun.
        keys: keys that were searched.
        track: track whose accuracy was maximised.
        attack: name of the runs' attack.
        seeds: seeds of every trial.
        test: test accuracies of the best trial, or None where no trial is done.
    """

    trials: Sequence[SearchTrial]
    keys: Sequence[str]
    track: str
    attack: str
    seeds: Sequence[int]
    test: TestScores | None

    @property
    def ranked(self) -> list[SearchTrial]:
        """The trials that are done, the best first; equals in the order in which they were begun."""
        return ranked(self.trials)

    def table(self, markdown: bool = False) -> str:
        """All trials: those that are done by rank, then the pruned by how far they came, then the others."""
        if markdown:
            header = ["rank", "trial", *self.keys, *_HEADER]
            rows = [[rank, each.number, *self._settings(each), *_ends(each)] for rank, each in self._lines()]
            return markdown_table(header, [[str(cell).replace("|", r"\|") for cell in row] for row in rows])
        lines = [
            [rank, each.number, " ".join(map("{}={}".format, self.keys, self._settings(each))), *_ends(each)]
            for rank, each in self._lines()
        ]
        return fitted(["rank", "trial", "settings", *_HEADER], lines, names=3)

    def _lines(self) -> list[tuple[str, SearchTrial]]:
        cut = [each for each in self.trials if each.state == "pruned"]
        cut.sort(key=lambda each: (-max(each.curve, default=0), -_last(each)))
        failed = [each for each in self.trials if each.state in ("broken", "failed")]
        done = [(str(rank), each) for rank, each in enumerate(self.ranked, 1)]
        return [*done, *(("", each) for each in (*cut, *failed))]

    def _settings(self, trial: SearchTrial) -> list[str]:
        return [short(trial.settings[key]) if key in trial.settings else "" for key in self.keys]

    def _test_table(self, test: TestScores, markdown: bool) -> str:
        """Best, last and their difference of the best trial on the test split, in percent."""
        lines = [
            [name, *(spread(test.values[f"{kind} {each}"]) for each in _MEASURES)]
            for name, kind in (("clean", "clean"), (self.attack, "robust"))
        ]
        header = ["test", *_MEASURES]
        return markdown_table(header, lines) if markdown else fitted(header, lines, names=1)

    def notes(self) -> str:
        """Sentences that explain the numbers."""
        count = f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else f"seed {self.seeds[0]}, one run a trial"
        pruned = "; of a pruned trial, the last one" if any(each.state == "pruned" for each in self.trials) else ""
        return (
            f"validation: robust accuracy ({self.attack}, track {self.track}) in % at the best epoch, on the "
            f"validation split: mean +- sample standard deviation over {count}{pruned}. It has chosen the best "
            "trial, so it is biased upward there; the test split has chosen nothing."
            + "".join(
                f" Trial {each.number} {_STATES[each.state]}: {_cut(each.reason)}."
                for each in self.trials
                if each.reason
            )
        )

    def text(self, markdown: bool = False) -> str:
        """The table, the notes, and the test of the best trial."""
        parts = [self.table(markdown), self.notes()]
        if self.test is not None:
            best = self.ranked[0]
            runs = f"{len(self.seeds)} runs" if len(self.seeds) > 1 else "one run"
            settings = " ".join(f"{key}={best.settings[key]}" for key in self.keys)
            parts.append(f"Best: trial {best.number}: {settings}. Its test accuracies in %, n = {self.test.n}, {runs}:")
            parts.append(self._test_table(self.test, markdown))
        return "\n\n".join(part if markdown else wrapped(part, WIDTH) for part in parts)

    def to_json(self) -> dict[str, Any]:
        """Everything, accuracies in [0, 1]; a deviation needs two seeds, else it is null."""
        rank = {each.number: place for place, each in enumerate(self.ranked, 1)}
        return {
            "attack": self.attack,
            "track": self.track,
            "seeds": list(self.seeds),
            "trials": [
                {
                    "trial": each.number,
                    "state": each.state,
                    "rank": rank.get(each.number),
                    "settings": dict(each.settings),
                    "validation": {**statistics(list(each.values.values())), "seeds": dict(each.values)},
                    "curve": dict(each.curve),
                    "reason": each.reason,
                }
                for each in self.trials
            ],
            "best": self._best_json(),
        }

    def _best_json(self) -> dict[str, Any] | None:
        if self.test is None:
            return None
        best = self.ranked[0]
        test = {name: {**statistics(values), "runs": list(values)} for name, values in self.test.values.items()}
        return {"trial": best.number, "settings": dict(best.settings), "n": self.test.n, "test": test}


_HEADER = ("validation", "seeds", "end")
_STATES = {"broken": "broken off", "failed": "failed"}


def ranked(trials: Sequence[SearchTrial]) -> list[SearchTrial]:
    """The trials that are done, the best first."""
    return sorted((each for each in trials if each.state == "done"), key=lambda each: -each.value)


def spread(values: Sequence[float]) -> str:
    """``"61.3 +- 0.4"``: mean and sample standard deviation in percent; one value has no deviation."""
    if not values:
        return ""
    return percent(mean(values)) + (f" +- {percent(stdev(values))}" if len(values) > 1 else "")


def statistics(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, sample standard deviation and number of values."""
    deviation = stdev(values) if len(values) > 1 else None
    return {"mean": mean(values) if values else None, "deviation": deviation, "n": len(values)}


def _ends(trial: SearchTrial) -> list[str]:
    """The last cells of a line: validation, number of seeds, and how the trial ended."""
    if trial.state == "pruned":
        return [percent(_last(trial)), "", f"pruned after epoch {max(trial.curve, default=0)}"]
    seeds = str(len(trial.values)) if trial.values else ""
    return [spread(list(trial.values.values())), seeds, _STATES.get(trial.state, "")]


def _last(trial: SearchTrial) -> float:
    return trial.curve[max(trial.curve)] if trial.curve else 0.0


def _cut(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 4]} ..."
