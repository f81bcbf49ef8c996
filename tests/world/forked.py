"""``buttress WORDS`` on every rank of a run, each in a process of its own, which has torch already and may die."""

import multiprocessing
import os
import re
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.torture.warm"])

LONGEST = 60.0
"""Seconds within which all ranks are to be gone, whatever happens to one."""


@dataclass(frozen=True)
class Ended:
    """The end of all ranks: exit codes, and the text that each has printed."""

    codes: list[int]
    texts: list[str]

    @property
    def errors(self) -> list[str]:
        """Lines that begin with ``error:``, of all ranks."""
        return [line for text in self.texts for line in text.splitlines() if line.startswith("error:")]


class ForkedRanks:
    """The processes of ``size`` ranks, as torchrun would start them.

    Args:
        words: words of the command of each rank; one list for all, or a function of the rank.
        size: number of ranks.
        folder: folder for what they print.
        variables: variables of the environment beside those of torchrun.
    """

    def __init__(
        self, words: Sequence[str] | Callable[[int], Sequence[str]], size: int, folder: Path, **variables: str
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        self._outputs = [folder / f"rank-{rank}.txt" for rank in range(size)]
        self.processes: list[Any] = []
        for rank, output in enumerate(self._outputs):
            environment = {
                **{"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{size}", "OMP_NUM_THREADS": "1"},
                **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}", "TORCH_CPP_LOG_LEVEL": "ERROR"},
                **variables,
            }
            own = list(words(rank)) if callable(words) else list(words)
            process = _processes.Process(target=_run, args=(own, environment, str(output)))
            process.start()
            self.processes.append(process)

    def until(self, reached: Callable[[], bool]) -> bool:
        """Wait until something is so; False where the ranks have ended before."""
        end = monotonic() + LONGEST
        while not reached():
            if monotonic() > end or not any(process.is_alive() for process in self.processes):
                return False
            sleep(0.002)
        return True

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):  # it has ended
            os.kill(self.processes[rank].pid, number)

    def end(self) -> Ended:
        """The end of all; one that is still there after a minute hangs."""
        end = monotonic() + LONGEST
        for process in self.processes:
            process.join(max(0.0, end - monotonic()))
        hanging = [rank for rank, process in enumerate(self.processes) if process.is_alive()]
        for process in self.processes:
            process.kill()
            process.join()
        texts = [path.read_text() if path.exists() else "" for path in self._outputs]
        assert not hanging, (hanging, texts)
        return Ended([process.exitcode for process in self.processes], [_on_one_line(text) for text in texts])


def _on_one_line(text: str) -> str:
    return re.sub(r"\n +", " ", text)


def _run(words: list[str], environment: dict[str, str], output: str) -> None:
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    import torch

    from buttress.cli.main import main

    torch.set_num_threads(1)
    raise SystemExit(main(words))
