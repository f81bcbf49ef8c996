"""What a person sees while work goes on: time left over several kinds of work, lines whole, nobody there any more."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from buttress.console import reporter as reporters
from buttress.console.pace import Pace
from buttress.console.reporter import Reporter
from buttress.console.tables import wrapped


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that reporters read, in seconds; written by the test."""
    now = [0.0]
    monkeypatch.setattr(reporters, "monotonic", lambda: now[0])
    return now


def screen() -> Console:
    return Console(file=io.StringIO(), width=80, highlight=False, markup=False)


def shown(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_time_left_is_the_sum_over_kinds_each_at_its_own_speed():
    pace = Pace()
    pace.expect("steps", 10)
    pace.expect("examples", 100, each=0.5)
    assert pace.seconds_left is None  # nothing has been measured yet
    pace.done("steps", 2, 4.0)
    assert pace.seconds_left == pytest.approx(8 * 2.0 + 100 * 0.5)
    pace.done("examples", 20, 2.0)  # faster than expected
    assert pace.seconds_left == pytest.approx(8 * 2.0 + 80 * 0.1)
    assert pace.share == pytest.approx(6.0 / (6.0 + 24.0))
    pace.skip("examples", 80)
    assert pace.seconds_left == pytest.approx(16.0)
    pace.expect("examples", 40)  # another evaluation, at the speed measured
    assert pace.seconds_left == pytest.approx(16.0 + 4.0)


def test_what_another_process_did_counts_at_the_speed_of_this_one():
    pace = Pace()
    pace.begin_with("steps", 30)
    pace.expect("steps", 10)
    assert pace.share == 0.0
    pace.done("steps", 5, 5.0)
    assert pace.share == pytest.approx(35 / 40)
    pace.done("steps", 5, 5.0)
    assert (pace.share, pace.seconds_left) == (1.0, 0.0)


def test_the_bar_moves_while_the_model_is_evaluated(clock: list[float]):
    heard: list[tuple[str, float, float | None]] = []
    reporter = Reporter(console=Console(quiet=True), listener=lambda *told: heard.append(told))
    reporter.begin(4, 0)
    reporter.expect("examples", 100, each=0.04)
    for seconds, call in (
        (2.0, lambda: reporter.advance("epoch 1/2")),
        (4.0, lambda: reporter.advance("epoch 1/2")),
        (4.6, lambda: reporter.loss(1.25)),
        (6.0, lambda: reporter.busy("examples", "evaluating live", 50)),
        (8.0, lambda: reporter.busy("examples", "evaluating live", 50)),
        (10.0, lambda: reporter.advance("epoch 2/2")),
        (12.0, lambda: reporter.advance("epoch 2/2")),
    ):
        clock[0] = seconds
        call()
    assert [what for what, _, _ in heard] == [
        "epoch 1/2",
        "epoch 1/2",
        "epoch 1/2, loss 1.250, evaluating live",
        "epoch 1/2, loss 1.250, evaluating live",
        "epoch 2/2, loss 1.250",
        "epoch 2/2, loss 1.250",
    ]
    assert [left for _, _, left in heard] == pytest.approx([10.0, 8.0, 6.0, 4.0, 2.0, 0.0])
    assert [share for _, share, _ in heard] == pytest.approx([1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0])


def test_without_a_terminal_an_evaluation_says_a_line_now_and_then(clock: list[float]):
    console = screen()
    reporter = Reporter(console=console)
    reporter.begin(4, 0)
    reporter.expect("examples", 100)
    clock[0] = 10.0
    reporter.advance("epoch 1/2")
    clock[0] = 45.0
    reporter.busy("examples", "evaluating live", 50)
    clock[0] = 50.0
    reporter.busy("examples", "evaluating live", 10)
    assert shown(console) == ["epoch 1/2, evaluating live: step 1/4, about 65 s left"]


def test_what_is_being_done_before_the_bar_is_said_at_once(tmp_path: Path):
    console = screen()
    reporter = Reporter(tmp_path / "log.txt", console)
    reporter.doing("loading the data: digits")
    assert shown(console) == ["loading the data: digits ..."]
    assert not (tmp_path / "log.txt").exists()


def test_lines_end_between_words_on_the_screen_and_are_whole_in_the_log(tmp_path: Path):
    console = screen()
    text = "hooks: " + "; ".join(f"hook_number_{number}: plugin" for number in range(12))
    Reporter(tmp_path / "log.txt", console).say(text)
    assert max(map(len, shown(console))) <= 80
    assert " ".join(line.strip() for line in shown(console)) == text
    assert (tmp_path / "log.txt").read_text() == f"{text}\n"


def test_a_word_that_is_longer_than_a_line_stays_whole():
    path = "/a/very-long/path" * 8
    assert wrapped(f"written to {path} and more", 80).split() == ["written", "to", path, "and", "more"]
    assert wrapped("short\n\n  a table   of two", 80) == "short\n\n  a table   of two"


LOST = """
import sys
from pathlib import Path
from buttress.console.reporter import Reporter
sys.stdin.readline()
with Reporter(Path(sys.argv[1])) as reporter:
    reporter.begin(2, 0)
    reporter.advance("epoch 1/1")
    reporter.say("still here")
    reporter.advance("epoch 1/1")
"""


@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_work_goes_on_when_nobody_reads_any_more(kind: str, tmp_path: Path):
    read, write = pty.openpty() if kind == "terminal" else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", LOST, str(tmp_path / "log.txt")],
        stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(write)
    os.close(read)  # the terminal is closed, the reader has gone
    _, said = process.communicate(b"go\n", timeout=60)
    assert (process.returncode, said) == (0, b"")
    assert (tmp_path / "log.txt").read_text() == "still here\n"


def test_a_terminal_of_80_columns_shows_the_bar_on_one_line():
    read, write = pty.openpty()
    program = (
        "from buttress.console.reporter import Reporter\n"
        "with Reporter() as reporter:\n"
        "    reporter.begin(1000, 0)\n"
        "    reporter.expect('examples', 5000, 0.1)\n"
        "    reporter.loss(1.2345)\n"
        "    reporter.advance('epoch 118/200')\n"
        "    reporter.busy('examples', 'evaluating an_ensemble_of_long_name', 10)\n"
    )
    environment: dict[str, Any] = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=write, env=environment)
    assert process.wait(timeout=60) == 0
    os.close(write)
    text = os.read(read, 65536).decode()
    os.close(read)
    assert "loss 1.234" in text
    assert " left" in text
    assert text.count("\n") == 1  # of the end; a second line would be drawn anew at every look
