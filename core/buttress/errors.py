"""Every error that buttress raises, and the exit code that the command line gives it.

    ButtressError
    ├── InputError            exit 2: what was asked for is wrong; nothing has been written
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
        ├── DivergenceError     weights that are no longer finite
        ├── StorageError        the disk is full or refuses
        └── InterruptionError         stopped by the user; the run can be resumed

A message says who, what was expected, what came, and what to do about it.
"""

import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from types import CodeType
from typing import Any


class ButtressError(Exception):
    """Base of all errors raised by buttress."""

    exit_code = 1


class InputError(ButtressError):
    exit_code = 2


class ConfigError(InputError):
    pass


class PluginError(InputError):
    pass


class DataError(InputError):
    pass


class ModelError(InputError):
    pass


class CheckpointError(InputError):
    pass


class UnreadableError(CheckpointError):
    """Never passed over as damaged is: what is passed over is removed when the run goes on."""


class RunFolderError(InputError):
    pass


class TrustError(InputError):
    pass


class PathError(InputError, ValueError):
    """A path that no file can have; a ValueError too, for pydantic to name the key that holds it."""


class WorkError(ButtressError):
    pass


class HookError(WorkError):
    pass


class DivergenceError(WorkError):
    pass


class StorageError(WorkError):
    pass


class InterruptionError(WorkError):
    pass


_LONGEST = 2_000
"""Characters of an exception's own text that a message shows."""


def describe(problem: BaseException) -> str:
    """``"ValueError: no such layer"``, also where the exception cannot say it; a very long text is cut."""
    try:
        said = str(problem)
    except (Exception, SystemExit) as broken:
        said = f"(no text: its __str__ raised {type(broken).__name__})"
    if len(said) > _LONGEST:
        said = f"{said[:_LONGEST]}... ({len(said):,} characters)"
    return f"{type(problem).__name__}: {said}"


def prefixed(problem: ButtressError, who: str) -> ButtressError:
    """An error of the same kind that names ``who``; of an author's own subclass, the kind of buttress."""
    kind = next(kind for kind in type(problem).__mro__ if kind.__module__ == __name__)
    named: ButtressError = kind(f"{who}: {problem}")
    return named


def moment(epoch: int, step: int) -> str:
    """``"epoch 3, step 14"`` for messages: counted from 1, as people do; the arguments are positions, from 0."""
    return f"epoch {epoch + 1}, step {step + 1}"


def line_in(problem: BaseException, function: Callable[..., object]) -> str:
    """``"my_loss.py:12"``: the last line of the file of ``function`` that an exception came through, or nothing."""
    file, trace, found = _code(function).co_filename, problem.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            found = f"{Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def definition_of(function: Callable[..., object]) -> str:
    """``"my_loss.py:7"``: where ``function`` is written."""
    code = _code(function)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


def _code(function: Callable[..., object]) -> CodeType:
    inner: Any = inspect.unwrap(function)
    code: CodeType = getattr(inner, "__func__", inner).__code__
    return code


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'pgd'?"`` for a mistyped name, else the list of the known ones.

    Case and the kind of separator make no difference; the same letters in another order are nearest of all.
    """
    known = sorted(known)
    plain = {_plain(each): each for each in reversed(known)}  # of two that are one so, the first
    close = get_close_matches(_plain(name), plain, n=3, cutoff=0.5)
    if close:
        letters = sorted(_plain(name))
        best = next((each for each in close if sorted(each) == letters), close[0])
        return f"; did you mean {plain[best]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
