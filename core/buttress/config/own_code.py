"""The code that a config brings along: its ``plugins_file`` and the modules of its targets. Loads no torch.

The files that would be executed are listed without executing them, and are executed only if the user has trusted them.
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
from buttress.components.trust import Call, Code, NeedsTrust, expect_trusted, remember
from buttress.errors import InputError, ModelError

_PLUGINS_FILE = "plugins_file"


class OwnCode:
    """The code of a config that is not installed.

    Args:
        config: name of the config, for messages.
        plugins_file: file of plugins of the config, if it has one.
        targets: section to target, for the sections that have a target.
        args: section to the args of its target.
        folder: folder that is searched first for the modules of targets.
        trusted_only: whether only code that the user has trusted is executed; else all of it is, like a script.
    """

    def __init__(
        self,
        config: str,
        plugins_file: PluginsFile | None,
        targets: Mapping[str, str],
        args: Mapping[str, Mapping[str, Any]],
        folder: Path,
        *,
        trusted_only: bool,
    ) -> None:
        self._config, self._plugins_file, self._folder = config, plugins_file, folder
        self._targets, self._args, self._trusted_only = targets, args, trusted_only

    @cached_property
    def files(self) -> list[Code]:
        """Every file that would be executed, as far as ``import`` statements show."""
        folders = module_folders(self._folder)
        files = []
        if self._plugins_file is not None:
            file = self._plugins_file
            files.append(Code(_PLUGINS_FILE, file.path, file.sha256, len(file.source)))
        for section, target in self._targets.items():
            paths = reached(target.partition(":")[0], folders).values()
            files += [_code(f"{section}.target", path) for path in paths]
        return files

    @cached_property
    def calls(self) -> list[Call]:
        """Every call of an installed target."""
        own = {each.place for each in self.files}
        return [
            Call(f"{section}.target", target, json.dumps(self._args.get(section, {}), sort_keys=True, default=str))
            for section, target in self._targets.items()
            if f"{section}.target" not in own
        ]

    @property
    def needs_trust(self) -> list[NeedsTrust]:
        """All files and calls that need trust."""
        return [*self.files, *self.calls]

    def expect_trusted(self) -> None:
        """Refuse to go on unless the user has trusted all of the code.

        Raises:
            TrustError: the user has not trusted some of the code.
        """
        if self._trusted_only:
            expect_trusted(self._config, self.needs_trust, self.needs_trust)

    def trust(self) -> None:
        """Remember all of the code as trusted."""
        remember(self.needs_trust)

    @property
    def components(self) -> Local:
        """The plugins and attack losses of the config's file by name, empty without a file; executes the file.

        Raises:
            TrustError: the user has not trusted the file.
            PluginError: see ``PluginsFile.components`` and ``expect_new_names``.
        """
        if self._plugins_file is not None:
            self._expect_trusted(_PLUGINS_FILE)
            self._plugins_file.expect_new_names()
        return self.components_as_they_are

    @property
    def components_as_they_are(self) -> Local:
        """Like ``components``, but names of installed components are allowed."""
        if self._plugins_file is None:
            return {}
        self._expect_trusted(_PLUGINS_FILE)
        return self._plugins_file.components

    def components_for(self, kind: str, names: Sequence[str]) -> Local:
        """Like ``components``, but empty, with nothing executed, if everything with one of ``names`` is installed."""
        installed = {source.name for source in sources(kind)}
        return {} if installed.issuperset(name.rpartition(":")[2] for name in names) else self.components

    def imported(self, section: str, place: Place, error: type[InputError] = ModelError) -> Any:
        """Import the object that a section's target stands for, like ``import_target``.

        Raises:
            TrustError: the user has not trusted its module.
            InputError: an ``error``, see ``import_target``.
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
        """Make an object by a section's target from ``args``, like ``own_modules.make``.

        Raises:
            TrustError: the user has not trusted its module.
            InputError: see ``own_modules.make``.
        """
        self._expect_trusted(f"{section}.target")
        return make(kind, self._targets[section], args, place, self._folder, given)

    def _expect_trusted(self, place: str) -> None:
        if self._trusted_only:
            expect_trusted(self._config, [each for each in self.needs_trust if each.place == place], self.needs_trust)


def _code(place: str, path: Path) -> Code:
    data = read_code(path)
    return Code(place, path, sha256(data).hexdigest(), len(data))
