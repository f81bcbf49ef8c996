"""One process of a crew: it prepares a problem, and makes a step of it, whenever it is told to."""

import sys
from collections.abc import Callable
from multiprocessing.connection import Client

import torch
from step.problem import REAL, SMALL, Problem
from step.settings import SETTINGS
from step.stacks import STACKS

from scale.crew import SECRET, Work
from scale.metered import Collectives, MeteredWorld


def serve(port: int) -> None:
    """Do what the benchmark asks until it ends; an exception is the answer, too."""
    world = MeteredWorld()
    step: Callable[[], object] = str
    with Client(("127.0.0.1", port), authkey=SECRET) as connection:
        while True:
            try:
                message = connection.recv()
            except EOFError:
                return
            try:
                if isinstance(message, Work):
                    step = prepared(message, world)
                connection.send(measured(step, world) if message == "step" else None)
            except Exception as problem:
                connection.send(problem)


def prepared(work: Work, world: MeteredWorld) -> Callable[[], object]:
    """A call that makes one step on the rows of this process."""
    sizes = SMALL if work.quick else REAL
    problem = Problem(STACKS[work.stack], sizes._replace(batch=work.batch), torch.device("cpu"))
    return problem.engine(SETTINGS[work.setting], world=world, batch_norm=work.batch_norm).step


def measured(step: Callable[[], object], world: MeteredWorld) -> Collectives:
    """The collectives of a step."""
    world.taken()
    step()
    return world.taken()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    serve(int(sys.argv[1]))
