"""Words of error messages: an exception of somebody else, a moment of a run, the nearest known name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

from buttress.errors.own_code import raising_line
from buttress.errors.tree import ButtressError, ConfigError, InputError

Problem = TypeVar("Problem", bound=ButtressError)

_LONGEST = 2_000
"""Characters of an exception's own text that a message shows."""


def describe(problem: BaseException, author: object = None) -> str:
    """``"KeyError: 'x' (my_data.py:12)"``: an exception, with the line of an author's own code that it came from.

    Args:
        problem: an exception that was raised.
        author: as in ``raising_line``.
    """
    line = raising_line(problem, author)
    return f"{kind_and_text(problem)} ({line})" if line else kind_and_text(problem)


def kind_and_text(problem: BaseException) -> str:
    """``"ValueError: no such layer"``, also where the exception has no text; a very long text is cut."""
    return f"{type(problem).__name__}: {_text(problem)}"


def kind_and_first_line(problem: BaseException) -> str:
    """``"ValueError: no such layer"``, with the first line of a long text alone."""
    first, *_ = _text(problem).strip().splitlines() or [""]
    return f"{type(problem).__name__}: {first}"


def _text(problem: BaseException) -> str:
    try:
        text = str(problem.msg if isinstance(problem, SyntaxError) else problem)
    except (Exception, SystemExit) as broken:
        return f"(no text: its __str__ raised {type(broken).__name__})"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"


def prefixed(problem: ButtressError, who: str) -> ButtressError:
    """An error of the same kind and with the same data that names ``who``.

    An author's own subclass becomes the kind of buttress that it derives from.
    """
    kind = next(kind for kind in type(problem).__mro__ if kind.__module__ == ButtressError.__module__)
    named: ButtressError = kind(f"{who}: {problem}")
    return _with_data(named, problem)


def keyed(problem: InputError, key: object) -> InputError:
    """An error whose message begins with the place ``key`` of a config; that becomes its key, if it has none."""
    named = prefixed(problem, str(key))
    assert isinstance(named, InputError)
    named.key = named.key or str(key)
    return named


def all_faults(faults: Sequence[tuple[object, str]], error: type[InputError] = ConfigError) -> InputError:
    """An error with a line for each fault of a config: its place and its text. The first place is the key.

    Args:
        faults: place and text of each fault, at least one.
        error: class of the error.
    """
    (first, text), *others = faults
    return error("\n".join([text, *(f"{place}: {other}" for place, other in others)]), key=first)


def extended(problem: Problem, sentence: str) -> Problem:
    """An error of the same kind and with the same data whose message goes on with ``sentence``."""
    return _with_data(type(problem)(f"{problem}{sentence}"), problem)


def _with_data(new: Problem, old: ButtressError) -> Problem:
    vars(new).update(vars(old))
    return new


def moment(epoch: int, step: int) -> str:
    """``"epoch 3, step 14"`` for messages: counted from 1, as people do; the arguments are positions, from 0."""
    return f"epoch {epoch + 1}, step {step + 1}"


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
