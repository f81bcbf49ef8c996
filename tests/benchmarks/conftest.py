"""The folder of benchmarks on the path, as where one of its files is run."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="package", autouse=True)
def _benchmarks_on_the_path() -> Iterator[None]:
    """Let ``import step`` and the like reach the benchmarks during the tests of this folder, and forget them after."""
    before, threads = set(sys.modules), torch.get_num_threads()
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]
