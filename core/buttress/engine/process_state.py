"""Record and restore the process-wide state that a hook must not change: settings of torch, working folder."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor


class ProcessState(NamedTuple):
    """The process-wide state at one moment."""

    dtype: torch.dtype
    threads: int
    gradients: bool
    deterministic: bool
    folder: str | None
    seed: int
    generator: Tensor

    @staticmethod
    def now() -> ProcessState:
        return ProcessState(
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            _folder(),
            torch.initial_seed(),
            torch.get_rng_state(),
        )

    def changed(self) -> str:
        """A sentence about the first change since, or an empty text.

        Draws from the global generator do not count as a change: a model's dropout makes them in every forward.
        """
        now = ProcessState.now()
        names = {
            "dtype": "torch's default dtype",
            "threads": "the number of torch's threads",
            "gradients": "whether torch takes gradients",
            "deterministic": "the choice of deterministic algorithms",
            "folder": "the working folder",
            "seed": "the seed of torch's global generator",
        }
        for field, name in names.items():
            before, after = getattr(self, field), getattr(now, field)
            if before != after:
                return f"{name} was changed from {before} to {after}"
        return ""

    def put_back(self) -> None:
        now = ProcessState.now()
        torch.set_default_dtype(self.dtype)
        torch.set_grad_enabled(self.gradients)
        torch.use_deterministic_algorithms(
            self.deterministic, warn_only=torch.is_deterministic_algorithms_warn_only_enabled()
        )
        if now.threads != self.threads:
            torch.set_num_threads(self.threads)
        if now.seed != self.seed:
            torch.set_rng_state(self.generator)
        if self.folder is not None and now.folder != self.folder:
            with suppress(OSError):  # it may have been deleted
                os.chdir(self.folder)


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  (a Path costs ten times as much)
    except OSError:
        return None
