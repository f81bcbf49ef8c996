"""Join the other processes of a run, which torchrun or srun has started."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from buttress.engine.faults import Faults
from buttress.engine.world import World
from buttress.errors import ConfigError, RanksError

# Seconds after which a collective fails, unless the environment says otherwise.
TIMEOUT, TIMEOUT_VARIABLE = 600.0, "BUTTRESS_TIMEOUT"


@dataclass(frozen=True)
class Launch:
    """The place of this process among those that a launcher has started.

    Args:
        rank: number of the process, from 0.
        size: number of processes.
        local_rank: number of the process on its machine, from 0.
        by_srun: whether srun, and not torchrun, has started the process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    by_srun: bool = False

    @staticmethod
    def of(environment: Mapping[str, str] = os.environ) -> Launch:
        """The place that the variables of torchrun, or else those of srun, give this process; else one process alone.

        Raises:
            ConfigError: a variable holds no number, or one that does not fit the others.
        """
        if "RANK" in environment and "WORLD_SIZE" in environment:
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
            rank, size, local = (_number(environment, name) for name in names)
            launch = Launch(rank, size, local)
        elif _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:
            rank, size = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_STEP_NUM_TASKS")
            launch = Launch(rank, size, _number(environment, "SLURM_LOCALID"), by_srun=True)
        else:
            return Launch()
        if not 0 <= launch.rank < launch.size:
            raise ConfigError(
                f"expected a rank from 0 to {launch.size - 1}, got {launch.rank}; start with torchrun or srun"
            )
        return launch


def _number(environment: Mapping[str, str], name: str, default: int = 0) -> int:
    text = environment.get(name, str(default))
    if not text.isdigit():
        raise ConfigError(f"environment variable {name}: expected a number >= 0, got {text!r}")
    return int(text)


def meeting_point(environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """The machine of rank 0 of a step of Slurm, and a port that follows from the numbers of job and step.

    Raises:
        ConfigError: a variable holds no number, or Slurm does not name the machine.
    """
    own = environment.get("MASTER_ADDR")
    step = 31 * _number(environment, "SLURM_JOB_ID") + _number(environment, "SLURM_STEP_ID")
    port = _number(environment, "MASTER_PORT", 20_000 + step % 20_000)
    nodes = environment.get("SLURM_STEP_NODELIST", "127.0.0.1")
    if own is None and "[" in nodes:
        command = ["scontrol", "show", "hostnames", nodes]
        try:
            nodes = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[0]
        except (OSError, subprocess.SubprocessError, IndexError) as problem:
            raise ConfigError(
                f"srun: the machine of rank 0 is not known ({' '.join(command)}: {problem}); set MASTER_ADDR to it"
            ) from problem
    return own or nodes.split(",")[0], port


def join(launch: Launch | None = None) -> World:
    """Meet the other processes of the run; one process alone meets nobody.

    Backends are gloo for tensors on the CPU and NCCL for those on CUDA devices.

    Raises:
        ConfigError: variables of the launcher are wrong.
        RanksError: the others do not come.
    """
    launch = Launch.of() if launch is None else launch
    if launch.size == 1:
        return World()
    timeout = meeting_timeout()
    options: dict[str, Any] = {"rank": launch.rank, "world_size": launch.size}
    try:
        if launch.by_srun:
            store = TCPStore(*meeting_point(), launch.size, is_master=launch.rank == 0, timeout=timeout)
        else:
            store, _, _ = next(rendezvous("env://", launch.rank, launch.size, timeout=timeout))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(backend, store=PrefixStore("group", store), timeout=timeout, **options)
    except (RuntimeError, ValueError) as problem:
        raise RanksError(f"rank {launch.rank} of {launch.size} did not meet the others: {problem}") from problem
    return World(dist.group.WORLD, Faults(store, timeout.total_seconds()))


def meeting_timeout() -> timedelta:
    """The longest time that processes of a launch wait for one another.

    Raises:
        ConfigError: the environment variable holds no number of seconds.
    """
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    with suppress(ValueError):
        seconds = float(text or TIMEOUT)
        if 0 < seconds < 1e7:
            return timedelta(seconds=seconds)
    raise ConfigError(f"environment variable {TIMEOUT_VARIABLE}: expected a number of seconds > 0, got {text!r}")
