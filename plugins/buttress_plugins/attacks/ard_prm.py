"""ARD and PRM: an attack for vision transformers that leaves out attention gradients and patches early in training.

Source: Mo, Wu, Wang, Guo, Wang, "When Adversarial Training Meets Vision Transformers: Recipes from Training to
Architecture", arXiv:2210.07540. During the warm-up, attention random dropping (ARD) keeps the gradient of a step of PGD
from flowing through random attention branches, and perturbation random masking (PRM) sets the perturbation of random
patches to zero before a step. Branches and patches are drawn anew in each step, patches once for the whole batch; all
are left out at the start, none after the warm-up. As in the public code, the share grows from step to step, and a
gaussian start is clipped to the box.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor, nn

from buttress import Adv, AttackLossChoice, Batch, Context, LoadedAttackLoss, PluginError, hookimpl, load_attack_loss
from buttress.functional import Start, first_perturbation, pgd
from buttress.settings import NonNegative, NonNegativeFraction, PerEpoch, Times


@dataclass(eq=False, kw_only=True)
class ARD_PRM:  # noqa: N801  (its names in the paper)
    """PGD in eval mode with attention random dropping and perturbation random masking, for any ViT of timm.

    Args:
        ard: whether attention branches are left out of the gradient; needs transformer blocks of timm.
        prm: whether patches of the perturbation are masked; needs the patch embedding of timm, or ``patch``.
        warmup: number of epochs in which the share that is kept grows from 0 to ``kept``.
        kept: share of branches and patches that is kept after the warm-up; 1 in the paper.
        patch: side of a masked patch in pixels; null: that of the model's patch embedding.
        steps: number of gradient steps.
        step_size: length of a step in units of the input; default eps / 4.
        loss: loss that the steps maximise: ``ce``, ``kl`` (TRADES), or another attack loss by name.
        start: random start: ``uniform`` in the ball, ``gaussian`` (x + 0.001 N(0, 1), clipped to the box; TRADES,
            MART), or ``none``.

    These draws may be injected: ``ard_prm.start``, the finished first perturbation ``[B,*]``; ``ard_prm.branches``,
    bool ``[steps, blocks]``, the attention branches that are left out; ``ard_prm.patches``, bool ``[steps, patches]``,
    the patches that are masked, row by row of the image.
    """

    attack_mode = "eval"

    ard: bool = True
    prm: bool = True
    warmup: NonNegative = 10.0
    kept: Annotated[float, Interval(ge=0, le=1)] = 1.0
    patch: Times | None = None
    steps: PerEpoch[Times] = 10
    step_size: PerEpoch[NonNegativeFraction] | None = None
    loss: AttackLossChoice = "ce"
    start: Start = "uniform"

    refuses: Mapping[str, str] = field(init=False, repr=False)
    _loss: LoadedAttackLoss = field(init=False, repr=False)
    _branches: list[nn.Module] = field(init=False, repr=False, default_factory=list)
    _patch: tuple[int, int] = field(init=False, repr=False, default=(1, 1))

    def __post_init__(self) -> None:
        self._loss = load_attack_loss(self.loss)
        self.refuses = self._loss.refuses
        if self.start == "none":
            self._loss.expect_gradient_at_x(["gaussian", "uniform"])

    @classmethod
    def example(cls, folder: Path, model: nn.Module, batch: Batch) -> Mapping[str, Any]:
        """The settings for an examination on a small network that is no transformer: PRM with four patches."""
        return {"ard": False, "patch": batch.x.shape[-1] // 2}

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        if self.ard:
            self._branches = attention_branches(model)
            if not self._branches:
                raise PluginError(
                    "ard: expected a vision transformer of timm, with blocks that have the children attn and "
                    f"mlp, got {type(model).__name__} without one; take such a model, or ard: false"
                )
        if self.prm:
            self._patch = patch_size(model) if self.patch is None else (self.patch, self.patch)

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        kept = self.kept * keep_rate(ctx.epoch, ctx.step, ctx.steps_per_epoch, self.warmup)
        dropped, masks = self._dropped(kept, ctx), self._masks(kept, batch.x, ctx)
        steps, loss, x = ctx.value(self.steps), self._loss(model, batch, ctx), batch.x.detach()
        step_size = ctx.threat.eps / 4 if self.step_size is None else ctx.value(self.step_size)
        nonfinite = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        delta = self._start(x, ctx)
        if dropped is None and masks is None:  # plain PGD
            x_adv = pgd(loss, x, ctx.threat, steps=steps, step_size=step_size, start=delta, nonfinite=nonfinite)
            return Adv(x_adv, {"nonfinite_grads": nonfinite})
        for number in range(steps):
            if masks is not None:
                delta = torch.where(masks[number], 0.0, delta)
            with gradients_kept_out(self._branches, dropped[number] if dropped else []):
                x_adv = pgd(loss, x, ctx.threat, steps=1, step_size=step_size, start=delta, nonfinite=nonfinite)
            delta = x_adv - x
        return Adv(x_adv, {"nonfinite_grads": nonfinite})

    def _start(self, x: Tensor, ctx: Context) -> Tensor:
        injected = ctx.draw("start", x.shape)
        if injected is not None:
            return injected
        delta = first_perturbation(self.start, x, ctx.threat, partial(ctx.noise, "start"))
        if delta is None:
            return torch.zeros_like(x)
        return ctx.threat.clamp(x + delta) - x if self.start == "gaussian" else delta

    def _dropped(self, kept: float, ctx: Context) -> list[list[bool]] | None:
        """The attention branches ``[steps, blocks]`` that a gradient leaves out; None where all are kept.

        They are drawn on the CPU: the host then decides without waiting for the device.
        """
        shape = (ctx.value(self.steps), len(self._branches))
        given = ctx.draw("branches", shape) if self.ard else None
        if given is None:
            if not self.ard or kept >= 1:
                return None
            given = torch.rand(shape, generator=ctx.generator("branches", device="cpu", shared=True)) >= kept
        return [[bool(each) for each in row] for row in given.tolist()]

    def _masks(self, kept: float, x: Tensor, ctx: Context) -> Tensor | None:
        """The pixels ``[steps, H, W]`` whose perturbation is set to zero before a step; None where none is."""
        if not self.prm:
            return None
        grid = grid_of(x, self._patch)
        patches = grid[0] * grid[1]
        shape = (ctx.value(self.steps), patches)
        given = ctx.draw("patches", shape)
        if given is None:
            count = int((1 - kept) * patches)
            if count == 0:
                return None
            order = torch.rand(shape, generator=ctx.generator("patches", shared=True), device=x.device).argsort(1)
            given = order < count
        return pixels(given, grid, self._patch)


def keep_rate(epoch: int, step: int, steps_per_epoch: int | None, warmup: float) -> float:
    """The share ``min(1, t / warmup)`` of what is kept in the end; t counts epochs to this step's end, or whole."""
    t = epoch + (0.0 if steps_per_epoch is None else (step + 1) / steps_per_epoch)
    return 1.0 if t >= warmup else t / warmup


def attention_branches(model: nn.Module) -> list[nn.Module]:
    """The attention modules of the transformer blocks of timm in ``model``, in order."""
    blocks = [
        each for each in model.modules() if _of_timm(each) and {"attn", "mlp"} <= dict(each.named_children()).keys()
    ]
    return [block.get_submodule("attn") for block in blocks]


def patch_size(model: nn.Module) -> tuple[int, int]:
    """Height and width of the patches that the patch embedding of timm in ``model`` makes.

    Raises:
        PluginError: there is none.
    """
    for module in model.modules():
        size = getattr(module, "patch_size", None)
        if _of_timm(module) and isinstance(size, Sequence) and len(size) == 2:
            return int(size[0]), int(size[1])
    raise PluginError(
        f"patch: expected a model with a patch embedding of timm, got {type(model).__name__} without one; "
        "name the side of a patch in pixels, or set prm: false"
    )


def _of_timm(module: nn.Module) -> bool:
    return any(each.__module__.partition(".")[0] == "timm" for each in type(module).__mro__)


def grid_of(x: Tensor, patch: tuple[int, int]) -> tuple[int, int]:
    """Number of rows and columns of patches of images ``x [B,C,H,W]``.

    Raises:
        PluginError: x holds no images, or patches do not fill them.
    """
    if x.dim() != 4 or x.shape[2] % patch[0] or x.shape[3] % patch[1]:
        raise PluginError(
            f"expected images [B,C,H,W] that patches of {patch[0]}x{patch[1]} fill, got shape "
            f"{list(x.shape)}; choose another patch, or prm: false"
        )
    return x.shape[2] // patch[0], x.shape[3] // patch[1]


def pixels(patches: Tensor, grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """``[steps, H, W]``: the values of ``patches [steps, P]``, each on all pixels of its patch."""
    (rows, columns), (height, width) = grid, patch
    spread = patches.view(-1, rows, 1, columns, 1).expand(-1, -1, height, -1, width)
    return spread.reshape(-1, rows * height, columns * width)


@contextmanager
def gradients_kept_out(modules: Sequence[nn.Module], dropped: Sequence[bool]) -> Iterator[None]:
    """Let no gradient flow through the outputs of the modules that are ``dropped``, within the block."""
    with ExitStack() as stack:
        for module, out in zip(modules, dropped, strict=False):
            if out:
                stack.enter_context(module.register_forward_hook(_detached))
        yield


def _detached(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.detach()
