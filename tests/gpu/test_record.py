"""The record of the check on a GPU: written by ``gpu_check``, read by the choice of a backend."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gpu.parts import PARTS
from gpu.running import Outcome, State

from buttress.kernels import checked, native, reference, use_backend
from buttress.kernels.backend import operation
from gpu import record

ON_CUDA: Any = [SimpleNamespace(device=SimpleNamespace(type="cuda"))]
ON_MPS: Any = [SimpleNamespace(device=SimpleNamespace(type="mps"))]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place of a record, in a process with compiled code that has a CUDA part."""
    monkeypatch.setattr(checked, "RECORD", tmp_path / "gpu-check.json")
    monkeypatch.setattr(native, "operations", lambda: {"median": "compiled"})
    monkeypatch.setattr(native, "build_facts", lambda: {"CUDA": "yes"})
    _forget()
    yield checked.RECORD
    _forget()


def _forget() -> None:
    checked.record.cache_clear()
    checked.on_cuda.cache_clear()


def write(path: Path, **states: State) -> str:
    """The record of a check in which all parts passed but those named."""
    outcomes = {part: Outcome(states.get(part.name, "passed")) for part in PARTS}
    about = {"gpus": ["NVIDIA H200, 139 GiB, sm_90"], "torch": "2.11.0"}
    line = record.write(outcomes, about, path)
    _forget()
    return line


def chosen(tensors: Any, name: str = "auto") -> Any:
    """The implementation of the median for these tensors."""
    with use_backend(name):
        return operation("median", tensors)


def test_auto_takes_compiled_code_on_cuda_once_it_has_passed(path: Path):
    assert chosen(ON_CUDA) is reference.median
    assert chosen(ON_CUDA, "native") == "compiled"
    assert "not run yet" in checked.describe()
    assert "passed: backend auto uses it on CUDA" in write(path)
    assert chosen(ON_CUDA) == "compiled"
    assert chosen(ON_MPS) is reference.median
    assert checked.describe() == "passed on NVIDIA H200, 139 GiB, sm_90, torch 2.11.0"
    assert chosen(ON_CUDA, "torch") is reference.median


def test_auto_takes_torch_without_a_cuda_part(path: Path, monkeypatch: pytest.MonkeyPatch):
    write(path)
    monkeypatch.setattr(native, "build_facts", lambda: {"CUDA": "no"})
    assert chosen(ON_CUDA) is reference.median


@pytest.mark.parametrize("part", record.NEEDED)
def test_a_part_that_fails_takes_the_pass_back(path: Path, part: str):
    write(path)
    failed: State = "failed"
    assert "failed: backend auto leaves it" in write(path, **{part: failed})
    assert chosen(ON_CUDA) is reference.median
    assert checked.describe().startswith("failed on NVIDIA H200")


def test_a_benchmark_that_fails_does_not(path: Path):
    write(path, median="timed out")
    assert chosen(ON_CUDA) == "compiled"


def test_a_check_of_some_parts_records_nothing(tmp_path: Path):
    outcomes = {part: Outcome("passed") for part in PARTS if part.name != "waits"}
    assert "the check needs the parts build, tests, waits" in record.write(outcomes, {}, tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()


def test_the_sources_are_known_by_their_texts(tmp_path: Path):
    (tmp_path / "a.cu").write_text("1")
    before = record.sources(tmp_path)
    (tmp_path / "notes.md").write_text("1")
    assert record.sources(tmp_path) == before
    (tmp_path / "a.cu").write_text("2")
    assert record.sources(tmp_path) != before


def test_the_committed_record_is_of_these_sources():
    if not record.RECORD.exists():
        pytest.skip("compiled code has not been checked on a GPU")
    content = json.loads(record.RECORD.read_text(encoding="utf-8"))
    assert content["sources"] == record.sources(), "run scripts/gpu_check again, or remove the record"
    assert checked.RECORD == record.RECORD
