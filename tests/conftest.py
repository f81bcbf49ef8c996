"""One thread (results depend on no machine, tests do not fight for cores), long lines, no own home, no syncing."""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch

torch.set_num_threads(1)
gc.disable()  # until all tests are collected: what they import stays, and to look through it again takes seconds

SLOWEST = (
    "testing/test_promises.py",
    "world/test_plugins.py",
    "torture/test_resume_points.py",
    "docs/test_tutorial.py",
    "tests/test_recipes.py",
    "tests/test_examples.py",
    "cli/test_compare.py",
    "newcomer/test_newcomer.py",
    "composition/test_pairs.py",
    "tests/test_external_plugin.py",
    "cli/test_export.py",
    "cli/test_evaluate.py",
    "cli/test_plugins_new.py",
    "cli/test_evaluate_shards.py",
)
"""Files that take longest, the first of them most. They run first: one at the end would leave other cores idle. Their
tests have the mark ``slow``, and ``scripts/matrix`` leaves them out."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


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


@pytest.fixture(scope="session", autouse=True)
def short_forecasts() -> Iterator[None]:
    """The forecast of a run measures three steps of each stage, and not for a second: most runs here are shorter."""
    from buttress.training import forecast

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "CALIBRATION_SECONDS", 0.0)
        yield


@pytest.fixture(autouse=True)
def modules_of_one_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test imports from its own folders is forgotten after it: another test may have a module of that name."""
    modules, path, folders = set(sys.modules), [*sys.path], f"{tmp_path_factory.getbasetemp()}{os.sep}"
    yield
    for name in sys.modules.keys() - modules:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(folders):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture(autouse=True)
def long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said is one line in tests, also in the processes that they start."""
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by selenium. Under CI=true all of it has to be there."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    there = {"selenium (pip)": find_spec("selenium"), "chromium": binary, "chromedriver (chromium-driver)": driver}
    missing = [name for name, place in there.items() if not place]
    if missing:
        reason = f"no browser to open a page in: {', '.join(missing)} not found"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    # No sandbox: containers have none, and the page is our own. SwiftShader draws WebGL without a GPU.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield made
    finally:
        made.quit()


def pytest_collection_finish() -> None:
    gc.enable()


def _rank(item: pytest.Item) -> int:
    name = "/".join(item.path.parts[-2:])
    return SLOWEST.index(name) if name in SLOWEST else len(SLOWEST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)
    for item in items:
        if _rank(item) < len(SLOWEST):
            item.add_marker(pytest.mark.slow)
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device; torch sees none")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(skip)
