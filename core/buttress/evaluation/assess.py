"""``buttress evaluate``: attack weights, show a table with n and intervals, and keep the verdict on every example."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buttress.attack_losses import names_of_attack_losses
from buttress.components.construct import choose
from buttress.components.loaded import LoadedPlugin
from buttress.components.sources import Local
from buttress.config.own_code import OwnCode
from buttress.console.reporter import Reporter
from buttress.console.tables import fitted, percent
from buttress.data import Split
from buttress.data.order import subset
from buttress.errors import ConfigError, InterruptionError
from buttress.evaluation.result_file import write_evaluation
from buttress.evaluation.subject import ModelUnderAttack
from buttress.processes import interrupted_by_signals
from buttress.scoring.attacks import attack_entry, attack_name, load_attack
from buttress.scoring.worst_case import NOT_ATTACKED, RIGHT, Verdicts, attack_all, share_of
from buttress.storage.files import make_folder, storage_errors, write_with
from buttress.training.manifest import hardware
from buttress.training.notes import steps_of_attack


def assess(
    subject: ModelUnderAttack,
    attacks: Sequence[str] = (),
    split: str = "test",
    *,
    examples: int | None = None,
    each: bool = False,
    output: Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Attack a subject, and write down the verdict on every example.

    Args:
        subject: weights, data and threat model.
        attacks: ``clean``, ``fgsm``, ``pgd-K``, or YAML, in order; none for fgsm and the attack of the config.
        split: ``test``, ``validation`` or ``train``.
        examples: number of examples in a fixed random subset; None for all examples.
        each: whether every attack sees every example.
        output: folder of the results; default ``eval/`` in the run, or beside the weights.
        reporter: reporter that shows progress.

    Returns:
        The content of the JSON file, see docs/evaluating.md.

    Raises:
        InputError: a split or an attack does not exist, or an attack refuses the model.
        InterruptionError: Ctrl-C or another signal asked to stop; the same call goes on where it stopped.
    """
    loaded = _load_attacks(attacks, subject)
    data = subject.split(split)
    index = subset(len(data), examples)
    if examples is not None and examples > len(data):
        reporter = reporter or Reporter()
        reporter.say(f"note: --examples {examples}, and the {split} split has {len(data)}: all of them are taken")
    for name, attack in loaded:
        for note in steps_of_attack(name, attack.settings, subject.threat):
            (reporter or Reporter()).say(f"note: {note}")
    config = subject.file.config.evaluation
    folder = output or subject.home / "eval"
    facts = {
        "run": str(subject.home),
        "weights": str(subject.weights),
        **subject.facts,
        "split": split,
        "split_size": len(data),
        "fingerprint": subject.data.fingerprint[split],
        "n": len(index),
        "seed": config.seed,
        "batch_size": config.batch_size,
        "each": each,
    }
    settings = {name: {attack.label: dict(attack.settings)} for name, attack in loaded}
    partial = folder / f"unfinished-{_digest(facts, settings, subject, data, index)}.npz"
    make_folder(folder)
    try:
        with interrupted_by_signals():
            verdicts = attack_all(
                subject.at_work,
                loaded,
                subject.threat,
                data,
                index,
                seed=config.seed,
                batch_size=config.batch_size,
                each=each,
                partial=partial,
                reporter=reporter,
            )
    except KeyboardInterrupt as stop:
        who = str(stop) or "Ctrl-C"
        raise InterruptionError(
            f"stopped by {who}; what was done is kept in {folder}; give the same command again to go on"
        ) from None
    return _write(folder, partial, facts, settings, verdicts, index, _labels(data, index))


def result_table(result: Mapping[str, Any], subject: ModelUnderAttack) -> str:
    """The result as a table."""
    each = result["each"]
    rows = [
        [
            row["attack"],
            row["attacked"],
            row["wrong"],
            *_percent(row if each else row["left"]),
            row["n"],
            f"{row['seconds']:.1f}",
        ]
        for row in result["attacks"]
    ]
    header = ["attack", "attacked", "wrong", "accuracy %" if each else "left %", "95 % interval", "n", "seconds"]
    accuracy, spread = _percent(result["worst"])
    note = "" if each else "\nleft: right without an attack and under all attacks so far"
    some = "" if result["n"] == result["split_size"] else f" ({result['n']} of {result['split_size']} examples)"
    setting = f"{result['threat']}, {result['precision']}, seed {result['seed']}"
    return (
        f"{subject}, {result['split']} split{some}, {setting}\n\n"
        f"{fitted(header, rows, names=1)}{note}\n\n"
        f"worst case: {accuracy} % ({spread}, n = {result['n']})\nwritten to {result['file']}"
    )


def _percent(row: Mapping[str, Any]) -> tuple[str, str]:
    return percent(row["accuracy"]), f"{percent(row['low'])} to {percent(row['high'])}"


def _load_attacks(texts: Sequence[str], subject: ModelUnderAttack) -> list[tuple[str, LoadedPlugin]]:
    """Attacks by their names in tables: the short name, or the whole text where the short name is taken.

    Raises:
        PluginError, ConfigError: unknown, wrong settings, or twice the same.
    """
    own = subject.file.config.evaluation.attack
    entries = [(text, attack_entry(text)) for text in texts] or [("fgsm", {"fgsm": {}}), (json.dumps(own), own)]
    local = _components_for([entry for _, entry in entries], subject.file.own)
    named: dict[str, LoadedPlugin] = {}
    for text, entry in entries:
        attack = load_attack(entry, given={"num_classes": subject.data.num_classes}, local=local)
        if attack.label == "clean":  # it is always there, as the first row
            continue
        short = attack_name(attack)
        name = text if short in named else short
        if name in named:
            raise ConfigError(
                f"--attack {text!r} is given twice; leave one out, or write out what makes it another one"
            )
        named[name] = attack
    return list(named.items())


def _components_for(entries: Sequence[Mapping[str, Any]], own: OwnCode) -> Local:
    """The components of the run's own file; none, with nothing executed, where all attacks and losses are installed."""
    attacks = [item for entry in entries for item in entry.items()]
    if local := own.components_for("attack", [name for name, _ in attacks]):
        return local
    losses = [names_of_attack_losses(choose("attack", name).factory, settings or {}) for name, settings in attacks]
    return own.components_for("attack_loss", [name for names in losses for name in names])


def _digest(
    facts: Mapping[str, Any], settings: Mapping[str, Any], subject: ModelUnderAttack, data: Split, index: Tensor
) -> str:
    """The identity of an unfinished evaluation: equal only where the same command does the same work."""
    device = str(next(subject.model.parameters()).device)
    work = {
        **facts,
        "device": device,
        "attacks": settings,
        "order": list(settings),
        "hardware": hardware()["packages"],
    }
    digest = hashlib.sha256(json.dumps(work, sort_keys=True, default=str).encode())
    digest.update(index.numpy().tobytes())
    for batch in data.batches(index, facts["batch_size"]):
        digest.update(batch.x.contiguous().cpu().numpy().tobytes())
        digest.update(batch.y.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _labels(data: Split, index: Tensor) -> np.ndarray[Any, Any]:
    return torch.cat([batch.y for batch in data.batches(index, 1000)]).cpu().numpy()


def _write(
    folder: Path,
    partial: Path,
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
    verdicts: Verdicts,
    index: Tensor,
    labels: np.ndarray[Any, Any],
) -> dict[str, Any]:
    stem = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    samples, path = folder / f"{stem}.npz", folder / f"{stem}.json"

    def save(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez_compressed(
                stream,
                index=index.numpy(),
                label=labels,
                attacks=np.array(verdicts.names),
                attacked=verdicts.table != NOT_ATTACKED,
                correct=verdicts.table == RIGHT,
                worst=verdicts.worst,
                seed=facts["seed"],
            )

    samples_sha256 = write_with(samples, save)
    rows = [{**row, "settings": settings.get(row["attack"], {})} for row in verdicts.rows()]
    result = {
        **facts,
        "attacks": rows,
        "worst": share_of(verdicts.worst),
        "command": sys.argv,
        **hardware(),
        "samples": str(samples),
        "samples_sha256": samples_sha256,
        "file": str(path),
    }
    write_evaluation(path, result)
    with storage_errors(partial):
        partial.unlink(missing_ok=True)
    return result
