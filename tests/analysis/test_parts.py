"""A part is one file, one name on the command line, one row in the documentation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from buttress.analysis import parts
from buttress.analysis.part import json_value
from buttress.analysis.parts import PARTS

ROOT = Path(__file__).parents[2]


def test_every_file_of_parts_is_a_part():
    files = {path.stem for path in Path(parts.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == set(PARTS)
    assert all(getattr(parts, name).PART is part for name, part in PARTS.items())


def test_the_names_of_the_files_of_parts_begin_differently():
    beginnings = [part.files for part in PARTS.values()]
    assert not [(a, b) for a in beginnings for b in beginnings if a != b and a.startswith(b)]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_stands_in_the_documentation(name: str):
    assert f"\n| `{name}` | " in (ROOT / "docs" / "analysing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.tensor([[1.0, torch.nan]]), [[1.0, None]]),
        ({"a": (1, float("inf"))}, {"a": [1, None]}),
        ("text", "text"),
        (torch.tensor(3), 3),
    ],
)
def test_numbers_become_plain_json(value: Any, expected: Any):
    assert json_value(value) == expected
