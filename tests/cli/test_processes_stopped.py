"""A signal to ``--processes``, which torchrun hands on to the processes."""

import signal

import pytest
import torch.distributed.launcher.api as launcher
from torch.distributed.elastic.multiprocessing.api import SignalException

from buttress.cli.processes import start_processes


def test_ctrl_c_is_an_exit_code_and_no_traceback(monkeypatch: pytest.MonkeyPatch):
    def stopped(*words: str) -> None:
        raise SignalException("got signal: 2", sigval=signal.SIGINT)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(launcher, "elastic_launch", lambda *_: stopped)
    with pytest.raises(SystemExit) as end:
        start_processes(2)
    assert end.value.code == 1
