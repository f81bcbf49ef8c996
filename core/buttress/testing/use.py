"""A component used as it is meant to be: a plugin in training, an attack in an evaluation, a logger beside a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from buttress.engine.engine import Engine
from buttress.scoring.evaluator import Evaluator
from buttress.testing.promise import expect
from buttress.testing.subject import EPS, Net, Subject, batch_of, train
from buttress.threat import ThreatModel
from buttress.training.loggers import Loggers
from buttress.types import Batch

# Factor for the weights of the first layer. Without it the predictions would not depend on the input, and an attack
# that stops at success would never end.
_SENSITIVITY = 30.0


def use(subject: Subject, scratch: Path | str, epochs: int = 2) -> None:
    """Use it for ``epochs`` of the bench, or as many batches of an evaluation."""
    if subject.kind == "attack":
        for number in range(epochs):
            attacked(subject, number=number)
    elif subject.kind == "logger":
        logged_run(subject, subject.engine(scratch), scratch, epochs)
    else:
        train(subject.engine(scratch), epochs).tracks()


# Attacks


def victim(dtype: torch.dtype = torch.float32) -> Net:
    """A network whose predictions an attack can change."""
    model = Net()
    with torch.no_grad():
        model.layer1.weight.mul_(_SENSITIVITY)
    return model.to(dtype)


def believed(model: nn.Module, batch: Batch) -> Batch:
    """The examples with the labels that ``model`` gives them in eval mode: all of them are still to be attacked."""
    with torch.no_grad():
        labels = model.eval()(batch.x).argmax(1)
    model.train()
    return replace(batch, y=labels)


def attacked(
    subject: Subject,
    batch: Batch | None = None,
    *,
    model: nn.Module | None = None,
    threat: ThreatModel | None = None,
    seed: int = 0,
    number: int = 0,
) -> Tensor:
    """``[B,*]`` examples as an evaluation makes them: in eval mode, each answer checked.

    Args:
        subject: the attack.
        batch: by default the examples of the bench as the model sees them.
        model: by default ``victim()``.
        threat: by default L-inf.
        seed: seed of the evaluation.
        number: position of the batch in it.
    """
    model = victim() if model is None else model
    batch = believed(model, batch_of()) if batch is None else batch
    evaluator = Evaluator(model, subject.plugin(), threat or ThreatModel("linf", EPS), seed=seed)
    evaluator.hooks.watch.lenient = True  # each promise is asked for by itself
    return evaluator.attacked(batch, number).x


# Loggers


def logged_run(subject: Subject, engine: Engine, folder: Path | str, epochs: int) -> Engine:
    """Train for ``epochs`` and tell the logger, with an interruption after each: a new one then goes on in the folder.

    Raises:
        Broken: the logger fails; a run would leave it out.
    """
    while engine.epoch < epochs:
        complaints: list[str] = []
        loggers = Loggers([subject.plugin()], engine, Path(folder), complaints.append)
        loggers.start()
        train(engine, engine.epoch + 1, log=loggers.log)
        loggers.close()
        expect(not complaints, "".join(complaints))
    return engine
