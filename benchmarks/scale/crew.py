"""Processes that stay and train one model together, a step whenever they are told to; in between they sleep."""

import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from .metered import Collectives

WORKER = Path(__file__).with_name("worker.py")
SECRET = b"the processes of bench_scale"


class Work(NamedTuple):
    """A problem on which every process makes its rows of each step.

    Args:
        stack: name in ``step/stacks.py``.
        setting: name in ``step/settings.py``.
        quick: whether the network is that for tests.
        batch: number of examples of the whole batch.
        batch_norm: ``local`` or ``sync``, as in ``Engine``.
    """

    stack: str
    setting: str
    quick: bool
    batch: int
    batch_norm: str


class Crew:
    """``processes`` processes, joined by gloo, with ``threads`` threads each."""

    def __init__(self, processes: int, threads: int) -> None:
        self.name = f"{processes}x{threads}"
        with Listener(("127.0.0.1", 0), authkey=SECRET) as listener, socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meeting, port = str(free.getsockname()[1]), str(listener.address[1])
            free.close()
            self._processes = [_started(rank, processes, threads, meeting, port) for rank in range(processes)]
            self._connections: list[Connection] = [listener.accept() for _ in self._processes]

    def begin(self, work: Work) -> None:
        """Prepare the network and the batch of ``work``."""
        self._asked(work)

    def step(self) -> tuple[float, list[Collectives]]:
        """Seconds of one step, until the last process has made it, and the collectives of each process."""
        begin = perf_counter()
        collectives = self._asked("step")
        return perf_counter() - begin, collectives

    def _asked(self, message: object) -> list[Any]:
        for connection in self._connections:
            connection.send(message)
        answers = [connection.recv() for connection in self._connections]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.wait()


def _started(rank: int, processes: int, threads: int, meeting: str, port: str) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": meeting,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([str(WORKER.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.Popen([sys.executable, str(WORKER), port, str(threads)], env=environment)
