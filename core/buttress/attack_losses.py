"""The losses that attacks maximise: components of their own, which an attack names in a setting.

A component of the group ``buttress.attack_losses`` has a method ``input_loss(model, batch, ctx)``, which makes a
function from attacked inputs ``[B,*]`` to losses ``[B]``. It may also declare, by attributes:

- ``refuses``: properties of batches that it cannot take, each with the reason, as a plugin does.
- ``takes``: ``("unlabelled examples",)`` where it asks for no label, as a plugin does.
- ``flat_at_x``: True where it is smallest at x itself, with no gradient to leave it.
- ``needs_run``: True where it takes the training loss of a run, which an evaluation does not have.
- ``targeted_loss``: a method ``(model, batch, targets, ctx)`` that makes a function of the same kind, which is the
  larger the nearer the model is to the classes ``targets [B]``, none of which is the label.
- ``fewest_classes``, ``fewest_classes_targeted``: smallest number of classes for which the two are defined; 2 where it
  declares none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BeforeValidator
from torch import Tensor, nn

from buttress.components.construct import build, given_value
from buttress.components.entries import entry_of
from buttress.components.signature import signature_of
from buttress.components.trait_kinds import BatchTraits, ClassCount, FlagTrait, MethodTrait, Reasons, TraitKind
from buttress.errors import InputError, PluginError
from buttress.nn.contract import form_of
from buttress.settings import Times

if TYPE_CHECKING:
    from buttress.engine.context import Context
    from buttress.types import Batch

_KINDS: dict[str, TraitKind] = {
    "refuses": Reasons("refuses"),
    "takes": BatchTraits(),
    "flat_at_x": FlagTrait(),
    "needs_run": FlagTrait(),
    "targeted_loss": MethodTrait("targeted_loss", ("model", "batch", "targets", "ctx")),
    "fewest_classes": ClassCount(2),
    "fewest_classes_targeted": ClassCount(2),
}
_REFUSED_WITH_TARGETS = {
    "soft labels": "it leads from the label to another class, and a soft label is of several",
}


@dataclass(frozen=True, eq=False)
class LoadedAttackLoss:
    """A loss that an attack maximises.

    Args:
        name: name of the component.
        choice: name, or name with all settings, as a config writes it.
        component: object that makes the loss.
        refuses: properties of batches that it cannot take, each with the reason.
        takes: properties of batches that it can take, of those that are refused otherwise.
        flat_at_x: whether it is smallest at x itself, with no gradient to leave it.
        needs_run: whether it takes the training loss of a run.
    """

    name: str
    choice: str | dict[str, Any]
    component: Any
    refuses: Mapping[str, str]
    takes: Collection[str]
    flat_at_x: bool
    needs_run: bool

    def expect_gradient_at_x(self, starts: Sequence[str] = ()) -> None:
        """Expect a loss with a gradient at x itself, for an attack that starts there.

        Args:
            starts: values of the attack's setting ``start`` for other starts; empty where it has no such setting.

        Raises:
            ValueError: it is flat at x.
        """
        if not self.flat_at_x:
            return
        if starts:
            raise ValueError(
                f"start: loss {self.name} is smallest at x itself, with no gradient to leave it; use "
                f"{' or '.join(starts)}"
            )
        raise ValueError(
            f"loss: {self.name} is smallest at x itself, where this attack starts, with no gradient to leave it; use "
            "ce or margin, or pgd with a random start"
        )

    def __call__(self, model: nn.Module, batch: Batch, ctx: Context) -> Callable[[Tensor], Tensor]:
        """The loss for ``batch``, as a function from attacked inputs ``[B,*]`` to losses ``[B]``.

        Raises:
            ValueError: the function answers with something else than ``[B]``.
        """
        return self._checked(self.component.input_loss(model, batch, ctx))

    def targeted(self, model: nn.Module, batch: Batch, targets: Tensor, ctx: Context) -> Callable[[Tensor], Tensor]:
        """The loss for ``batch`` that leads to the classes ``targets [B]``; the rest as in a call."""
        return self._checked(self.component.targeted_loss(model, batch, targets, ctx))

    def _checked(self, loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def losses(x_adv: Tensor) -> Tensor:
            answer = loss(x_adv)
            if not isinstance(answer, Tensor) or answer.shape != x_adv.shape[:1]:
                raise ValueError(
                    f"attack loss {self.name!r}: expected losses [{len(x_adv)}], one for each example, got "
                    f"{form_of(answer)}"
                )
            return answer

        return losses


def load_attack_loss(choice: str | Mapping[str, Any], *, targeted: bool = False) -> LoadedAttackLoss:
    """Load a loss by name, or by name with settings: ``"ce"``, ``{"my_loss": {"scale": 2}}``.

    Args:
        choice: name, or name with settings.
        targeted: whether its targeted form is wanted, which refuses soft labels and asks for labels.

    Raises:
        PluginError, ConfigError: unknown or broken loss, wrong settings, or a component that makes no loss.
        ValueError: the loss has no targeted form, or the model of the run has too few classes for it.
    """
    name, settings = entry_of(choice)
    component, source, resolved = build("attack_loss", name, settings)
    declared = _declared(component, f"attack loss {name!r} from {source}")
    if targeted and "targeted_loss" not in declared:
        raise ValueError(f"targets: loss {source.name} leads to no class; use ce, dlr or margin")
    if (classes := given_value("num_classes")) is not None:
        form = "fewest_classes_targeted" if targeted else "fewest_classes"
        expect_classes(source.name, classes, declared.get(form, 2), targeted=targeted)
    refuses = declared.get("refuses", {})
    return LoadedAttackLoss(
        source.name,
        {name: resolved} if resolved else name,
        component,
        refuses={**_REFUSED_WITH_TARGETS, **refuses} if targeted else refuses,
        takes=() if targeted else declared.get("takes", ()),
        flat_at_x=declared.get("flat_at_x", False),
        needs_run=declared.get("needs_run", False),
    )


def expect_classes(name: str, classes: int, fewest: int, *, targeted: bool = False) -> None:
    """Expect as many classes as an attack loss is defined for.

    Args:
        name: name of the loss.
        classes: number of classes of the model.
        fewest: smallest number of classes for which the loss is defined.
        targeted: whether its targeted form is meant.

    Raises:
        ValueError: there are fewer.
    """
    if classes < fewest:
        form = "the targeted form of it" if targeted else "it"
        raise ValueError(
            f"attack loss {name}: expected at least {fewest} classes for {form}, got {classes}; use ce or margin"
        )


def _declared(component: Any, who: str) -> dict[str, Any]:
    """The attributes that a component declares, checked."""
    fault = MethodTrait("input_loss", ("model", "batch", "ctx")).fault(getattr(component, "input_loss", None), False)
    if fault:
        raise PluginError(f"{who}: {fault}")
    declared = {name: getattr(component, name) for name in _KINDS if hasattr(component, name)}
    for name, value in declared.items():
        if fault := _KINDS[name].fault(value, False):
            raise PluginError(f"{who}: {name}: {fault}")
    return declared


def _read(value: object) -> object:
    if not isinstance(value, (str, Mapping)):
        raise ValueError(f"expected an attack loss, by name or as 'name: {{settings}}', got {value!r}")
    try:
        return load_attack_loss(value).choice
    except InputError as problem:
        raise ValueError(f"expected an attack loss, got {value!r}: {problem}") from None


AttackLossChoice = Annotated[str | dict[str, Any], BeforeValidator(_read)]
"""Type of a setting that names an attack loss: ``ce``, or ``my_loss: {scale: 2}``."""


def attack_losses_of(attack: Callable[..., object], settings: Mapping[str, Any]) -> dict[str, LoadedAttackLoss]:
    """The losses that the settings of an attack name, by setting."""
    return {name: load_attack_loss(choice) for name, choice in _choices(attack, settings).items()}


def names_of_attack_losses(attack: Callable[..., object], settings: Mapping[str, Any]) -> list[str]:
    """The names of the losses that the settings of an attack name; nothing is loaded or checked."""
    chosen = _choices(attack, settings).values()
    return [name for each in chosen for name in ([each] if isinstance(each, str) else each)]


def _choices(attack: Callable[..., object], settings: Mapping[str, Any]) -> dict[str, str | Mapping[str, Any]]:
    """The values of the settings that name a loss, by setting."""
    names = [each.name for each in signature_of(attack) if each.annotation == AttackLossChoice]
    return {name: settings[name] for name in names if isinstance(settings.get(name), (str, Mapping))}


Targets = Literal["least_likely", "random", "next", "all"] | Times
"""Type of a setting that names the classes to which an attack leads; none is the label of the example.

``least_likely`` the wrong class of the smallest logit, ``random`` any wrong class, ``next`` the class after the label
(the first after the last), ``all`` every wrong class, one after the other; a number: so many of the likeliest ones.
"""


def target_classes(targets: Targets, logits: Tensor, y: Tensor, ctx: Context) -> Tensor:
    """``[T,B]`` classes to which an attack leads, one after the other; T is 1 but for ``all`` and a number.

    The draw ``targets``, ``[B]`` classes for ``random``, may be injected.

    Args:
        targets: rule by which they are chosen.
        logits: ``[B,K]`` logits of the inputs.
        y: ``[B]`` labels.
        ctx: context of the attack.

    Raises:
        ValueError: there are fewer wrong classes than asked for; an injected target is no class, or the label of its
            example.
    """
    classes = logits.shape[1]
    if targets == "random":
        return _random_targets(classes, y, ctx)[None]
    if targets == "next":
        return ((y + 1) % classes)[None]
    if targets == "least_likely":
        return logits.scatter(1, y[:, None], torch.inf).argmin(1)[None]
    count = target_count(targets, classes)
    return logits.scatter(1, y[:, None], -torch.inf).topk(count).indices.T


def _random_targets(classes: int, y: Tensor, ctx: Context) -> Tensor:
    injected = ctx.draw("targets", y.shape)
    if injected is None:
        steps = torch.randint(1, classes, y.shape, generator=ctx.generator("targets"), device=y.device)
        return (y + steps) % classes
    if injected.dtype != torch.int64:
        raise ValueError(f"targets: expected int64 classes [{len(y)}], got {form_of(injected)}; give targets.long()")
    wrong = (injected == y) | (injected < 0) | (injected >= classes)
    if bool(wrong.any()):  # the only wait for the device, where a caller injects draws
        first = int(wrong.nonzero()[0])
        if injected[first] != y[first]:
            raise ValueError(
                f"targets: expected classes from 0 to {classes - 1}, got {int(injected[first])} for example {first}; "
                "choose another class"
            )
        raise ValueError(
            f"targets: expected a class other than the label of each example, got the label of example {first}, "
            f"{int(y[first])}; choose another class"
        )
    return injected


def target_count(targets: Targets | None, classes: int) -> int:
    """Number of classes, one after the other, to which an attack on a model of so many ``classes`` leads.

    Raises:
        ValueError: there are fewer wrong classes than asked for.
    """
    if targets == "all":
        return classes - 1
    count = targets if isinstance(targets, int) else 1
    if count > classes - 1:
        raise ValueError(f"targets: expected at most {classes - 1}, the number of wrong classes, got {count}; use all")
    return count
