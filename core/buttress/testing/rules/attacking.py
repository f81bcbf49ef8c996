"""Attacks of evaluations: inside the threat model, repeatable, and the model as it was."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from buttress.engine.checks import ValueChecks
from buttress.engine.hooks import Hooks
from buttress.engine.state import RunState
from buttress.errors import PluginError
from buttress.functional import cross_entropy
from buttress.nn.passes import counted
from buttress.testing.promise import expect, refused_settings, rule
from buttress.testing.same_draws import SameDraws
from buttress.testing.subject import CLASSES, EPS, Subject, batch_of, copied, differing
from buttress.testing.use import attacked, believed, victim
from buttress.testing.views import flags, gradient_copies, modes
from buttress.threat import ThreatModel

# Largest difference, in nats, between the mean losses that an attack reaches in float32 and in float64. The two may
# step differently where a gradient is zero up to rounding.
_CLOSE = 0.05

_attack = ("attack",)


@rule("an evaluation goes through: finite examples inside ball and box, also a single one", kinds=_attack, presumes=())
def attacks(subject: Subject) -> None:
    attacked(subject)  # every answer is checked
    attacked(subject, believed(victim(), batch_of(1, n=1)))


@rule("examples stay inside ball and box under L-inf and L2, in every box and at eps 0, or are refused", kinds=_attack)
def stays_inside(subject: Subject) -> None:
    model = victim()
    batch = believed(model, batch_of())
    wrong = replace(batch, y=(batch.y + 1) % CLASSES, x=batch.x.round())  # at the walls; nothing is left to be done
    for threat, given in [
        (ThreatModel("l2", "1/2"), batch),
        (ThreatModel("linf", "1/4", [-1.0, 2.0]), batch),
        (ThreatModel("linf", EPS), wrong),
        (ThreatModel("linf", 0), wrong),
        (ThreatModel("l2", 0), wrong),
    ]:
        try:
            adv = attacked(subject, given, model=model, threat=threat)
        except PluginError:  # a threat model that it is not made for
            continue
        expect(
            bool(threat.contains(adv, given.x)),
            f"{threat}: farther away than eps, or outside the box; return ctx.threat.project(x_adv, batch.x)",
        )


@rule("the model is left as it was: weights, buffers, modes, requires_grad and .grad", kinds=_attack)
def model_as_found(subject: Subject) -> None:
    model = victim()
    batch = believed(model, batch_of())
    model.eval().layer3.train()  # a module with a mode of its own
    model.layer1.weight.requires_grad_(False)
    model.layer4.bias.grad = torch.ones_like(model.layer4.bias)
    state = RunState(ThreatModel("linf", EPS), batch.x.device, phase="evaluate")
    hooks = Hooks([subject.plugin()], state, ValueChecks("always", batch.x.device))

    hooks.watch.lenient = True

    def view() -> dict[str, torch.Tensor]:
        return {**copied(model.state_dict()), **modes(model), **flags(model), **gradient_copies(model)}

    before = view()
    hooks.generate_adv(model, batch)  # as in a loop of one's own, where nobody puts anything back
    changed = differing(before, view())
    expect(
        not changed,
        f"{', '.join(changed)} changed; differentiate by torch.autograd.grad(loss, x), and put back what you switch",
    )


@rule("equal seeds give equal examples, whatever the global generators and the batches before", kinds=_attack)
def repeats_itself(subject: Subject) -> None:
    answers = []
    for shift, before in ((0, ()), (17, (0, 1))):
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(shift)
            for number in before:
                attacked(subject, number=number)
            answers.append(attacked(subject, seed=5, number=2))
    expect(
        torch.equal(*answers), "two evaluations with one seed differ; draw from ctx.generator(purpose), keep nothing"
    )


@rule("float64 works or is refused, and finds examples of the same loss as float32", kinds=_attack)
def formats_agree(subject: Subject) -> None:
    reached = []
    for dtype in (torch.float32, torch.float64):
        model = victim(dtype)
        batch = believed(model, batch_of(dtype=dtype))
        with refused_settings("no other format"), SameDraws():
            adv = attacked(subject, batch, model=model)
        with torch.no_grad():
            reached.append(float(cross_entropy(model.eval()(adv), batch.y).mean()))
    away = abs(reached[0] - reached[1])
    expect(
        math.isfinite(away) and away <= _CLOSE,
        f"its mean loss is {reached[0]:.3g} nats in float32 and {reached[1]:.3g} in float64; expected the same",
    )


@rule(
    "it makes at most as many forwards as its method forwards says, which progress bars believe",
    lambda subject: subject.traits.forwards is not None,
    kinds=_attack,
)
def forwards_counted(subject: Subject) -> None:
    model = victim()
    batch = believed(model, batch_of())
    forwards = subject.plugin().traits.forwards
    stated = forwards(len(batch.x)) if forwards else 0
    with counted(model) as counter:
        attacked(subject, batch, model=model)
    made = counter.passes.forwards
    expect(made <= stated, f"forwards({len(batch.x)}) says {stated}, and it made {made}")
