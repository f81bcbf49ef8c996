"""Processes that stay, one a rank, and run functions of test modules together."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SECRET = b"ranks of a test"


class Ranks:
    """``size`` processes joined by gloo; ``call`` runs a function of a module in all, and gives the answer of each."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._listener = Listener(("127.0.0.1", 0), authkey=SECRET)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.processes = [self._start(rank, port) for rank in range(size)]
        connections = [self._listener.accept() for _ in range(size)]
        self._connections = [each for _, each in sorted((each.recv(), each) for each in connections)]

    def _start(self, rank: int, port: int) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self.size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "BUTTRESS_TIMEOUT": "60",
        }
        door = str(self._listener.address[1])
        command = [sys.executable, "-m", "tests.world.ranks", door]
        return subprocess.Popen(command, cwd=ROOT, env=environment)

    def call(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """The answers of all ranks to ``function(world, *args)``; an exception is raised here."""
        for connection in self._connections:
            connection.send_bytes(pickle.dumps((function, args)))
        answers = [pickle.loads(connection.recv_bytes()) for connection in self._connections]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self._listener.close()


def _serve(port: int) -> None:
    import torch

    from buttress.engine.joining import join

    torch.set_num_threads(1)
    world = join()
    with Client(("127.0.0.1", port), authkey=SECRET) as connection:
        connection.send(world.rank)
        while True:
            function, args = pickle.loads(connection.recv_bytes())
            try:
                answer = function(world, *args)
            except Exception as problem:
                answer = problem
            connection.send_bytes(pickle.dumps(answer))  # tensors by value, not as shared memory


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
