"""Log lines: writes every record of the run to Python's logging."""

import logging
from collections.abc import Mapping

from buttress import hookimpl

logger = logging.getLogger(__name__)


class Example:
    """Writes every record of the run to Python's logging."""

    @hookimpl
    def log(self, metrics: Mapping[str, object]) -> None:
        logger.info("%s", line_of(metrics))


def line_of(metrics: Mapping[str, object]) -> str:
    """``"event=train loss=1.23"``, numbers with four digits."""
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in metrics.items()
    )


def test_line_of_a_record() -> None:
    assert line_of({"event": "train", "loss": 1.23456}) == "event=train loss=1.235"
