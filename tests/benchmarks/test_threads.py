"""``bench_threads.py`` in small: every kernel is timed on one thread and on two, awake and asleep."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from buttress.kernels import native

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif("lsc_mean" not in native.operations(), reason="times compiled kernels, and none is there")
def test_every_kernel_is_timed_on_one_thread_and_on_two(tmp_path: Path):
    file = tmp_path / "threads.json"
    options = ["--rounds", "1", "--logits", "8x4", "--weights", "64", "--json", str(file)]
    subprocess.run([sys.executable, "benchmarks/bench_threads.py", *options], cwd=ROOT, check=True, timeout=120)
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    assert {(each["call"], each["state"]) for each in results} == {
        (call, state)
        for call in ("lsc, forward", "lsc, gradient", "lsc, scaled", "perturb_", "rwp_step_")
        for state in ("warm", "cold")
    }
    assert all(each[kind]["fastest_us"] > 0 for each in results for kind in ("one", "more"))
