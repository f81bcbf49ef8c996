"""Start the present command again in several processes, by torchrun."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

from buttress.errors import ConfigError

if TYPE_CHECKING:
    from buttress.engine.joining import Launch

# Exit codes that a process of ours gives on purpose; every other one is that of a process that was lost.
_OWN_CODES = (1, 2)


def start_processes(count: int) -> str:
    """Run the present command in ``count`` processes on this machine, as torchrun does, and wait for them.

    Raises:
        ConfigError: the number is below 1, or this process has been started by torchrun or srun itself.
        SystemExit: a process failed; the exit code is its own. Or a signal has stopped them: the exit code is 1.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from buttress.engine.joining import Launch

    if count < 1:
        raise ConfigError("expected a number >= 1", key=f"--processes {count}")
    if Launch.of().size > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError("torchrun or srun has started this process; leave it out", key=f"--processes {count}")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost process is named by the others, in a sentence
    config = LaunchConfig(
        run_id=uuid4().hex,
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    # -P: Python would look for modules in the working folder first, where a ``types.py`` of somebody's lies.
    command = ["-P", "-m", "buttress", *_without_processes(sys.argv[1:])]
    try:
        elastic_launch(config, sys.executable)(*command)
    except SignalException:  # torchrun has handed it on to the processes, which have ended
        sys.exit(1)
    except ChildFailedError as problem:
        codes = {failure.exitcode for failure in problem.failures.values()}
        sys.exit(next((code for code in (2, 1) if code in codes and code in _OWN_CODES), 1))
    return ""


def refusal(launch: Launch, message: str, key: str) -> ConfigError:
    """The error of a mistake that every process of a launch sees, and rank 0 alone prints.

    Args:
        launch: place of this process.
        message: expected, got, and what to do.
        key: word or option of the command line that is at fault.
    """
    problem = ConfigError(message, key=key)
    problem.reported = launch.rank > 0
    return problem


def expect_one_process(verb: str) -> None:
    """Expect that neither torchrun nor srun has started a verb that works in one process in several.

    Raises:
        ConfigError: one has; rank 0 prints it.
    """
    from buttress.engine.joining import Launch

    launch = Launch.of()
    if launch.size > 1:
        raise refusal(launch, f"works in one process, got {launch.size}; start it without torchrun and srun", verb)


def _without_processes(words: list[str]) -> list[str]:
    """The command line without its option ``--processes N``."""
    kept = []
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--processes":
            words.pop(0)
        elif not word.startswith("--processes="):
            kept.append(word)
    return kept
