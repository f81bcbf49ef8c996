"""RAT_LR: the latter layers keep their initial learning rate while the others follow the schedule.

Source: Nguyen, Yu, Nandakumar, Lee, Liu, "On Intriguing Layer-Wise Properties of Robust Overfitting in Adversarial
Training", TMLR 2024, section 4, eq. 4. The experiments fix the group's learning rate (``form: groups``); eq. 4 instead
multiplies the group's gradient by ``eta = lr_0 / lr_t`` (``form: gradient``). The paper calls them equal, which holds
for plain SGD only: the optimizer adds weight decay after the amplification, and right after a drop the momentum buffer
holds gradients amplified by the old eta. ``form: corrected`` amplifies the decay too and rescales the buffer when eta
changes; it then follows ``groups`` to rounding. The paper reports no gain on SVHN.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from buttress import Context, Event, ParamGroup, hookimpl, initial_lr
from buttress.nn import Patterns, layer_names, split_groups


@dataclass(eq=False, kw_only=True)
class RAT_LR:  # noqa: N801  (its name in the paper)
    """A fixed learning rate for some layer groups.

    Args:
        layers: numbers of the layer groups; all groups together mean the whole network.
        groups: patterns of parameter names by group number, for models whose groups are not known.
        head_group: the group that the last norm and the classifier join; null: none.
        form: ``groups``: a parameter group of their own; ``gradient``: eq. 4; ``corrected``: eq. 4 for the weight
            decay too, with momentum rescaled at every change (SGD).
        lr: their learning rate, with ``form: groups``; null: the run's initial one.
    """

    layers: list[int] = field(default_factory=lambda: [3, 4])
    groups: Patterns | None = None
    head_group: int | None = None
    form: Literal["groups", "gradient", "corrected"] = "groups"
    lr: Annotated[float, Gt(0)] | None = None

    _weights: list[nn.Parameter] = field(init=False, repr=False, default_factory=list)
    _eta: float = field(init=False, repr=False, default=1.0)
    _momentum_eta: Tensor = field(init=False, repr=False, default_factory=partial(torch.ones, (), dtype=torch.float64))

    def __post_init__(self) -> None:
        if self.lr is not None and self.form != "groups":
            raise ValueError(f"lr: belongs to form: groups, and form is {self.form}; leave it out")

    @hookimpl
    def param_groups(self, groups: list[ParamGroup], model: nn.Module) -> list[ParamGroup]:
        names = layer_names(model, self.layers, self.groups, self.head_group)
        if self.form != "groups":
            return groups
        options = {} if self.lr is None else {"lr": self.lr}
        return [
            ParamGroup(group.names, {**group.options, **options}, group.frozen, lr_scale=initial_lr)
            if set(group.names) <= set(names)
            else group
            for group in split_groups(groups, names)
        ]

    @hookimpl
    def start_run(self, model: nn.Module, ctx: Context) -> None:
        names = set(layer_names(model, self.layers, self.groups, self.head_group))
        self._momentum_eta = self._momentum_eta.to(ctx.device)
        self._weights = [weight for name, weight in model.named_parameters() if name in names and weight.requires_grad]

    @hookimpl
    def adjust_grads(self, optimizer: Optimizer) -> None:
        if self.form == "groups":
            return
        if self.form == "corrected" and not isinstance(optimizer, SGD):
            raise ValueError(f"form: corrected is for SGD, got {type(optimizer).__name__}; use form: groups")
        chosen = {id(weight) for weight in self._weights}
        for group in optimizer.param_groups:
            weights = [weight for weight in group["params"] if id(weight) in chosen and weight.grad is not None]
            if weights:
                self._eta = amplification(group)
                decay = group["weight_decay"] if self.form == "corrected" else 0.0
                amplify_(weights, self._eta, decay)
                if self.form == "corrected":
                    rescale_momentum_(optimizer, weights, self._eta / self._momentum_eta)

    @hookimpl
    def ensemble_weights(self, event: Event, ctx: Context) -> None:
        if event == "step":  # a step that was taken back has left the momentum as it was
            self._momentum_eta = torch.where(ctx.skipped, self._momentum_eta, self._eta)

    def state_dict(self) -> dict[str, Any]:
        return {"eta": self._momentum_eta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._momentum_eta = torch.as_tensor(state["eta"], dtype=torch.float64, device=self._momentum_eta.device)


def amplification(group: Mapping[str, Any]) -> float:
    """``lr_0 / lr_t`` of an optimizer's parameter group (eq. 4)."""
    if group["lr"] == 0:
        raise ValueError("the learning rate is 0, so eq. 4 has no amplification; use form: groups")
    return float(group["initial_lr"] / group["lr"])


@torch.no_grad()
def amplify_(weights: list[nn.Parameter], eta: float, decay: float) -> None:
    """``g <- eta * g + (eta - 1) * decay * w``: with the optimizer's own ``decay * w`` the sum is amplified by eta."""
    grads = [weight.grad for weight in weights if weight.grad is not None]
    torch._foreach_mul_(grads, eta)
    if decay:
        torch._foreach_add_(grads, tuple(weights), alpha=(eta - 1) * decay)


@torch.no_grad()
def rescale_momentum_(optimizer: Optimizer, weights: list[nn.Parameter], factor: Tensor) -> None:
    """Multiply the momentum buffers of ``weights`` by a 0-dim factor: they hold gradients amplified by the old eta."""
    held = (optimizer.state[weight].get("momentum_buffer") for weight in weights)
    buffers = [buffer for buffer in held if buffer is not None]
    if buffers:  # none before the first step
        torch._foreach_mul_(buffers, factor)
