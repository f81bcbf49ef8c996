"""Number formats: a run in float32 or bfloat16 is the run in float64, to the rounding of the format."""

from __future__ import annotations

import torch
from torch import Tensor

from buttress.testing.promise import expect, rule
from buttress.testing.same_draws import SameDraws
from buttress.testing.subject import Net, Subject, step, train

# Largest error of the first update, relative to its L2 norm in float64. In float32 machine epsilon is 1.2e-7, and the
# error after a few layers and an attack with equal signs stays below 1e-4. In bfloat16 epsilon is 8e-3, and the signs
# of small input gradients differ. A wrong factor or sign gives an error of 0.5 or more.
_CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.5}


@rule("float64 works from end to end: weights, tracks, losses")
def float64_works(subject: Subject) -> None:
    with subject.scratch() as scratch:
        engine = subject.engine(scratch, model=Net().double())
        expect(step(engine, 0).dtype == torch.float64, "the losses of a float64 model are not float64")
        engine = train(engine)
        other = [name for name, weight in engine.model.named_parameters() if weight.dtype != torch.float64]
        for track in engine.tracks():
            other += [f"{track.name}: {name}" for name, w in (track.weights or {}).items() if w.dtype != torch.float64]
        expect(not other, f"not float64 any more: {', '.join(other)}; take dtype and device from what you are given")


@rule("a step in float32 is the step in float64, to rounding")
def float32_agrees(subject: Subject) -> None:
    _agrees(subject, torch.float32)


@rule("a step in bfloat16 works, and goes where the step in float64 goes")
def bfloat16_agrees(subject: Subject) -> None:
    _agrees(subject, torch.bfloat16)


def _agrees(subject: Subject, dtype: torch.dtype) -> None:
    reference, update = (_update(subject, each) for each in (torch.float64, dtype))
    away = float((update - reference).norm() / reference.norm().clamp_min(1e-12))
    expect(
        away <= _CLOSE[dtype],
        f"the first step is {away:.2g} of its length away from that in float64, expected at most {_CLOSE[dtype]:.1g}; "
        "accumulate in float32 or wider, and keep the dtype of what you are given",
    )


def _update(subject: Subject, dtype: torch.dtype) -> Tensor:
    """The update of the weights ``[P]`` by the first step, in float64."""
    model = Net().to(dtype)
    before = [weight.detach().double().clone() for weight in model.parameters()]
    with subject.scratch() as scratch, SameDraws(), torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        step(subject.engine(scratch, model=model, attack="clean"), 0)
    return torch.cat([(w.detach().double() - b).flatten() for w, b in zip(model.parameters(), before, strict=True)])
