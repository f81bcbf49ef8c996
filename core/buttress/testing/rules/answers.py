"""Answers of hooks: inside the box and the ball, one loss an example, tracks by their names, every batch size."""

from __future__ import annotations

import inspect
from dataclasses import replace
from itertools import product

import torch

from buttress.nn.modes import ATTACK_MODES, Modes
from buttress.testing.promise import Broken, expect, needs, refused_settings, rule
from buttress.testing.subject import EPOCHS, EPS, Net, Subject, batch_of, copied, differing, step, train
from buttress.threat import ThreatModel
from buttress.types import Adv, Batch

# Equal up to the rounding of a sum of float64 in another order.
_ROUNDING = 1e-9


@rule("training goes through, moves the weights, and keeps everything finite", presumes=())
def trains(subject: Subject) -> None:
    with subject.scratch() as scratch:
        model = Net()
        before = copied(dict(model.named_parameters()))
        engine = train(subject.engine(scratch, model=model))
        after = model.state_dict()
        moved = differing(before, dict(model.named_parameters()))
        expect(bool(moved), f"after {EPOCHS} epochs every weight is as it was initialised")
        bad = [name for name, value in after.items() if not torch.isfinite(value).all()]
        expect(not bad, f"not finite: {', '.join(bad)}")
        wrong = [name for name, value in engine.records().items() if value != value]
        expect(not wrong, f"a recorded metric is NaN: {', '.join(wrong)}")
        engine.close()


@rule("batches stay inside the threat model's box", needs("transform_batch"), presumes=())
def inside_box(subject: Subject) -> None:
    for number, box in enumerate([(0.0, 1.0), (-1.0, 2.0)]):
        with subject.scratch() as scratch:
            engine = subject.engine(scratch, threat=ThreatModel("linf", EPS, list(box)))
            batch = batch_of(number)
            engine.step(batch.x.round(), batch.y, index=batch.index)  # at the walls of [0, 1]; checks the box itself


@rule("adversarial examples stay inside ball and box, in every attack mode", needs("generate_adv"), presumes=())
def inside_ball(subject: Subject) -> None:
    radius = float(subject.traits.radius)
    for threat, mode in product(
        [ThreatModel("linf", EPS), ThreatModel("l2", "1/2"), ThreatModel("linf", 0)], ATTACK_MODES
    ):
        with subject.scratch() as scratch:
            engine = subject.engine(scratch, threat=threat)
            engine.start()
            for seed in range(2):
                batch = replace(batch_of(seed), x=batch_of(seed).x.round())  # at the walls of the box
                x = batch.x
                with Modes(engine.model).attacking(mode):
                    adv = engine.hooks.generate_adv(engine.model, batch).x
                farthest = float(threat.distance(adv, x).amax())
                expect(
                    bool(threat.contains(adv, x, radius)),
                    f"{threat.norm} distance {farthest:.4g} at {radius:g} * eps {threat.eps}, values in "
                    f"[{float(adv.min()):.4g}, {float(adv.max()):.4g}]; return ctx.threat.project(x_adv, batch.x)",
                )


@rule("the loss of an example does not depend on its place in the batch", needs("compute_loss"))
def one_loss_an_example(subject: Subject) -> None:
    with subject.scratch() as scratch:
        engine = subject.engine(scratch, model=Net().double(), attack="clean")
        engine.start()
        batch = engine.hooks.transform_batch(batch_of(dtype=torch.float64))  # with the plugin's own aux and labels
        adv = engine.attack(batch, "examination")  # with the plugin's own aux, where it attacks or wraps the attack
        if "generate_adv" not in subject.provides:
            noise = torch.rand(batch.x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            adv = replace(adv, x=(adv.x + 0.02 * (noise - 0.5)).clamp(0, 1))
        losses = engine.hooks.compute_loss(engine.model, batch, adv).per_example
        again = engine.hooks.compute_loss(engine.model, *_turned(batch, adv)).per_example.flip(0)
        expect(bool((losses - again).abs().max() < _ROUNDING), "the same examples in another order have other losses")
        expect(
            bool(losses.std() > _ROUNDING), "all examples have one loss; a term of the whole batch is a Loss.penalty"
        )


def _turned(batch: Batch, adv: Adv) -> tuple[Batch, Adv]:
    """The same examples in the opposite order."""
    index = None if batch.index is None else batch.index.flip(0)
    turned = Batch(batch.x.flip(0), batch.y.flip(0), index, {name: each.flip(0) for name, each in batch.aux.items()})
    return turned, Adv(adv.x.flip(0), {name: each.flip(0) for name, each in adv.aux.items()})


@rule("batches of other sizes work: the last one of an epoch may be a single example")
def incomplete_batch(subject: Subject) -> None:
    with subject.scratch() as scratch:
        engine = subject.engine(scratch)
        for number, n in enumerate([6, 1, 4, 6]):
            try:
                losses = step(engine, number, n)
            except Exception as error:
                raise Broken(f"a batch of {n} after one of {[6, 6, 1, 4][number]}: {error}") from error
            expect(bool(torch.isfinite(losses).all()), f"a batch of {n}: losses {losses.tolist()}")
        engine.end_epoch()


def _names_its_track(subject: Subject) -> bool:
    return "ensemble_weights" in subject.provides and "track" in inspect.signature(subject.component).parameters


@rule("its track is called as the setting 'track' says, so that two can stand side by side", _names_its_track)
def track_named(subject: Subject) -> None:
    second = subject.with_settings({**subject.settings, "track": "second"})
    with subject.scratch() as scratch:
        with refused_settings("two of it cannot stand side by side"):
            engine = subject.engine(scratch, beside=[second.plugin()])
        train(engine, 2)
        names = [track.name for track in engine.tracks()]
        expect(
            len(names) == 2 and names[1] == "second", f"expected two tracks, the second called 'second', got {names}"
        )
