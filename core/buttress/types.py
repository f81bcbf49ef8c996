"""Records that travel between the core, its plugins and its callers: frozen, small, made of tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A training batch.

    Args:
        x: ``[B,*]`` inputs, floating point, inside the box of the threat model.
        y: ``[B]`` int64 labels, or ``[B,K]`` soft labels of the dtype of x.
        index: ``[B]`` int64 positions in the training set, or None when the caller does not know them.
        aux: further ``[B,...]`` tensors by name, detached, which come with the examples or with a transform of them.
    """

    x: Tensor
    y: Tensor
    index: Tensor | None = None
    aux: Mapping[str, Tensor] = field(default_factory=dict)

    def part(self, left: Tensor) -> "Batch":
        """The batch of some of the examples: positions, or a mask ``[B]``."""
        index = None if self.index is None else self.index[left]
        return Batch(self.x[left], self.y[left], index, {name: value[left] for name, value in self.aux.items()})


@dataclass(frozen=True)
class Adv:
    """Adversarial examples.

    Args:
        x: ``[B,*]`` like the batch's x, detached, inside the threat model.
        aux: ``[B,...]`` tensors by name, for losses that need the attack's own counts.
    """

    x: Tensor
    aux: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """The answer of ``compute_loss``.

    Args:
        per_example: ``[B]`` losses in nats; the core takes their mean.
        penalty: a 0-dim term of the whole batch, added to that mean, or None.
    """

    per_example: Tensor
    penalty: Tensor | None = None

    def total(self) -> Tensor:
        """The 0-dim training objective."""
        mean = self.per_example.mean()
        return mean if self.penalty is None else mean + self.penalty


TrackBuffers = Literal["live", "given", "reestimate"]
BatchNormInputs = Literal["clean", "adv"]


@dataclass(frozen=True)
class Track:
    """Weights that are evaluated beside the live model.

    Args:
        name: name, unique among the tracks of a run; ``live`` is taken by the live model.
        weights: tensors by the names of parameters, for every parameter; None stands for the live weights.
        buffers: source of the buffers: ``live``, ``given`` (in ``given_buffers``), or ``reestimate`` (batch
            norm statistics measured afresh on the training set by the core, all others live).
        given_buffers: float buffers by name, for ``buffers="given"``; those not named stay live.
        bn_inputs: inputs on which batch norm is re-estimated: ``clean`` or ``adv`` (the run's own attack on the live
            model).
    """

    name: str
    weights: Mapping[str, Tensor] | None
    buffers: TrackBuffers = "reestimate"
    given_buffers: Mapping[str, Tensor] = field(default_factory=dict)
    bn_inputs: BatchNormInputs = "clean"


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share optimizer options.

    Args:
        names: names of parameters, as in ``model.named_parameters()``.
        options: options of the optimizer for this group (``weight_decay``); others come from the optimizer.
        frozen: whether the parameters take no steps: ``requires_grad`` is switched off.
        lr_scale: factor on the initial learning rate at time t (in epochs), in the place of the schedule's.
    """

    names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    frozen: bool = False
    lr_scale: Callable[[float], float] | None = None


@dataclass(frozen=True)
class Rows:
    """Every ``ranks``-th row of a batch, from row number ``rank`` on: so each rank has its share of every kind of row.

    A batch with fewer examples than there are ranks is whole on every rank.

    Args:
        total: number of examples in the whole batch.
        rank: number of this process, from 0.
        ranks: number of processes.
        blocks: number of rows of each example. A transform that makes a batch k times as long makes k blocks of it, and
            the rows at the same place of each belong to one example.
    """

    total: int
    rank: int = 0
    ranks: int = 1
    blocks: int = 1

    @property
    def whole(self) -> bool:
        """Whether these are all rows of the batch."""
        return self.ranks == 1 or self.total < self.ranks

    @property
    def count(self) -> int:
        """Number of rows that this process has."""
        return self.blocks * (self.total if self.whole else len(range(self.rank, self.total, self.ranks)))

    @property
    def share(self) -> float:
        """Share of the rows of the batch that this process has."""
        return self.count / (self.blocks * self.total)

    def of(self, values: Tensor) -> Tensor:
        """The rows of ``values [blocks * total,*]``, in memory of their own where they are not all."""
        return values if self.whole else self._every(values)

    def own(self, values: Tensor) -> Tensor:
        """Those of the rows ``values [count,*]`` that count for this process alone: no row counts for two."""
        return self._every(values) if self.whole and self.ranks > 1 else values

    def _every(self, values: Tensor) -> Tensor:
        rows = torch.arange(self.total, device=values.device)[self.rank :: self.ranks]
        starts = torch.arange(self.blocks, device=values.device) * self.total
        return values.index_select(0, (starts[:, None] + rows).flatten())
