"""Loss alarm: warns in the log when an epoch's training loss is larger than expected."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from buttress import Context, hookimpl

logger = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class Example:
    """Warns when the mean training loss of an epoch is above a limit.

    Args:
        limit: in nats.
    """

    limit: Annotated[float, Gt(0)] = 10.0

    @hookimpl
    def end_epoch(self, metrics: Mapping[str, float], ctx: Context) -> None:
        if is_above(metrics, self.limit):
            logger.warning("epoch %d: training loss %.3g", ctx.epoch + 1, metrics["loss"])


def is_above(metrics: Mapping[str, float], limit: float) -> bool:
    """Whether the loss is there, and above ``limit`` or NaN."""
    return not metrics.get("loss", 0.0) <= limit


def test_is_above_limit_or_nan() -> None:
    assert is_above({"loss": 11.0}, 10.0)
    assert is_above({"loss": float("nan")}, 10.0)
    assert not is_above({"loss": 1.0}, 10.0)
    assert not is_above({}, 10.0)
