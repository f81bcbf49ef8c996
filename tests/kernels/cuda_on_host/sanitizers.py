"""Run the checks in a process of their own, under ThreadSanitizer or AddressSanitizer where asked."""

import os
import subprocess
import sys
from pathlib import Path

from tests.kernels.cuda_on_host.build import ROOT, Build, compiler, kernels, with_fault
from tests.kernels.cuda_on_host.faults import SHORTER, Fault

RUNTIMES = {"thread": "libtsan.so", "address": "libasan.so"}
OPTIONS = {"TSAN_OPTIONS": "halt_on_error=1:exitcode=66", "ASAN_OPTIONS": "detect_leaks=0"}


def runtime(sanitizer: str) -> Path:
    """The library that has to be loaded before all others; a relative path where the compiler has none."""
    command = [compiler(), f"-print-file-name={RUNTIMES[sanitizer]}"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def run(library: Path, *checks: str, sanitizer: str = "") -> subprocess.CompletedProcess[str]:
    """The process that has run these checks of ``quick.py``; it failed where one did or a sanitizer found something."""
    preload = {"LD_PRELOAD": str(runtime(sanitizer))} if sanitizer else {}
    command = [sys.executable, "-m", "tests.kernels.cuda_on_host", str(library), *checks]
    environment = {**os.environ, **OPTIONS, **preload}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def sanitized(family: str, sanitizer: str) -> subprocess.CompletedProcess[str]:
    """The family's checks on small grids, without faults."""
    library = Build(with_fault(kernels(), *SHORTER), sanitizer=sanitizer, families=[family]).library()
    return run(library, f"{family}-small", sanitizer=sanitizer)


def faulty(fault: Fault) -> subprocess.CompletedProcess[str]:
    """The checks of the family with the fault."""
    texts = with_fault(with_fault(kernels(), *SHORTER), fault.path, fault.old, fault.new)
    sanitizer = "thread" if fault.race else ""
    library = Build(texts, sanitizer=sanitizer, flags=["-O0"], families=[fault.family]).library()
    return run(library, f"{fault.family}-small" if fault.race else fault.family, sanitizer=sanitizer)
