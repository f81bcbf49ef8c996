"""Distributions with broken metadata: each is named with its folder, and hides and stops nothing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from buttress.authoring.inventory import inventory
from buttress.cli import main
from buttress.components import sources as installed_sources
from buttress.components.installed import broken_distributions, distribution_of, entry_points_of, installed_versions
from buttress.components.place import Place
from buttress.components.requirements import check_requirements
from buttress.components.sources import find, sources
from buttress.config.recipes import recipes
from buttress.doctor import installation_facts
from buttress.errors import ConfigError, PluginError

METADATA = "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n"
POINTS = "[buttress.plugins]\nanvil = acme:Anvil\n"


def files(**contents: str | bytes | None) -> Callable[[Path], None]:
    """Writes a ``dist-info`` folder; a file of which the content is None is left out."""

    def write(info: Path) -> None:
        for name, default in (("METADATA", METADATA), ("entry_points.txt", POINTS)):
            content = contents.get(name.partition(".")[0], default)
            if content is not None:
                (info / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def fifo(name: str) -> Callable[[Path], None]:
    def write(info: Path) -> None:
        files()(info)
        (info / name).unlink()
        os.mkfifo(info / name)

    return write


def folder(name: str) -> Callable[[Path], None]:
    def write(info: Path) -> None:
        files()(info)
        (info / name).unlink()
        (info / name).mkdir()

    return write


def endless(name: str) -> Callable[[Path], None]:
    def write(info: Path) -> None:
        files()(info)
        (info / name).unlink()
        (info / name).symlink_to("/dev/zero")

    return write


def huge(info: Path) -> None:
    files()(info)
    os.truncate(info / "METADATA", 10**12)


BROKEN = {
    "METADATA is not UTF-8": (files(METADATA=METADATA.encode() + b"Summary: caf\xe9\n"), "UnicodeDecodeError"),
    "a line without =": (
        files(entry_points="[buttress.plugins]\njust words\n"),
        "a line of entry_points.txt has no '='",
    ),
    "a line without = of another group": (
        files(entry_points="[console_scripts]\njust words\n"),
        "a line of entry_points.txt has no '='",
    ),
    "entry points are not UTF-8": (files(entry_points=b"[buttress.plugins]\na = \xe9:B\n"), "UnicodeDecodeError"),
    "no METADATA": (files(METADATA=None), "METADATA is missing"),
    "METADATA without a name": (files(METADATA="Metadata-Version: 2.1\n"), "METADATA is missing, or has no Name"),
    "METADATA is a pipe": (fifo("METADATA"), "METADATA is no regular file"),
    "entry points are a pipe": (fifo("entry_points.txt"), "entry_points.txt is no regular file"),
    "METADATA is a folder": (folder("METADATA"), "METADATA is no regular file"),
    "entry points are a folder": (folder("entry_points.txt"), "entry_points.txt is no regular file"),
    "METADATA has no end": (endless("METADATA"), "METADATA is no regular file"),
    "METADATA is huge": (huge, "METADATA has 1,000,000,000,000 bytes"),
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on ``sys.path`` with a sound distribution ``sound`` and the folder of a broken one, ``acme``."""
    monkeypatch.syspath_prepend(tmp_path)
    sound = tmp_path / "sound-2.0.dist-info"
    sound.mkdir()
    (sound / "METADATA").write_text("Metadata-Version: 2.1\nName: sound\nVersion: 2.0\n")
    (sound / "entry_points.txt").write_text("[buttress.plugins]\nbell = sound_module:Bell\n")
    (sound / "top_level.txt").write_text("sound_module\n")
    (tmp_path / "acme-1.0.dist-info").mkdir()
    installed_sources._listed.cache_clear()
    yield tmp_path
    installed_sources._listed.cache_clear()
    shutil.rmtree(tmp_path)


@pytest.mark.filterwarnings("ignore:Implicit None:DeprecationWarning")  # from Python 3.12 on, by importlib.metadata
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_distribution_is_named_and_hides_no_other(case: str, site: Path, monkeypatch: pytest.MonkeyPatch):
    write, problem = BROKEN[case]
    write(site / "acme-1.0.dist-info")
    (broken,) = broken_distributions(["buttress.plugins"])
    assert broken.path == str(site / "acme-1.0.dist-info")
    assert problem in broken.problem
    for disabled in ("", "bell"):
        monkeypatch.setenv("BUTTRESS_DISABLE", disabled)
        names = {source.name: source.status for source in sources("plugin")}
        assert names["bell"] == ("disabled" if disabled else "listed")
        assert "pgd" in names
        assert "anvil" not in names
    (row,) = [row for row in inventory() if row["status"].startswith("broken")]
    assert (row["distribution"], row["entry point"]) == ("acme-1.0.dist-info", broken.path)
    assert any(broken.path in advice for advice in installation_facts()["advice"])
    assert recipes("digits/at")
    with pytest.raises(PluginError, match=r"unknown plugin 'anvil'.*acme-1\.0\.dist-info.*it may have it"):
        find("plugin", "anvil")
    assert distribution_of("sound_module") == ("sound", "2.0")
    assert distribution_of("torch") == ("torch", version("torch"))
    assert installed_versions()["sound"] == "2.0"
    check_requirements(["sound>=1"], Place("here"))
    with pytest.raises(ConfigError, match="no-such-thing is not installed"):
        check_requirements(["no-such-thing"], Place("here"))


def test_a_broken_distribution_of_others_is_nobody_s_business(site: Path):
    files(METADATA=b"\xe9", entry_points="[console_scripts]\na = b:c\n")(site / "acme-1.0.dist-info")
    assert broken_distributions(["buttress.plugins"]) == []


def test_the_first_of_two_of_one_name_on_the_path_is_taken(site: Path, tmp_path_factory: pytest.TempPathFactory):
    files()(site / "acme-1.0.dist-info")
    later = tmp_path_factory.mktemp("later")
    (later / "Acme-2.0.dist-info").mkdir()
    files(METADATA=METADATA.replace("1.0", "2.0"))(later / "Acme-2.0.dist-info")
    sys.path.append(str(later))
    try:
        points = [point for point in entry_points_of("buttress.plugins") if point.name == "anvil"]
    finally:
        sys.path.remove(str(later))
    assert [(point.distribution, point.version) for point in points] == [("acme", "1.0")]


def test_the_list_shows_it_to_a_person(site: Path, capsys: pytest.CaptureFixture):
    BROKEN["a line without ="][0](site / "acme-1.0.dist-info")
    assert main(["plugins", "list"]) == 0
    _, _, broken = capsys.readouterr().out.partition("distributions that cannot be read\n")
    lines = broken.splitlines()
    assert lines[0].strip() == str(site / "acme-1.0.dist-info")
    assert " ".join(" ".join(lines[1:]).split()).startswith("why: a line of entry_points.txt has no '='")


LIBRARY = """
from buttress.components.metadata import pass_over_unreadable
pass_over_unreadable()
from importlib.metadata import distributions, entry_points, version
print(sum(point.name == "bell" for point in entry_points(group="buttress.plugins")))
print(sum(each.name == "sound" for each in distributions()), version("sound"))
"""


@pytest.mark.parametrize("case", ["a line without =", "entry points are a pipe", "METADATA is a pipe"])
def test_libraries_that_look_through_all_of_them_go_on_too(case: str, site: Path):
    BROKEN[case][0](site / "acme-1.0.dist-info")
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", LIBRARY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "1", "2.0"]
