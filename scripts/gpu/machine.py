"""Facts about the machine and the code, on which results depend."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def facts(commit: str | None = None) -> dict[str, Any]:
    """Date, commit, versions and hardware.

    Args:
        commit: commit of the code; None asks git, which a copy of the code may lack.
    """
    import torch  # both may be missing when this module is loaded

    from buttress.training.manifest import cpu_name

    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or _commit(),
        "gpus": [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, sm_{gpu.major}{gpu.minor}" for gpu in gpus],
        "driver": _lines("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nvcc": _lines("nvcc", "--version")[-1],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
    }


def _commit() -> str:
    commit, changes = _lines("git", "rev-parse", "HEAD")[0], _lines("git", "status", "--porcelain")[0]
    return f"{commit}, with changes" if commit and changes else commit


def _lines(*command: str) -> list[str]:
    """The lines that a command prints; one empty line where it is not there, fails or prints nothing."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return [""]
    return done.stdout.strip().splitlines() or [""]
