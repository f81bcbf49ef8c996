"""The scripts behind the parts: what they find and record, with stand-ins for CUDA."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpu import build, layouts, suite, waits

# The extension


@pytest.mark.parametrize(("code", "cuda", "expected"), [(0, "yes", 0), (0, "no", 1), (3, "yes", 3)])
def test_the_extension_is_built_for_the_gpu_and_must_have_its_cuda_part(
    code: int, cuda: str, expected: int, monkeypatch: pytest.MonkeyPatch
):
    switches = {}

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> SimpleNamespace:
        switches.update(env)
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr("sys.argv", ["build.py"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(build.subprocess, "run", run)
    monkeypatch.setattr("buttress.kernels.status", lambda: {"CUDA": cuda})
    assert build.main() == expected
    assert switches["TORCH_CUDA_ARCH_LIST"] == "9.0"
    assert switches["BUTTRESS_EXTENSION"] == switches["BUTTRESS_CUDA"] == "1"


# Tests


def test_the_files_of_tests_are_those_with_the_mark():
    names = {Path(file).name for file in suite.files()}
    assert {"test_median.py", "test_waiting.py", "test_devices.py"} <= names
    assert "test_tracks.py" not in names


def test_outcomes_are_kept_by_test():
    kept = suite.Outcomes()
    for name, when, outcome in (
        ("good", "setup", "passed"),
        ("good", "call", "passed"),
        ("good", "teardown", "passed"),
        ("bad", "call", "failed"),
        ("no device", "setup", "skipped"),
    ):
        report = SimpleNamespace(nodeid=name, when=when, outcome=outcome, longreprtext=f"why {outcome}")
        kept.pytest_runtest_logreport(report)  # type: ignore[arg-type]
    assert suite.result(kept) == {
        "collected": 0,
        "passed": 1,
        "failed": 1,
        "skipped": 1,
        "outcomes": {"good": "passed", "bad": "failed", "no device": "skipped"},
        "reasons": {"bad": "why failed", "no device": "why skipped"},
    }


def test_no_test_that_ran_is_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["suite.py"])
    monkeypatch.setattr(suite.os, "environ", {})
    monkeypatch.setattr(pytest, "main", lambda words, plugins: 0)
    assert suite.main() == 1
    assert "no test ran" in capsys.readouterr().err


# Waiting


def test_waiting_is_refused_within_the_block_on_cuda(monkeypatch: pytest.MonkeyPatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with waits.waiting_refused(torch.device("cpu")):
        assert not modes
    with waits.waiting_refused(torch.device("cuda")):
        assert modes == ["error"]
    assert modes == ["error", 0]


def test_a_step_that_fails_is_the_reason(monkeypatch: pytest.MonkeyPatch):
    entered = []

    def refused(device: torch.device) -> Any:
        entered.append(device)
        if len(entered) == 2:
            raise RuntimeError("called a synchronizing CUDA operation")
        return nullcontext()

    monkeypatch.setattr(waits, "waiting_refused", refused)
    assert "called a synchronizing CUDA operation" in waits.reason("fgsm", "torch", torch.device("cpu"))
    assert waits.reason("fgsm", "torch", torch.device("cpu")) == ""


# Layouts


class WrongInChannelsLast(torch.autograd.Function):
    """The identity, whose gradient is half of the right one for inputs in channels_last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.factor = 0.5 if not x.is_contiguous() else 1.0
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.factor * grads[0]


class WrongPool(nn.Module):
    """A pool as torch issue 188344 has it."""

    def forward(self, x: Tensor) -> Tensor:
        return WrongInChannelsLast.apply(x)  # type: ignore[no-any-return]


def test_a_wrong_gradient_that_is_named_is_as_expected(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    found = layouts.examined(WrongPool(), torch.device("cpu"))
    assert found["differences"] == {"contiguous": 0.0, "channels_last": pytest.approx(0.5)}
    assert "by layer '1' (WrongPool)" in found["fault"]
    assert found["as_expected"]
    monkeypatch.setattr(layouts, "compared", lambda model, x: SimpleNamespace(fault=""))
    assert not layouts.examined(WrongPool(), torch.device("cpu"))["as_expected"]
