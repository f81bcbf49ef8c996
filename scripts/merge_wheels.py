"""Merge wheels that differ in the builds of the extension into one that holds all of these.

``python scripts/merge_wheels.py FOLDER WHEEL...`` writes it into FOLDER. A build is named by its version of torch, and
``buttress.kernels.native`` loads the one that fits. Everything else has to be equal, byte for byte, so that no wheel is
made of two states of the sources. Needs the package ``wheel``, whose command unpacks, packs and writes RECORD.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

BUILDS = "buttress/_C_torch_*.so"
WRITTEN_ANEW = ("*.dist-info/RECORD", "*.dist-info/WHEEL")  # the latter names the version of setuptools


def merge(wheels: Sequence[Path], folder: Path) -> Path:
    """Write the wheel of all builds, and return its path.

    Args:
        wheels: wheels of one name, that is one version of buttress and one tag, each with one build or several.
        folder: folder to write into; created where it is missing.

    Raises:
        ValueError: a wheel has no build, or one that another has too; or the wheels differ in anything else.
    """
    names = {wheel.name for wheel in wheels}
    if len(names) != 1:
        raise ValueError(f"expected wheels of one name, got {', '.join(sorted(names)) or 'none'}")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as place:
        first, *others = (_unpacked(wheel, Path(place, str(index))) for index, wheel in enumerate(wheels))
        _expect_builds(first, wheels[0])
        for tree, wheel in zip(others, wheels[1:], strict=True):
            _expect_builds(tree, wheel)
            _expect_equal(first, tree, f"{wheels[0]} and {wheel}")
            for build in tree.glob(BUILDS):
                target = first / build.relative_to(tree)
                if target.exists():
                    raise ValueError(f"{wheel} has the build {build.name}, as does a wheel before it")
                build.rename(target)
        _run("pack", str(first), "--dest-dir", str(folder))
    return folder / names.pop()


def _unpacked(wheel: Path, place: Path) -> Path:
    _run("unpack", str(wheel), "--dest", str(place))
    (tree,) = place.iterdir()
    return tree


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "wheel", *arguments], check=True, stdout=subprocess.DEVNULL)


def _expect_builds(tree: Path, wheel: Path) -> None:
    if not list(tree.glob(BUILDS)):
        raise ValueError(f"{wheel} has no build of the extension")


def _expect_equal(one: Path, other: Path, names: str) -> None:
    files = [_shared_files(tree) for tree in (one, other)]
    different = files[0] ^ files[1]
    different |= {file for file in files[0] & files[1] if (one / file).read_bytes() != (other / file).read_bytes()}
    if different:
        raise ValueError(f"{names} are not of the same sources: {', '.join(sorted(map(str, different))[:3])}")


def _shared_files(tree: Path) -> set[Path]:
    files = (file.relative_to(tree) for file in tree.rglob("*") if file.is_file())
    return {file for file in files if not any(file.match(pattern) for pattern in (BUILDS, *WRITTEN_ANEW))}


if __name__ == "__main__":
    try:
        merge([Path(each) for each in sys.argv[2:]], Path(sys.argv[1]))
    except ValueError as problem:
        sys.exit(f"scripts/merge_wheels.py: {problem}")
