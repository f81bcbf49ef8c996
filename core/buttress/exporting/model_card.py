"""Describe an exported model: a card for people, and the fields of RobustBench."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from buttress._version import __version__
from buttress.audit.finding import Status
from buttress.audit.findings_of_run import read_findings
from buttress.config.model_section import ModelSection
from buttress.console.tables import percent
from buttress.errors import CheckpointError
from buttress.evaluation.result_file import read_worst
from buttress.evaluation.saved_run import SavedRun
from buttress.exporting.markdown import plain_text
from buttress.nn.layout import has_channels_last_weights
from buttress.precision import Precision
from buttress.scoring.attacks import name_of_entry
from buttress.scoring.worst_case import Flags, interval, share_of
from buttress.training.manifest import read_manifest

LOADING = """```python
import torch
from safetensors.torch import load_file

model = torch.export.load("model.pt2").module()  # in eval mode already: it has no train() and eval()
model.load_state_dict(load_file("model.safetensors"), assign=True)
{layout}logits = model(x)
```"""
# A line of the code above, for a model that was trained in that layout.
CHANNELS_LAST = "model.to(memory_format=torch.channels_last)  # files of weights keep no layout; x may have any\n"


def model_card(run: SavedRun, digests: Mapping[str, str]) -> str:
    """The card as Markdown: threat model, numbers with their attacks, n, seeds and intervals, training, files."""
    config, shape = run.file.config, run.data.train.example_shape
    architecture, data = plain_text(_architecture(run)), plain_text(config.data.chosen)
    files = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in digests.items())
    length = "epochs" if config.epochs else "steps"
    layout = CHANNELS_LAST if has_channels_last_weights(run.model) else ""
    config_precision = ", ".join(f"{work} {word}" for work, word in Precision.read(config.precision).words.items())
    takes = "of any range" if run.threat.box is None else "in [{:g}, {:g}]".format(*run.threat.box)
    return f"""# {config.name}, {plain_text(run.track)}

{architecture} on {data}, {run.data.num_classes} classes, robust to {run.threat} as far as the
numbers below say. It takes `x [B, {", ".join(map(str, shape))}]` {takes} and gives logits; normalisation is inside.

## Use

{LOADING.format(layout=layout)}

Load files only from where you trust them, and compare their sha256.

## Robustness

Test split; the 95 % intervals are Wilson's and say what n examples can tell, not how seeds differ: this is one run.
The worst case is the number to quote: right without an attack and under each of these on the same n examples.

{_numbers(run)}

{_warnings(run)}

## Training

| | |
|---|---|
| weights | {plain_text(run)}, best epoch chosen on the {config.evaluation.best_by} split |
| model | {plain_text(config.model.chosen)}{_settings(_given_to(config.model))} |
| method | {_listing(config.plugins)} |
| data | {data}{_settings(config.data.given())}; training examples: {len(run.data.train)} |
| optimizer | {plain_text(config.optimizer.chosen)}, lr {config.optimizer.lr:g}{_settings(config.optimizer.given())} |
| precision | {config_precision} |
| schedule | {plain_text(config.schedule.chosen)}{_settings(config.schedule.given() | config.schedule.warm_up)} |
| {length}, batch size, seed | {config.epochs or config.steps}, {config.data.batch_size}, {config.seed} |
| versions | {plain_text(_versions(run))} |

## Files

| file | sha256 |
|---|---|
{files}
"""


def robustbench_entry(run: SavedRun) -> dict[str, Any]:
    """The fields of RobustBench's ``model_info`` files; null is for the authors to fill in, or was not measured.

    Source: the JSON files and ``ModelInfo`` in github.com/RobustBench/robustbench. Accuracies are texts, in percent;
    ``reported`` is what the authors claim, ``autoattack_acc`` what AutoAttack found.
    """
    auto, clean = _autoattack(run)
    measured = "AutoAttack has not been run"
    if auto is not None:
        seen = "on what other attacks had left of" if auto["accuracy"] is None else "on"
        measured = f"AutoAttack {seen} {auto['n']} test examples, in {auto['precision']}"
    marks = "".join(dict.fromkeys(_mark(row) for row in (clean, auto) if row is not None))
    accuracy = None if auto is None else _percent(auto["left"]["accuracy"])
    return {
        "link": None,
        "name": None,
        "authors": None,
        "additional_data": False if run.file.config.model.weights is None else None,
        "number_forward_passes": 1,
        "dataset": run.file.config.data.chosen,
        "venue": None,
        "architecture": _architecture(run),
        "eps": str(run.threat.eps),
        "clean_acc": None if clean is None else _percent(clean["accuracy"]),
        "reported": accuracy,
        "autoattack_acc": accuracy,
        "footnote": f"{run.threat}; {measured}{marks}.",
        "unreliable": _unreliable(run),
    }


def _autoattack(run: SavedRun) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The row of the newest AutoAttack, and the clean row of the same examples; without one the newest clean row."""
    clean: dict[str, Any] | None = next(iter(_own_rows(run)), None)
    for result in reversed(run.evaluations()):
        for row in result["attacks"]:
            if row["attack"] == "autoattack":  # whole, not its parts for two and three classes
                return {**row, **_circumstances(result)}, {**result["attacks"][0], **_circumstances(result)}
    for result in run.evaluations():
        clean = {**result["attacks"][0], **_circumstances(result)}
    return None, clean


def _circumstances(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("seed", "precision", "mark")}


def numbers(run: SavedRun) -> list[dict[str, Any]]:
    """The newest row of each attack on equally many examples, in each precision.

    A row without an ``accuracy`` saw what others had left.
    """
    rows = {(row["attack"], row["n"], row["precision"]): row for row in _own_rows(run)}
    for result in run.evaluations():
        for row in result["attacks"]:
            key = row["attack"], row["n"], result["precision"]
            if row["accuracy"] is not None or rows.get(key, row)["accuracy"] is None:
                rows[key] = {**row, **_circumstances(result)}
    return sorted(rows.values(), key=lambda row: int(row["n"]))


def worst_cases(run: SavedRun) -> list[dict[str, Any]]:
    """For every set of examples: right without an attack and under every one that was tried on them, one by one.

    Raises:
        CheckpointError: the verdicts of an evaluation are missing or damaged.
    """
    flags: dict[bytes, Flags] = {}
    marks: dict[bytes, str] = {}
    for result in run.evaluations():
        index, worst = read_worst(result, Path(result["samples"]))
        key = index.tobytes()
        flags[key] = worst & flags.get(key, worst)
        marks[key] = marks.get(key) or result["mark"]
    shares = [{**share_of(worst), "mark": marks[key]} for key, worst in flags.items()]
    return sorted(shares, key=lambda row: int(row["n"]))


def _own_rows(run: SavedRun) -> list[dict[str, Any]]:
    """Clean and robust accuracy as the run itself has measured them; empty where it has not scored these weights."""
    own, evaluation = run.own_result(), run.file.config.evaluation
    if own is None:
        return []
    rows, attack = [], name_of_entry(evaluation.attack)
    for name, key in (("clean", "clean"), (attack, "robust")):
        low, high = interval(round(own[key] * own["n"]), own["n"])
        bounds = {"accuracy": own[key], "low": low, "high": high, "n": own["n"]}
        about = {"seed": evaluation.seed, "precision": own["precision"], "mark": own["mark"]}
        rows.append({"attack": name, **bounds, **about})
    return rows


def _numbers(run: SavedRun) -> str:
    lines = ["| attack | accuracy % | 95 % interval | n | precision | seed |", "|---|---|---|---|---|---|"]
    worst = {row["n"]: row for row in worst_cases(run)}
    rows = numbers(run)
    for n in dict.fromkeys(row["n"] for row in rows):
        same = [row for row in rows if row["n"] == n]
        for row in same:
            if row["accuracy"] is None:
                broken = f"broke {row['wrong']} of {row['attacked']} that others had left"
                lines.append(f"| {_attack(row)} | {broken} | | {n} | {row['precision']} | {row['seed']} |")
            else:
                lines.append(f"| {_attack(row)} | {_interval(row)} | {n} | {row['precision']} | {row['seed']} |")
        if n in worst:
            # The run's own attack has no verdicts, but the worst case is not above its accuracy either.
            own = [row for row in same if row["accuracy"] is not None]
            lowest = min([worst[n], *own], key=lambda row: float(row["accuracy"]))
            lines.append(f"| **worst case**{_mark(lowest)} | {_interval(lowest)} | {n} | | |")
    return "\n".join(lines)


def _attack(row: Mapping[str, Any]) -> str:
    return f"{plain_text(row['attack'])}{_mark(row)}"


def _mark(row: Mapping[str, Any]) -> str:
    """The warning of a row that is not verified; empty for others."""
    return f", {row['mark']}" if row["mark"] else ""


def _interval(row: Mapping[str, Any]) -> str:
    return f"{_percent(row['accuracy'])} | {_percent(row['low'])} to {_percent(row['high'])}"


def _warnings(run: SavedRun) -> str:
    warnings = []
    if not run.folder.summary.is_file():
        warnings.append("The run has not finished: these are its weights so far.")
    if _autoattack(run)[0] is None:
        warnings.append("AutoAttack has not been run on these weights: the true robust accuracy may be lower.")
    if run.file.config.evaluation.best_by == "test" and run.checkpoint == "best":
        warnings.append("The best epoch was chosen on the test split: the numbers are biased upward.")
    findings = read_findings(run)
    if not findings:
        warnings.append("The evaluation has not been audited (`buttress audit`).")
    else:
        count = {status: sum(row["status"] == status for row in findings) for status in get_args(Status)}
        marks = "".join(dict.fromkeys(_mark(row) for row in findings))
        warnings.append("Audit: " + ", ".join(f"{number} {status}" for status, number in count.items()) + f"{marks}.")
        warnings += [f"{row['status']} {row['check']}: {row['reason']}." for row in findings if row["status"] != "PASS"]
    return "\n".join(f"- {plain_text(line)}" for line in warnings)


def _unreliable(run: SavedRun) -> bool | None:
    findings = read_findings(run)
    return any(row["status"] == "FAIL" for row in findings) if findings else None


def _architecture(run: SavedRun) -> str:
    model = run.file.config.model
    return str(model.settings().get("arch") or model.chosen)


def _listing(entries: list[dict[str, dict[str, Any]]]) -> str:
    return "; ".join(
        f"{plain_text(name)}{_settings(settings)}" for entry in entries for name, settings in entry.items()
    )


def _given_to(model: ModelSection) -> dict[str, Any]:
    """Settings of a model, and the normalisation that it was given."""
    return model.given() | ({"normalize": model.normalize.model_dump()} if model.normalize else {})


def _settings(settings: Mapping[str, Any]) -> str:
    given = {key: value for key, value in settings.items() if value is not None}
    return f" {plain_text(json.dumps(given, default=str))}" if given else ""


def _versions(run: SavedRun) -> str:
    try:
        manifest = read_manifest(run.folder.manifest)
    except CheckpointError:
        return f"not known, since the manifest of the run is damaged; exported with {__version__}"
    trained = manifest.buttress or "unknown"
    git = manifest.git or {}  # of the working folder: the user's own project
    changed = " with changes" if git.get("dirty") else ""
    where = f" in a working folder at commit {git['commit']}{changed}" if git.get("commit") else ""
    changed_later = dict.fromkeys(line for each in manifest.continued for line in each.differences)
    later = f", continued after changes ({plain_text('; '.join(changed_later))})" if changed_later else ""
    return f"trained with buttress {trained}{where}{later}, exported with {__version__}"


def _percent(share: float) -> str:
    return percent(share, places=2)
