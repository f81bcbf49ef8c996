"""MEAT: the per-element median of the weights at the ends of the late epochs.

Source: Hu, Yin, Chen, Lin, Chen, Liu, "MEAT: Median-Ensemble Adversarial Training for Improving Robustness and
Generalization", arXiv:2406.14259, eq. 2-4. The median is evaluated beside the live model and never written back.

Choices where the paper is silent: for an even number of snapshots the lower of the two middle values (the paper's
median uses existing weight values only, which excludes their mean); epochs count from 0, so start = 60 of 120 makes 60
snapshots; parameters only, batch-norm statistics are re-estimated with the median weights; batch norm's inputs are
clean and augmented as in training, as in SWA. Before the first snapshot the track is the live model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn

from buttress import ConfigError, Context, Event, History, HistoryReader, Track, hookimpl
from buttress.kernels import Middle, median, median_files
from buttress.settings import Epoch

# Elements of one working block over all snapshots: 16 MiB of float32, whatever the number of snapshots.
_BLOCK = 1 << 22


@dataclass(eq=False, kw_only=True)
class MEAT:
    """Median-ensemble adversarial training.

    Args:
        start: first epoch whose final weights are kept: 0-based epoch, or a fraction of the epochs in (0, 1).
        median: choice for an even number of snapshots: the ``lower`` or the ``upper`` of the two middle values, or
            their ``mean``.
        bn_data: inputs that batch norm is re-estimated on: ``clean`` ones, or ``adv``, attacked at the live weights.
        history: place of the snapshots: ``disk`` (the run's folder) or ``memory`` (then every checkpoint holds them).
        memory_gib: budget of a history in memory, in GiB; a run that would go over it is refused before step 1.
        track: name of the track.
    """

    start: Epoch = 0.5
    median: Middle = "lower"
    bn_data: Literal["clean", "adv"] = "clean"
    history: Literal["disk", "memory"] = "disk"
    memory_gib: Annotated[float, Gt(0)] = 4.0
    track: str = "meat"

    _snapshots: History | None = field(init=False, repr=False, default=None)

    @hookimpl
    def start_run(self, model: nn.Module, ctx: Context) -> None:
        budget = int(self.memory_gib * 2**30)
        first = ctx.resolve_epoch(self.start)
        if self.history == "memory" and ctx.epochs is not None:
            size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
            expected = max(0, ctx.epochs - first)
            if expected * size > budget:
                raise ConfigError(
                    f"history: memory would take {expected} snapshots of {size:,} bytes, "
                    f"{expected * size / 2**30:.1f} GiB, over memory_gib: {self.memory_gib:g}; raise it or set "
                    "history: disk"
                )
        self._snapshots = ctx.store.history(self.history, budget=budget)

    @hookimpl
    def ensemble_weights(self, model: nn.Module, event: Event, ctx: Context) -> Track | None:
        snapshots = self._snapshots
        assert snapshots is not None  # start_run has fired
        if event == "epoch" and ctx.epoch >= ctx.resolve_epoch(self.start):
            snapshots.append(snapshot(model), ctx.epoch)
        if event != "evaluate":
            return None
        if len(snapshots) == 0:
            return Track(self.track, None, bn_inputs=self.bn_data)
        with snapshots.reader() as reader:
            like, middle, n = dict(model.named_parameters()), self.median, len(snapshots)
            weights = ctx.shared_out(
                {name: weight.detach() for name, weight in like.items()},
                lambda names: median_weights(reader, n, {name: like[name] for name in names}, middle),
            )
        return Track(self.track, weights, buffers="reestimate", bn_inputs=self.bn_data)

    def state_dict(self) -> dict[str, Any]:
        assert self._snapshots is not None
        return {"history": self._snapshots.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert self._snapshots is not None
        self._snapshots.load_state_dict(state["history"])


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of ``model`` by name, flattened, on the CPU; tied ones once.

    Raises:
        ValueError: a parameter holds NaN or infinity: the median of such a history would be NaN.
    """
    kept = {name: weight.detach().flatten().cpu() for name, weight in model.named_parameters()}
    norms = torch.stack(torch._foreach_norm(list(kept.values()), dtype=torch.float64))
    for name, norm in zip(kept, norms.tolist(), strict=True):
        if not isfinite(norm) and (bad := int((~torch.isfinite(kept[name])).sum())):
            raise ValueError(
                f"parameter {name!r} holds {bad} non-finite values, so its snapshot is refused: the run has diverged; "
                "lower the learning rate and start again"
            )
    return kept


def median_weights(reader: HistoryReader, n: int, like: Mapping[str, Tensor], even: Middle) -> dict[str, Tensor]:
    """The median of each parameter over ``n`` snapshots: of files in one pass, in memory block by block.

    Args:
        reader: reader of the history; it knows the snapshots' files, or reads one slice of every snapshot.
        n: number of snapshots.
        like: parameters by name, whose medians are taken; shapes and devices of the result.
        even: see ``buttress.kernels.median``.

    Returns:
        Parameter name to a new tensor; memory beyond it: one block of 16 MiB (float32), or 64 MiB to read files.
    """
    if reader.paths:
        flat_weights = median_files(reader.paths, even=even, names=like.keys())
        return {name: flat_weights[name].view(weight.shape).to(weight.device) for name, weight in like.items()}
    weights = {}
    for name, parameter in like.items():
        flat = torch.empty(parameter.numel(), dtype=parameter.dtype)
        chunk = max(1, _BLOCK // n)
        for start in range(0, parameter.numel(), chunk):
            stop = min(start + chunk, parameter.numel())
            rows: Sequence[Tensor] = reader.rows(name, start, stop)
            median(rows, even=even, out=flat[start:stop])
        weights[name] = flat.view(parameter.shape).to(parameter.device)
    return weights
