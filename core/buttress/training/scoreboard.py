"""The evaluations of a run: the live model and every track scored, recorded, and their best and last weights kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

from buttress.analysis.loss_groups import EDGES, group_counts
from buttress.build import Assembly
from buttress.evaluation import attack_name
from buttress.training.progress import Progress
from buttress.training.selection import Record, best_epoch


class Scoreboard:
    """Scores on every split that the config names.

    Args:
        assembly: engine, data and evaluator.
        progress: takes the records and keeps the weights.
        write: writes a metrics record.
    """

    def __init__(self, assembly: Assembly, progress: Progress, write: Callable[[Mapping[str, object]], None]) -> None:
        self._assembly, self._progress, self._write = assembly, progress, write
        self._config = assembly.file.config
        wanted = self._config.evaluation.train
        self._splits = {name: s for name, s in assembly.data.splits().items() if name != "train" or wanted}

    def score(self, epoch: int, track: str = "live") -> list[Record]:
        """Evaluate the model, which has the weights of ``track`` in it, after ``epoch`` (from 1)."""
        records = []
        for name, split in self._splits.items():
            score = self._assembly.evaluator.score(split, epoch)
            records.append(Record(epoch, track, name, score.clean, score.robust, score.n))
            if name == "train":
                counts = group_counts(score.robust_losses).tolist()
                self._write({"event": "losses", "epoch": epoch, "track": track, "edges": EDGES, "counts": counts})
        self._add(records)
        return records

    def finish(self, live: list[Record], *, last: bool) -> str:
        """Keep the live model's weights, then evaluate every track and keep its weights.

        Args:
            live: what ``score`` has found in this epoch.
            last: whether this epoch is the run's last.

        Returns:
            What a person reads: ``test clean/pgd-20: live 91.2/62.5, meat 92.0/64.1``.
        """
        engine, epoch = self._assembly.engine, live[0].epoch
        self._keep("live", epoch, last)
        found = [f"live {_percent(live)}"]
        for track in engine.tracks():
            if track.weights is None:  # not begun: the live model stands in, and is not evaluated twice
                self._add([Record(**{**asdict(record), "track": track.name}) for record in live])
                self._keep(track.name, epoch, last)
                continue
            with engine.track(track):
                found.append(f"{track.name} {_percent(self.score(epoch, track.name))}")
                self._keep(track.name, epoch, last)
        return f"test clean/{attack_name(self._assembly.evaluator.attack)}: {', '.join(found)}"

    def _add(self, records: list[Record]) -> None:
        self._progress.records += records
        for record in records:
            self._write({"event": "evaluation", **asdict(record)})

    def _keep(self, track: str, epoch: int, last: bool) -> None:
        best = best_epoch(self._progress.records, track, self._config.evaluation.best_by) == epoch
        for which in [name for name, wanted in (("best", best), ("last", last)) if wanted]:
            self._progress.weights.keep(which, track, epoch, self._assembly.engine.model)


def _percent(records: list[Record]) -> str:
    test = next(record for record in records if record.split == "test")
    return f"{100 * test.clean:.1f}/{100 * test.robust:.1f}"
