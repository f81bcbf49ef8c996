"""The hooks: everything that a plugin can do, and nothing else. ``engine/step.py`` shows when each fires.

A plugin implements a hook as a method of the same name, marked ``@buttress.hookimpl``, and may leave out arguments
that it does not need. *Chain* hooks call every plugin that implements them, in the order of the config; *exclusive*
hooks have one provider. An exclusive hook may also be wrapped (``@hookimpl(wrapper=True)``, a generator with one
``yield``) by any number of plugins; the first listed is outermost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pluggy import HookspecMarker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from buttress.engine.context import Context
    from buttress.engine.objective import Objective
    from buttress.types import Adv, Batch, Loss, ParamGroup, Track

SPEC_VERSION = "1.1"
"""A plugin may declare the version that it is written for, ``hookspec = "1.0"``; a later or another one is refused."""

Event = Literal["step", "epoch", "evaluate"]
ExitOrder = Literal["restore_then_step", "step_while_perturbed"]
Ascent = Literal["global", "local"]
"""Gradient along which weights are perturbed on several processes: that of the mean over all examples of the step, or
each process's over its own ones."""
AttackMode = Literal["train", "train_notrack", "eval"]
BatchTrait = Literal[
    "soft labels", "mixed inputs", "two views", "extra examples", "unlabelled examples", "forwards in parts"
]
"""Properties of batches: labels are distributions ``[B,K]``; an input is made of several examples; the batch holds two
views of each example; the batch holds examples beside those of the training set; ``aux["unlabelled"]`` marks examples
without a label, whose y is 0; modules within the model see the batch in parts, because of ``accumulate``."""

TRAITS_SINCE_1_1 = ("radius", "input_grad", "example")
"""Traits that a plugin written for version 1.0 does not have: an attribute of that name is its own."""

hookspec = HookspecMarker("buttress")


@dataclass(frozen=True, kw_only=True)
class Traits:
    """The declarations of a plugin about itself: attributes of its class or of the object, all of them optional.

    They are read once, when the plugin is loaded. A value that is not listed here is refused, and the message shows the
    nearest one. An attribute whose name is nearly one of these is refused in the same way.

    Args:
        name: name in configs and messages of a plugin that no entry point names; by default that of its class.
        hookspec: version of the hooks for which the plugin is written, ``"1.0"`` or ``"1.1"``; a later one and another
            major version are refused.
        exit_order: time at which the core takes the perturbation of ``perturb_weights`` back, see there.
        writes_back: whether ``ensemble_weights`` changes the live weights; it is then called before the others.
        gives: properties of the batches of ``transform_batch`` that not every plugin can take: ``soft labels``, ``mixed
            inputs``, ``two views``, ``extra examples``. A word of a distribution's own begins with the name of the
            distribution: ``("my-dist:pairs",)``.
        refuses: properties of batches that the plugin cannot take, each with the reason. A stack in which one plugin
            gives a property that another one refuses is refused; a plugin that only transforms batches may stand before
            the one that gives it.
        needs: properties of batches that the plugin cannot do without, each with the reason. A config is refused where
            neither its data nor a plugin gives one.
        takes: properties of batches that the plugin can take, of those that are refused otherwise: ``unlabelled
            examples``, for plugins that compute losses or attack.
        attack_mode: mode of the model while ``generate_adv`` runs in training, unless ``Engine(attack_mode=...)`` sets
            another.
        radius: largest distance from x, in units of eps, of the examples of ``generate_adv`` and ``perturb_weights`` in
            training; those of an evaluation are always checked at eps.
        input_grad: whether ``adjust_grads`` reads ``ctx.input_grad``, the gradient of the training loss with respect to
            the adversarial examples; ``adv.x`` of the training loss then requires a gradient.
        masked_loss: method ``masked_loss(model, batch, adv, c_min, inclusive)``, see ``compute_loss``.
        forwards: method ``forwards(examples)`` of an attack: largest number of forwards for a batch of ``examples``;
            progress bars use it.
        notes: method ``notes(epochs, steps_per_epoch)``: list of sentences about settings that make little sense in a
            run of that length; shown before the first step.
        example: class method or static method ``example(folder, model, batch)``: settings with which the plugin can be
            examined where its defaults do not do; it may write files into the folder. ``plugins check`` calls it.
        state_dict: method ``state_dict()``: all that the plugin remembers from step to step, as tensors, numbers, text,
            lists and dictionaries; saved in checkpoints.
        load_state_dict: method ``load_state_dict(state)``: restores a state from ``state_dict``.
    """

    name: str | None = None
    hookspec: str | float | None = None
    exit_order: ExitOrder = "restore_then_step"
    writes_back: bool = False
    gives: Collection[BatchTrait | str] = ()
    refuses: Mapping[BatchTrait | str, str] = field(default_factory=dict)
    needs: Mapping[BatchTrait | str, str] = field(default_factory=dict)
    takes: Collection[BatchTrait | str] = ()
    attack_mode: AttackMode | None = None
    radius: float = 1.0
    input_grad: bool = False
    masked_loss: Callable[..., Any] | None = None
    forwards: Callable[[int], int] | None = None
    notes: Callable[[int, int], list[str]] | None = None
    example: Callable[[Path, nn.Module, Batch], Mapping[str, Any]] | None = None
    state_dict: Callable[[], Mapping[str, Any]] | None = None
    load_state_dict: Callable[[Mapping[str, Any]], None] | None = None


@hookspec
def param_groups(groups: list[ParamGroup], model: nn.Module, ctx: Context) -> list[ParamGroup]:
    """Chain, once, before the optimizer exists: split groups by parameter name, set their options.

    Returns: groups that hold every parameter of ``groups`` exactly once.
    """
    raise NotImplementedError


@hookspec
def start_run(model: nn.Module, ctx: Context) -> None:
    """Chain, once, before the first step, with the initial weights (on resume: before the state is loaded)."""


@hookspec
def transform_batch(batch: Batch, ctx: Context) -> Batch:
    """Chain, first in every step: another batch, with x inside the box; y may become soft labels ``[B,K]``."""
    raise NotImplementedError


@hookspec
def generate_adv(model: nn.Module, batch: Batch, ctx: Context) -> Adv | Tensor:
    """Exclusive, exactly one: adversarial examples for ``batch``.

    The core has put the model into the attack mode and switched the parameters' ``requires_grad`` off, and restores
    both, and ``.grad``, afterwards. Called in training steps and, with ``ctx.phase == "evaluate"``, in evaluation.

    Returns: an ``Adv`` or a bare tensor; x detached, shape, dtype and device of ``batch.x``, inside ``ctx.threat``.
    """
    raise NotImplementedError


@hookspec
def perturb_weights(
    model: nn.Module, adv: Adv, objective: Objective, ctx: Context
) -> AbstractContextManager[Adv | None] | None:
    """Exclusive, at most one: a context manager around loss and backward that *adds* a perturbation to the weights.

    None skips the perturbation in this step (warm-up). The manager yields the ``Adv`` that the loss is to use (None:
    the given one). It never takes its perturbation back: the core does, bit for bit, in the order that the plugin
    declares by its attribute ``exit_order``: ``"restore_then_step"`` (default) or ``"step_while_perturbed"``.
    ``objective(adv)`` gives the training losses ``[B]``, ``objective.masked(adv, c_min)`` their mean under the
    loss-stationary condition; ``objective.grads(loss, params)`` differentiates, and ``objective.attack()`` attacks
    again at the current weights.
    """


@hookspec
def compute_loss(model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss | Tensor:
    """Exclusive, exactly one (the default is the plugin ``cross_entropy``): per-example losses.

    Returns: ``[B]`` losses in nats, or ``Loss(per_example, penalty)``. The core takes the mean over B.

    ``ctx.outputs(adv.x)`` gives the loss and its wrappers the logits that a call ``model(adv.x)`` gave before.

    A plugin that can mask and sum its losses in one go may also have a method, no hook,
    ``masked_loss(model, batch, adv, c_min, inclusive)``, with the answer of ``kernels.lsc_mean`` for these losses. It
    serves ``objective.masked`` where no plugin wraps this hook.
    """
    raise NotImplementedError


@hookspec
def adjust_grads(model: nn.Module, optimizer: Optimizer, ctx: Context) -> None:
    """Chain, right before ``optimizer.step()``: edit ``p.grad`` in place. ``p.grad`` is None where nothing flows."""


@hookspec
def ensemble_weights(model: nn.Module, event: Event, ctx: Context) -> Track | None:
    """Chain, after every optimizer step (``"step"``), at the end of every epoch (``"epoch"``), before an evaluation
    (``"evaluate"``).

    Always sees the un-perturbed weights. ``evaluate`` may return a ``Track``. A plugin that changes the live weights
    declares ``writes_back = True`` and is called before the others at each event. At ``epoch``, ``ctx.attack(batch)``
    attacks any batch, for example of ``ctx.batches("validation")``, as training does.
    """


@hookspec
def end_epoch(metrics: Mapping[str, float], ctx: Context) -> None:
    """Chain, after ``ensemble_weights(epoch)``: the epoch's training metrics; ``ctx.attack(batch)`` is available."""


@hookspec
def log(metrics: Mapping[str, object], ctx: Context) -> None:
    """Chain, at every logging point and evaluation: one record, as it is written to ``metrics.jsonl``."""


@hookspec
def end_run(model: nn.Module, ctx: Context) -> None:
    """Chain, once, when the run ends or is interrupted: close all that ``start_run`` opened."""


CHAIN = frozenset(
    {
        "param_groups",
        "start_run",
        "transform_batch",
        "adjust_grads",
        "ensemble_weights",
        "end_epoch",
        "log",
        "end_run",
    }
)
EXCLUSIVE = frozenset({"generate_adv", "perturb_weights", "compute_loss"})
HOOKS = CHAIN | EXCLUSIVE
TITLES = {
    "param_groups": "parameter groups",
    "transform_batch": "batches",
    "generate_adv": "attacks",
    "perturb_weights": "weight perturbations",
    "compute_loss": "losses",
    "adjust_grads": "gradients",
    "ensemble_weights": "ensembles",
    "start_run": "beginning of a run",
    "end_epoch": "end of an epoch",
    "log": "records",
    "end_run": "end of a run",
}
"""Every hook with the title of the plugins that are listed under it: hooks of a step in its order, then the others."""
LOGGER_HOOKS = ("start_run", "log", "end_run")
"""The hooks that a logger may have; a class with ``log`` and no hooks but these is a logger."""


def makes_logger(hooks: Collection[str]) -> bool:
    """Whether a class with these hooks is a logger, and not a plugin that takes part in training."""
    return "log" in hooks and set(hooks) <= set(LOGGER_HOOKS)


def main_hook(hooks: Collection[str]) -> str:
    """The hook under which a plugin with these hooks is listed, the first of ``TITLES``; empty where it has none."""
    return next((hook for hook in TITLES if hook in hooks), "")
