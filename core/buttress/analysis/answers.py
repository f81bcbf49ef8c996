"""Shapes that the answers of several parts share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from buttress.storage.shapes import Epoch, Number, Shape

Measured = Number | None
"""A number that was measured; null where it was not finite."""
Edges = Annotated[list[Number], Field(min_length=2)]
Png = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
"""A PNG file in base64."""


class WeightsAnswer(Shape):
    """An answer about one set of weights."""

    track: str
    checkpoint: str
    epoch: Epoch
    attack: str


def expect_consistent(fits: bool, expected: str) -> None:
    """Refuse an answer whose numbers do not fit together; for validators."""
    if not fits:
        raise ValueError(f"expected {expected}")
