"""Record for buttress whether compiled code passed on a GPU: with a pass, ``backend: auto`` uses it there."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu.parts import Part
from gpu.running import Outcome

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "core" / "buttress" / "kernels" / "gpu-check.json"
NEEDED = ("build", "tests", "waits")
"""Parts that compiled code has to pass; the others measure."""


def write(outcomes: Mapping[Part, Outcome], about: Mapping[str, Any], path: Path = RECORD) -> str:
    """Write the record where all parts that it needs ran; return a line that says so."""
    states = {part.name: outcome.state for part, outcome in outcomes.items() if part.name in NEEDED}
    if len(states) < len(NEEDED):
        return f"no record of compiled code: the check needs the parts {', '.join(NEEDED)}"
    passed = all(state == "passed" for state in states.values())
    content = {"passed": passed, "parts": states, **about, "sources": sources()}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    verdict = "passed: backend auto uses it on CUDA" if passed else "failed: backend auto leaves it"
    return f"{path.name}: compiled code {verdict}; commit the file"


def sources(folder: Path = ROOT / "csrc") -> str:
    """SHA-256 of all that is compiled, with the paths of the files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".cu", ".cpp", ".h", ".inc"):
            digest.update(f"{path.relative_to(folder)}\0{path.read_text(encoding='utf-8')}\0".encode())
    return digest.hexdigest()
