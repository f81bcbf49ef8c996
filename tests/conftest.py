"""One thread (results depend on no machine, tests do not fight for cores), long lines, no own home, no syncing."""

import os
import tempfile
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def configuration_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What buttress remembers about its user lies in a folder of the tests, also for the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("configuration")))
        yield


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Logs of errors and other temporary files lie in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        yield


@pytest.fixture(scope="session", autouse=True)
def disk_not_waited_for() -> Iterator[None]:
    """Nothing that this process writes has to survive a power cut: ``os.fsync``, milliseconds a call, does nothing.

    What is synced, and when, is counted by tests of their own, and by ``tests/torture/test_file_operations.py`` in
    other processes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said is one line in tests, also in the processes that they start."""
    monkeypatch.setenv("COLUMNS", "1000")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device; torch sees none")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(skip)
