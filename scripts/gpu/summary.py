"""Write the results of the parts: a file of JSON for each, and one page with a table of all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu.parts import Part
from gpu.running import Outcome

LAST = 20_000
"""Number of characters that are kept of a part's errors."""
# The beginning of the line with which a benchmark names its file, which is gone when the page is read.
_WRITTEN = "written to "


def write_part(folder: Path, part: Part, outcome: Outcome, command: Sequence[str], result: Path, about: Any) -> None:
    """Write the file of a part, with the results in the file ``result`` if it is there."""
    content = {
        "part": part.name,
        "title": part.title,
        "state": outcome.state,
        "reason": outcome.reason,
        "seconds": round(outcome.seconds, 1),
        "command": ["python", *command],
        "machine": about,
        "result": _read(result),
        "output": outcome.output,
        "errors": outcome.errors[-LAST:],
    }
    (folder / f"{part.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def page(outcomes: Mapping[Part, Outcome], about: Mapping[str, Any]) -> str:
    """The table of all parts, and what each of them printed, in Markdown."""
    lines = ["# GPU check", "", "| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in about.items())]
    lines += ["", "| part | subject | state | seconds | reason |", "|---|---|---|---|---|"]
    for part, outcome in outcomes.items():
        cells = part.name, part.title, outcome.state, f"{outcome.seconds:.0f}", _cell(outcome.reason)
        lines.append(f"| {' | '.join(cells)} |")
    for part, outcome in outcomes.items():
        text = [line for line in outcome.output.strip().splitlines() if not line.startswith(_WRITTEN)]
        if text:
            lines += ["", f"## {part.name}: {part.title}", "", "```text", *text, "```"]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> Any:
    """The content of a file of JSON; None where there is none, or a part was ended while it wrote."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
