"""Try the model of a config on two examples, in the config's precision and layout, before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from buttress.config.file import ConfigFile
from buttress.engine.compilation import expect_compilation
from buttress.errors import ModelError, describe
from buttress.nn.layout import expect_safe_layout
from buttress.nn.modes import Modes
from buttress.nn.precision import fitting
from buttress.nn.trial import CallArguments, Trial
from buttress.nn.two_layouts import expect_same_gradients
from buttress.precision import WORKS, Precision, Work
from buttress.training.device import memory_format_of

GRADIENTS: dict[Work, str] = {"attack": "input gradients", "train": "weight gradients", "score": "input gradients"}
"""The gradients that each kind of work takes of a model."""


def expect_works(model: nn.Module, x: Tensor, file: ConfigFile, works: Sequence[Work] = WORKS) -> None:
    """Expect that ``model`` can do its kinds of work at ``x [b,*]`` as ``file`` says; leaves no trace.

    Raises:
        ConfigError: the device or the weights have no such precision, or the device no such compilation.
        ModelError: the model raises in it, or its input gradients are wrong in its layout.
    """
    with (file.place / "compile").error_context():
        expect_compilation(file.config.compile, x.device)
    precision = Precision.read(file.config.precision)
    if "train" not in works:
        precision = Precision.scoring(precision.score)
    with (file.place / "precision").error_context():
        if next(model.parameters()).is_floating_point():  # others are refused by what trains them
            fitting(precision, model, f"model {type(model).__name__}")
        expect_precision(model, x, precision, works)
    if memory_format_of(file) == torch.channels_last:
        with (file.place / "model" / "memory_format").error_context():
            if "train" in works:
                expect_safe_layout(f"model {type(model).__name__}", model, x)
            expect_same_gradients(model, x)


def expect_precision(model: nn.Module, x: Tensor, precision: Precision, works: Sequence[Work]) -> None:
    """Expect that no layer of ``model`` refuses the precision of ``works``.

    Raises:
        ModelError: the model raises in it, and not in float32.
    """
    problems = {work: refusal(model, x, work, precision.of(work)) for work in works}
    refused = {work: problem for work, problem in problems.items() if problem is not None}
    if not refused:
        return
    (work, problem), *_ = refused.items()
    word = precision.of(work)
    rest = Precision() if word == "float64" else replace(precision, **dict.fromkeys(refused, "float32"))
    words = ", ".join(f"{each}: {chosen}" for each, chosen in asdict(rest).items())
    raise ModelError(
        f"model {type(model).__name__} does not give {GRADIENTS[work]} in {word}: {describe(problem)}; in float32 it "
        f"does: set precision: float32{f', or {{{words}}}' if rest != Precision() else ''}"
    )


def refusal(model: nn.Module, x: Tensor, work: Work, word: str) -> Exception | None:
    """The exception of ``model`` that does ``work`` at ``x [b,*]`` in the precision ``word``, but not in float32."""
    if word == "float32" or (work == "train" and len(x) < 2):
        return None
    try:
        _try(model, x, work, word)
    except Exception as problem:
        try:
            _try(model, x, work, "float32")
        except Exception:  # then it is no matter of precision, and others say it
            return None
        return problem
    return None


def _try(model: nn.Module, x: Tensor, work: Work, word: str) -> None:
    trial = Trial(torch.float64 if word == "float64" else torch.float32, word=word)
    with nullcontext() if work == "train" else Modes(model).evaluating():
        trial.gradients(model, CallArguments((x,)), "weights" if work == "train" else "inputs")
