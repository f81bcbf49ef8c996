"""Which backend runs: config, environment, context manager; and what the compiled extension says of itself."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from buttress import kernels
from buttress.errors import ConfigError
from buttress.kernels import backend, median, native, reference, status, use_backend

ONE = [torch.tensor([1.0])]
EXTENSION = "buttress._C_torch_" + "_".join(torch.__version__.split(".")[:2])


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BUTTRESS_BACKEND", raising=False)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The calls of compiled medians, which are pretended."""
    calls: list[tuple] = []

    def fake(*arguments):
        calls.append(arguments)
        return torch.tensor([42.0])

    monkeypatch.setattr(native, "operations", lambda: {"median": fake, "median_out": fake})
    return calls


def test_the_backend_is_auto_when_nobody_says_anything():
    assert backend() == "auto"


@pytest.mark.parametrize("name", ["auto", "torch", "native"])
def test_the_environment_variable_chooses(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUTTRESS_BACKEND", name)
    assert backend() == name


@pytest.mark.parametrize("name", ["cuda", "Torch"])
def test_a_wrong_environment_variable_is_refused(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUTTRESS_BACKEND", name)
    with pytest.raises(ConfigError, match=f"^BUTTRESS_BACKEND: expected one of auto, native, torch, got '{name}'$"):
        median(ONE)


def test_an_empty_environment_variable_chooses_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUTTRESS_BACKEND", "")
    assert backend() == "auto"


def test_the_context_manager_wins_over_the_variable_and_the_inner_one_over_the_outer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUTTRESS_BACKEND", "nonsense")
    with use_backend("torch"):
        assert backend() == "torch"
        with use_backend("auto"):
            assert backend() == "auto"
        assert backend() == "torch"
    with pytest.raises(ConfigError):
        backend()


def test_the_context_manager_gives_the_backend_back_after_an_exception():
    def fail():
        with use_backend("torch"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert backend() == "auto"


def test_the_context_manager_refuses_an_unknown_name():
    with (
        pytest.raises(ConfigError, match=r"^backend: expected one of auto, native, torch, got 'cpu'$"),
        use_backend("cpu"),
    ):
        pass


def test_torch_never_calls_compiled_code(calls: list[tuple]):
    with use_backend("torch"):
        assert median(ONE).item() == 1.0
    assert calls == []


@pytest.mark.parametrize("name", ["auto", "native"])
def test_auto_and_native_call_compiled_code_with_every_argument(name: str, calls: list[tuple]):
    out = torch.zeros(1)
    with use_backend(name):
        assert median(ONE).item() == 42.0
        assert median(ONE, even="upper", out=out) is out
    assert calls[0] == (ONE, "lower")
    assert (calls[1][1], calls[1][2]) == ("upper", out)


def test_auto_falls_back_to_torch_where_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "operations", dict)
    requests: list[int] = []
    monkeypatch.setattr(reference, "median", lambda tensors, even: requests.append(1) or tensors[0])
    with use_backend("auto"):
        median(ONE)
    assert requests == [1]


ABSENT = "the extension is not there (no such file); build it with: pip install "


def test_native_raises_with_the_cause_where_the_extension_is_absent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "_loaded", lambda: ImportError("no such file"))
    with pytest.raises(ConfigError) as refused, use_backend("native"):
        pass
    assert str(refused.value).startswith(f"backend native: {ABSENT}")
    assert str(refused.value).endswith("use backend auto or torch")
    monkeypatch.setenv("BUTTRESS_BACKEND", "native")
    with pytest.raises(ConfigError) as refused:
        median(ONE)
    assert str(refused.value).startswith(f"backend native: {ABSENT}")


def test_native_raises_where_the_extension_lacks_the_operation(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "_loaded", lambda: torch)  # any module will do
    monkeypatch.setattr(native, "operations", dict)
    with pytest.raises(ConfigError, match="holds no compiled operations in this version"), use_backend("native"):
        pass
    monkeypatch.setattr(native, "operations", lambda: {"another": print})
    message = "^backend native: the extension holds no compiled median in this version; use backend auto or torch$"
    with use_backend("native"), pytest.raises(ConfigError, match=message):
        median(ONE)


def test_an_extension_that_cannot_be_imported_leaves_its_reason(monkeypatch: pytest.MonkeyPatch):
    def broken(name: str):
        raise ImportError(f"{name}: undefined symbol")

    monkeypatch.setattr(native, "import_module", broken)
    native._loaded.cache_clear()
    try:
        assert native.build_facts() is None
        assert f"{EXTENSION}: undefined symbol" in native.why_not()
        assert status()["extension"].startswith(f"absent: the extension is not there ({EXTENSION}: undefined symbol)")
    finally:
        native._loaded.cache_clear()


def test_an_extension_for_another_torch_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "__version__", "2.99.1+cu999")
    monkeypatch.setattr(native, "__file__", str(tmp_path / "kernels" / "native" / "__init__.py"))
    native._loaded.cache_clear()
    try:
        assert "(no module named buttress._C_torch_2_99)" in native.why_not()
        for version in ("2_11", "2_15"):
            (tmp_path / f"_C_torch_{version}.abi3.so").touch()
        native._loaded.cache_clear()
        assert "(it was built for torch 2.11 and 2.15, and torch 2.99.1+cu999 is installed)" in native.why_not()
    finally:
        native._loaded.cache_clear()


@pytest.mark.parametrize(("version", "suffix"), [("2.11.0", "2_11"), ("2.11.1+cpu", "2_11"), ("2.15.0a0", "2_15")])
def test_the_build_for_the_minor_version_of_torch_is_loaded(version: str, suffix: str, monkeypatch: pytest.MonkeyPatch):
    names: list[str] = []
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(native, "import_module", lambda name: names.append(name) or os)
    monkeypatch.setattr(native, "_OPERATORS", ())
    monkeypatch.setattr(native.fakes, "NAMES", ())
    monkeypatch.setattr(native, "_register_fakes", lambda: None)
    native._loaded.cache_clear()
    try:
        assert native._loaded() is os
        assert names == [f"buttress._C_torch_{suffix}"]
    finally:
        native._loaded.cache_clear()


def test_an_extension_of_another_version_counts_as_absent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "import_module", lambda name: os)  # any module with a file
    monkeypatch.setattr(native, "_OPERATORS", ("median_of_fishes",))
    native._loaded.cache_clear()
    try:
        assert native.operations() == {}
        assert "lacks median_of_fishes: it was built from another version of buttress" in native.why_not()
    finally:
        native._loaded.cache_clear()


def test_status_says_the_backend_in_force():
    with use_backend("torch"):
        assert status()["backend"] == "torch"


def compiler() -> str | None:
    configured = (os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++").split()[0]
    return shutil.which(configured) or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@pytest.fixture
def facts() -> dict[str, str]:
    actual = native.build_facts()
    if actual is None:
        if os.environ.get("CI") == "true" and compiler():
            pytest.fail(f"CI has the C++ compiler {compiler()}, and yet: {native.why_not()}")
        pytest.skip(f"no compiled extension: {native.why_not()}")
    return actual


def test_the_extension_says_what_it_was_built_with(facts: dict[str, str]):
    assert {"compiler", "C++ standard", "built against torch", "CUDA"} <= set(facts)
    assert all(isinstance(value, str) and value for value in facts.values())
    assert int(facts["C++ standard"]) >= 17
    assert facts["CUDA"] in ("yes", "no")
    assert ("nvcc" in facts) == ("CUDA architectures" in facts) == (facts["CUDA"] == "yes")


def test_the_extension_was_built_against_this_torch(facts: dict[str, str]):
    assert facts["built against torch"].split("+")[0] == torch.__version__.split("+")[0]


RUNTIMES = """
import re, torch

def runtimes():
    with open("/proc/self/maps") as maps:
        return set(re.findall(r"/.*/lib(?:gomp|iomp|omp)\\S*", maps.read()))

before = runtimes()
from buttress.kernels import native
assert native.build_facts() is not None, native.why_not()
print(len(before), *(runtimes() - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; there is no OpenMP in builds for other systems")
def test_the_extension_brings_no_second_openmp_runtime(facts: dict[str, str]):
    """It would have threads of its own, beside torch's, and another number of them."""
    command = [sys.executable, "-c", RUNTIMES]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert process.stdout.split() == ["1"], process.stdout + process.stderr


def test_status_shows_every_build_fact(facts: dict[str, str]):
    shown = kernels.status()
    assert shown["extension"] == "loaded"
    assert facts.items() <= shown.items()
    assert shown["compiled operations"] == (", ".join(native.operations()) or "none in this version")
