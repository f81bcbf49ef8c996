"""The section ``model`` of a config. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer, model_validator

from buttress.config.component_section import ClosedSection, ComponentSection
from buttress.settings import Number


class WeightsSection(ClosedSection):
    """``model.weights``: a file, or a mapping of these keys."""

    file: str = Field(description="safetensors, or a file of torch.save, read by its restricted loader")
    fresh: list[str] = Field(
        default_factory=list,
        alias="except",
        description="parts of the model that start fresh instead of from the file: names or patterns (fc, head.*)",
    )
    key: str | None = Field(
        None, description="key of the weights in a file that holds several: state_dict, ema (default: those that fit)"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: object) -> object:
        if not isinstance(value, (str, dict)):
            raise ValueError(f"expected a file, or {{file: FILE, except: [NAME]}}, got {value!r}")
        return {"file": value} if isinstance(value, str) else value

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        rest = {"except": self.fresh, "key": self.key}
        return {"file": self.file, **rest} if any(rest.values()) else self.file

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


class NormalizeSection(ClosedSection):
    """``model.normalize``: one mean and one standard deviation for each channel of the input."""

    mean: list[Number] = Field(min_length=1, description="mean of each channel")
    std: list[Number] = Field(min_length=1, description="standard deviation of each channel, not 0")

    @model_validator(mode="after")
    def _fit(self) -> NormalizeSection:
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"expected mean and std of one length, one value a channel, got {len(self.mean)} and {len(self.std)}"
            )
        if 0 in self.std:
            raise ValueError(f"expected std without 0, by which inputs would be divided, got {self.std}")
        return self


class ModelSection(ComponentSection):
    """``model``: further keys are the settings of the model that is named."""

    name: str | None = Field(None, description="a model: buttress plugins list --kind model")
    weights: WeightsSection | None = Field(
        None, description="file of weights to start from, or {file: FILE, except: [fc]} for a fresh head"
    )
    normalize: NormalizeSection | None = Field(
        None, description="{mean: [...], std: [...]}: (x - mean) / std for each channel, as part of the model"
    )
    memory_format: Literal["contiguous", "channels_last"] = Field(
        "contiguous", description="layout of weights and inputs; channels_last is faster for convolutions"
    )
    batch_norm: Literal["local", "sync"] = Field(
        "local",
        description="batch-norm statistics on several processes: of each one's rows, or of the whole batch as in one",
    )
    bn_momentum: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        None, description="momentum of the running statistics of all batch norms; null: as the model has it, 0.1 mostly"
    )
    bn_first_momentum: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        None, description="this momentum in the first step of the run: 1 forgets where the statistics began"
    )

    @model_validator(mode="before")
    @classmethod
    def _older_name(cls, values: Any) -> Any:
        """``batch_norm: true`` of ``mlp``, as configs of earlier versions have it, is its setting ``norm``."""
        if isinstance(values, dict) and values.get("name") == "mlp" and isinstance(values.get("batch_norm"), bool):
            return {
                **{key: value for key, value in values.items() if key != "batch_norm"},
                "norm": values["batch_norm"],
            }
        return values
