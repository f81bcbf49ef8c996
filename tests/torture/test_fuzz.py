"""Readers of whatever a stranger sends raise errors of buttress and no others: a short form."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from .fuzz import fuzz, targets

NAMES = (
    "config: YAML-like text",
    "config: edited bytes",
    "config: any tree",
    "config: any value under a key",
    "config: overrides",
    "config: numbers as text",
    "checkpoint: edited JSON",
    "checkpoint: any state, sealed",
    "weights: edited safetensors",
    "ensemble: edited safetensors",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_refuses_or_reads(name: str, tmp_path: Path):
    give, read = targets(tmp_path)[name]
    refused, wrong = fuzz(give, read, examples=60, number=0)
    assert not wrong
    assert refused > 0


def test_every_reader_is_tested(tmp_path: Path):
    assert set(NAMES) == set(targets(tmp_path))


def test_another_exception_would_be_found():
    def fragile(value: Any) -> None:
        if value > 7:
            raise KeyError(value)

    refused, wrong = fuzz(st.integers(0, 100), fragile, examples=100, number=0)
    assert (refused, wrong.split(":")[0]) == (0, "KeyError")
