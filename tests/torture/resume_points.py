"""Runs stopped at twelve points and resumed: everything equals the uninterrupted run."""

import hashlib
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buttress.config.file import ConfigFile, load_config
from buttress.storage.reading import file_sha256
from buttress.storage.tensor_tree import split_tensors
from buttress.training.checkpoint import list_checkpoints
from buttress.training.checkpoint_file import load_checkpoint
from buttress_plugins.data.digits import Digits
from tests.plugins.catalogue import CATALOGUE, stack_of
from tests.recipe_files import files_for, further_images

from .report import Section
from .small import EPOCHS, STEPS, resume, small_config, start

DIGITS = sorted((Path(__file__).parents[2] / "configs" / "digits").glob("*.yaml"))

# Before the first step, at starts, middles and ends of epochs, before the last step, and when all is done.
POINTS = (0, 1, 2, 4, 5, 7, 8, 9, 11, 12, 15, 16)


def stack_on_disk(name: str) -> list[Any]:
    """The stack of a plugin in the catalogue, but with a history on disk, as is MEAT's default."""
    return ["fgsm", {"meat": {"start": 1}}] if name == "meat" else stack_of(name)


def plugin_config(work: Path, name: str) -> ConfigFile:
    """A run of a plugin with its settings of the catalogue."""
    return small_config(work, stack_on_disk(name))


def digits_config(recipe: Path, work: Path) -> ConfigFile:
    """A recipe cut down to 4 epochs of 4 steps on a small network; files that it needs are written into ``work``."""
    text = recipe.read_text(encoding="utf-8")
    narrow = "model.options.depth=1" if "name: timm" in text else "model.width=2"
    images = 1 if "task: rotation" in text else 4
    cuts = ("epochs=4", narrow, f"data.train_per_class={images}", "data.validation=40", "data.batch_size=12")
    layout = "model.memory_format=contiguous"  # channels_last is not safe with a narrow network
    scores = ("evaluation.every=2", "evaluation.attack={fgsm: {}}", "checkpoint.every=2", "log_every=3", "device=cpu")
    attack = [f"{name}.steps=2" for name in ("pgd", "ard_prm") if f"  - {name}:" in text]  # FGSM, for one, has none
    overrides = [*cuts, layout, *scores, *attack, *further_images(load_config(recipe).config, work)]
    return load_config(recipe, [*overrides, *files_for(recipe, overrides, Digits().load(0), work)])


def differences(file: ConfigFile, work: Path, points: Sequence[int] = POINTS) -> list[str]:
    """Stop at each of the points, resume each to the end; what differs from the uninterrupted run, a line each.

    The stops follow one another, so the run that is stopped at the last point has been resumed at all before.
    """
    whole, chain = work / "whole", work / "chain"
    seen = start(file, whole).seen
    expected, found = fingerprint(whole), []
    if len({str(seen[at : at + STEPS]) for at in range(0, len(seen), STEPS)}) < EPOCHS:
        found.append("two epochs have the same order of the data")
    for number, point in enumerate(points):
        if number == 0:
            start(file, chain, point)
        else:
            resume(chain, point)
        stopped = work / f"stopped-{point}"
        shutil.copytree(chain, stopped)
        rest = resume(stopped).seen
        if rest != seen[point:]:
            found.append(f"stopped after step {point}: the order of the data differs")
        now = fingerprint(stopped)
        different = sorted(key for key in {**expected, **now} if expected.get(key) != now.get(key))
        found += [f"stopped after step {point}: {key} differs" for key in different]
        shutil.rmtree(stopped)
    return found


def fingerprint(run: Path) -> dict[str, str]:
    """The sha256 of everything that training left: each part of the state, each file of results."""
    state = load_checkpoint(list_checkpoints(run / "checkpoints")[0])
    parts = {f"state {key}": _sha256(value) for key, value in state.items() if key != "engine"}
    engine = state["engine"]
    parts |= {f"plugin {label}": _sha256(value) for label, value in engine.pop("plugins").items()}
    parts["counters and records"] = _sha256(engine)
    files = [run / "metrics.jsonl", run / "summary.json", *run.glob("history/*/*"), *run.glob("weights/*")]
    return parts | {str(path.relative_to(run)): file_sha256(path) for path in files}


def _sha256(value: Any) -> str:
    tree, tensors = split_tensors(value)
    digest = hashlib.sha256(json.dumps(tree).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def section(work: Path, rng: random.Random) -> Section:
    lost, parts = [], 0
    configs = {name: plugin_config(work, name) for name in CATALOGUE}
    configs |= {f"digits/{recipe.stem}": digits_config(recipe, work) for recipe in DIGITS}
    for name, file in configs.items():
        folder = work / name
        folder.mkdir(parents=True)
        lost += [f"{name}: {line}" for line in differences(file, folder)]
        parts += len(POINTS) * (len(fingerprint(folder / "whole")) + 1)
        shutil.rmtree(folder)
    return Section(
        "Exact resume",
        "Every built-in plugin on the smallest network, and every digits recipe cut down to 16 steps, stopped by "
        f"Ctrl-C at steps {', '.join(map(str, POINTS))} of 16 (mid-epoch, inside MEAT's window, before the first "
        "step, after the last), and resumed to the end. Compared by sha256 with the uninterrupted run: weights, "
        "optimizer, schedule, generators, counters, plugins' states, histories, tracks, best and last weights, "
        "evaluations, the metrics file, the summary, and the training examples of every step.",
        [
            ("built-in plugins", len(CATALOGUE)),
            ("digits recipes", len(DIGITS)),
            ("resumes to the end", len(configs) * len(POINTS)),
            ("hashes compared", parts),
            ("different", len(lost)),
        ],
        lost,
    )
