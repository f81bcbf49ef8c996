"""The text of a file of plugins, in every encoding that Python itself would take, and what is none."""

from pathlib import Path

import pytest

from buttress.components.construct import choose
from buttress.components.place import Place
from buttress.components.plugins_file import PluginsFile, read_plugins_file
from buttress.components.sources import Source
from buttress.errors import ConfigError, PluginError
from buttress.storage.run_folder import RunFolder

SOURCE = '''"""Of André."""
from buttress import hookimpl

class Mine:
    said = "é"

    @hookimpl
    def adjust_grads(self): ...
'''

TEXTS = {
    "utf-8": SOURCE.encode(),
    "byte order mark": b"\xef\xbb\xbf" + SOURCE.encode(),
    "byte order mark and declared": b"\xef\xbb\xbf# -*- coding: utf-8 -*-\n" + SOURCE.encode(),
    "declared latin-1": b"# -*- coding: latin-1 -*-\n" + SOURCE.encode("latin-1"),
    "declared in the second line": b"#!/usr/bin/env python\n# vim: set fileencoding=cp1252 :\n"
    + SOURCE.encode("cp1252"),
    "carriage returns": SOURCE.replace("\n", "\r\n").encode(),
    "old carriage returns": SOURCE.replace("\n", "\r").encode(),
    "no last newline": SOURCE.rstrip().encode(),
}


@pytest.mark.parametrize("raw", TEXTS.values(), ids=TEXTS)
def test_a_file_is_read_as_python_reads_it_and_kept_byte_for_byte(raw: bytes, tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_bytes(raw)
    file = read_plugins_file(path)
    (cls, source) = file.components["mine"]
    assert cls.said == "é"
    assert source.version == f"sha256:{file.sha256[:12]}"
    folder = RunFolder(tmp_path / "run")
    folder.create("", {}, {file.name: file.source})
    assert (folder.path / "mine.py").read_bytes() == raw
    again = read_plugins_file(folder.path / "mine.py")
    assert again.sha256 == file.sha256
    assert PluginsFile(path, again.text).components["mine"][0].said == "é"  # as a job of a comparison gets it


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"import os\nx = '\0'\n", r"mine\.py: expected Python source .*: line 2 holds a NUL; save the file as UTF-8"),
        (SOURCE.encode("utf-16"), r"mine\.py: expected Python source .*: line 1 holds a NUL"),
        (SOURCE.encode("latin-1"), r"mine\.py: expected Python source .*: .*invalid or missing encoding declaration"),
        (b"# coding: nonsense\n", r"mine\.py: expected Python source .*: unknown encoding"),
        (b"\xef\xbb\xbf# coding: latin-1\n", r"mine\.py: expected Python source .*: encoding problem"),
        (b"# coding: ascii\n" + SOURCE.encode(), r"mine\.py: expected Python source .*: .*ascii"),
    ],
)
def test_bytes_that_are_no_python_source_are_refused_in_one_line(raw: bytes, message: str, tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=message) as caught:
        read_plugins_file(path)
    assert "\n" not in str(caught.value)


def test_the_file_is_compiled_as_it_stands_without_futures_of_ours(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE + "    value: int = 3\n")
    assert read_plugins_file(path).components["mine"][0].__annotations__ == {"value": int}


def test_a_mistake_in_the_file_is_told_with_its_line(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_bytes(b"\xef\xbb\xbfimport os\r\nbroken(:\r\n")
    with pytest.raises(PluginError, match=r"mine\.py: cannot be executed: SyntaxError: invalid syntax \(mine\.py:2\)"):
        _ = read_plugins_file(path).components


# Names of a file among the known ones


def local() -> dict[str, tuple[type, Source]]:
    space: dict[str, type] = {}
    exec(
        "from buttress import hookimpl\n"
        "class Robust:\n    @hookimpl\n    def adjust_grads(self): ...\n"
        "class Sticky:\n    @hookimpl\n    def generate_adv(self, batch): ...\n",
        space,
    )
    names = {"robust": "Robust", "sticky": "Sticky"}
    return {name: (space[cls], Source("plugin", name, cls, "f.py", "1")) for name, cls in names.items()}


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("plugin", "robst", "did you mean 'robust'"),
        ("plugin", "sticki", "did you mean 'sticky'"),
        ("attack", "sticki", "did you mean 'sticky'"),
        ("plugin", "qqqqqq", "known: .*robust.*sticky"),
        ("plugin", "pdg", "did you mean 'pgd'"),
    ],
)
def test_classes_of_the_file_are_among_the_known_names(kind: str, name: str, hint: str):
    with pytest.raises(PluginError, match=rf"unknown {kind} '{name}'; {hint}"):
        choose(kind, name, local=local())


def test_what_is_no_attack_is_no_known_attack():
    with pytest.raises(PluginError, match="unknown attack 'qqqqqq'; known: ") as caught:
        choose("attack", "qqqqqq", local=local())
    assert "robust" not in str(caught.value)


def test_a_module_beside_the_file_is_said_not_to_be_imported(tmp_path: Path):
    (tmp_path / "helper_beside.py").touch()
    (tmp_path / "mine.py").write_text("import helper_beside\n")
    with pytest.raises(PluginError, match=r"'helper_beside' \(mine\.py:1\); helper_beside\.py lies beside it, but a "):
        _ = read_plugins_file(tmp_path / "mine.py").components


def test_a_missing_file_is_sought_beside_the_config_only_where_a_config_names_it(tmp_path: Path):
    path = tmp_path / "none.py"
    with pytest.raises(ConfigError, match=r"none.py: cannot be read: No such file or directory$"):
        read_plugins_file(path)
    with pytest.raises(ConfigError, match=r"^mine.plugins_file: .*; it lies beside the config$") as caught:
        read_plugins_file(path, Place("mine") / "plugins_file")
    assert caught.value.key == "mine.plugins_file"
