"""Promises about the surroundings that a plugin leaves as they were: modes, flags, gradients, buffers, weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from buttress import hookimpl
from buttress.engine.context import Context
from buttress.engine.engine import Engine
from buttress.errors import HookError
from buttress.hookspecs import HOOKS
from buttress.nn.modes import ATTACK_MODES
from buttress.testing.promise import RUNS, Broken, expect, needs, rule
from buttress.testing.subject import Net, Subject, batch_of, copied, differing, step, train
from buttress.testing.use import attacked
from buttress.testing.views import flags, gradient_copies, modes, weights
from buttress.types import Loss


class _Still(torch.optim.SGD):
    """Takes no step: what moves the weights then is not the optimizer."""

    def step(self, closure: Any = None) -> Any:
        return None


class _Fails:
    """Lets the training loss of one step raise."""

    def __init__(self) -> None:
        self.now = False

    @hookimpl(wrapper=True)
    def compute_loss(self, ctx: Context) -> Any:
        loss: Loss = yield
        if self.now and ctx.phase == "train":
            raise RuntimeError("made to fail")
        return loss


@rule("training goes through where the user froze weights, whose .grad is None")
def trains_beside_frozen(subject: Subject) -> None:
    with subject.scratch() as scratch:
        model = Net()
        model.layer1.weight.requires_grad_(False)
        train(subject.engine(scratch, model=model), 1)


# The promises below are asked for with frozen weights.
_FROZEN = (*RUNS, "trains_beside_frozen")


@rule("every module's train or eval mode is as the user set it, after every step, epoch and track", presumes=_FROZEN)
def mode_restored(subject: Subject) -> None:
    _unchanged(subject, modes, "module {} is in another mode; put back what you switch, or let the core do it")


@rule("requires_grad of every weight is as the user set it", presumes=_FROZEN)
def requires_grad_restored(subject: Subject) -> None:
    _unchanged(subject, flags, "requires_grad of {} has changed; freeze by param_groups")


@rule("weights that the user froze stay bit for bit", presumes=_FROZEN)
def frozen_weights_stay(subject: Subject) -> None:
    def frozen(model: nn.Module) -> dict[str, Tensor]:
        return copied({name: weight for name, weight in model.named_parameters() if name.startswith("layer1.")})

    _unchanged(subject, frozen, "{} has moved, and its requires_grad is off")


@rule("nothing but the training loss and adjust_grads leaves anything in .grad; an attack differentiates to x alone")
def no_gradients_left(subject: Subject) -> None:
    with subject.scratch() as scratch:
        engine = subject.engine(scratch)
        engine.start()
        if "generate_adv" in subject.provides:  # as in a loop of one's own, where nobody has switched requires_grad off
            (attack,) = engine.hooks.table["generate_adv"].providers
            attack({"model": engine.model, "batch": batch_of()})
            left = [name for name, weight in engine.model.named_parameters() if weight.grad is not None]
            expect(not left, f"generate_adv left gradients in {', '.join(left)}; use torch.autograd.grad(loss, x)")
    change = _watched(
        subject, HOOKS - {"adjust_grads", "perturb_weights", "compute_loss", "generate_adv"}, gradient_copies, "eval"
    )
    expect(not change, f"{change}; use ctx.grads(loss, params) or torch.autograd.grad")


def _moves_no_buffer(subject: Subject) -> bool:
    return bool(subject.provides - {"compute_loss", "perturb_weights"})


@rule("batch-norm statistics move with the training loss alone", _moves_no_buffer)
def buffers_as_found(subject: Subject) -> None:
    hooks = HOOKS - {"compute_loss", "perturb_weights"}
    hooks -= {"ensemble_weights"} if subject.traits.writes_back else set()
    for mode in ("eval", "train_notrack") if "generate_adv" in subject.provides else ("eval",):
        change = _watched(subject, hooks, lambda model: copied(dict(model.named_buffers())), mode)
        expect(not change, f"{change} (attack_mode {mode}); run extra forwards in eval mode, or put the buffers back")


@rule("weights move by the optimizer alone (and by what declares writes_back), bit for bit")
def weights_as_found(subject: Subject) -> None:
    with subject.scratch() as scratch:
        engine = subject.engine(scratch, optimizer=partial(_Still, lr=0.5, momentum=0.9))
        engine.start()
        before = weights(engine.model)

        def look(where: str) -> None:
            changed = differing(before, weights(engine.model))
            if changed and not (subject.traits.writes_back and where.startswith("the end")):
                raise Broken(f"after {where} with an optimizer that takes no step, {changed[0]} has moved")

        train(engine, each=look)
        engine.tracks()
        look("giving its tracks")


@rule("a step that fails leaves the weights, modes and flags of before, bit for bit")
def weights_restored_after_failure(subject: Subject) -> None:
    with subject.scratch() as scratch:
        failing = _Fails()
        engine = subject.engine(scratch, beside=[failing])
        step(engine, 0)
        before = weights(engine.model), modes(engine.model), flags(engine.model)
        failing.now = True
        try:
            step(engine, 1)
        except HookError as fault:
            if "made to fail" not in str(fault):
                raise
        else:
            raise Broken("swallowed the exception of the training loss; let it pass")
        after = weights(engine.model), modes(engine.model), flags(engine.model)
        changed = [name for one, two in zip(before, after, strict=True) for name in differing(one, two)]
        expect(
            not changed,
            f"{', '.join(changed)} stayed changed; change the values of the model's own parameters, which the core "
            "puts back, or put back in a finally what you replaced",
        )


@rule("the given examples and labels are read, never written", kinds=("plugin", "attack"))
def inputs_as_found(subject: Subject) -> None:
    with subject.scratch() as scratch:
        batch = batch_of()
        x, y = batch.x.clone(), batch.y.clone()
        if subject.kind == "attack":
            attacked(subject, batch)
        else:
            subject.engine(scratch).step(batch.x, batch.y, index=batch.index)
        expect(torch.equal(x, batch.x), "wrote into x; work on a copy: batch.x.clone()")
        expect(torch.equal(y, batch.y), "wrote into y; work on a copy: batch.y.clone()")


@rule("entering and leaving its tracks puts weights and buffers back bit for bit", needs("ensemble_weights"))
def tracks_restored(subject: Subject) -> None:
    with subject.scratch() as scratch:
        engine = train(subject.engine(scratch), 2)
        before = copied(engine.model.state_dict())
        for track in engine.tracks():
            held = copied(track.weights or {})
            with engine.track(track) as model:
                expect(bool(torch.isfinite(model(batch_of().x)).all()), f"track {track.name!r} gives logits not finite")
            changed = differing(held, track.weights or {})
            expect(not changed, f"track {track.name!r} shares memory with the live weights; give copies")
        changed = differing(before, engine.model.state_dict())
        expect(not changed, f"{', '.join(changed)} differ after the tracks were evaluated")
        train(engine)
        for track in engine.tracks():
            live = {weight.untyped_storage().data_ptr() for weight in engine.model.parameters()}
            given = (track.weights or {}).items()
            shared = [name for name, weight in given if weight.untyped_storage().data_ptr() in live]
            expect(not shared, f"track {track.name!r} gives the live {', '.join(shared)}; give a copy")


def _unchanged(subject: Subject, view: Callable[[nn.Module], Mapping[str, Tensor]], finding: str) -> None:
    """``view`` of a partly frozen model is the same all through a run; of an attack, in every attack mode."""
    for mode in ATTACK_MODES if "generate_adv" in subject.provides else ATTACK_MODES[:1]:
        with subject.scratch() as scratch:
            model = Net()
            model.layer1.weight.requires_grad_(False)
            model.layer2.eval()
            engine = subject.engine(scratch, model=model, attack_mode=mode)
            engine.start()  # a plugin may freeze by param_groups, or batch norm by start_run
            before = view(model)

            def look(where: str, before: Any = before, model: nn.Module = model, mode: str = mode) -> None:
                changed = differing(before, view(model))
                expect(not changed, f"after {where} (attack_mode {mode}): " + finding.format(", ".join(changed)))

            train(engine, each=look)
            for track in engine.tracks():
                with engine.track(track):
                    pass
            look("evaluating its tracks")


def _watched(
    subject: Subject, hooks: Collection[str], view: Callable[[nn.Module], Mapping[str, Tensor]], mode: Any
) -> str:
    """Which of the plugin's calls to ``hooks`` changed ``view`` of the model, in a run of two epochs; empty: none."""
    changes: list[str] = []
    with subject.scratch() as scratch:
        engine = subject.engine(scratch, attack_mode=mode)
        for hook in sorted(hooks):
            for implementation in engine.hooks.table[hook].providers:
                if implementation.plugin.label == subject.name:
                    implementation.function = _spied(implementation.function, hook, engine, view, changes)
        train(engine, 2)
        engine.tracks()
    return changes[0] if changes else ""


def _spied(
    function: Callable[..., Any],
    hook: str,
    engine: Engine,
    view: Callable[[nn.Module], Mapping[str, Tensor]],
    changes: list[str],
) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        before = view(engine.model)
        answer = function(*arguments)
        changed = differing(before, view(engine.model))
        if changed:
            changes.append(f"{hook} changed {', '.join(changed)}")
        return answer

    return call
