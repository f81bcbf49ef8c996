"""What the runs of a comparison are doing: from a run's process through a pipe to a line, or a bar."""

import io
import json
import os

import pytest
from rich.console import Console

from buttress.comparing import board as boards
from buttress.comparing.board import Board, listener_to
from buttress.processes import Channel


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(boards, "monotonic", lambda: now[0])
    return now


def begin(board: Board, name: str) -> int:
    """Descriptor of the end of a pipe at which a run's process speaks."""
    pipe, channel = os.pipe()
    board.begin(name, os.fdopen(pipe, "rb"))
    return channel


def test_every_run_at_work_has_a_line_now_and_then(clock: list[float]):
    said: list[str] = []
    with Board(said.append, Console(file=io.StringIO())) as board:
        one, two = begin(board, "at, seed 0"), begin(board, "rwp, seed 0")
        listener_to(Channel(one))("epoch 1/2, loss 2.000", 0.2, 100.0)
        listener_to(Channel(one))("epoch 2/2, loss 1.250", 0.6, 50.0)
        board.look()
        assert said == []
        clock[0] = 31.0
        board.look()
        assert said == ["at, seed 0: epoch 2/2, loss 1.250, 60 %, about 50 s left", "rwp, seed 0: starting, 0 %"]
        board.end("at, seed 0")
        clock[0] = 62.0
        board.look()
        assert said[2:] == ["rwp, seed 0: starting, 0 %"]
        os.close(one)
        os.close(two)


def test_a_terminal_gets_a_bar_for_every_run_at_work():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, height=20)
    with Board(print, console) as board:
        channel = begin(board, "digits/at pgd.steps=10, seed 0")
        listener_to(Channel(channel))("epoch 2/12, loss 1.250, evaluating live", 0.25, 90.0)
        board.look()
        assert board._bars is not None
        board._bars.refresh()
        os.close(channel)
    text = screen.getvalue()
    assert "digits/at" in text
    assert "epoch 2/12" in text
    assert "25%" in text
    assert "90 s left" in text


def test_half_a_message_waits_for_its_other_half():
    with Board(print, Console(file=io.StringIO())) as board:
        channel = begin(board, "at, seed 0")
        line = json.dumps(["epoch 1/2", 0.5, None]).encode() + b"\n"
        for part in (line[:7], line[7:]):
            os.write(channel, part)
            board.look()
        os.close(channel)
        assert str(board._runs["at, seed 0"]) == "at, seed 0: epoch 1/2, 50 %"


def test_a_board_that_does_not_read_holds_no_run_up():
    with Board(print, Console(file=io.StringIO())) as board:
        channel = begin(board, "at, seed 0")
        hear = listener_to(Channel(channel))
        for _ in range(5000):  # more than a pipe holds
            hear("epoch 1/2", 0.5, None)
        board.look()
        os.close(channel)
    hear("nobody reads any more", 1.0, None)
