"""Promises of loggers: they take every record, and change nothing."""

from __future__ import annotations

from buttress.testing.promise import expect, rule
from buttress.testing.subject import EPOCHS, Subject, differing, outcome, train
from buttress.testing.use import logged_run
from buttress.testing.views import flags, modes

_logger = ("logger",)


@rule("takes every kind of record, and goes on after an interruption in the same folder", kinds=_logger, presumes=())
def takes_records(subject: Subject) -> None:
    with subject.scratch() as scratch:
        logged_run(subject, subject.engine(scratch), scratch, EPOCHS)


@rule("a run whose records it gets is the run without it, bit for bit", kinds=_logger)
def run_untouched(subject: Subject) -> None:
    ends = []
    for with_it in (False, True):
        with subject.scratch() as scratch:
            engine = subject.engine(scratch)
            logged_run(subject, engine, scratch, EPOCHS) if with_it else train(engine)
            ends.append({**outcome(engine), **modes(engine.model), **flags(engine.model)})
    changed = differing(*ends)
    expect(not changed, f"{', '.join(changed[:3])} differ from the run without it; a logger reads, and writes files")
