"""The extension is built when torch and a C++ compiler are there; the list of packages.

It is called ``buttress._C_torch_2_11``, by the minor version of torch that it is built for, and serves Python 3.11 and
all later versions.

``BUTTRESS_EXTENSION=0|1|auto``: never, always (fail where it cannot be built), or when torch and a compiler are found;
auto never fails an installation: what does not compile is a notice, and the package is pure Python.
``BUTTRESS_CUDA=0|1|auto``: likewise for its CUDA part; auto looks for a toolkit (of torch's major version), not a GPU.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from setuptools import Extension, find_namespace_packages, setup
from setuptools.command.editable_wheel import editable_wheel

# With torch there, this builds the extension; build isolation would hide torch.
INSTALL = 'pip install "setuptools>=77" ninja && pip install --no-build-isolation .'

# at::parallel_for is a plain loop without it. Apple's compiler has none.
OPENMP = ["-fopenmp"] if sys.platform == "linux" else []


def switch(name: str) -> str:
    value = os.environ.get(name, "auto")
    if value not in ("0", "1", "auto"):
        sys.exit(f"{name}: expected 0, 1 or auto, got {value!r}")
    return value


def find_cuda() -> None:
    """Set CUDA_HOME to a whole toolkit; torch takes the folder above any nvcc, which may be a wrapper script."""
    nvcc = shutil.which("nvcc")
    places = [Path(nvcc).resolve().parent.parent] if nvcc else []
    for place in (*places, Path("/usr/local/cuda")):
        if "CUDA_HOME" not in os.environ and list(place.glob("lib*/libcudart.so")):
            os.environ["CUDA_HOME"] = str(place)


def toolkit_fits(home: str | None) -> bool:
    """Whether there is a toolkit of the major version that torch was built with; torch refuses every other one."""
    import torch

    if home is None or torch.version.cuda is None:
        return False
    try:
        nvcc = subprocess.run([Path(home, "bin", "nvcc"), "--version"], capture_output=True, text=True, check=False)
    except OSError:  # CUDA_HOME names a folder without a compiler
        return False
    release = re.search(r"release (\d+)\.", nvcc.stdout)
    fits = release is not None and release.group(1) == torch.version.cuda.partition(".")[0]
    if not fits:
        notice(f"the CUDA toolkit in {home} is not of torch's version {torch.version.cuda}: CPU kernels only")
    return fits


def notice(text: str) -> None:
    print(f"buttress: {text}", file=sys.stderr)


def sources(with_cuda: bool) -> list[str]:
    """The files to compile. Those of the CUDA part are ``*.cu`` and ``cuda*.cpp``."""
    files = (*Path("csrc").rglob("*.cpp"), *Path("csrc").rglob("*.cu"))
    return [str(file) for file in files if with_cuda or not (file.suffix == ".cu" or file.name.startswith("cuda"))]


def module(with_cuda: bool) -> Extension:
    """The extension, with its CUDA part or without."""
    import torch
    from torch.utils import cpp_extension

    major, minor = torch.__version__.split(".")[:2]
    kind = cpp_extension.CUDAExtension if with_cuda else cpp_extension.CppExtension
    return kind(
        f"buttress._C_torch_{major}_{minor}",
        sources=sources(with_cuda),
        include_dirs=[str(Path("csrc").resolve())],
        define_macros=[("BUTTRESS_WITH_CUDA", "1")] if with_cuda else [],
        extra_compile_args={"cxx": ["-O3", "-g0", "-std=c++20", *OPENMP], "nvcc": ["-O3", "-std=c++20"]},
        extra_link_args=OPENMP,
        py_limited_api=True,
    )


def builder(may_drop_cuda: bool, may_drop_all: bool) -> type:
    """The command ``build_ext``, which goes on without what does not compile, as far as it may."""
    from torch.utils.cpp_extension import BuildExtension

    class Build(BuildExtension):
        def build_extensions(self) -> None:
            build = super().build_extensions
            try:
                try:
                    build()
                except Exception as problem:
                    if not may_drop_cuda:
                        raise
                    notice(f"the CUDA part does not compile ({problem}): CPU kernels only")
                    for extension in self.extensions:  # in place: setuptools has noted names and folders in it
                        vars(extension).update(vars(module(with_cuda=False)))
                    build()
            except Exception as problem:
                if not may_drop_all:
                    raise
                self.extensions = []
                notice(f"the extension does not compile: pure-Python package (see buttress doctor)\n{problem}")

    return Build


def extension() -> dict[str, Any]:
    """The extension, and the command that builds it, as keyword arguments of ``setup``; or none."""
    wanted = switch("BUTTRESS_EXTENSION")
    if wanted == "0":
        return {}
    find_cuda()
    try:
        from torch.utils import cpp_extension
    except Exception as problem:  # a broken torch raises anything
        if wanted == "1":
            sys.exit(f"BUTTRESS_EXTENSION=1 needs torch ({problem}): {INSTALL}")
        notice("torch is not visible to this build: pure-Python package (see buttress doctor)")
        return {}
    compiler = os.environ.get("CXX", "c++")
    if wanted == "auto" and shutil.which(compiler) is None:
        notice(f"no C++ compiler {compiler!r}: pure-Python package (see buttress doctor)")
        return {}
    cuda = switch("BUTTRESS_CUDA")
    with_cuda = cuda == "1" or (cuda == "auto" and toolkit_fits(cpp_extension.CUDA_HOME))
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    os.environ.setdefault("MAX_JOBS", "2")
    build = builder(may_drop_cuda=with_cuda and cuda == "auto", may_drop_all=wanted == "auto" and cuda != "1")
    wheel = {"bdist_wheel": {"py_limited_api": "cp311"}}
    return {"ext_modules": [module(with_cuda)], "cmdclass": {"build_ext": build}, "options": wheel}


class PlainPaths:
    """A strategy of ``editable_wheel`` that also puts ``core`` and ``plugins`` on the path.

    Its own is an import hook, asked after the path, so that any folder called ``buttress`` beside a script (every
    ``git clone`` makes one) would be imported in our place, as an empty namespace package.
    """

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy

    def __enter__(self) -> Self:
        self._strategy.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self._strategy.__exit__(*problem)

    def __call__(self, wheel: Any, files: list[str], mapping: Mapping[str, str]) -> None:
        self._strategy(wheel, files, mapping)
        paths = (Path(folder).resolve() for folder in ("core", "plugins"))
        wheel.writestr("__editable__.buttress.paths.pth", "".join(f"{path}\n" for path in paths).encode())


class EditableWheel(editable_wheel):
    """The command that ``pip install --editable`` runs."""

    def _select_strategy(self, *arguments: Any) -> PlainPaths:
        return PlainPaths(super()._select_strategy(*arguments))


# Here, because only code can add to what is found: configs/ is installed as the package of our recipes.
RECIPES = ["buttress_recipes", *(f"buttress_recipes.{folder}" for folder in find_namespace_packages("configs"))]
PACKAGES = [*find_namespace_packages("core"), *find_namespace_packages("plugins"), *RECIPES]

built = extension()
commands = {"editable_wheel": EditableWheel, **built.pop("cmdclass", {})}
setup(packages=PACKAGES, cmdclass=commands, **built)
