"""``buttress plugins new --into``: add a module, its tests and its entry points to a package that exists."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

from buttress.errors import PluginError
from buttress.storage.files import make_folder, write_text

# Folders with an __init__.py that are no packages to be installed.
_OTHERS = ("tests", "test", "docs", "examples", "build", "dist")


def extend(
    folder: Path, plugin: str, groups: Iterable[str], cls: str, module: str, checks: Callable[[str], str]
) -> None:
    """Write the module and the tests of ``plugin``, and name it in ``pyproject.toml``, all of it or nothing.

    Args:
        folder: folder of the package, with its ``pyproject.toml``.
        plugin: name of the plugin.
        groups: entry-point groups that are to name it.
        cls: name of its class.
        module: text of its module.
        checks: gives the text of its tests for the dotted name of the module.

    Raises:
        PluginError: there is no such package, it has the name or the files already, or its form is unknown.
        StorageError: a file cannot be written.
    """
    path = folder / "pyproject.toml"
    try:
        before = path.read_text(encoding="utf-8")
        project = tomllib.loads(before)
    except (OSError, ValueError) as problem:
        raise PluginError(f"{path}: cannot be read: {problem}; --into expects the folder of a package") from None
    dotted, file = _place(folder, path, project, plugin)
    after = _named(path, before, groups, plugin, f"{dotted}:{cls}")
    if "." not in dotted:
        after = _listed(path, after, dotted)
    files = {file: module, folder / "tests" / f"test_{plugin}.py": checks(dotted)}
    for each in files:
        if each.exists():
            raise PluginError(f"{each} exists, and nothing is overwritten; choose another name")
    try:
        for each, text in files.items():
            make_folder(each.parent)
            write_text(each, text)
        write_text(path, after)
    except BaseException:
        for each in files:
            each.unlink(missing_ok=True)
        raise


def _place(folder: Path, path: Path, project: dict[str, Any], plugin: str) -> tuple[str, Path]:
    """The dotted name of the new module, and its file: in the one package that there is, or beside ``py-modules``."""
    if "name" not in project.get("project", {}):
        raise PluginError(f"{path}: has no [project] with a name; --into adds to packages that declare one")
    if "entry-points" in project["project"].get("dynamic", []):
        raise PluginError(f"{path}: its entry points are dynamic; add the plugin where they are made")
    setuptools = project.get("tool", {}).get("setuptools", {})
    if "py-modules" in setuptools:
        return f"buttress_{plugin}", folder / setuptools.get("package-dir", {}).get("", "") / f"buttress_{plugin}.py"
    packages = [
        init.parent
        for root in (folder / "src", folder)
        for init in sorted(root.glob("*/__init__.py"))
        if init.parent.name not in _OTHERS
    ]
    if len(packages) != 1:
        names = ", ".join(package.relative_to(folder).as_posix() for package in packages) or "none"
        raise PluginError(
            f"{folder}: expected one package (a folder with __init__.py, in src/ or here) or py-modules of "
            f"[tool.setuptools] to put the module into, got {names}; make the plugin apart, and move it"
        )
    return f"{packages[0].name}.{plugin}", packages[0] / f"{plugin}.py"


def _named(path: Path, text: str, groups: Iterable[str], name: str, target: str) -> str:
    """The text of a ``pyproject.toml`` whose entry points of each group have one more."""
    line = f'{name} = "{target}"\n'
    for group in groups:
        expected = tomllib.loads(text)
        points = expected["project"].setdefault("entry-points", {}).setdefault(group, {})
        if name in points:
            raise PluginError(f"{path}: names {name!r} in {group!r} already; choose another name")
        points[name] = target
        title = f'[project.entry-points."{group}"]'
        header = re.search(rf"^[ \t]*{re.escape(title)}[ \t]*(#.*)?\n", text, flags=re.M)
        at = header.end() if header else len(text)
        added = line if header else f"\n{title}\n{line}"
        text = _expected(path, text[:at] + added + text[at:], expected, f"{title} with {line.strip()}")
    return text


def _listed(path: Path, text: str, module: str) -> str:
    """The text of a ``pyproject.toml`` whose ``py-modules`` list one more."""
    expected = deepcopy(tomllib.loads(text))
    expected["tool"]["setuptools"]["py-modules"].append(module)
    # The entry goes behind the last one of the list, which may have a comma and a line of its own.
    changed = re.sub(
        r"^([ \t]*py-modules[ \t]*=[ \t]*\[[^\]#]*?)(,?)([ \t\n]*)\]",
        lambda match: f'{match[1]}{"" if match[1].endswith("[") else ", "}"{module}"{match[2]}{match[3]}]',
        text,
        count=1,
        flags=re.M,
    )
    return _expected(path, changed, expected, f'py-modules of [tool.setuptools] with "{module}"')


def _expected(path: Path, text: str, expected: dict[str, Any], addition: str) -> str:
    """``text`` if it says what is ``expected``, read as TOML."""
    try:
        if tomllib.loads(text) == expected:
            return text
    except ValueError:
        pass
    raise PluginError(f"{path}: is written in a form that cannot be extended; write {addition} by hand, then repeat")
