"""What is said about an exported model: a card for people, and the fields that RobustBench asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from buttress import __version__
from buttress.evaluation import attack_name, load_attack
from buttress.files import read_json
from buttress.robust import interval
from buttress.saved_run import SavedRun

LOADING = """```python
import torch
from safetensors.torch import load_file

model = torch.export.load("model.pt2").module()  # in eval mode already: it has no train() and eval()
model.load_state_dict(load_file("model.safetensors"), assign=True)
logits = model(x)
```"""


def model_card(run: SavedRun, digests: Mapping[str, str]) -> str:
    """The card as Markdown: threat model, numbers with their attacks, n, seeds and intervals, training, files."""
    config, shape = run.file.config, run.data.train.example_shape
    files = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in digests.items())
    takes = "of any range" if run.threat.box is None else "in [{:g}, {:g}]".format(*run.threat.box)
    return f"""# {config.name}, {run.track}

{_architecture(run)} on {config.data.chosen}, {run.data.num_classes} classes, robust to {run.threat} as far as the
numbers below say. It takes `x [B, {", ".join(map(str, shape))}]` {takes} and gives logits; normalisation is inside.

## Use

{LOADING}

Load files only from where you trust them, and compare their sha256.

## Robustness

Test split; the 95 % intervals are Wilson's and say what n examples can tell, not how seeds differ: this is one run.

{_numbers(run)}

{_warnings(run)}

## Training

| | |
|---|---|
| weights | {run}, best epoch chosen on the {config.evaluation.best_by} split |
| method | {_listing(config.plugins)} |
| data | {config.data.chosen}{_settings(config.data.given())}; training examples: {len(run.data.train)} |
| optimizer | {config.optimizer.name}, lr {config.optimizer.lr:g}{_settings(config.optimizer.settings())} |
| schedule | {config.schedule.chosen}{_settings(config.schedule.given())} |
| epochs, batch size, seed | {config.epochs}, {config.data.batch_size}, {config.seed} |
| versions | {_versions(run)} |

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
    found = {row["attack"]: row for row in numbers(run)}
    auto = next((row for name, row in found.items() if str(name).startswith("autoattack")), None)
    clean = found.get("clean")
    accuracy = None if auto is None else _percent(auto["accuracy"])
    measured = "AutoAttack has not been run" if auto is None else f"AutoAttack on {auto['n']} test examples"
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
        "footnote": f"{run.threat}; {measured}.",
        "unreliable": _unreliable(run),
    }


def numbers(run: SavedRun) -> list[dict[str, Any]]:
    """Each attack's newest row on the test split; the run's own evaluation where nothing else was measured."""
    rows = {row["attack"]: row for row in [*_own_rows(run), *run.results()]}
    return list(rows.values())


def _own_rows(run: SavedRun) -> list[dict[str, Any]]:
    own, evaluation = run.own_result(), run.file.config.evaluation
    if own is None:
        return []
    rows = []
    for attack, key in (
        ("clean", "clean"),
        (attack_name(load_attack(evaluation.attack, local=run.file.local)), "robust"),
    ):
        low, high = interval(round(own[key] * own["n"]), own["n"])
        seed = evaluation.seed
        rows.append({"attack": attack, "accuracy": own[key], "low": low, "high": high, "n": own["n"], "seed": seed})
    return rows


def _numbers(run: SavedRun) -> str:
    lines = ["| attack | accuracy % | 95 % interval | n | seed |", "|---|---|---|---|---|"]
    for row in numbers(run):
        between = f"{_percent(row['low'])} to {_percent(row['high'])}"
        name = row["attack"] + (" and those before it" if row.get("after") else "")
        lines.append(f"| {name} | {_percent(row['accuracy'])} | {between} | {row['n']} | {row['seed']} |")
    return "\n".join(lines)


def _warnings(run: SavedRun) -> str:
    said = []
    if not any(str(row["attack"]).startswith("autoattack") for row in numbers(run)):
        said.append("AutoAttack has not been run on these weights: the true robust accuracy may be lower.")
    if run.file.config.evaluation.best_by == "test" and run.checkpoint == "best":
        said.append("The best epoch was chosen on the test split: the numbers are biased upward.")
    findings = _findings(run)
    if findings is None:
        said.append("The evaluation has not been audited (`buttress audit`).")
    else:
        count = {status: sum(row["status"] == status for row in findings) for status in ("PASS", "WARN", "FAIL")}
        said.append("Audit: " + ", ".join(f"{number} {status}" for status, number in count.items()) + ".")
        said += [f"{row['status']} {row['check']}: {row['reason']}." for row in findings if row["status"] != "PASS"]
    return "\n".join(f"- {line}" for line in said)


def _findings(run: SavedRun) -> list[dict[str, Any]] | None:
    """The audit of these very weights, or None."""
    if not run.folder.audit.is_file():
        return None
    rows: list[dict[str, Any]] = read_json(run.folder.audit)
    own = {"track": run.track, "checkpoint": run.checkpoint, "epoch": run.epoch}
    return [row for row in rows if own.items() <= row.items()] or None


def _unreliable(run: SavedRun) -> bool | None:
    findings = _findings(run)
    return None if findings is None else any(row["status"] == "FAIL" for row in findings)


def _architecture(run: SavedRun) -> str:
    model = run.file.config.model
    return str(model.settings().get("arch") or model.chosen)


def _listing(entries: list[dict[str, dict[str, Any]]]) -> str:
    return "; ".join(f"{name}{_settings(settings)}" for entry in entries for name, settings in entry.items())


def _settings(settings: Mapping[str, Any]) -> str:
    given = {key: value for key, value in settings.items() if value is not None}
    return f" {json.dumps(given, default=str)}" if given else ""


def _versions(run: SavedRun) -> str:
    manifest = read_json(run.folder.manifest)
    trained = manifest.get("buttress", "unknown")
    commit = (manifest.get("git") or {}).get("commit")
    return f"trained with buttress {trained}{f' at {commit}' if commit else ''}, exported with {__version__}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
