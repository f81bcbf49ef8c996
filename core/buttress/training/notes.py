"""Notes on settings that are no error but rarely intended: one function for each.

A new note is a function of an ``Assembly`` that yields sentences, listed in ``NOTES``. A plugin explains the effect of
its own settings on a run in a method ``notes(epochs, steps_per_epoch)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import inf, prod
from typing import Any

import torch
from torch import Tensor

from buttress.components.construct import choose
from buttress.components.own_modules import describe_exception
from buttress.components.signature import late_epochs
from buttress.console.tables import percent
from buttress.errors import PluginError
from buttress.nn.modes import Modes
from buttress.number_text import exact_fraction
from buttress.precision import is_low
from buttress.threat import ThreatModel
from buttress.training.assembly import Assembly
from buttress.training.collapse import chance_error
from buttress.training.selection import Record

# Ranges whose widths differ by this factor are taken for ranges in different units.
_FAR = 10
# Number of examples by which a model's outputs are judged before training.
_EXAMPLES = 16

Note = Callable[[Assembly], Iterator[str]]


def before_training(assembly: Assembly) -> list[str]:
    """The notes about a run that has not begun, without the word *note*."""
    return [text for note in NOTES for text in note(assembly)]


def radius_of_zero(assembly: Assembly) -> Iterator[str]:
    if assembly.evaluator.threat.eps == 0:
        yield "threat.eps is 0: adversarial examples equal the clean ones"
    elif assembly.engine.training_threat.widest.eps == 0:
        yield "threat.training_eps is 0: training sees clean examples"


def epochs_that_never_come(assembly: Assembly) -> Iterator[str]:
    file, epochs = assembly.file, assembly.length.epochs
    target = file.place / "schedule" / "target"
    section = file.config.schedule
    made_by = file.own.imported("schedule", target) if section.target else choose("schedule", section.chosen).factory
    given = assembly.resolved["schedule"]
    settings = [("schedule", made_by, given.get("args", given))]
    settings += [(plugin.label, type(plugin.plugin), plugin.settings) for plugin in assembly.engine.plugins]
    for owner, component, values in settings:
        for name, epoch in late_epochs(component, values, epochs).items():
            yield f"{owner}.{name} is {epoch}, after {epoch} epochs, which never comes: the run has {epochs}"


def notes_of_plugins(assembly: Assembly) -> Iterator[str]:
    for plugin in assembly.engine.plugins:
        if plugin.traits.notes is not None:
            try:
                texts = list(plugin.traits.notes(assembly.length.epochs, assembly.length.steps_per_epoch))
            except Exception as problem:
                raise PluginError(
                    f"plugin {plugin}: its method notes raised {describe_exception(problem)}"
                ) from problem
            yield from (f"{plugin.label}: {text}" for text in texts)


def steps_of_attacks(assembly: Assembly) -> Iterator[str]:
    training, evaluation = assembly.engine.hooks.provider("generate_adv"), assembly.evaluator.attack
    if training is not None:
        key = "threat.eps" if assembly.file.config.threat.training_eps is None else "threat.training_eps"
        yield from steps_of_attack(training.label, training.settings, assembly.engine.training_threat.widest, key)
    yield from steps_of_attack(f"evaluation.attack.{evaluation.label}", evaluation.settings, assembly.evaluator.threat)


def steps_of_attack(
    name: str, settings: Mapping[str, Any], threat: ThreatModel, key_of_radius: str = "threat.eps"
) -> Iterator[str]:
    """Notes on the lengths among the settings of an attack called ``name``, against the radius of the ball."""
    if threat.eps == 0:
        return
    for key in ("step_size", "lr", "radius"):
        length = _length(settings, key)
        if length is not None and length > 2 * threat.eps:
            meant = f"; did you mean {length}/255?" if length.denominator == 1 else ""
            yield (
                f"{name}.{key} is {settings[key]}, and the ball is {2 * threat.eps} across (twice {key_of_radius}): "
                f"every step leaves it and is put back onto its border{meant}"
            )
    step, steps = _length(settings, "step_size"), settings.get("steps", 1)
    if step is not None and isinstance(steps, int) and steps * step < threat.eps:
        reach = f"{steps} x {settings['step_size']}" if steps > 1 else settings["step_size"]
        yield f"{name}: its steps reach no farther than {reach}, and {key_of_radius} is {threat.eps}"


def _length(settings: Mapping[str, Any], key: str) -> Fraction | None:
    """A setting that is a number; None where it is not given, or means something else."""
    try:
        return exact_fraction(settings.get(key))
    except ValueError:
        return None


def batch_larger_than_the_data(assembly: Assembly) -> Iterator[str]:
    size, examples = assembly.file.config.data.batch_size, len(assembly.data.train)
    if size > examples:
        yield f"data.batch_size is {size}, and there are {examples} training examples: an epoch is one step"


def outputs_that_are_probabilities(assembly: Assembly) -> Iterator[str]:
    model, train = assembly.engine.model, assembly.data.train
    batch = next(iter(train.batches(torch.arange(min(_EXAMPLES, len(train))), _EXAMPLES)))
    with torch.no_grad(), Modes(model).evaluating():
        kind = kind_of_outputs(model(batch.x))
    if kind:
        yield (
            f"the outputs of the model look like those of a {kind}, and the losses expect logits: take the {kind} out, "
            "else gradients nearly vanish and attacks are weak"
        )


def kind_of_outputs(outputs: Tensor) -> str:
    """``"softmax"`` or ``"sigmoid"`` where ``outputs [B,K]`` are surely no logits; else nothing."""
    if bool((outputs < 0).any() | (outputs > 1).any()) or bool((outputs == 0).all()):
        return ""
    if bool(((outputs.sum(1) - 1).abs() < 1e-3).all()):
        return "softmax"
    return "sigmoid" if bool(((outputs > 0) & (outputs < 1)).all()) else ""


def classes_without_an_example(assembly: Assembly) -> Iterator[str]:
    data = assembly.data
    counts = data.train.class_counts(data.num_classes)
    empty = [str(label) for label, count in enumerate(counts or ()) if count == 0]
    if empty:
        shown = ", ".join(empty[:5]) + (" ..." if len(empty) > 5 else "")
        yield (
            f"{len(empty)} of {data.num_classes} classes have no training example: {shown}; labels count from 0, and "
            "the model has an output for each class"
        )


def ranges_of_the_data(assembly: Assembly) -> Iterator[str]:
    """The range of the training inputs, against the box, the radius and the other splits."""
    extents = {name: split.extent() for name, split in assembly.data.splits().items()}
    train, threat = extents["train"], assembly.evaluator.threat
    if train is None:
        return
    low, high = train
    width, shown = high - low, f"the training inputs lie in [{low:g}, {high:g}]"
    if width == 0:
        yield f"all training inputs are {low:g}"
        return
    if threat.box is not None and width * _FAR < threat.box[1] - threat.box[0]:
        box = f"[{threat.box[0]:g}, {threat.box[1]:g}]"
        yield f"{shown}, and threat.box is {box}: set box and eps in the units of the inputs"
    across = width if threat.norm == "linf" else width * prod(assembly.data.train.example_shape) ** 0.5
    if threat.eps >= across:
        yield f"{shown}, and threat.eps is {threat.eps}: every ball holds all of them"
    for name, extent in extents.items():
        if extent is not None and name != "train" and _differ(train, extent):
            yield (
                f"{shown}, and those of the {name} split in [{extent[0]:g}, {extent[1]:g}]; all splits are expected in "
                "one unit"
            )


def _differ(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two ranges are of two units: one is many times as wide, or they do not meet."""
    widths = sorted(high - low for low, high in (one, other))
    return widths[0] * _FAR < widths[1] or one[1] < other[0] or other[1] < one[0]


def evaluations_of_low_precision(assembly: Assembly) -> Iterator[str]:
    word = assembly.engine.at_work.precision.score
    if is_low(word):
        yield (
            f"evaluations attack in {word}, in which an attack may stall and a model look robust: report numbers of "
            "buttress evaluate RUN 'precision={score: float32}'"
        )


NOTES: Sequence[Note] = (
    radius_of_zero,
    evaluations_of_low_precision,
    epochs_that_never_come,
    notes_of_plugins,
    steps_of_attacks,
    batch_larger_than_the_data,
    classes_without_an_example,
    ranges_of_the_data,
    outputs_that_are_probabilities,
)
"""All notes before the first step, in their order."""


def never_above_chance(records: Sequence[Record], split: str, chance: float) -> str:
    """A note on a run whose model was at no evaluation better than a constant answer; empty for others.

    Args:
        records: records of all evaluations.
        split: name of the split that is judged.
        chance: share of the most frequent label in it.
    """
    own = [record for record in records if record.track == "live" and record.split == split]
    best = max((record.clean for record in own), default=inf)
    if best > chance + 2 * chance_error(chance, own[0].n if own else 1):
        return ""
    often = "at the only evaluation" if len(own) == 1 else f"at any of {len(own)} evaluations"
    return (
        f"the model was not better than a constant answer {often}: clean accuracy on {split} was at most "
        f"{percent(best)} %, and chance is {percent(chance)} %; it has learned nothing: look at the number of epochs, "
        "the learning rate, the labels and the range of the inputs"
    )
