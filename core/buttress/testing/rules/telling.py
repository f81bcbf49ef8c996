"""Telling: what a logger is told of a run, in the run's own folder."""

from __future__ import annotations

from pathlib import Path

from buttress.loggers import Loggers, check_logger
from buttress.testing.promise import Broken, expect, rule
from buttress.testing.subject import Subject, copied, differing, step

# The records of a step, an epoch and an evaluation as a run writes them.
RECORDS = (
    {"event": "train", "epoch": 0, "global_step": 1, "loss": 2.3, "lr": 0.1, "learning": 0.5},
    {"event": "epoch", "epoch": 0, "loss": 2.3, "lr": 0.1},
    {"event": "evaluation", "epoch": 0, "track": "live", "split": "test", "clean": 0.9, "robust": 0.5, "n": 6},
)


@rule("it can be told a run, and told on where the run is resumed; the weights stay as they were", of=("logger",))
def told_a_run(subject: Subject) -> None:
    check_logger(subject.plugin())
    with subject.scratch() as scratch:
        engine = subject.engine(scratch, without=True)
        step(engine, 0)
        before = copied(engine.model.state_dict())
        for part in ("a run", "a run that is resumed"):
            said: list[str] = []
            loggers = Loggers([subject.plugin()], engine, Path(scratch), said.append)
            loggers.start()
            for record in RECORDS:
                loggers.log(record)
            loggers.close()
            expect(not said, f"told {part}: {' '.join(said)}")
        moved = differing(before, engine.model.state_dict())
        if moved:
            raise Broken(f"{moved[0]} has moved; a logger reads the model, and writes nothing into it")
