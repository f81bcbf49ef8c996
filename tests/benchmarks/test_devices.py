"""Times of calls on devices, with a stand-in for CUDA."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch


class Stream:
    """A stand-in for ``torch.cuda`` that writes down what happens, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def event(self, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(
            record=lambda: self.calls.append("record"),
            synchronize=lambda: self.calls.append("synchronize"),
            elapsed_time=lambda other: 1500.0,
        )


def test_on_cuda_a_call_is_timed_between_two_events(monkeypatch: pytest.MonkeyPatch):
    from devices import stopwatch

    stream = Stream()
    monkeypatch.setattr(torch.cuda, "Event", stream.event)
    assert stopwatch(torch.device("cuda"))(lambda: stream.calls.append("call")) == 1.5
    assert stream.calls == ["record", "call", "record", "synchronize"]


def test_on_the_cpu_a_call_is_timed_by_the_clock():
    from devices import stopwatch

    readings = iter([2.0, 5.0])
    assert stopwatch(torch.device("cpu"), lambda: next(readings))(lambda: None) == 3.0


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    from devices import device_of

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Exception, match=r"cuda:1 asked for, and torch .* sees no CUDA device"):
        device_of("cuda:1")
