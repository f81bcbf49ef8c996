"""Every error that buttress raises, and the exit code that the command line gives it.

    ButtressError
    ├── InputError            exit 2: the input is wrong; nothing has been written
    │   ├── ConfigError         a key, a value or a file of the configuration
    │   ├── PluginError         a plugin that is unknown, broken, or does not fit the others
    │   ├── DataError           examples, labels or a data file
    │   ├── ModelError          a model, or weights that are not this model's
    │   ├── CheckpointError     a checkpoint that is damaged or belongs to another run
    │   │   └── UnreadableError   one that may be whole, but cannot be read here or now
    │   ├── RunFolderError      a run folder that exists, or that is none
    │   ├── TrustError          code of somebody else that the user has not trusted
    │   └── PathError           a path that no file can have
    └── WorkError             exit 1: the work had begun and could not go on
        ├── HookError           an exception or a wrong answer from a plugin's hook
        │   └── NoGradientError   a loss from which no gradient goes to the weights
        ├── DivergenceError     weights that are no longer finite
        ├── StorageError        the disk is full or refuses
        ├── RanksError          a process of the run has ended, or no longer does the same as the others
        └── InterruptionError   stopped by the user; the run can be resumed

A message says who, what was expected, what came, and what to do about it. What a program needs of it stands in
attributes, so that nobody parses a message.
"""

from __future__ import annotations

from pathlib import Path


class ButtressError(Exception):
    """Base of all errors raised by buttress.

    Args:
        message: who, expected, got, what to do.
        place: line of an author's own code that is at fault, such as ``"my_defense.py:12"``; the message ends with it.

    Attributes:
        place: as given, or empty.
        log: file that holds the traceback, or None as long as none does.
        rank: number of the process of the run that raised it; None where one process trains alone.
        reported: whether another process of the run has printed why it ends, so that this one says nothing.
    """

    exit_code = 1
    place: str = ""
    rank: int | None = None
    reported: bool = False
    log: Path | None = None

    def __init__(self, message: object = "", *, place: str = "") -> None:
        super().__init__(f"{message} ({place})" if place else message)
        self.place = place


class InputError(ButtressError):
    """The input is wrong: a config, a plugin, data, a model, a file. Nothing has been written.

    Args:
        message: who, expected, got, what to do.
        key: place of the config that is at fault, such as ``"mine.yaml:4: plugins[0].pgd.steps"``, or option of the
            command line, such as ``"--points 4"``; the message begins with it.
        place: as in ``ButtressError``.

    Attributes:
        key: as given, or empty.
        message: as given, without key and place.
    """

    exit_code = 2
    key: str = ""
    message: str = ""

    def __init__(self, message: object = "", *, key: object = "", place: str = "") -> None:
        self.key, self.message = str(key), str(message)
        super().__init__(f"{self.key}: {message}" if self.key else message, place=place)


class ConfigError(InputError):
    """A key, a value or a file of the configuration is wrong."""


class PluginError(InputError):
    """A plugin is unknown or broken, or does not fit its settings or the other plugins."""


class DataError(InputError):
    """Examples, labels or a data file are wrong, missing or damaged."""


class ModelError(InputError):
    """A model cannot be made or used, or weights are not this model's."""


class _FileError(InputError):
    """A file or folder of a run is wrong.

    Args:
        message: who, expected, got, what to do.
        path: file or folder that is at fault, where there is one.
        key: as in ``InputError``.
        place: as in ``ButtressError``.

    Attributes:
        path: as given.
    """

    path: Path | None = None

    def __init__(self, message: object = "", *, path: Path | None = None, key: object = "", place: str = "") -> None:
        super().__init__(message, key=key, place=place)
        self.path = path


class CheckpointError(_FileError):
    """A checkpoint is damaged, or belongs to another run."""


class UnreadableError(CheckpointError):
    """A checkpoint may be whole, but cannot be read here or now.

    It is never passed over as a damaged one is: a checkpoint that is passed over is removed when the run goes on.
    """


class RunFolderError(_FileError):
    """A run folder exists already, or a folder is no run folder."""


class TrustError(InputError):
    """Code of somebody else would be executed, and the user has not trusted it."""


class PathError(InputError, ValueError):
    """A path that no file can have; a ValueError too, for pydantic to name the key that holds it."""


class WorkError(ButtressError):
    """The work had begun, and could not go on."""


class HookError(WorkError):
    """A plugin's hook raised, or gave a wrong answer.

    Args:
        message: names plugin, hook and moment, and what was wrong.
        plugin: label of the plugin in the run, such as ``"pgd"`` or ``"pgd#2"``.
        hook: name of the hook.
        epoch: position of the epoch, from 0.
        step: position of the step in its epoch, from 0.
        place: line that raised, or where the hook is written.

    Attributes:
        plugin, hook, epoch, step: as given.
    """

    def __init__(
        self,
        message: object = "",
        *,
        plugin: str = "",
        hook: str = "",
        epoch: int | None = None,
        step: int | None = None,
        place: str = "",
    ) -> None:
        super().__init__(message, place=place)
        self.plugin, self.hook, self.epoch, self.step = plugin, hook, epoch, step


class NoGradientError(HookError):
    """No gradient goes from the losses of a plugin to the weights."""


class DivergenceError(WorkError):
    """The weights are no longer finite, or training has collapsed."""


class StorageError(WorkError):
    """The disk is full, or refuses to read or write."""


class RanksError(WorkError):
    """A process of the run has ended or does not answer, or the processes no longer do the same.

    The message names the rank, and the plugin, hook and step where they are known.
    """


class InterruptionError(WorkError):
    """The user stopped the run, which can be resumed."""
