"""Company: beside the median ensemble, and beside another loss."""

from __future__ import annotations

from typing import Any

import torch

from buttress.testing.promise import expect, refused_settings, rule
from buttress.testing.subject import Subject, batch_of, train


def _leaves_the_loss(subject: Subject) -> bool:
    return "compute_loss" not in subject.provides


@rule("works beside MEAT, whose track is there and finite")
def beside_meat(subject: Subject) -> None:
    _together(subject, {"meat": {"start": 0, "history": "memory", "track": "median"}}, "median")


@rule("works beside the loss TRADES, which looks at clean and adversarial examples", _leaves_the_loss)
def beside_trades(subject: Subject) -> None:
    _together(subject, {"trades": {"beta": 6.0}})


def _together(subject: Subject, other: dict[str, Any], track: str = "") -> None:
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
