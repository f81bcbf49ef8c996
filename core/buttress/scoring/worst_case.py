"""Measure robust accuracy in the worst case over several attacks; keep the verdict on every example on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from buttress.components.loaded import LoadedPlugin
from buttress.console.reporter import Reporter
from buttress.data import Split
from buttress.engine.attacking import ModelAtWork
from buttress.errors import CheckpointError
from buttress.functional import is_correct
from buttress.nn.contract import expect_some_finite
from buttress.nn.finite import remark_on
from buttress.scoring.evaluator import Evaluator
from buttress.scoring.meter import Meter, most_forwards
from buttress.storage.files import write_with
from buttress.storage.regular_file import open_regular_file
from buttress.threat import ThreatModel

NOT_ATTACKED, WRONG, RIGHT = -1, 0, 1

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Verdicts:
    """The verdict on every example, without an attack and under each attack.

    Args:
        names: ``clean``, then the names of the attacks in their order.
        table: ``[1+A,n]`` int8: ``RIGHT``, ``WRONG``, or ``NOT_ATTACKED`` for an example that was wrong before.
        seconds: ``[1+A]`` time spent, in seconds.
        each: whether every attack saw every example.
    """

    names: Sequence[str]
    table: NDArray[np.int8]
    seconds: NDArray[np.float64]
    each: bool

    def left_after(self, row: int) -> Flags:
        """``[n]`` bools: right without an attack, and under all attacks up to row ``row``."""
        left: Flags = (self.table[: row + 1] != WRONG).all(0)
        return left

    @property
    def worst(self) -> Flags:
        """``[n]`` bools: right without an attack and under every attack."""
        return self.left_after(len(self.table) - 1)

    def rows(self) -> list[dict[str, Any]]:
        """A row for ``clean`` and for each attack: numbers of examples attacked and wrong, accuracies, and time.

        ``accuracy``, ``low`` and ``high`` belong to the attack by itself, over all n examples. They are null where it
        saw only examples that other attacks had left. ``left`` is the worst case over it and the attacks before it.
        """
        return [
            {
                "attack": name,
                "attacked": int((self.table[row] != NOT_ATTACKED).sum()),
                "wrong": int((self.table[row] == WRONG).sum()),
                **self._own(row),
                "left": share_of(self.left_after(row)),
                "seconds": round(float(self.seconds[row]), 1),
            }
            for row, name in enumerate(self.names)
        ]

    def _own(self, row: int) -> dict[str, Any]:
        own = share_of(self.table[row] == RIGHT)
        kept_from_it = (self.table[0] == RIGHT) & (self.table[row] == NOT_ATTACKED)
        return {**own, "accuracy": None, "low": None, "high": None} if kept_from_it.any() else own


def share_of(right: Flags) -> dict[str, Any]:
    """The share of True in ``right [n]``, with its 95 % interval."""
    n, count = len(right), int(right.sum())
    low, high = interval(count, n)
    return {"accuracy": count / n, "low": low, "high": high, "n": n}


def interval(right: int, n: int) -> tuple[float, float]:
    """The Wilson 95 % interval of an accuracy, measured as ``right`` of ``n`` examples."""
    from scipy.stats import binomtest  # slow to import, and few verbs need it

    low, high = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def attack_all(
    model: nn.Module | ModelAtWork,
    attacks: Sequence[tuple[str, LoadedPlugin]],
    threat: ThreatModel,
    split: Split,
    index: Tensor,
    *,
    seed: int = 0,
    batch_size: int = 500,
    each: bool = False,
    partial: Path | None = None,
    reporter: Reporter | None = None,
) -> Verdicts:
    """Attack examples with one attack after the other; an example that is wrong already is not attacked again.

    An example keeps its batch. So the draws for it depend on the seed, the batch and the examples left in the batch,
    and not on other batches.

    Args:
        model: module that maps ``[B,*]`` to logits ``[B,K]``; attacked in eval mode, it stays as it is. One that is at
            work already is attacked in its own precision.
        attacks: names, each once, and attacks, in order.
        threat: the threat model.
        split: the examples.
        index: ``[n]`` positions in ``split``, on the CPU.
        seed: seed of the attacks' random draws.
        batch_size: number of examples that an attack gets at once.
        each: whether every attack sees every example, also one that is wrong already.
        partial: file that keeps the finished work after every batch; if it exists, the work continues from it. It must
            come from the same call.
        reporter: reporter that shows progress.

    Raises:
        HookError, InputError: an attack failed, or refused the model.
        ModelError: the logits are not finite for any example.
    """
    at_work = model if isinstance(model, ModelAtWork) else ModelAtWork(model, who="evaluation")
    model, reporter = at_work.model, reporter or Reporter()
    batches = [torch.arange(len(index))[first : first + batch_size] for first in range(0, len(index), batch_size)]
    work = _Work.resume(partial, (1 + len(attacks), len(index)))
    evaluators = [Evaluator(at_work, attack, threat, seed=seed, batch_size=batch_size) for _, attack in attacks]
    names = ["clean", *(name for name, _ in attacks)]
    if remark := remark_on(model):
        reporter.say(f"note: {remark}")
    nonfinite = 0

    def still_right(evaluator: Evaluator | None, columns: Tensor, number: int) -> Tensor:
        nonlocal nonfinite
        (batch,) = split.batches(index[columns], len(columns))
        x = batch.x if evaluator is None else evaluator.attacked(batch, number).x
        logits = at_work.logits(x)
        if evaluator is None:
            nonfinite += int((~torch.isfinite(logits)).any(1).sum())
        return is_correct(logits, batch.y).cpu()

    for row, (name, evaluator) in enumerate(zip(names, [None, *evaluators], strict=True)):
        first = min(max(work.done - row * len(batches), 0), len(batches))
        if first == len(batches):
            continue
        with reporter:
            attack = None if evaluator is None else evaluator.attack
            remaining = batches if each else [work.left(row, batch) for batch in batches]
            costs = [most_forwards(attack, len(columns)) for columns in remaining]
            meter = Meter(reporter, at_work, f"{name} ({row + 1} of {len(names)})", costs, first)
            for number in range(first, len(batches)):
                began, columns = monotonic(), remaining[number]
                with meter.batch(number):
                    right = still_right(evaluator, columns, number) if len(columns) else columns.bool()
                    work.keep(row, columns, right, monotonic() - began)
            if evaluator is None and (remark := expect_some_finite("evaluate", model, nonfinite, len(index))):
                reporter.say(f"note: {remark}")
    return Verdicts(names, work.table, work.seconds, each)


@dataclass
class _Work:
    """The finished work, saved after every batch: ``done`` counts batches over all attacks."""

    path: Path | None
    table: NDArray[np.int8]
    seconds: NDArray[np.float64]
    done: int = 0

    @staticmethod
    def resume(path: Path | None, shape: tuple[int, int]) -> _Work:
        if path is None or not path.is_file():
            return _Work(path, np.full(shape, NOT_ATTACKED, np.int8), np.zeros(shape[0]))
        try:
            with open_regular_file(path) as stream, np.load(stream, allow_pickle=False) as file:
                table, seconds, done = (np.asarray(file[name]) for name in ("table", "seconds", "done"))
                sealed = str(file["sha256"]) == _digest(table, seconds, done)
        except Exception as problem:  # numpy and zipfile raise many kinds of error about a broken file
            raise CheckpointError(
                f"{path} is damaged ({problem}); delete it to start the evaluation anew", path=path
            ) from None
        fits = table.shape == shape and table.dtype == np.int8 and seconds.shape == shape[:1]
        if not (sealed and fits and done.shape == () and done.dtype.kind == "i" and int(done) >= 0):
            raise CheckpointError(
                f"{path} is damaged (not as it was written); delete it to start the evaluation anew", path=path
            )
        return _Work(path, table, seconds.astype(np.float64), int(done))

    def left(self, row: int, columns: Tensor) -> Tensor:
        """Those of ``columns [B]`` that are wrong in no row above ``row``."""
        return columns[torch.from_numpy((self.table[:row, columns.numpy()] != WRONG).all(0))]

    def keep(self, row: int, columns: Tensor, right: Tensor, seconds: float) -> None:
        """Save one batch under one attack: ``right [B]`` holds the verdicts on ``columns [B]``."""
        self.table[row, columns.numpy()] = right.numpy()
        self.seconds[row] += seconds
        self.done += 1
        if self.path is not None:
            write_with(self.path, self._write)

    def _write(self, temporary: Path) -> None:
        done = np.asarray(self.done)
        digest = _digest(self.table, self.seconds, done)
        with temporary.open("wb") as stream:
            np.savez(stream, table=self.table, seconds=self.seconds, done=done, sha256=np.array(digest))


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()
