"""Company: beside the median ensemble, and beside another loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from buttress import hookimpl
from buttress.functional import cross_entropy
from buttress.testing.promise import expect, refused_settings, rule
from buttress.testing.subject import Subject, batch_of, median_ensemble, train
from buttress.types import Adv, Batch


def _leaves_the_loss(subject: Subject) -> bool:
    return "compute_loss" not in subject.provides


@rule("works beside MEAT, whose track is there and finite")
def beside_meat(subject: Subject) -> None:
    _together(subject, median_ensemble("median"), "median")


@rule("works beside the loss TRADES, which looks at clean and adversarial examples", _leaves_the_loss)
def beside_trades(subject: Subject) -> None:
    _together(subject, {"trades": {"beta": 6.0}})


class _Joint:
    """A loss whose one forward is that of the clean and the adversarial examples together."""

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
        clean, attacked = model(torch.cat([batch.x, adv.x])).chunk(2)
        return cross_entropy(clean, batch.y) + cross_entropy(attacked, batch.y)


def _wraps_the_loss(subject: Subject) -> bool:
    return "compute_loss" in subject.wraps and _leaves_the_loss(subject)


@rule("wraps any loss, also one that calls the model on no tensor for which ctx.outputs has logits", _wraps_the_loss)
def beside_joint_forward(subject: Subject) -> None:
    _together(subject, _Joint())


def _together(subject: Subject, other: Any, track: str = "") -> None:
    with subject.scratch() as scratch:
        with refused_settings("the core refuses the two together"):
            engine = subject.engine(scratch, beside=[other])
        train(engine)
        bad = [name for name, value in engine.model.state_dict().items() if not torch.isfinite(value).all()]
        expect(not bad, f"not finite beside it: {', '.join(bad)}")
        tracks = {each.name: each for each in engine.tracks()}
        expect(not track or track in tracks, f"expected its track {track!r}, got {', '.join(tracks) or 'none'}")
        if track:
            with engine.track(tracks[track]) as model:
                expect(bool(torch.isfinite(model(batch_of().x)).all()), "its ensemble gives logits that are not finite")
