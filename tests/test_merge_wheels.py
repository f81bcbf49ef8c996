"""One wheel out of several that differ in the build of the extension, with made-up builds."""

import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest
from merge_wheels import merge
from wheel.wheelfile import WheelFile

METADATA = "Metadata-Version: 2.1\nName: buttress\nVersion: 0.1.0\nRequires-Dist: torch>=2.7\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: setuptools ({})\nRoot-Is-Purelib: false\nTag: {}\n"
ENTRY_POINTS = "[console_scripts]\nbuttress = buttress.cli:main\n"


def make_wheel(
    folder: Path,
    *builds: str,
    module: str = "answer = 42\n",
    metadata: str = METADATA,
    generator: str = "81.0.0",
    tag: str = "cp311-abi3-linux_x86_64",
) -> Path:
    files = {
        "buttress/__init__.py": module,
        "buttress-0.1.0.dist-info/METADATA": metadata,
        "buttress-0.1.0.dist-info/WHEEL": WHEEL.format(generator, tag),
        "buttress-0.1.0.dist-info/entry_points.txt": ENTRY_POINTS,
        **{f"buttress/_C_torch_{build}.abi3.so": f"compiled for {build}" for build in builds},
    }
    for name, text in files.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if path.suffix == ".so" else 0o644)
    with WheelFile(folder / f"buttress-0.1.0-{tag}.whl", "w") as wheel:
        wheel.write_files(str(folder / "tree"))
    return folder / f"buttress-0.1.0-{tag}.whl"


def installed(wheel: Path, folder: Path) -> Distribution:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--target", str(folder), str(wheel)], check=True, timeout=120)
    return PathDistribution(folder / "buttress-0.1.0.dist-info")


def test_the_wheel_holds_every_build_and_installs(tmp_path: Path):
    wheels = [
        make_wheel(tmp_path / "one", "2_11"),
        make_wheel(tmp_path / "two", "2_15", generator="84.0.0"),
        make_wheel(tmp_path / "three", "2_13", "2_14"),
    ]
    wheel = merge(wheels, tmp_path / "merged")
    assert wheel == tmp_path / "merged" / "buttress-0.1.0-cp311-abi3-linux_x86_64.whl"
    distribution = installed(wheel, tmp_path / "site")
    assert distribution.metadata["Version"] == "0.1.0"
    assert distribution.metadata.get_all("Requires-Dist") == ["torch>=2.7"]
    assert [each.value for each in distribution.entry_points] == ["buttress.cli:main"]
    for build in ("2_11", "2_13", "2_14", "2_15"):
        file = tmp_path / "site" / "buttress" / f"_C_torch_{build}.abi3.so"
        assert file.read_text() == f"compiled for {build}"
        assert file.stat().st_mode & 0o111
    recorded = {str(file): file.hash for file in distribution.files or []}
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) <= recorded.keys()
    assert all(digest for name, digest in recorded.items() if name.endswith((".so", ".py", "METADATA")))


@pytest.mark.parametrize(
    ("different", "file"),
    [
        ({"module": "answer = 43\n"}, "buttress/__init__.py"),
        ({"metadata": METADATA.replace("2.7", "2.8")}, "buttress-0.1.0.dist-info/METADATA"),
    ],
)
def test_wheels_of_different_sources_are_refused(tmp_path: Path, different: dict[str, str], file: str):
    wheels = [make_wheel(tmp_path / "one", "2_11"), make_wheel(tmp_path / "two", "2_15", **different)]
    with pytest.raises(ValueError, match=f"two.* are not of the same sources: {file}$"):
        merge(wheels, tmp_path)


def test_a_file_that_one_wheel_lacks_is_refused(tmp_path: Path):
    first = make_wheel(tmp_path / "one", "2_11")
    (tmp_path / "two" / "tree" / "buttress").mkdir(parents=True)
    (tmp_path / "two" / "tree" / "buttress" / "more.py").touch()
    second = make_wheel(tmp_path / "two", "2_15")
    for wheels in ([first, second], [second, first]):
        with pytest.raises(ValueError, match=r"not of the same sources: buttress/more\.py$"):
            merge(wheels, tmp_path)


def test_one_build_twice_and_none_are_refused(tmp_path: Path):
    wheels = [make_wheel(tmp_path / "one", "2_11"), make_wheel(tmp_path / "two", "2_11")]
    with pytest.raises(ValueError, match=r"two.* has the build _C_torch_2_11\.abi3\.so, as does a wheel before it$"):
        merge(wheels, tmp_path)
    for order in (1, -1):
        with pytest.raises(ValueError, match=r"none.* has no build of the extension$"):
            merge([wheels[0], make_wheel(tmp_path / f"none{order}")][::order], tmp_path)


def test_wheels_of_different_tags_are_refused(tmp_path: Path):
    wheels = [make_wheel(tmp_path / "one", "2_11"), make_wheel(tmp_path / "two", "2_15", tag="cp312-abi3-linux_x86_64")]
    with pytest.raises(ValueError, match=r"^expected wheels of one name, got \S+-cp311-\S+, \S+-cp312-"):
        merge(wheels, tmp_path)
    with pytest.raises(ValueError, match="expected wheels of one name, got none"):
        merge([], tmp_path)
