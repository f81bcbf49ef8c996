"""Sections of a config whose further keys are the settings of a component. Loads no torch."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from buttress.settings import Share


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

    @property
    def is_own(self) -> bool:
        """Whether the examples are those that the data set of ``data`` sets apart."""
        return not self.chosen
