"""The extension: ``buttress._C`` is built when torch and a C++ compiler are there. And the list of packages.

``BUTTRESS_EXTENSION=0|1|auto``: never, always (fail where it cannot be built), or when torch and a compiler are found.
``BUTTRESS_CUDA=0|1|auto``: likewise for its CUDA part; auto looks for a toolkit (of torch's major version), not a GPU.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import find_namespace_packages, setup

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
    said = subprocess.run([Path(home, "bin", "nvcc"), "--version"], capture_output=True, text=True, check=False).stdout
    release = re.search(r"release (\d+)\.", said)
    fits = release is not None and release.group(1) == torch.version.cuda.partition(".")[0]
    if not fits:
        print(f"buttress: the CUDA toolkit in {home} is not of torch's version {torch.version.cuda}: CPU kernels only")
    return fits


def extension() -> dict[str, object]:
    """Keyword arguments of ``setup`` for the extension, or none."""
    wanted = switch("BUTTRESS_EXTENSION")
    if wanted == "0":
        return {}
    find_cuda()
    try:
        from torch.utils import cpp_extension
    except ImportError as problem:
        if wanted == "1":
            sys.exit(f"BUTTRESS_EXTENSION=1 needs torch ({problem}); use pip install --no-build-isolation .")
        print("buttress: torch is not visible to this build: pure-Python package (see buttress doctor)")
        return {}
    compiler = os.environ.get("CXX", "c++")
    if wanted == "auto" and shutil.which(compiler) is None:
        print(f"buttress: no C++ compiler {compiler!r}: pure-Python package (see buttress doctor)")
        return {}
    cuda = switch("BUTTRESS_CUDA")
    with_cuda = cuda == "1" or (cuda == "auto" and toolkit_fits(cpp_extension.CUDA_HOME))
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    os.environ.setdefault("MAX_JOBS", "2")
    kind = cpp_extension.CUDAExtension if with_cuda else cpp_extension.CppExtension
    module = kind(
        "buttress._C",
        sources=[*map(str, Path("csrc").rglob("*.cpp")), *(map(str, Path("csrc").rglob("*.cu")) if with_cuda else [])],
        include_dirs=[str(Path("csrc").resolve())],
        define_macros=[("BUTTRESS_WITH_CUDA", "1")] if with_cuda else [],
        extra_compile_args={"cxx": ["-O3", "-g0", "-std=c++20", *OPENMP], "nvcc": ["-O3", "-std=c++20"]},
        extra_link_args=OPENMP,
    )
    return {"ext_modules": [module], "cmdclass": {"build_ext": cpp_extension.BuildExtension}}


# Here, because only code can add to what is found: configs/ is installed as the package of our recipes.
RECIPES = ["buttress_recipes", *(f"buttress_recipes.{folder}" for folder in find_namespace_packages("configs"))]
PACKAGES = [*find_namespace_packages("core"), *find_namespace_packages("plugins"), *RECIPES]

setup(packages=PACKAGES, **extension())
