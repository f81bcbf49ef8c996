"""Whether compiled code has passed its check on a GPU: the record that ``scripts/gpu_check`` leaves here."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from buttress.kernels import native

RECORD = Path(__file__).with_name("gpu-check.json")


@cache
def record() -> dict[str, Any]:
    """The record; empty where compiled code has not been checked on a GPU."""
    try:
        content = json.loads(RECORD.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content if isinstance(content, dict) else {}


@cache
def on_cuda() -> bool:
    """Whether compiled code has a CUDA part here, and that has passed its check."""
    return record().get("passed") is True and (native.build_facts() or {}).get("CUDA") == "yes"


def describe() -> str:
    """The state of the check in words, for ``buttress doctor``."""
    if not record():
        return "not run yet: backend auto takes pure torch on CUDA"
    gpus = ", ".join(record().get("gpus", [])) or "a GPU"
    return f"{'passed' if record().get('passed') is True else 'failed'} on {gpus}, torch {record().get('torch')}"
