"""The error of a task as data, in a file beside its log."""

from pathlib import Path

import pytest

from buttress.errors import ConfigError, InterruptionError
from buttress.launching.task_error import error_kept_in, kept_error


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (
            ConfigError("expected a number\n  error: of steps", key="pgd.steps"),
            "pgd.steps: expected a number error: of steps",
        ),
        (KeyError("x"), "KeyError: 'x' (test_task_error.py:"),
    ],
    ids=["worded", "of somebody else"],
)
def test_an_error_is_kept_as_one_line_and_raised_again(tmp_path: Path, problem: Exception, line: str):
    path = tmp_path / "run.error.json"
    with pytest.raises(type(problem)), error_kept_in(path):
        raise problem
    kept = kept_error(path)
    assert kept is not None
    assert kept.startswith(line)
    with error_kept_in(path):  # the next attempt goes well
        pass
    assert kept_error(path) is None


def test_a_file_of_something_else_holds_no_error(tmp_path: Path):
    path = tmp_path / "run.error.json"
    for text in ("", "[]", "{}", '{"error": 3}'):
        path.write_text(text)
        assert kept_error(path) is None


def test_a_request_to_stop_is_no_error(tmp_path: Path):
    path = tmp_path / "run.error.json"
    with pytest.raises(InterruptionError), error_kept_in(path):
        raise InterruptionError("stopped by SIGTERM")
    assert not path.exists()
