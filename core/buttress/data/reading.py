"""Read the parts of a data set in worker processes, ahead of their use."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from buttress.errors import DataError, WorkError, describe

T = TypeVar("T")


def read_ahead(
    read: Callable[[list[int]], T], parts: Iterable[Tensor], workers: int, *, pinned: bool = False, who: str = "data"
) -> Iterator[T]:
    """The answers of ``read`` to each of ``parts``, in their order; workers make the next ones while one is in use.

    A part is made by one worker, so that its answer depends on its positions alone. Workers end with the iterator.

    Args:
        read: makes the examples at some positions; called in the workers, so that it must be picklable. It makes no
            random choice.
        parts: ``[b]`` int64 positions, on the CPU.
        workers: number of worker processes, each of which is two parts ahead; 0 reads in this process.
        pinned: whether tensors come in page-locked memory, from which a copy to a CUDA device does not wait.
        who: name of the reader for messages.

    Raises:
        DataError: an example cannot be read; at its part, as ``read`` raised it.
        WorkError: a worker has ended by itself, for example for lack of memory.
    """
    loader: DataLoader[Any] = DataLoader(
        _Parts(read),
        sampler=(part.tolist() for part in parts),
        batch_size=None,
        num_workers=workers,
        pin_memory=pinned,
        generator=torch.Generator(),  # of its own: the global one is nobody's here
    )
    with _child_signals_kept():
        answers = iter(loader)
    try:
        yield from _answers(answers, who)
    finally:
        getattr(answers, "_shutdown_workers", lambda: None)()


def _answers(answers: Iterator[Any], who: str) -> Iterator[Any]:
    while True:
        try:
            answer = next(answers)
        except StopIteration:
            return
        except RuntimeError as problem:
            if "DataLoader worker" not in str(problem).splitlines()[0]:
                raise
            raise WorkError(
                f"{who}: a process that reads examples has ended by itself: {describe(problem)}; free memory, or take "
                f"fewer workers"
            ) from None
        if isinstance(answer, DataError):
            raise answer
        yield answer


class _Parts(Dataset[Any], Generic[T]):
    """Positions to the answer of ``read``, or to its error.

    An error is an answer here: raised in a worker, it would arrive with the worker's traceback for a message.
    """

    def __init__(self, read: Callable[[list[int]], T]) -> None:
        self._read = read

    def __getitem__(self, positions: list[int]) -> T | DataError:
        try:
            return self._read(positions)
        except DataError as problem:
            return problem


@contextmanager
def _child_signals_kept() -> Iterator[None]:
    """Keep torch from raising the death of a worker wherever this process happens to be, as in a plugin's hook.

    It is found where the worker's next answer is waited for, after at most five seconds.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)
