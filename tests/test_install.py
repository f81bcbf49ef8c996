"""What ``setup.py`` makes of compilers that fail: stand-ins for them in the place of minutes of compilation."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
import torch

from buttress.authoring.scaffold import install_command
from buttress.doctor import installation_facts
from buttress.kernels import native

ROOT = Path(__file__).parent.parent

WORKS = """#!/usr/bin/env bash
# A compiler that makes empty files.
while [ $# -gt 0 ]; do
  case $1 in -o | -MF) : >"$2" ;; --version) echo "Cuda compilation tools, release RELEASE, V1" ;; esac
  shift
done
"""
FAILS = """#!/usr/bin/env bash
case $* in *--version*) echo "Cuda compilation tools, release RELEASE, V1"; exit 0 ;; esac
echo "error: no good" >&2
exit 1
"""


def tool(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("RELEASE", f"{torch.version.cuda or '12.0'}"))
    path.chmod(0o755)
    return path


def build(tmp_path: Path, cxx: str | Path, **switches: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """``build_ext`` with that compiler; what it said, and the names of the extensions it made."""
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path / "lib")]
    found = subprocess.run(
        [*command, "--build-temp", str(tmp_path / "temp")],
        cwd=ROOT,
        env={**os.environ, "CXX": str(cxx), "CC": str(cxx), "CUDA_HOME": str(tmp_path / "cuda"), **switches},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return found, [path.name for path in (tmp_path / "lib").rglob("*.so")]


def cuda(tmp_path: Path, text: str) -> None:
    if torch.version.cuda is None:
        pytest.skip("torch was built without CUDA: no toolkit fits it")
    tool(tmp_path / "cuda" / "bin" / "nvcc", text)


def test_auto_goes_on_without_an_extension_that_does_not_compile(tmp_path: Path):
    found, made = build(tmp_path, tool(tmp_path / "c++", FAILS), BUTTRESS_EXTENSION="auto", BUTTRESS_CUDA="0")
    assert found.returncode == 0, found.stderr
    assert "buttress: the extension does not compile: pure-Python package" in found.stderr
    assert made == []


def test_always_fails_where_it_does_not_compile(tmp_path: Path):
    found, _ = build(tmp_path, tool(tmp_path / "c++", FAILS), BUTTRESS_EXTENSION="1", BUTTRESS_CUDA="0")
    assert found.returncode != 0


def test_a_missing_compiler_or_toolkit_is_a_notice(tmp_path: Path):
    found, made = build(tmp_path, "no-such-compiler", BUTTRESS_EXTENSION="auto", BUTTRESS_CUDA="auto")
    assert found.returncode == 0, found.stderr
    assert "no C++ compiler 'no-such-compiler': pure-Python package" in found.stderr
    found, made = build(tmp_path, tool(tmp_path / "c++", WORKS), BUTTRESS_EXTENSION="auto", BUTTRESS_CUDA="auto")
    assert found.returncode == 0, found.stderr
    assert len(made) == 1


@pytest.mark.parametrize("extension", ["auto", "1"])
def test_a_cuda_part_that_does_not_compile_is_left_out(tmp_path: Path, extension: str):
    cuda(tmp_path, FAILS)
    found, made = build(tmp_path, tool(tmp_path / "c++", WORKS), BUTTRESS_EXTENSION=extension, BUTTRESS_CUDA="auto")
    assert found.returncode == 0, found.stderr
    assert "buttress: the CUDA part does not compile" in found.stderr
    assert len(made) == 1


def test_a_cuda_part_that_was_asked_for_is_not_left_out(tmp_path: Path):
    cuda(tmp_path, FAILS)
    found, _ = build(tmp_path, tool(tmp_path / "c++", WORKS), BUTTRESS_EXTENSION="auto", BUTTRESS_CUDA="1")
    assert found.returncode != 0


def test_nothing_is_left_when_neither_compiles(tmp_path: Path):
    cuda(tmp_path, FAILS)
    found, made = build(tmp_path, tool(tmp_path / "c++", FAILS), BUTTRESS_EXTENSION="auto", BUTTRESS_CUDA="auto")
    assert found.returncode == 0, found.stderr
    assert made == []


# The command that is given to users


def test_every_install_line_names_all_that_the_build_needs():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    names = [re.split(r"[<>=]", each)[0] for each in needed]
    assert names == ["setuptools", "ninja"]
    readme = (ROOT / "README.md").read_text()
    for text in (native.INSTALL, native.CURE, readme, (ROOT / "setup.py").read_text()):
        assert 'setuptools>=77" ninja' in text
    assert 'pip install "setuptools>=77" && ' in install_command("folder")


def test_doctor_gives_the_whole_line_where_the_extension_is_absent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("buttress.kernels.status", lambda: {"extension": "absent"})
    assert any(native.INSTALL in advice for advice in installation_facts()["advice"])


# Editable


def test_a_folder_called_buttress_does_not_hide_an_editable_install(tmp_path: Path):
    source = tmp_path / "source"
    for name in ("core", "plugins", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    packages = tmp_path / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    seen = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (packages / "zz-seen.pth").write_text("".join(f"{path}\n" for path in seen))
    subprocess.run(
        [*pip, "--no-build-isolation", "--editable", str(source)],
        env={**os.environ, "BUTTRESS_EXTENSION": "0"},
        check=True,
        timeout=300,
    )
    (tmp_path / "shadow" / "buttress").mkdir(parents=True)
    script = tmp_path / "shadow" / "mine.py"
    script.write_text("import buttress_plugins, buttress_recipes\nimport buttress\nprint(buttress.__file__)\n")
    for command in ([str(script)], ["-c", script.read_text()]):
        found = subprocess.run(
            [str(python), *command], cwd=script.parent, capture_output=True, text=True, timeout=120, check=False
        )
        assert found.stdout.strip() == str(source / "core" / "buttress" / "__init__.py"), found.stderr
