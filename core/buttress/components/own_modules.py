"""A class or function of the user's own in a config: ``target: "package.module:Name"``, with ``args``.

A target is a model, a data set, an optimizer or a schedule in any module that Python finds: in the config's folder (or
the folder ``modules`` of the config), in the working folder, or installed. It needs no entry point. A run keeps no copy
of the module. Its manifest records the place and the sha256 of the file, and the run resumes with the same file only.
Loads no torch.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, get_type_hints
from weakref import WeakSet

from buttress.components.arguments import read_arguments, signature_parameters
from buttress.components.construct import construct
from buttress.components.installed import distribution_of
from buttress.components.own_folders import folders_in_use, let_import, module_folders
from buttress.components.own_imports import passed_over, reached
from buttress.components.place import Place
from buttress.components.signature import signature_of
from buttress.errors import InputError, ModelError, PluginError, RunFolderError, describe, nearest, raising_line


@dataclass(frozen=True)
class Kind:
    """A kind of target: the classes and functions that it takes, and the reading of their arguments.

    Args:
        error: class of the error for a target that is not of this kind.
        makes: function from a class, or the return annotation of a function, to whether it is of this kind.
        expected: description of the kind, for messages.
        strict: whether ``args`` are keyword-only, annotated parameters, checked like settings of plugins; else they are
            any arguments that the target takes.
    """

    error: type[InputError]
    makes: Callable[[type], bool]
    expected: str
    strict: bool = True


_MADE: WeakSet[Any] = WeakSet()
"""Models that were made and still exist."""


def make(
    kind: Kind,
    target: str,
    args: Mapping[str, Any],
    place: Place,
    folder: Path,
    given: Mapping[str, Any] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Make the object of ``target`` from ``args``; also return the args with every default filled in.

    Args:
        kind: expected kind of target.
        target: ``package.module:Name``.
        args: arguments from the config.
        place: place of the section in which ``target`` and ``args`` stand.
        folder: folder that is searched before the working folder and installed modules.
        given: values for parameters that the config leaves out, of functions and of all models.

    Raises:
        InputError: ``kind.error`` for a target that does not exist, cannot be imported, is of another kind, or raises;
            ConfigError for wrong args.
    """
    own = place / "target"
    component = import_target(target, own, folder, kind.error)
    expect_kind(kind, component, target, own)
    try:
        if kind.strict:
            return _constructed(kind, component, args, place, given)
        return _called(component, args, place, given, target)
    except InputError:
        raise
    except (Exception, SystemExit) as problem:
        raise kind.error(f"{own}: {target} refused args {dict(args)}: {describe_exception(problem)}") from problem


def import_target(
    target: str, place: Place | str, folder: Path | None = None, error: type[InputError] = ModelError
) -> Any:
    """Import the object that ``package.module:Name`` stands for.

    Args:
        target: text of the config.
        place: place of the target, for messages.
        folder: folder that is searched first, before the working folder and installed modules.
        error: class of the errors.

    Raises:
        InputError: an ``error``: the target has another form, its import fails, or another module of that name is
            loaded.
    """
    name, colon, attribute = target.partition(":")
    if not colon or not name or not attribute:
        raise error(f"expected package.module:Class, got {target!r}", key=place)
    folders = module_folders(folder)
    top = name.partition(".")[0]
    let_import({each.partition(".")[0] for each in reached(name, folders)}, folders)
    _expect_not_another(top, folders, place, error)
    try:
        module = import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # SystemExit too: a module must not end the program
        missing = isinstance(problem, ModuleNotFoundError) and problem.name == top
        looked = f" (looked in {', '.join(map(str, folders))}, and among what is installed)" if missing else ""
        raise error(f"{target!r} cannot be imported: {describe_exception(problem)}{looked}", key=place) from problem
    _expect_not_another(top, folders, place, error)  # a folder that was on the path before may stand behind others
    try:
        return getattr(module, attribute)
    except Exception:  # AttributeError, or what the module's own __getattr__ raises
        own = [key for key, value in vars(module).items() if inspect.isclass(value) or inspect.isfunction(value)]
        raise error(
            f"{target!r} cannot be imported: module {name} has no {attribute!r}{nearest(attribute, own)}", key=place
        ) from None


def describe_exception(problem: BaseException) -> str:
    """As ``errors.describe``, with what to do about a module that was not found although it lies there."""
    file = raising_line(problem).rpartition(":")[0]
    return f"{describe(problem)}{_remedy(problem, file or 'the module that needs it')}"


def _remedy(problem: BaseException, importer: str) -> str:
    """The cure for a module that exists and is not imported; nothing for every other exception."""
    place = passed_over(problem, folders_in_use())
    if place is None:
        return ""
    package = place.is_file() or any(place.glob("__init__.*"))
    write = f'write "import {place.name.partition(".")[0]}" in {importer}'
    return (
        f"; {place} is there, but only what an import statement names is imported from that folder: "
        f"{write if package else f'give it an __init__.py, and {write}'}"
    )


def origin(target: str, folder: Path) -> dict[str, str]:
    """The origin of the imported module of ``target``, for a run's manifest.

    Returns:
        ``target``, ``distribution`` and ``version`` of an installed module; ``target``, ``folder`` (the searched one),
        ``file`` (relative to the folder) and ``sha256`` of a file of the user's own.
    """
    name = target.partition(":")[0]
    top, file = name.partition(".")[0], getattr(sys.modules[name], "__file__", None)
    if file is None:  # no file, nothing to record
        return {"target": target}
    path = Path(file).resolve()
    home = next((each for each in module_folders(folder) if _is_directly_in(path, each, top)), None)
    owner = distribution_of(top) if home is None else None
    if owner is not None:
        return {"target": target, "distribution": owner[0], "version": owner[1]}
    home = home or path.parents[name.count(".") + (path.name == "__init__.py")]
    digest = sha256(path.read_bytes()).hexdigest()
    return {"target": target, "folder": str(home), "file": str(path.relative_to(home)), "sha256": digest}


def expect_unchanged(origins: Mapping[str, Mapping[str, str]], run: Path) -> None:
    """Refuse to go on with a run whose own modules are gone or have changed.

    Args:
        origins: section of the config to ``origin``, from the run's manifest.
        run: run folder, for messages.

    Raises:
        RunFolderError: a module is missing or has changed; names the first one.
    """
    for section, recorded in origins.items():
        if "sha256" not in recorded:
            continue
        file, places = recorded["file"], [Path(recorded["folder"]), Path.cwd()]
        path = next((place / file for place in places if (place / file).is_file()), None)
        subject = f"{run}: {section}.target is {recorded['target']}"
        if path is None:
            raise RunFolderError(
                f"{subject}, and {file} is neither in {places[0]}, where it was, nor in the working folder; put it "
                "back, or go to the folder that it is in now",
                path=run,
            )
        if sha256(path.read_bytes()).hexdigest() != recorded["sha256"]:
            raise RunFolderError(
                f"{subject}, and {path} has been changed since the run was started (its sha256 is not that of "
                "manifest.json); put it back, or start a run of the new one",
                path=path,
            )


def _is_directly_in(path: Path, folder: Path, top: str) -> bool:
    return path.is_relative_to(folder) and path.relative_to(folder).parts[0] in (top, f"{top}.py")


def _expect_not_another(top: str, folders: Sequence[Path], place: Place | str, error: type[InputError]) -> None:
    """Refuse a module in the config's folder if another module of the same name is loaded."""
    loaded = getattr(sys.modules.get(top), "__file__", None)
    spec = PathFinder.find_spec(top, [str(folder) for folder in folders if folder.is_dir()])  # else into zip files
    if loaded and spec and spec.origin and Path(loaded).resolve() != Path(spec.origin).resolve():
        raise error(
            f"module {top!r} is {spec.origin}, but another one of that name is loaded already, {loaded}; rename yours",
            key=place,
        )


def expect_kind(kind: Kind, component: Any, target: str, place: Place) -> None:
    """Refuse objects of another kind: a config must not be able to call ``os.system``.

    Raises:
        InputError: a ``kind.error``.
    """
    made = component if inspect.isclass(component) else returned_by(component)
    if not (inspect.isclass(made) and kind.makes(made)):
        raise kind.error(f"{target} is refused: expected {kind.expected}", key=place)


def returned_by(function: Any) -> Any:
    """The annotated return type of a function, or None."""
    with suppress(Exception):  # no function, or an annotation that names nothing or is no Python
        return get_type_hints(function).get("return")
    return None


def _constructed(
    kind: Kind, component: Any, args: Mapping[str, Any], place: Place, given: Mapping[str, Any] | None
) -> tuple[Any, dict[str, Any]]:
    try:
        signature_of(component)
    except PluginError as problem:
        raise kind.error(problem, key=place / "target") from None
    return construct(component, args, place / "args", None if inspect.isclass(component) else given)


def _called(
    component: Any, args: Mapping[str, Any], place: Place, given: Mapping[str, Any] | None, target: str
) -> tuple[Any, dict[str, Any]]:
    read = read_arguments(component, args, place / "args")
    automatic = {key: value for key, value in (given or {}).items() if key in (signature_parameters(component) or ())}
    model = component(**{**automatic, **read})
    if isinstance(model, Hashable) and model in _MADE:
        raise ModelError(
            f"{target} returned the module that it returned before, which may be trained by now; "
            "make a new one in each call",
            key=place / "target",
        )
    with suppress(TypeError):  # no module; the caller says so
        _MADE.add(model)
    return model, read
