"""Batches of ``transform_batch``: what comes with the examples, what is declared of them, and what replays repeat."""

from __future__ import annotations

from dataclasses import replace

import torch

from buttress import hookimpl
from buttress.testing.promise import expect, needs, rule
from buttress.testing.rules.randomness import REPEATS
from buttress.testing.subject import EXAMPLES, STEPS, Subject, batch_of, step
from buttress.types import Batch

_transforms = needs("transform_batch")


class _Keeps:
    """Keeps every batch that comes out of the plugins before it."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    @hookimpl
    def transform_batch(self, batch: Batch) -> Batch:
        self.batches.append(replace(batch, x=batch.x.clone(), y=batch.y.clone()))
        return batch


@rule("what comes with the examples in batch.aux stays, each row with its example", _transforms)
def aux_kept(subject: Subject) -> None:
    rows = torch.arange(EXAMPLES)
    with subject.scratch() as scratch:
        kept = _Keeps()
        engine = subject.engine(scratch, beside=[kept])
        given = batch_of()
        engine.step(given.x, given.y, index=rows, aux={"row": rows})  # the core misses names that are gone
        (batch,) = kept.batches
        index, row = batch.index, batch.aux["row"]
        expect(len(row) == len(batch.x), f"{len(batch.x)} examples with {len(row)} rows of aux; repeat those too")
        expect(
            index is None or torch.equal(index, row),
            "rows of aux belong to other examples than batch.index; permute both as x: value[order]",
        )


@rule("soft labels and further examples that it makes are declared in gives", _transforms)
def gives_declared(subject: Subject) -> None:
    gives = set(subject.traits.gives)
    with subject.scratch() as scratch:
        kept = _Keeps()
        step(subject.engine(scratch, beside=[kept]), 0)
        (batch,) = kept.batches
    expect(
        batch.y.ndim == 1 or "soft labels" in gives,
        "its labels are distributions [B,K]; declare gives = ('soft labels',), so that losses can refuse them",
    )
    views = {"two views", "extra examples"} | {word for word in gives if ":" in word}
    expect(
        len(batch.x) <= EXAMPLES or bool(gives & views),
        f"makes {len(batch.x)} examples of {EXAMPLES}; declare gives = ('two views',) or ('extra examples',)",
    )


@rule("data.replays: the steps on one batch transform it in one way", _transforms, presumes=REPEATS)
def replays_repeat(subject: Subject) -> None:
    with subject.scratch() as scratch:
        kept = _Keeps()
        engine = subject.engine(scratch, beside=[kept], replays=STEPS)
        for epoch in range(2):
            for _ in range(STEPS):
                step(engine, epoch)
            first, *others = kept.batches[-STEPS:]
            same = all(torch.equal(first.x, other.x) and torch.equal(first.y, other.y) for other in others)
            expect(
                same,
                "another step on the same batch transforms it otherwise; draw from ctx.generator(purpose), and "
                "remember nothing of the step before",
            )
            engine.end_epoch()
