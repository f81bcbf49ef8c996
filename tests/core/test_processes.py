"""Signals that ask a process to stop: which are heard, which are left alone, and what a second one does."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from buttress.processes import STOP_SIGNALS, Interrupted, StopRequest, interrupted_by_signals


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
