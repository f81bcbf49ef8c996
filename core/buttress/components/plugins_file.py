"""Plugins in one file beside a config, for quick experiments: ``plugins_file: my_defense.py``. Loads no torch.

Every class in the file that has a hook is a plugin, and every other one with a method ``input_loss`` is an attack loss.
Its name in the config is the class's attribute ``name``, or the class's name in lower case with underscores:
``MyDefense`` is ``my_defense``. A run keeps a copy of the file.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType
from typing import Any

from buttress.components.members import hooks_in
from buttress.components.own_imports import passed_over
from buttress.components.place import Place
from buttress.components.sources import Local, Source, sources, words
from buttress.components.traits import declared_name
from buttress.errors import ConfigError, PluginError, describe
from buttress.storage.regular_file import read_regular_file

# Files of plugins are written by hand; a larger file is something else.
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class PluginsFile:
    """A file of plugins, as it was when it was read.

    Args:
        path: path from which it was read, for messages.
        text: content, as UTF-8; other bytes are lone surrogates (``surrogateescape``).
        place: place in the config that names the file, for messages.
    """

    path: Path
    text: str
    place: Place | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def sha256(self) -> str:
        return sha256(self.source).hexdigest()

    @property
    def source(self) -> bytes:
        """The bytes of the file, which Python itself decodes: with a byte order mark or a declared encoding, if any."""
        return self.text.encode("utf-8", "surrogateescape")

    @cached_property
    def components(self) -> Local:
        """The plugins and attack losses of the file by name, each with its source; executes the file.

        Raises:
            PluginError: the file cannot be executed, holds no plugin or attack loss, or two classes of one name.
        """
        module = self._executed()
        components: dict[str, tuple[Any, Source]] = {}
        for cls in vars(module).values():
            kind = _kind_of(cls) if inspect.isclass(cls) and cls.__module__ == module.__name__ else ""
            if not kind:
                continue
            name = declared_name(cls) or snake_case(cls.__name__)
            if name in components:
                raise self._wrong(f"two classes are called {name!r}; give one an attribute name = ...")
            source = Source(kind, name, f"{self.name}:{cls.__name__}", self.name, f"sha256:{self.sha256[:12]}")
            components[name] = (cls, source)
        if not components:
            raise self._wrong(
                "holds no plugin, no class with a method marked @hookimpl, and no attack loss, one with a method "
                "input_loss"
            )
        return components

    def expect_new_names(self) -> None:
        """Refuse a component with the name of an installed one, since a config could not distinguish the two.

        Raises:
            PluginError: a name is taken, or see ``components``.
        """
        for name, (cls, own) in self.components.items():
            taken = [source for source in sources(own.kind) if source.name == name]
            if taken:
                raise self._wrong(
                    f"class {cls.__name__} would be called {name!r}, as the {words(own.kind)} of {taken[0]}; rename "
                    "it, or give it an attribute name = ..."
                )

    def _executed(self) -> ModuleType:
        known = f"buttress_plugins_file_{self.path.stem}_{self.sha256[:12]}"
        if known in sys.modules:
            return sys.modules[known]
        module = ModuleType(known)
        module.__file__ = str(self.path)
        sys.modules[known] = module  # annotations and dataclasses are resolved in it
        try:
            exec(compile(self.source, str(self.path), "exec", dont_inherit=True), module.__dict__)
        except BaseException as problem:
            del sys.modules[known]
            if isinstance(problem, KeyboardInterrupt):
                raise
            raise self._wrong(f"cannot be executed: {describe(problem)}{self._beside(problem)}") from problem
        return module

    def _beside(self, problem: BaseException) -> str:
        """The cure for a module that lies beside the file and is not imported; else nothing."""
        place = passed_over(problem, [self.path.parent])
        if place is None:
            return ""
        return (
            f"; {place.name} lies beside it, but a file of plugins stands alone: move the code into {self.name}, or "
            "make a package of both (buttress plugins new)"
        )

    def _wrong(self, message: str) -> PluginError:
        return PluginError(f"{self.place}: {self.path}: {message}" if self.place else f"{self.path}: {message}")


def read_plugins_file(path: Path, place: Place | None = None) -> PluginsFile:
    """Read a file of plugins, without executing it.

    Args:
        path: path of the file.
        place: place in the config that names the file, for messages.

    Raises:
        ConfigError: the file is missing, too large, or no text that Python could decode.
    """
    try:
        raw = read_regular_file(path, MAX_BYTES)
    except OSError as problem:
        where = "; it lies beside the config" if place else ""
        raise ConfigError(f"{path}: cannot be read: {problem.strerror}{where}", key=place or "") from None
    fault = _not_python_text(raw)
    if fault:
        raise ConfigError(
            f"{path}: expected Python source in UTF-8, or in the encoding that it declares: {fault}", key=place or ""
        )
    return PluginsFile(path, raw.decode("utf-8", "surrogateescape"), place)


def _kind_of(cls: type) -> str:
    """The kind of component that a class is, or nothing."""
    if hooks_in(cls):
        return "plugin"
    return "attack_loss" if callable(getattr(cls, "input_loss", None)) else ""


def _not_python_text(raw: bytes) -> str:
    """The reason why Python could not decode these bytes, or nothing."""
    if b"\0" in raw:
        return f"line {raw[: raw.index(0)].count(10) + 1} holds a NUL; save the file as UTF-8"
    try:
        decode_source(raw)
    except (SyntaxError, UnicodeDecodeError, LookupError) as problem:
        return str(problem)
    return ""


def snake_case(name: str) -> str:
    """``"MyDefense"`` as ``"my_defense"``, ``"MYDefense2"`` as ``"my_defense2"``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
