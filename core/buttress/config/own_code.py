"""The code that a config brings along: its ``plugins_file``, and the modules of its targets. Loads no torch.

What would be executed is found without executing any of it, and executed only where its user may.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from buttress.components.own_folders import module_folders
from buttress.components.own_imports import reached, read_code
from buttress.components.own_modules import Kind, import_target, make
from buttress.components.place import Place
from buttress.components.plugins_file import PluginsFile
from buttress.components.sources import Local, sources
from buttress.components.trust import Asked, Call, Code, expect_trusted, remember
from buttress.errors import InputError, ModelError

_PLUGINS_FILE = "plugins_file"


class OwnCode:
    """What a config may execute beside what is installed.

    Args:
        config: its name, for messages.
        plugins_file: its file of plugins, if it has one.
        targets: section to target, of those that have one.
        args: section to the args of its target.
        folder: where the modules of targets are looked up first.
        asks: execute only what the user has trusted; else all of it, as of a script that is given to Python.
    """

    def __init__(
        self,
        config: str,
        plugins_file: PluginsFile | None,
        targets: Mapping[str, str],
        args: Mapping[str, Mapping[str, Any]],
        folder: Path,
        *,
        asks: bool,
    ) -> None:
        self._config, self._plugins_file, self._folder = config, plugins_file, folder
        self._targets, self._args, self._asks = targets, args, asks

    @cached_property
    def files(self) -> list[Code]:
        """Every file that would be executed, as far as ``import`` statements tell."""
        folders = module_folders(self._folder)
        found = []
        if self._plugins_file is not None:
            file = self._plugins_file
            found.append(Code(_PLUGINS_FILE, file.path, file.sha256, len(file.source)))
        for section, target in self._targets.items():
            files = reached(target.partition(":")[0], folders).values()
            found += [_code(f"{section}.target", path) for path in files]
        return found

    @cached_property
    def calls(self) -> list[Call]:
        """Every call of a target that is installed."""
        own = {each.place for each in self.files}
        return [
            Call(f"{section}.target", target, json.dumps(self._args.get(section, {}), sort_keys=True, default=str))
            for section, target in self._targets.items()
            if f"{section}.target" not in own
        ]

    @property
    def asked(self) -> list[Asked]:
        """All that needs trust."""
        return [*self.files, *self.calls]

    def expect_trusted(self) -> None:
        """Before work that needs all of it.

        Raises:
            TrustError: the user has not trusted some of it.
        """
        if self._asks:
            expect_trusted(self._config, self.asked, self.asked)

    def trust(self) -> None:
        """Remember all of it as trusted."""
        remember(self.asked)

    @property
    def plugins(self) -> Local:
        """The plugins of its file by name; executes the file. Empty without one.

        Raises:
            TrustError: the user has not trusted the file.
            PluginError: see ``PluginsFile.plugins`` and ``expect_new_names``.
        """
        if self._plugins_file is not None:
            self._expect_trusted(_PLUGINS_FILE)
            self._plugins_file.expect_new_names()
        return self.plugins_as_they_are

    @property
    def plugins_as_they_are(self) -> Local:
        """As ``plugins``; they may be called as installed ones are."""
        if self._plugins_file is None:
            return {}
        self._expect_trusted(_PLUGINS_FILE)
        return self._plugins_file.plugins

    def plugins_for(self, kind: str, names: Sequence[str]) -> Local:
        """As ``plugins``, where one of the names is of nothing installed; else empty, and nothing is executed."""
        installed = {source.name for source in sources(kind)}
        return {} if installed.issuperset(name.rpartition(":")[2] for name in names) else self.plugins

    def imported(self, section: str, place: Place, error: type[InputError] = ModelError) -> Any:
        """The object that a section's target stands for; as ``import_target``.

        Raises:
            TrustError: the user has not trusted its module.
            InputError: ``error``: see ``import_target``.
        """
        self._expect_trusted(f"{section}.target")
        return import_target(self._targets[section], place, self._folder, error)

    def make(
        self,
        kind: Kind,
        section: str,
        args: Mapping[str, Any],
        place: Place,
        given: Mapping[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """What a section's target makes of ``args``; as ``own_modules.make``.

        Raises:
            TrustError: the user has not trusted its module.
            InputError: see ``own_modules.make``.
        """
        self._expect_trusted(f"{section}.target")
        return make(kind, self._targets[section], args, place, self._folder, given)

    def _expect_trusted(self, place: str) -> None:
        if self._asks:
            expect_trusted(self._config, [each for each in self.asked if each.place == place], self.asked)


def _code(place: str, path: Path) -> Code:
    data = read_code(path)
    return Code(place, path, sha256(data).hexdigest(), len(data))
