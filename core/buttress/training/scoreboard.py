"""Evaluate the live model and every track of a run, record the scores, and keep best and last weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

from buttress.console.reporter import Reporter
from buttress.console.tables import percent
from buttress.scoring.attacks import attack_name
from buttress.scoring.loss_groups import EDGES, group_counts
from buttress.training.assembly import Assembly
from buttress.training.forecast import Forecast
from buttress.training.resumable_state import ResumableState
from buttress.training.selection import Record, best_epoch
from buttress.types import Batch, Track

# Kinds of work beside training steps, as the reporter counts them.
_EXAMPLES, _BATCHES = "examples", "batches"


class Scoreboard:
    """Scores on every split that the config names.

    Args:
        assembly: engine, data and evaluator.
        state: the state of the run, which takes the records and keeps the weights.
        reporter: shows how far an evaluation is.
        write: writes a metrics record.
    """

    def __init__(
        self,
        assembly: Assembly,
        state: ResumableState,
        reporter: Reporter,
        write: Callable[[Mapping[str, object]], None],
    ) -> None:
        self._assembly, self._state, self._reporter, self._write = assembly, state, reporter, write
        self._config = assembly.file.config
        self._splits = assembly.evaluated_splits

    def plan(self, forecast: Forecast | None) -> None:
        """Tell the reporter how much evaluation is ahead of the run, before its first step here.

        Args:
            forecast: forecast of a new run; without one, only tracks of earlier evaluations are counted.
        """
        if forecast is not None:
            self._reporter.expect(_EXAMPLES, forecast.examples, forecast.example_seconds)
            self._reporter.expect(_BATCHES, forecast.batches, forecast.batch_seconds)
        else:
            known = len({"live", *(record.track for record in self._state.records)})
            self._reporter.expect(_EXAMPLES, self._ahead() * known * self._size)

    def score(self, epoch: int, track: str = "live") -> list[Record]:
        """Evaluate the model, which has the weights of ``track`` in it, after ``epoch`` (from 1)."""
        records = []
        for name, split in self._splits.items():
            score = self._assembly.evaluator.score(
                split, epoch, lambda n: self._reporter.busy(_EXAMPLES, f"evaluating {track}", n)
            )
            records.append(Record(epoch, track, name, score.clean, score.robust, score.n))
            if name == "train":
                counts = group_counts(score.robust_losses).tolist()
                self._write({"event": "losses", "epoch": epoch, "track": track, "edges": EDGES, "counts": counts})
        self._add(records)
        return records

    def finish(self, live: list[Record], *, last: bool) -> str:
        """Keep the live model's weights, then evaluate every track and keep its weights.

        Args:
            live: records that ``score`` returned in this epoch.
            last: whether this epoch is the run's last.

        Returns:
            A line for the user: ``test clean/pgd-20: live 91.2/62.5, meat 92.0/64.1``.
        """
        engine, epoch = self._assembly.engine, live[0].epoch
        self._keep("live", epoch, last)
        scores = [f"live {_percent(live)}"]
        tracks = engine.tracks()
        self._expect(tracks)
        for track in tracks:
            if track.weights is None:  # not begun: the live model stands in, and is not evaluated twice
                self._add([Record(**{**asdict(record), "track": track.name}) for record in live])
                self._keep(track.name, epoch, last)
                self._reporter.skip(_EXAMPLES, self._size)
                self._reporter.skip(_BATCHES, self._batches_of(track))
                continue
            with engine.track(track, lambda name=track.name: self._measured(name)):  # type: ignore[misc]
                scores.append(f"{track.name} {_percent(self.score(epoch, track.name))}")
                self._keep(track.name, epoch, last)
        return f"test clean/{attack_name(self._assembly.evaluator.attack)}: {', '.join(scores)}"

    def _measured(self, track: str) -> Iterator[Batch]:
        """The batches on which the batch norm of a track is measured; the reporter hears of each."""
        for batch in self._assembly.fixed_batches():
            yield batch
            self._reporter.busy(_BATCHES, f"batch norm of {track}", 1)

    # How much is ahead

    @property
    def _size(self) -> int:
        """Number of examples in one evaluation of one track."""
        return sum(map(len, self._splits.values()))

    def _batches_of(self, track: Track) -> int:
        return self._assembly.batches if track.buffers == "reestimate" else 0

    def _ahead(self) -> int:
        """Number of evaluations after the epochs that are done."""
        assembly, every = self._assembly, self._config.evaluation.every
        done, epochs = assembly.engine.epoch, assembly.length.epochs
        total = -(-epochs // every)  # rounded up: the last epoch always has one
        return total - done // every if done < epochs else 0

    def _expect(self, tracks: Sequence[Track]) -> None:
        """Count the evaluations of these tracks now, and of them and the live model in every later evaluation."""
        ahead = self._ahead()
        self._reporter.expect(_EXAMPLES, self._size * (len(tracks) + ahead * (1 + len(tracks))))
        self._reporter.expect(_BATCHES, sum(map(self._batches_of, tracks)) * (1 + ahead))

    def _add(self, records: list[Record]) -> None:
        self._state.records += records
        for record in records:
            self._write({"event": "evaluation", **asdict(record)})

    def _keep(self, track: str, epoch: int, last: bool) -> None:
        best = best_epoch(self._state.records, track, self._config.evaluation.best_by) == epoch
        for which in [name for name, wanted in (("best", best), ("last", last)) if wanted]:
            self._state.weights.keep(which, track, epoch, self._assembly.engine.model)


def _percent(records: list[Record]) -> str:
    test = next(record for record in records if record.split == "test")
    return f"{percent(test.clean)}/{percent(test.robust)}"
