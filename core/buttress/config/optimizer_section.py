"""The section of a config that describes the optimizer and its groups of parameters. Loads no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from buttress.config.component_section import ComponentSection
from buttress.config.values import Count, UndecayedKinds
from buttress.settings import Number


class OptimizerSection(ComponentSection):
    """``optimizer``: further keys are the arguments of the class in torch.optim.

    Its step is fused where torch has that form, unless ``fused``, ``foreach``, ``differentiable`` or ``capturable`` is
    given. A ``target`` gets its parameters, the learning rate as ``lr``, and ``args``.
    """

    name: str | None = Field(None, description="a class of torch.optim, case ignored, or muon (default: sgd)")
    target: str | None = Field(
        None, description="package.module:Name, an optimizer that is not torch's, or a function that makes one"
    )
    lr: Annotated[Number, Field(gt=0)] = Field(description="initial learning rate")
    no_decay: UndecayedKinds | None = Field(
        None,
        description="kinds of parameters without weight decay: norm (norm layers), bias, vectors (all of one dimension "
        "or none): norm,bias",
    )
    layer_decay: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        None,
        description="factor on the learning rate from each layer of depth to the one before it; the last has lr: 0.75",
    )
    accumulate: Count = Field(
        1,
        description="number of parts in which forwards and backwards of a step are made, one after another: the memory "
        "of a part, the update of the whole batch",
    )

    @model_validator(mode="after")
    def _sgd(self) -> OptimizerSection:
        if self.name is None and self.target is None:
            self.name = "sgd"
        return self
