"""Compile the CUDA sources with g++ and the stand-in, each object once: its name is a hash of all that went into it."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.kernels.cuda_on_host.rewrite import rewrite

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CSRC = ROOT / "csrc"
CACHE = ROOT / "build" / "cuda_on_host"

FLAGS = (
    *("-std=c++20", "-g1", "-fPIC", "-fno-gnu-unique", "-ftls-model=initial-exec", "-U_FORTIFY_SOURCE"),
    *("-ftrivial-auto-var-init=pattern", "-ffp-contract=off", "-Wall", "-Wno-unknown-pragmas"),
)
"""One library's variables are its own; variables without a value hold garbage; nothing is fused into an FMA."""

RUNTIME = ("-O1",)

SANITIZERS = {
    "": (),
    "thread": ("-fsanitize=thread",),
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
}
"""Flags for kernels; the runtime tells the sanitizers what it does instead."""


def compiler() -> str:
    return os.environ.get("CXX", "g++")


def why_not() -> str | None:
    """Why nothing can be compiled here, or None."""
    if sys.platform != "linux":
        return f"CUDA on the host needs Linux (ucontext, mmap), not {sys.platform}"
    return None if shutil.which(compiler()) else f"CUDA on the host needs the compiler {compiler()}: not found"


def kernels() -> dict[str, str]:
    """The texts of everything that a CUDA source may include, and of the sources with kernels, by path below csrc."""
    paths = [path for path in sorted(CSRC.rglob("*")) if path.suffix in (".cu", ".cuh", ".h", ".inc")]
    return {str(path.relative_to(CSRC)): path.read_text() for path in paths if path.parent.name != "facts"}


def with_fault(texts: Mapping[str, str], path: str, old: str, new: str) -> dict[str, str]:
    """The texts with ``new`` for ``old``, which stands there once."""
    assert texts[path].count(old) == 1, f"{path}: expected {old!r} once, got {texts[path].count(old)} times"
    return {**texts, path: texts[path].replace(old, new)}


@dataclass(frozen=True)
class Build:
    """Sources, and how to compile them."""

    texts: Mapping[str, str]
    sanitizer: str = ""
    flags: Sequence[str] = ("-O1",)
    families: Sequence[str] = ("median", "lsc", "perturb")

    def library(self) -> Path:
        """The path of the library, compiled where it is not there yet."""
        CACHE.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(2) as pool, _locked():
            objects = list(pool.map(self._object, self._sources()))
        target = CACHE / f"{_hash(*map(str, objects))}.so"
        link = ["-shared", *SANITIZERS[self.sanitizer], *map(str, objects)]
        return target if target.exists() else self._compile(target, link)

    def _sources(self) -> list[tuple[str, str]]:
        """Name and text of each file to compile, the longest first: it takes longest."""
        own = {name: text for name, text in self.texts.items() if name.endswith(".cu") and self._wanted(name)}
        rewritten = [(f"csrc/{name}", rewrite(text)) for name, text in own.items()]
        runtime = sorted(f"runtime/{path.name}" for path in (HERE / "runtime").glob("*.cpp"))
        names = [*(f"entries/{family}.cpp" for family in self.families), *runtime]
        return [*rewritten, *((str((HERE / name).relative_to(ROOT)), (HERE / name).read_text()) for name in names)]

    def _wanted(self, name: str) -> bool:
        return name.partition("/")[0] in self.families

    def _object(self, source: tuple[str, str]) -> Path:
        name, text = source
        kernel = name.startswith("csrc")
        flags = [*self._flags, *(self.flags if kernel else RUNTIME), *(SANITIZERS[self.sanitizer] if kernel else ())]
        target = CACHE / f"{_hash(name, text, *flags)}.o"
        if target.exists():
            return target
        written = target.with_suffix(".cpp")
        _write(written, f'#line 1 "{name}"\n{text}')
        return self._compile(target, [*flags, "-c", str(written)])

    def _compile(self, target: Path, arguments: Sequence[str]) -> Path:
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            result = Path(folder, target.name)
            command = [compiler(), *arguments, "-o", str(result)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-4000:]}")
            return result.replace(target)

    @property
    def _flags(self) -> list[str]:
        folders = [HERE / "include", HERE / "runtime", self._includes]
        define = [f"-DON_HOST_{self.sanitizer}"] if self.sanitizer else []
        return [*FLAGS, *define, *(f"-I{folder}" for folder in folders)]

    @cached_property
    def _includes(self) -> Path:
        """A copy of the headers, rewritten as sources are: they may hold kernels."""
        headers = {name: rewrite(text) for name, text in self.texts.items() if not name.endswith(".cu")}
        own = [path.read_text() for folder in ("include", "runtime") for path in sorted((HERE / folder).rglob("*.h"))]
        folder = CACHE / f"csrc-{_hash(*headers, *headers.values(), *own)}"
        for name, text in headers.items():
            _write(folder / name, f'#line 1 "csrc/{name}"\n{text}')
        return folder


@contextmanager
def _locked() -> Iterator[None]:
    """One process compiles at a time; the next one finds what it has made."""
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, text: str) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]
