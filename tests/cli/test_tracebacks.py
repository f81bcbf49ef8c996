"""The traceback of an error on the screen, on demand."""

from pathlib import Path

import pytest
import yaml

from .conftest import Verb

DEFENSE = """\"\"\"Source: nobody.\"\"\"
from buttress import hookimpl


def pick(values, position):
    return values[position]


def weigh(values):
    return pick(values, 7)


class Mine:
    \"\"\"Indexes past a list.\"\"\"

    @hookimpl
    def adjust_grads(self):
        weigh([1, 2])
"""


@pytest.fixture
def defense(workspace: Path) -> None:
    """A plugin of the working folder whose helper raises, in the config."""
    (workspace / "mine.py").write_text(DEFENSE)
    config = yaml.safe_load((workspace / "small.yaml").read_text())
    config |= {"plugins": ["fgsm", "mine"], "plugins_file": "mine.py"}
    (workspace / "small.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.usefixtures("defense")
def test_the_traceback_is_on_the_screen_with_every_call(expect: Verb):
    message = expect("train", "small.yaml", "--traceback", code=1)
    for line in ("in adjust_grads", "in weigh", "in pick", "IndexError: list index out of range"):
        assert line in message
    assert message.index("Traceback") < message.index("\nerror: plugin 'mine'")


@pytest.mark.usefixtures("defense")
def test_without_the_option_there_is_none(expect: Verb):
    assert "Traceback" not in expect("train", "small.yaml", code=1)


def test_wrong_input_has_a_traceback_too(expect: Verb):
    assert "Traceback" in expect("train", "nowhere.yaml", "--traceback", code=2)
