"""Processes of our own, what they answer before they end, and the signals that ask one to stop."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buttress.processes import (
    STOP_SIGNALS,
    Channel,
    Interrupted,
    Outcome,
    StopRequest,
    describe_end,
    interrupted_by_signals,
    run_apart,
)


@pytest.fixture(autouse=True)
def deadly() -> Iterator[None]:
    """Signals as Python begins with them; what a shell starts in the background ignores Ctrl-C."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOP_SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_schedulers_and_closed_terminals_are_heard():
    names = {number.name for number in STOP_SIGNALS}
    assert names == {"SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"}


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_a_request_and_the_handler_comes_back(number: signal.Signals):
    stop, before = StopRequest(), signal.getsignal(number)
    with stop.heard():
        send(number)
    assert stop.signal == number.name
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [number for number in STOP_SIGNALS if number != signal.SIGINT])
def test_a_signal_that_repeats_itself_is_one_request(number: signal.Signals):
    stop = StopRequest()
    with stop.heard():
        for _ in range(3):  # a shell and the kernel both send SIGHUP; SIGXCPU comes every second
            send(number)
    assert stop.signal == number.name


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_a_request_stops_at_once(first: signal.Signals):
    stop = StopRequest()
    with stop.heard():
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert stop.signal == first.name


def test_a_second_ctrl_c_may_call_a_function_instead():
    called: list[int] = []
    with StopRequest(lambda: called.append(1)).heard():
        send(signal.SIGINT)
        assert called == []
        send(signal.SIGINT)
    assert called == [1]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_what_is_ignored_stays_ignored(number: signal.Signals):
    signal.signal(number, signal.SIG_IGN)  # as nohup does with SIGHUP
    stop = StopRequest()
    with stop.heard(), interrupted_by_signals():
        send(number)
    assert stop.signal is None


def test_a_handler_of_the_caller_stays_the_callers():
    heard: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, _: heard.append(number))  # as submitit has one
    stop = StopRequest()
    with stop.heard():
        send(signal.SIGUSR2)
    assert (stop.signal, heard) == (None, [signal.SIGUSR2])


def test_outside_the_main_thread_nothing_is_heard():
    handlers: list[object] = []

    def look() -> None:
        with StopRequest().heard():
            handlers.extend(signal.getsignal(number) for number in STOP_SIGNALS)

    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == before


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_can_interrupt_at_once(number: signal.Signals):
    with pytest.raises(Interrupted, match=number.name), interrupted_by_signals():
        send(number)


# Processes of our own


def carry_out(order: Any, channel: Channel) -> None:
    """What a process of its own does, by its order; runs there."""
    channel.send({"order": order})
    print("printed by the function", flush=True)  # noqa: T201
    if order == "raise":
        raise ValueError("of no use\nat all")
    if order == "end":
        os._exit(3)
    if order == "kill":
        os.kill(os.getpid(), 9)
    if order == "half":
        channel.send("é")
        os.write(channel._descriptor, b'{"half')
        os._exit(0)
    if order == "wait":
        time.sleep(60)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a process of its own import these tests."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("last", "end", "errors"),
    [
        ("nothing", "exit code 0", ""),
        ("raise", "exit code 1", "ValueError: of no use\nat all\n"),
        ("end", "exit code 3", ""),
        ("kill", "SIGKILL", ""),
    ],
)
def test_a_process_answers_until_it_ends(last: str, end: str, errors: str):
    outcome = run_apart(carry_out, ["first", last, "never"] if end != "exit code 0" else ["first", last], quiet=True)
    assert outcome.answers == [{"order": "first"}, {"order": last}]
    assert outcome.end == end
    assert outcome.errors.endswith(errors)
    assert "printed" not in outcome.errors


@pytest.mark.usefixtures("here")
def test_half_an_answer_is_none():
    assert run_apart(carry_out, ["half"], quiet=True) == Outcome([{"order": "half"}, "é"], "exit code 0")


@pytest.mark.usefixtures("here")
def test_a_process_that_takes_too_long_is_ended_and_its_answers_are_kept():
    outcome = run_apart(carry_out, ["first", "wait"], timeout=10.0, quiet=True)
    assert outcome == Outcome([{"order": "first"}, {"order": "wait"}], None)


@pytest.mark.usefixtures("here")
def test_what_a_process_prints_goes_to_standard_error(capfd: pytest.CaptureFixture[str]):
    assert run_apart(carry_out, ["first"]).answers == [{"order": "first"}]
    assert capfd.readouterr() == ("", "printed by the function\n")


def test_signals_without_names_have_numbers():
    assert [describe_end(code) for code in (0, -15, -36)] == ["exit code 0", "SIGTERM", "signal 36"]
