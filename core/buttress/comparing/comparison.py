"""Means and deviations over seeds of a comparison, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from buttress.console.tables import WIDTH, fitted, markdown_table, percent, wrapped
from buttress.precision import Precision
from buttress.training.selection import Record

MEASURES = ("best", "last", "diff")
VALIDATION = "validation"
"""The measure by which a variant is chosen: robust accuracy on the validation split at the best epoch."""
# Number of unfinished runs that the notes name; the JSON names all.
_NAMED = 5
# Number of characters of an error in the table; the JSON has all of it.
_LONGEST_REASON = 120


@dataclass
class ComparedTrack:
    """One track of one variant over seeds.

    Args:
        label: label of the variant.
        track: ``live`` or the name of an ensemble.
        n: number of test examples.
        values: seed to measure (``"clean best"``, ``"pgd-20 last"``) to accuracy in [0, 1].
        best_epochs: seed to the epoch (from 1) that was chosen.
        records: evaluations of all seeds and tracks, for the learning curves.
        method: method of the variant; variants of one method differ in swept settings.
        precision: precision of its attacks, of its training and of its evaluations.
    """

    label: str
    track: str
    n: int
    values: dict[int, dict[str, float]] = field(default_factory=dict)
    best_epochs: dict[int, int] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    method: str = ""
    precision: Precision = field(default_factory=Precision)

    @property
    def measures(self) -> list[str]:
        """Every measure that some seed has."""
        return list(dict.fromkeys(measure for values in self.values.values() for measure in values))

    def column(self, measure: str, seeds: Iterable[int] | None = None) -> list[float]:
        """The measure at every seed, or at those given, where it has been measured."""
        return [
            self.values[seed][measure]
            for seed in (self.values if seeds is None else seeds)
            if measure in self.values.get(seed, {})
        ]


@dataclass
class Comparison:
    """All rows of a comparison, and its failures.

    Args:
        attacks: names of attacks, the runs' own first.
        rows: rows, variant by variant and track by track.
        failed: label of a variant and seed to the last line of its error.
        baselines: label of a variant to the label of the one with whose live model it is compared.
        by: split on which the best epochs were chosen.
        caution: a sentence about numbers that are not of the same examples; empty where they are.
        unfinished: label and seed of runs that are not at their end: at work elsewhere, or stopped.
    """

    attacks: list[str]
    rows: list[ComparedTrack]
    failed: dict[tuple[str, int], str]
    baselines: Mapping[str, str]
    by: str
    caution: str = ""
    unfinished: list[tuple[str, int]] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        """Seeds of all rows."""
        return sorted({seed for row in self.rows for seed in row.values})

    def is_chosen(self, row: ComparedTrack) -> bool:
        """Whether this variant of a method is the best of all on the validation split, by the mean over common seeds.

        Swept settings are chosen by it: chosen by a test column, its accuracy would be biased upward.
        """
        rivals = [other for other in self.rows if (other.method, other.track) == (row.method, row.track)]
        measured = [{seed for seed in each.values if VALIDATION in each.values[seed]} for each in rivals]
        common = set.intersection(*measured) if measured else set()
        if len(rivals) < 2 or not row.method or not common:
            return False
        return row is max(rivals, key=lambda each: mean(each.column(VALIDATION, sorted(common))))  # the first of equals

    def baseline_of(self, row: ComparedTrack) -> ComparedTrack | None:
        """The row of the live model that ``row`` is compared with, if there is one."""
        label = self.baselines.get(row.label)
        return next((other for other in self.rows if (other.label, other.track) == (label, "live")), None)

    @property
    def against(self) -> str:
        """Label of the baseline, or a phrase where there are several."""
        labels = list(dict.fromkeys(self.baselines.values()))
        return labels[0] if len(labels) == 1 else f"the one of {', '.join(labels)} that has the same settings"

    def paired(self, row: ComparedTrack) -> list[float]:
        """Last robust accuracy minus that of the baseline's live model, at every seed that both have."""
        base, measure = self.baseline_of(row), f"{self.attacks[0]} last"
        if base is None:
            return []
        return [row.values[seed][measure] - base.values[seed][measure] for seed in row.values if seed in base.values]

    def table(self, markdown: bool = False) -> str:
        """Mean and sample standard deviation over seeds, in percent.

        Plain text is at most 80 columns wide: a table an attack, then one of what variants are chosen and compared by.
        """
        return self._markdown() if markdown else self._plain()

    def _plain(self) -> str:
        parts = []
        if self.rows:
            for attack in ("clean", *self.attacks):
                measures = [f"{attack} {measure}" for measure in MEASURES]
                lines = [[row.label, row.track, *(_cell(row.column(each)) for each in measures)] for row in self.rows]
                parts += [_title(attack), fitted(["method", "track", *MEASURES], lines)]
            header = ["method", "track", *self._validation_header, "paired", "seeds"]
            parts += ["Compared:", fitted(header, [[row.label, row.track, *self._compared(row)] for row in self.rows])]
        for (label, seed), reason in self.failed.items():
            parts.append(wrapped(f"failed: {label}, seed {seed}: {_shortened(reason)}", WIDTH))
        return "\n\n".join(parts) or "No run is finished."

    def _markdown(self) -> str:
        measures = [f"{attack} {measure}" for attack in ("clean", *self.attacks) for measure in MEASURES]
        header = ["method", "track", *measures, *self._validation_header, "paired", "seeds"]
        lines = [
            [row.label, row.track, *(_cell(row.column(each)) for each in measures), *self._compared(row)]
            for row in self.rows
        ]
        for (label, seed), reason in self.failed.items():
            lines.append([label, "failed", *[""] * (len(header) - 3), f"seed {seed}: {_shortened(reason)}"])
        plain = [[" ".join(cell.split()).replace("|", r"\|") for cell in line] for line in lines]
        return markdown_table(header, plain)

    @property
    def _validation_header(self) -> list[str]:
        return [VALIDATION] if any(VALIDATION in row.measures for row in self.rows) else []

    def _compared(self, row: ComparedTrack) -> list[str]:
        """The last cells of a row: validation where there is such a split, paired difference, number of seeds."""
        mark = " *" if self.is_chosen(row) else ""
        validation = [_cell(row.column(VALIDATION)) + mark for _ in self._validation_header]
        paired = "0" if row is self.baseline_of(row) else _cell(self.paired(row), sign=True)
        return [*validation, paired, str(len(row.values))]

    def notes(self) -> str:
        """Notes that explain the numbers of the table."""
        sizes = sorted({row.n for row in self.rows})
        of = f", n = {', '.join(map(str, sizes))}" if sizes else ""
        bias = " (the papers' protocol, biased upward)" if self.by == "test" else ""
        return (
            f"Test accuracies in %{of}: mean +- sample standard deviation over seeds; best epoch chosen on {self.by}"
            f"{bias} by {self.attacks[0]}, every best column at that same epoch. paired: last {self.attacks[0]} minus "
            f"that of the live model of {self.against}, seed by seed."
            + "".join(f" {more}" for more in self._more_notes())
        )

    def _more_notes(self) -> Iterator[str]:
        yield from self._precision_notes()
        if self._validation_header:
            yield f"validation: {self.attacks[0]} on the validation split, at the best epoch."
        if any(map(self.is_chosen, self.rows)):
            yield "*: the variant of its method that is the best there: choose settings by it, not by a test column."
        if self.caution:
            yield self.caution
        if self.unfinished:
            runs = "; ".join(f"{label}, seed {seed}" for label, seed in self.unfinished[:_NAMED])
            more = f"; and {len(self.unfinished) - _NAMED} more" if len(self.unfinished) > _NAMED else ""
            yield f"Not finished yet, and not in the numbers: {runs}{more}."

    def _precision_notes(self) -> Iterator[str]:
        labels: dict[Precision, list[str]] = {}
        for label, precision in {row.label: row.precision for row in self.rows}.items():
            labels.setdefault(precision, []).append(label)
        if len(labels) == 1:
            yield f"Precision: {next(iter(labels))}."
        elif labels:
            whose = [f"{precision} in {', '.join(own)}" for precision, own in labels.items()]
            yield f"Precision: {'; '.join(whose)}."
        if len({each.score for each in labels}) > 1:
            yield "Caution: not all were evaluated in one precision: compare their accuracies with care."

    def to_json(self) -> dict[str, Any]:
        """Everything, accuracies in [0, 1]; a deviation needs two seeds, else it is null."""
        return {
            "attacks": self.attacks,
            "baselines": dict(self.baselines),
            "best_by": self.by,
            "caution": self.caution,
            "rows": [
                {
                    "method": row.label,
                    "track": row.track,
                    "n": row.n,
                    "precision": row.precision.words,
                    "seeds": row.values,
                    "best_epochs": row.best_epochs,
                    "chosen": self.is_chosen(row),
                    "statistics": {
                        **{measure: _statistics(row.column(measure)) for measure in row.measures},
                        "paired": _statistics(self.paired(row)),
                    },
                }
                for row in self.rows
            ],
            "failed": [{"method": label, "seed": seed, "error": why} for (label, seed), why in self.failed.items()],
            "unfinished": [{"method": label, "seed": seed} for label, seed in self.unfinished],
        }


def _title(attack: str) -> str:
    return "Without an attack:" if attack == "clean" else wrapped(f"Under {attack}:", WIDTH)


def _shortened(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."


def _statistics(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": mean(values) if values else None, "std": stdev(values) if len(values) > 1 else None}


def _cell(values: Sequence[float], sign: bool = False) -> str:
    """``" 73.0 +-  4.2"``: of one width, so that the points of a column stand below each other."""
    if not values:
        return ""
    middle = percent(mean(values), sign=sign).rjust(5)
    return f"{middle} +- {percent(stdev(values)):>4}" if len(values) > 1 else middle
