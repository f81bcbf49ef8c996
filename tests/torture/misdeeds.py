"""Source: none. What plugins do wrong, each once; ``MISDEED`` in the environment says which, in which hook."""

import copy
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from buttress import Adv, Batch, hookimpl
from buttress.engine.context import Context

AT = (1, 2)
"""Epoch and step of the misdeed, from 0; in an evaluation it comes in the first batch."""


class OwnTensor(torch.Tensor):
    pass


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class OddError(BaseException):
    pass


def failing(here: Any, change: Callable[[], object]) -> None:
    change()
    raise MemoryError("the real reason")


def write(tensor: Tensor, value: float = 0.5) -> None:
    with torch.no_grad():
        tensor.fill_(value)


def deep(number: int) -> int:
    return deep(number + 1)


def fail(error: BaseException) -> None:
    raise error


def fork() -> None:
    if child := os.fork():
        os.waitpid(child, 0)


def in_a_thread(here: Any) -> None:
    thread = threading.Thread(target=here.batch.x.add_, args=(0.1,))
    thread.start()
    thread.join()


KEPT: list[object] = []

MISDEEDS: dict[str, Callable[[Any], object]] = {
    # What a hook was given
    "writes inputs": lambda here: here.batch.x.add_(0.2).clamp_(0, 1),
    "writes inputs by .data": lambda here: here.batch.x.data.zero_(),
    "writes inputs by NumPy": lambda here: here.batch.x.numpy().fill(0.5),
    "writes inputs in a thread": in_a_thread,
    "writes labels": lambda here: here.batch.y.zero_(),
    # The model
    "writes a weight": lambda here: write(here.model.linear.bias),
    "makes the model double": lambda here: here.model.double(),
    "makes the model bfloat16": lambda here: here.model.bfloat16(),
    "replaces a parameter": lambda here: setattr(here.model.linear, "bias", nn.Parameter(torch.zeros(3))),
    "gives a parameter other memory": lambda here: setattr(here.model.linear.weight, "data", torch.zeros(2, 2)),
    "removes a module": lambda here: delattr(here.model, "bn"),
    "replaces a module": lambda here: setattr(here.model, "linear", nn.Linear(4, 3)),
    "parametrizes a layer": lambda here: parametrizations.weight_norm(here.model.linear),
    "writes NaN into a buffer": lambda here: here.model.bn.running_mean.data.fill_(torch.nan),
    "bfloat16, then raises": lambda here: failing(here, here.model.bfloat16),
    "half, then raises": lambda here: failing(here, here.model.half),
    "removes a buffer, then raises": lambda here: failing(here, lambda: delattr(here.model.bn, "running_var")),
    "removes a module, then raises": lambda here: failing(here, lambda: delattr(here.model, "conv")),
    "freezes all, then raises": lambda here: failing(here, lambda: here.model.eval().requires_grad_(False)),
    "writes weights by .data, then raises": lambda here: failing(here, here.model.linear.weight.data.zero_),
    "keeps a copy of the model": lambda here: KEPT.append(copy.deepcopy(here.model)),
    # Exceptions
    "raises": lambda here: fail(ValueError("no")),
    "raises a huge message": lambda here: fail(RuntimeError("x" * 10_000_000)),
    "raises without a text": lambda here: fail(MuteError()),
    "raises what is no Exception": lambda here: fail(OddError("odd")),
    "raises StopIteration": lambda here: fail(StopIteration("early")),
    "raises GeneratorExit": lambda here: fail(GeneratorExit()),
    "recurses without end": lambda here: deep(0),
    "exits with 0": lambda here: sys.exit(0),
    "exits with an object": lambda here: sys.exit(object()),  # type: ignore[arg-type]
    "interrupts": lambda here: fail(KeyboardInterrupt()),
    "asks its process to end": lambda here: os.kill(os.getpid(), signal.SIGTERM),
    # The process
    "changes the folder": lambda here: os.chdir("/"),
    "changes the threads": lambda here: torch.set_num_threads(3),
    "changes the default dtype": lambda here: torch.set_default_dtype(torch.float64),
    "switches gradients off": lambda here: torch.set_grad_enabled(False),
    "seeds the global generator": lambda here: torch.manual_seed(1),
    "wants deterministic algorithms": lambda here: torch.use_deterministic_algorithms(True),
    "changes the folder, then raises": lambda here: failing(here, lambda: os.chdir("/")),
    "forks and goes on": lambda here: fork(),
    "closes standard output": lambda here: sys.stdout.close(),
    "closes the descriptor of standard output": lambda here: os.close(1),
    "replaces standard error": lambda here: setattr(sys, "stderr", None),
    "warns a thousand times": lambda here: [sys.stderr.write("careful\n") for _ in range(1000)],
    "ignores Ctrl-C": lambda here: signal.signal(signal.SIGINT, signal.SIG_IGN),
}

ANSWERS: dict[str, Callable[[Any], Any]] = {
    "answers with a subclass of Tensor": lambda here: Adv(here.adv.x.as_subclass(OwnTensor)),
    "answers with a list": lambda here: here.batch.x.tolist(),
    "answers in double": lambda here: Adv(here.batch.x.double()),
    "answers outside of the ball": lambda here: Adv(1 - here.batch.x.round()),
    "answers with NaN": lambda here: Adv(here.batch.x * torch.nan),
    "answers with a graph": lambda here: Adv(here.batch.x.clone().requires_grad_()),
    "answers with a generator": lambda here: (each for each in here.batch.x),
    "answers with nothing": lambda here: None,
}
"""In the place of the answer of ``generate_adv``."""


class Meddler:
    """Random corners of the ball, and one misdeed."""

    def __init__(self) -> None:
        self._what, _, self._hook = os.environ.get("MISDEED", "").partition("@")
        self._done = False

    def _now(self, hook: str, ctx: Context) -> bool:
        training = os.environ.get("MISDEED_IN") == "train"
        now = ctx.phase != "evaluate" and (ctx.epoch, ctx.step) >= AT if training else ctx.phase == "evaluate"
        due = hook == self._hook and not self._done and now
        self._done = self._done or due
        if due:
            Path(os.environ["MISDEED_DONE"]).touch()
        return due

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Any:
        sign = torch.randn(batch.x.shape, generator=ctx.generator("sign")).sign()
        adv = Adv(ctx.threat.project(batch.x + float(ctx.threat.eps) * sign, batch.x))
        if self._now("generate_adv", ctx):
            here = SimpleNamespace(model=model, batch=batch, adv=adv)
            if self._what in ANSWERS:
                return ANSWERS[self._what](here)
            MISDEEDS[self._what](here)
        return adv

    @hookimpl
    def adjust_grads(self, model: nn.Module, ctx: Context) -> None:
        if self._now("adjust_grads", ctx):
            MISDEEDS[self._what](SimpleNamespace(model=model))

    @hookimpl
    def end_epoch(self, ctx: Context) -> None:
        if self._now("end_epoch", ctx):
            MISDEEDS[self._what](SimpleNamespace(model=None))

    @hookimpl
    def ensemble_weights(self, model: nn.Module, event: str, ctx: Context) -> None:
        if event == "epoch" and self._now("ensemble_weights", ctx):
            MISDEEDS[self._what](SimpleNamespace(model=model))
