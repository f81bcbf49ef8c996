"""Last words: says at the end of a run how far it came."""

import logging

from buttress import Context, hookimpl

logger = logging.getLogger(__name__)


class Example:
    """Says at the end of a run how many steps were taken."""

    @hookimpl
    def end_run(self, ctx: Context) -> None:
        logger.info("%s", last_words(ctx.epoch, ctx.global_step))


def last_words(epochs: int, steps: int) -> str:
    """``"3 epochs, 120 steps"``."""
    return f"{epochs} epochs, {steps} steps"


def test_last_words() -> None:
    assert last_words(3, 120) == "3 epochs, 120 steps"
