"""Files of runs rewritten by somebody who can seal them again: a seal is no signature."""

import hashlib
import json
from pathlib import Path
from typing import Any

from buttress.storage.seals import read_sealed, write_sealed


def unsealed(path: Path) -> dict[str, Any]:
    """A JSON object without its seal, checked or not."""
    found: dict[str, Any] = json.loads(path.read_text())
    return {key: value for key, value in found.items() if key != "sha256"}


def as_older(path: Path, value: object = None) -> None:
    """Make a file what an older version wrote: without a seal; ``value``: in another shape."""
    path.write_text(json.dumps(unsealed(path) if value is None else value))


def rewrite_metrics(run: Path, content: bytes) -> None:
    """Give a finished run other metrics, which its summary knows."""
    (run / "metrics.jsonl").write_bytes(content)
    summary = read_sealed(run / "summary.json")
    known = {"metrics_bytes": len(content), "metrics_sha256": hashlib.sha256(content).hexdigest()}
    write_sealed(run / "summary.json", {**summary, **known})


def sealed_again(path: Path) -> None:
    """Seal a JSON object that has been edited."""
    write_sealed(path, unsealed(path))
