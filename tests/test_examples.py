"""The examples run as they are, and stay as short as they are said to be."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

OWN_LOOP = Path(__file__).parent.parent / "examples" / "own_loop.py"


def code_lines(source: str) -> list[str]:
    """The lines that are neither blank nor part of the module's docstring."""
    docstring = ast.parse(source).body[0]
    return [line for line in source.splitlines()[docstring.end_lineno :] if line.strip()]


def test_own_loop_trains_and_scores_both_tracks(tmp_path: Path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, OWN_LOOP], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"examples/own_loop.py: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    found = re.findall(r"^(\w+): clean ([\d.]+) %, PGD-20 ([\d.]+) %, n = 397$", done.stdout, flags=re.MULTILINE)
    assert [name for name, _, _ in found] == ["live", "meat"], done.stdout
    for _, clean, robust in found:
        assert float(clean) > 85  # ten classes: chance is 10
        assert 50 < float(robust) < float(clean)
    assert not list(tmp_path.iterdir())


def test_own_loop_is_at_most_25_lines():
    lines = code_lines(OWN_LOOP.read_text(encoding="utf-8"))
    assert 10 < len(lines) <= 25, f"examples/own_loop.py has {len(lines)} lines of code"
