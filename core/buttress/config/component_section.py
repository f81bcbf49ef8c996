"""Sections of a config whose further keys are the settings of a component. Loads no torch."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from buttress.components.validation import IN_UNION
from buttress.settings import Flag, Share

MAPPED = "mapped"
"""The data set of ``data.extra: {file: FILE, share: 1/2}``, which has no name."""


class ClosedSection(BaseModel):
    """A section whose keys are all known."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class OpenSection(BaseModel):
    """A section whose further keys are the settings of the component that it names."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ComponentSection(OpenSection):
    """A section that names an installed component, with its settings, or a ``target`` with its ``args``."""

    name: str | None = None
    target: str | None = Field(None, description="package.module:Name, a class or function of your own")
    args: dict[str, Any] = Field(default_factory=dict, description="arguments of target")

    @property
    def chosen(self) -> str:
        """The name, or else the target."""
        return self.name or self.target or ""

    def given(self) -> dict[str, Any]:
        """The settings beside the name, or the arguments of the target."""
        return self.settings() if self.target is None else dict(self.args)


class ExtraSection(ComponentSection):
    """``data.extra``: further keys are the settings of the data set that is named."""

    name: str | None = Field(
        None, description="a data set, of which the training split is taken; without name and target: that of data"
    )
    share: Share = Field(description="share of the examples of each batch that are extra ones, in (0, 1): 1/2")
    replacement: Flag = Field(
        True, description="draw with replacement; false: every example comes once before any comes again"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_file(cls, values: Any) -> Any:
        """``file`` without a name and a target is a setting of ``mapped``."""
        if isinstance(values, dict) and "file" in values and not values.keys() & {"name", "target"}:
            return {"name": MAPPED, **values}
        return values

    @property
    def is_own(self) -> bool:
        """Whether the examples are those that the data set of ``data`` sets apart."""
        return not self.chosen


def _expect_room_for_real(sections: list[ExtraSection]) -> list[ExtraSection]:
    total = sum((section.share for section in sections), Fraction(0))
    if total >= 1:
        shares = " + ".join(str(section.share) for section in sections)
        raise ValueError(f"expected shares whose sum is below 1, got {shares} = {total}; the rest of a batch is real")
    return sections


_MAPPING, _LIST = IN_UNION
ExtraSections = Annotated[
    Annotated[ExtraSection, Tag(_MAPPING)]
    | Annotated[list[ExtraSection], Field(min_length=1), AfterValidator(_expect_room_for_real), Tag(_LIST)],
    Discriminator(lambda value: _LIST if isinstance(value, list) else _MAPPING),
]
"""One source of extra examples, or a list of them."""


def sources_of(extra: ExtraSection | list[ExtraSection] | None) -> dict[str, ExtraSection]:
    """Name of each section (``data.extra``; ``data.extra.0`` in a list) to the section."""
    if extra is None:
        return {}
    if isinstance(extra, list):
        return {f"data.extra.{number}": section for number, section in enumerate(extra)}
    return {"data.extra": extra}


def path_of(section: str) -> tuple[str | int, ...]:
    """The keys and positions that lead to a section, from its name."""
    return tuple(int(part) if part.isdecimal() else part for part in section.split("."))
