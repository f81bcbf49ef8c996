"""The drops of the learning rate that a report shows, as far as a run of any version tells them."""

from typing import Any

import pytest

from buttress.config.file import ConfigFile
from buttress.config.yaml_source import parse_yaml
from buttress.report.material import drops_of

CONFIG = """name: a
data: {name: digits}
model: {name: mlp}
threat: {norm: l2, eps: 1}
plugins: [clean]
optimizer: {lr: 0.1}
"""


@pytest.mark.parametrize(
    ("more", "manifest", "drops"),
    [
        ("epochs: 4\nschedule: {name: piecewise, milestones: [1]}\n", {"drops": [2, 2.5]}, [2, 2.5]),
        ("epochs: 4\nschedule: {name: piecewise, milestones: [1]}\n", {"drops": [True]}, [1]),
        ("epochs: 4\nschedule: {name: piecewise, milestones: [1]}\n", {}, [1]),  # of an older version
        ("epochs: 4\nschedule: {name: piecewise, milestones: [1, 9]}\n", {"drops": [1, 9]}, []),  # refused by now
        ("steps: 4\n", {"drops": [0.5]}, [0.5]),
        ("steps: 4\n", {"drops": [5]}, []),
        ("steps: 4\n", {}, []),  # a damaged manifest
    ],
)
def test_drops_are_those_that_the_run_has_recorded(more: str, manifest: dict[str, Any], drops: list[float]):
    assert drops_of(ConfigFile(parse_yaml(CONFIG + more, "a.yaml")), manifest) == drops
