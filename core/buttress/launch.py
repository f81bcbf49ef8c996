"""The jobs behind the verbs that work on runs: start one, continue one, score one."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from buttress.build import Assembly, assemble, load_data
from buttress.config import ConfigFile, dump_config, load_config
from buttress.errors import CheckpointError, ConfigError, RunFolderError, nearest
from buttress.evaluation import Evaluator, attack_name, load_attack
from buttress.files import make_folder, read_facts, read_json, write_json
from buttress.forecast import forecast as forecast_cost
from buttress.kernels import use_backend
from buttress.models import load_weights
from buttress.registry import entry_of
from buttress.reporter import Reporter
from buttress.run_folder import RunFolder, existing_folder, manifest, planned_folder
from buttress.selection import Row
from buttress.settings import late_epochs
from buttress.trainer import Trainer
from buttress.yaml_source import parse_yaml


def launch(
    file: ConfigFile, runs: Path, run: str | None = None, *, dry_run: bool = False, forecast: bool = True
) -> list[Row]:
    """Start a run: check everything, forecast its cost, then train.

    Args:
        file: the config.
        runs: folder of all runs.
        run: name of the run folder, or None for the time.
        dry_run: stop after the forecast; nothing is written.
        forecast: say beforehand what the run will cost.

    Returns:
        Best, last and diff of every track; empty for a dry run.

    Raises:
        InputError: anything about the input; no run folder has been made.
        WorkError: training could not go on; the run can be resumed.
    """
    folder = planned_folder(runs, file.config.name, run)
    reporter = Reporter()
    with use_backend(file.config.backend):
        data, settings = load_data(file)
        with tempfile.TemporaryDirectory() as scratch:  # calibrated on objects that are thrown away
            probe = assemble(file, data, settings, Path(scratch))
            _describe(reporter, probe)
            if forecast:
                reporter.say(f"cost: {forecast_cost(probe)}")
            del probe
        if dry_run:
            reporter.say("dry run: everything is in order; nothing was written")
            return []
        torch.manual_seed(file.config.seed)  # for dropout in the user's model; nothing built in draws from it
        assembly = assemble(file, data, settings, folder.history)
        facts = {
            "data": {"splits": {name: len(s) for name, s in data.splits().items()}, **data.notes},
            "parameters": sum(weight.numel() for weight in assembly.engine.model.parameters()),
            "seed": file.config.seed,
        }
        if file.plugins_file is not None:
            facts["plugins_file"] = {"name": file.plugins_file.name, "sha256": file.plugins_file.sha256}
        assembly.engine.tracks()  # starts it: plugins may still refuse their settings; the folder comes after
        folder.create(
            dump_config(assembly.resolved),
            manifest(assembly.engine.plugins, assembly.engine.hooks.order(), facts),
            file.plugins_file,
        )
    reporter.write_to(folder.log)
    return Trainer(assembly, folder, reporter).run()


def continue_run(path: Path) -> list[Row]:
    """Continue a run at its newest good checkpoint, to the same end as if it had never stopped.

    Raises:
        RunFolderError, CheckpointError: no run folder, or no checkpoint that can be loaded.
    """
    folder = existing_folder(path)
    file = _config_of(folder)
    reporter = Reporter(folder.log)
    _warn_of_threads(reporter, folder)
    with use_backend(file.config.backend):
        data, settings = load_data(file)
        torch.manual_seed(file.config.seed)
        assembly = assemble(file, data, settings, folder.history)
        _say_loss(reporter, assembly)
        trainer = Trainer(assembly, folder, reporter)
        trainer.resume()
    return trainer.run()


def _config_of(folder: RunFolder) -> ConfigFile:
    """The config of a run that was started.

    Raises:
        RunFolderError: its copy of the plugins file is not the one that it was started with.
    """
    file = load_config(folder.config)
    if file.plugins_file is not None:
        recorded = read_json(folder.manifest).get("plugins_file", {}).get("sha256")
        if file.plugins_file.sha256 != recorded:
            raise RunFolderError(
                f"{file.plugins_file.path} has been changed since the run was started (its sha256 is not that of "
                f"{folder.manifest.name}); put it back, or start a run of the new one"
            )
    return file


def evaluate_run(path: Path, attacks: Sequence[str] | None, track: str, checkpoint: str, split: str) -> dict[str, Any]:
    """Accuracy of a run's saved weights, clean and under attacks; also written to ``eval/``.

    Args:
        path: run folder.
        attacks: ``clean``, ``fgsm``, ``pgd-K``, or YAML; None for fgsm and the attack of the run's config.
        track: ``live`` or an ensemble's name.
        checkpoint: ``best`` or ``last``.
        split: ``test``, ``validation`` or ``train``.

    Raises:
        RunFolderError, CheckpointError, ConfigError, PluginError: what was asked for is not there.
    """
    folder = existing_folder(path)
    file = _config_of(folder)
    config = file.config
    local = file.plugins_file.plugins if file.plugins_file else {}
    loaded = [load_attack(attack, local=local) for attack in _attacks(attacks, config.evaluation.attack)]
    weights = folder.weights_file(checkpoint, track)
    if not weights.is_file():
        saved = sorted({each.stem.partition("-")[2] for each in folder.weights.glob("*.safetensors")})
        if track not in saved:
            raise CheckpointError(f"{path} has no track {track!r}{nearest(track, saved)}")
        raise CheckpointError(
            f"{path} has no {checkpoint} weights of track {track!r} yet; finish it: buttress resume {path}"
        )
    data, settings = load_data(file)
    if split not in data.splits():
        raise ConfigError(f"{path}: the data set has no {split} split; choose one of {', '.join(data.splits())}")
    with tempfile.TemporaryDirectory() as scratch:
        engine = assemble(file, data, settings, Path(scratch)).engine
    load_weights(engine.model, weights)
    rows: list[dict[str, Any]] = []
    for attack in loaded:
        evaluator = Evaluator(
            engine.model, attack, engine.threat, seed=config.evaluation.seed, batch_size=config.evaluation.batch_size
        )
        score = evaluator.score(data.splits()[split])
        if not rows:
            rows.append(_row("clean", {}, round(score.clean * score.n), score.n))
        if attack.label != "clean":
            rows.append(_row(attack_name(attack), attack.settings, round(score.robust * score.n), score.n))
    path_json = folder.eval / f"{datetime.now().strftime('%Y%m%d-%H%M%S-%f')}.json"
    result = {
        "run": str(path),
        "track": track,
        "checkpoint": checkpoint,
        "epoch": read_facts(weights)["epoch"],
        "split": split,
        "threat": str(engine.threat),
        "seed": config.evaluation.seed,
        "attacks": rows,
        "file": str(path_json),
    }
    make_folder(folder.eval)
    write_json(path_json, result)
    return result


def interval(right: int, n: int) -> tuple[float, float]:
    """The Wilson 95 % interval of a share: where the true accuracy may lie, given ``right`` of ``n``."""
    z = 1.959964  # the 97.5 % quantile of the normal distribution
    centre, spread = right + z * z / 2, z * math.sqrt(right * (n - right) / n + z * z / 4)
    return max(0.0, (centre - spread) / (n + z * z)), min(1.0, (centre + spread) / (n + z * z))


def _row(name: str, settings: Any, right: int, n: int) -> dict[str, Any]:
    low, high = interval(right, n)
    return {"attack": name, "settings": dict(settings), "accuracy": right / n, "low": low, "high": high, "n": n}


def _attacks(given: Sequence[str] | None, own: dict[str, dict[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    if given is None:
        return [{"fgsm": {}}, own]
    return [attack_entry(text) for text in given]


def attack_entry(text: str) -> dict[str, dict[str, Any]]:
    """An attack as a person writes it: ``fgsm``, ``pgd-20`` (twenty steps), or YAML: ``pgd: {steps: 50, restarts: 3}``.

    Raises:
        ConfigError: none of these.
    """
    name, settings = entry_of(parse_yaml(text, f"--attack {text!r}").value, f"--attack {text!r}")
    stem, dash, steps = name.rpartition("-")
    if dash and steps.isdigit():
        name, settings = stem, {"steps": int(steps), **settings}
    return {name: settings}


def _describe(reporter: Reporter, assembly: Assembly) -> None:
    config, order = assembly.file.config, assembly.engine.hooks.order()
    _say_loss(reporter, assembly)
    if assembly.file.disabled:
        reporter.say(f"left out by disable: {', '.join(assembly.file.disabled)}")
    reporter.say("hooks: " + "; ".join(f"{hook}: {', '.join(labels)}" for hook, labels in order.items()))
    reporter.say("data: " + ", ".join(f"{name} {len(split)}" for name, split in assembly.data.splits().items()))
    settings = [("schedule", type(assembly.schedule), assembly.resolved["schedule"])]
    settings += [(plugin.label, type(plugin.plugin), plugin.settings) for plugin in assembly.engine.plugins]
    for owner, component, values in settings:
        for name, epoch in late_epochs(component, values, config.epochs).items():
            reporter.say(
                f"note: {owner}.{name} is epoch {epoch}, which never comes: epochs are 0 to {config.epochs - 1}"
            )


def _say_loss(reporter: Reporter, assembly: Assembly) -> None:
    losses = assembly.engine.hooks.order().get("compute_loss", [])
    if "cross_entropy" in losses and not any("cross_entropy" in entry for entry in assembly.file.config.plugins):
        reporter.say("loss: no plugin provides one, so it is cross_entropy")


def _warn_of_threads(reporter: Reporter, folder: RunFolder) -> None:
    try:
        before = read_json(folder.manifest)["hardware"]["torch_threads"]
    except (KeyError, TypeError, CheckpointError):
        reporter.say(f"{folder.manifest} is damaged: with how many torch threads the run was started is not known")
        return
    if before != torch.get_num_threads():
        reporter.say(
            f"this run was started with {before} torch threads and continues with {torch.get_num_threads()}; for "
            f"equality to the last bit set OMP_NUM_THREADS={before}"
        )
