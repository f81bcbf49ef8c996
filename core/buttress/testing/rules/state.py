"""State: plain, complete, and the plugin's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from buttress.engine.engine import Engine
from buttress.errors import moment
from buttress.storage.tensor_tree import StateError, join_tensors, split_tensors
from buttress.testing.promise import Broken, expect, rule
from buttress.testing.rules.randomness import REPEATS
from buttress.testing.subject import EPOCHS, STEPS, Net, Subject, copied, differing, outcome, step, train
from buttress.testing.views import plugin_in, tensors_in
from buttress.training.checkpoint import save_checkpoint
from buttress.training.checkpoint_file import load_checkpoint


def _stateful(subject: Subject) -> bool:
    return subject.traits.state_dict is not None


@rule("the state is tensors, numbers, text, lists and dicts, and comes back from a checkpoint as it was", _stateful)
def plain_state(subject: Subject) -> None:
    with subject.scratch() as scratch:
        state = _state(train(subject.engine(scratch), 2), subject)
        path = Path(scratch) / "checkpoints"
        try:
            back = load_checkpoint(save_checkpoint(path, 1, {"state": state}, keep=1))["state"]
        except StateError as error:
            at = ".".join(error.place[1:])
            raise Broken(f"a checkpoint cannot hold its state at {at!r}: {error.reason}") from error
        expect(_flat(back) == _flat(state), "its state does not come back from a checkpoint as it was")


@rule(
    "a run that stops and resumes, after any step, ends as the run that never stopped, bit for bit",
    presumes=(*REPEATS, "plain_state"),
)
def exact_resume(subject: Subject) -> None:
    _resumes(subject, replays=1)
    if "transform_batch" in subject.provides:
        _resumes(subject, replays=STEPS)


def _resumes(subject: Subject, replays: int) -> None:
    with subject.scratch() as scratch:
        whole = Path(scratch) / "whole"
        saved: list[tuple[dict[str, Any], Path]] = []
        engine = subject.engine(whole, replays=replays)

        def save(where: str) -> None:
            history = Path(scratch) / f"{len(saved)}"
            if whole.exists():  # the snapshots that the state refers to
                shutil.copytree(whole, history)
            saved.append((_everything(engine), history))

        expected = outcome(train(engine, each=save))
        for state, history in saved[: EPOCHS * (STEPS + 1) - 1]:
            at = moment(state["engine"]["epoch"], state["engine"]["step"])
            at += f", data.replays: {replays}" if replays > 1 else ""
            try:
                resumed = _resumed(subject, state, history, replays)
                changed = differing(expected, outcome(train(resumed)))
            except Exception as error:
                raise Broken(f"resumed at {at}: {error}") from error
            expect(
                not changed,
                f"resumed at {at}, {', '.join(changed[:3])} differ; put all that it remembers into state_dict and "
                "load_state_dict",
            )


@rule("a state that was saved or loaded is not changed by training on", _stateful)
def loaded_state_kept(subject: Subject) -> None:
    with subject.scratch() as scratch:
        saved = _state(train(subject.engine(Path(scratch) / "one"), 2), subject)
        if (Path(scratch) / "one").exists():
            shutil.copytree(Path(scratch) / "one", Path(scratch) / "two")
        engine = subject.engine(Path(scratch) / "two", model=Net(seed=1))
        engine.start()
        plugin = plugin_in(engine, subject)
        before = copied(tensors_in(saved))
        plugin.load_state_dict(saved)
        engine.epoch = 2
        for number in range(STEPS):
            step(engine, 90 + number)
        engine.end_epoch()
        changed = differing(before, tensors_in(saved))
        expect(not changed, f"training wrote into the loaded {', '.join(changed)}; copy: value.clone()")


class _Spoilt(Net):
    """A network whose logits are NaN in train mode while it is ``spoilt``; an attack in eval mode sees good ones."""

    spoilt = False

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits * torch.nan if self.spoilt and self.training else logits


@rule("a step with logits of NaN that nonfinite: skip takes back leaves its state finite", _stateful)
def finite_state(subject: Subject) -> None:
    infinite = []
    for spoilt in (False, True):
        model = _Spoilt()
        options: dict[str, Any] = {"attack": "clean", "attack_mode": "eval", "nonfinite": "skip"}
        with subject.scratch() as scratch:
            engine = subject.engine(scratch, model=model, **options)
            step(engine, 0)
            model.spoilt = spoilt
            step(engine, 1)
            model.spoilt = False
            engine.end_epoch()
            infinite.append(_infinite(_state(engine, subject)))
    changed = sorted(infinite[1] - infinite[0])
    expect(
        not changed,
        f"NaN or infinity in {', '.join(changed[:3])}; update what it remembers of a step in ensemble_weights at event "
        "'step': torch.where(ctx.skipped, old, new)",
    )


def _infinite(state: object) -> set[str]:
    """The places in a state whose values are not all finite."""
    return {name for name, value in tensors_in(state).items() if not bool(torch.isfinite(value).all())}


def _resumed(subject: Subject, state: Mapping[str, Any], history: Path, replays: int) -> Engine:
    engine = subject.engine(history, replays=replays)
    engine.start()
    engine.model.load_state_dict(state["model"])
    engine.load_state_dict(state["engine"])
    engine.optimizer.load_state_dict(state["optimizer"])
    return engine


def _everything(engine: Engine) -> dict[str, Any]:
    """A copy of the whole state, split and joined as that of a checkpoint is, but not written into files."""
    state = {
        "model": dict(engine.model.state_dict()),
        "optimizer": engine.optimizer.state_dict(),
        "engine": engine.state_dict(),
    }
    tree, tensors = split_tensors(state)
    return dict(join_tensors(json.loads(json.dumps(tree)), copied(tensors)))


def _state(engine: Engine, subject: Subject) -> Any:
    return plugin_in(engine, subject).state_dict()


def _flat(value: object) -> object:
    """A nested value to be compared by ``==``: with the kinds of its parts, the order of keys, and bytes of tensors."""
    if isinstance(value, Tensor):
        raw = value.detach().contiguous().flatten().view(torch.uint8).tolist() if value.numel() else []
        return ["tensor", str(value.dtype), list(value.shape), raw]
    if isinstance(value, Mapping):
        return [type(value), *((type(key), str(key), _flat(item)) for key, item in value.items())]
    if isinstance(value, (list, tuple)):
        return [type(value), *map(_flat, value)]
    return [type(value), str(value)]
