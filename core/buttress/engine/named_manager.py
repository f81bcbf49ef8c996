"""Check the context manager of a weight perturbation, and put its plugin's name on the errors that it raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType

from buttress.engine.first_bad import Giver
from buttress.engine.turns import Turn
from buttress.errors import ButtressError
from buttress.nn.contract import form_of
from buttress.types import Adv


class NamedManager(AbstractContextManager[Adv | None]):
    """A plugin's context manager whose own exceptions carry the plugin's name."""

    def __init__(
        self,
        manager: AbstractContextManager[Adv | None],
        who: Giver,
        turn: Turn,
        accept: Callable[[Adv], Adv],
    ) -> None:
        self._manager, self._who, self._turn, self._accept = manager, who, turn, accept

    def __enter__(self) -> Adv | None:
        with _blamed_on(self._who):
            answer = self._manager.__enter__()
        try:
            self._turn.expect_unwritten()
            self._turn.expect_whole()
            if answer is None:
                return None
            if not isinstance(answer, Adv):
                raise self._who.fault(f"its context manager must yield an Adv or nothing, got {form_of(answer)}")
            return self._accept(answer)
        except ButtressError as wrong:
            self.__exit__(type(wrong), wrong, wrong.__traceback__)  # it has been entered, and may have to clean up
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with _blamed_on(self._who):
            self._manager.__exit__(kind, error, tb)
        self._turn.__exit__(kind, error, tb)


@contextmanager
def _blamed_on(who: Giver) -> Iterator[None]:
    """Turn any error of the block into one that names ``who``; Ctrl-C stays as it is."""
    try:
        yield
    except (ButtressError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise who.failure(error) from error
