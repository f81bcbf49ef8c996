"""The threat model: which inputs an adversary may reach from ``x``."""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from buttress.errors import ConfigError
from buttress.number_text import exact_fraction
from buttress.streams import NoiseSource, noise

Norm = Literal["linf", "l2"]
Shrink = Literal["exact", "renorm"]
"""How a perturbation longer than the radius comes back into an L2 ball: ``shrink_l2``, or ``torch.renorm``."""


@dataclass(frozen=True)
class ThreatModel:
    """All ``x'`` with ``||x' - x|| <= eps`` inside the box.

    Args:
        norm: ``linf``, or ``l2`` (per example, over all of its elements).
        eps: radius in units of the input (pixels in [0, 1]); kept as an exact fraction: ``"8/255"``.
        box: lower and upper bound of every input value, or None for unbounded inputs.

    Raises:
        ConfigError: the norm is unknown; eps is negative, infinite, NaN, or (L-inf) wider than the box; or the box is
            empty.
    """

    norm: Norm
    eps: Fraction
    box: tuple[float, float] | None = (0.0, 1.0)

    def __init__(
        self, norm: Norm, eps: Fraction | float | str, box: tuple[float, float] | list[float] | None = (0.0, 1.0)
    ) -> None:
        if norm not in ("linf", "l2"):
            raise ConfigError(f"expected 'linf' or 'l2', got {norm!r}", key="threat.norm")
        try:
            radius = exact_fraction(eps)
        except ValueError as problem:
            raise ConfigError(problem, key="threat.eps") from None
        if radius < 0:
            raise ConfigError(f"expected a value >= 0, got {eps}", key="threat.eps")
        bounds = None if box is None else _bounds(box)
        if norm == "linf" and bounds is not None and radius > bounds[1] - bounds[0]:
            hint = f"; did you mean {radius}/255?" if radius.denominator == 1 else ""
            raise ConfigError(
                f"{eps} reaches beyond the whole box [{bounds[0]:g}, {bounds[1]:g}]{hint}", key="threat.eps"
            )
        object.__setattr__(self, "norm", norm)
        object.__setattr__(self, "eps", radius)
        object.__setattr__(self, "box", bounds)

    def __str__(self) -> str:
        box = "no box" if self.box is None else f"box [{self.box[0]:g}, {self.box[1]:g}]"
        return f"{self.norm} eps {self.eps}, {box}"

    def clamp(self, x: Tensor) -> Tensor:
        """``x [B,*]`` clipped to the box."""
        return x if self.box is None else x.clamp(*self.box)

    def project(self, x_adv: Tensor, x: Tensor, *, order: str = "norm_then_box", shrink: Shrink = "exact") -> Tensor:
        """The point of the norm ball around ``x [B,*]`` reached from ``x_adv [B,*]``, and inside the box.

        For L-inf both sets are boxes; ``order`` and ``shrink`` change nothing. For L2, ``norm_then_box`` (RO lineage)
        and ``box_then_norm`` (TRADES) differ at the border of the box. ``shrink: renorm`` is the projection of both
        public codes: ``torch.renorm``, which divides by the norm plus 1e-7.
        """
        eps = float(self.eps)
        if self.norm == "linf":
            return self.clamp(torch.minimum(torch.maximum(x_adv, x - eps), x + eps))
        shrunk = shrink_l2 if shrink == "exact" else renorm_l2
        if order == "box_then_norm":
            return self.clamp(x + shrunk(self.clamp(x_adv) - x, eps))  # clamped again: the sum is rounded
        return self.clamp(x + shrunk(x_adv - x, eps))

    def random_start(self, x: Tensor, source: NoiseSource) -> Tensor:
        """A random point of the ball around ``x [B,*]``, inside the box.

        L-inf: uniform in the cube. L2: uniform direction, radius eps * U(0, 1) (not uniform in volume), as in the
        public code of the RO lineage. The numbers are those of ``source``: a generator, or in a plugin
        ``partial(ctx.noise, "start")``.
        """
        eps = float(self.eps)
        if self.norm == "linf":
            return self.clamp(x + noise(x, source).mul_(2 * eps).sub_(eps))
        direction = noise(x, source, "normal")
        radius = noise(x.flatten(1)[:, 0], source) * eps
        return self.clamp(x + unit_l2(direction) * per_example(radius, x))

    def surface_start(self, x: Tensor, source: NoiseSource) -> Tensor:
        """``[B,*]`` random perturbations of ``x [B,*]`` of length eps, which may leave the box, as those of Auto-PGD.

        L-inf: uniform in a cube, stretched to the surface. L2: uniform direction.
        """
        eps = float(self.eps)
        if self.norm == "linf":
            cube = noise(x, source).mul_(2).sub_(1)
            return eps * cube / per_example(cube.flatten(1).abs().amax(1), x)
        return eps * unit_l2(noise(x, source, "normal"))

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """``[B]`` distances in the norm of the threat model."""
        delta = (x_adv - x).flatten(1)
        return delta.abs().amax(1) if self.norm == "linf" else l2_norm(delta)

    def contains(self, x_adv: Tensor, x: Tensor, radius: float = 1.0) -> Tensor:
        """A 0-dim bool on the device: every example finite, in the ball and in the box, up to rounding.

        The ball is that of ``radius * eps``.

        Slack: an element of ``x +- eps`` is rounded once, so by at most eps_machine/2 of the largest magnitude that
        it can have (in the box; without bounds, of x plus eps); four times that for L-inf, and its L2 sum over the D
        elements of an example for L2.
        """
        machine, eps = torch.finfo(x.dtype).eps, radius * float(self.eps)
        slack: Tensor | float = 2 * machine * (1.0 if self.norm == "linf" else x[0].numel() ** 0.5)
        if self.box is None or math.inf in map(abs, self.box):
            slack = slack * (x.abs().amax() + eps).clamp_min(1.0)
        else:
            slack = slack * max(1.0, *map(abs, self.box))
        return self.box_contains(x_adv) & (self.distance(x_adv, x).amax() <= eps + slack)

    def box_contains(self, x: Tensor) -> Tensor:
        """A 0-dim bool on the device: every value finite and inside the box."""
        low, high = torch.aminmax(x)  # NaN propagates, and then no comparison holds
        if self.box is None:
            return (low > -math.inf) & (high < math.inf)
        return (low >= self.box[0]) & (high <= self.box[1]) & (high < math.inf)


def l2_norm(x: Tensor) -> Tensor:
    """``[B]`` L2 norms of ``x [B,*]``."""
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norms


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """``values [B]`` shaped ``[B,1,...]`` to broadcast against ``like [B,*]``."""
    return values.view(-1, *[1] * (like.dim() - 1))


def unit_l2(x: Tensor) -> Tensor:
    """``x [B,*]``, every example divided by its L2 norm, whatever its scale; a zero example stays zero.

    The largest magnitude is divided out first, because the squares of a small gradient are below, and those of a large
    one above what the dtype holds.
    """
    tiny = torch.finfo(x.dtype).tiny  # below it, nothing but zero divides without loss
    scaled = x / per_example(torch.linalg.vector_norm(x.flatten(1), math.inf, dim=1).clamp_min(tiny), x)
    return scaled / per_example(l2_norm(scaled).clamp_min(tiny), x)


def _bounds(box: object) -> tuple[float, float]:
    """Lower and upper bound, of whatever holds two numbers in order."""
    try:
        low, high = [] if isinstance(box, (str, bytes, Mapping, Set)) else list(box)  # type: ignore[call-overload]
        if isinstance(low, (bool, str)) or isinstance(high, (bool, str)) or not low < high:
            raise ValueError
        return float(low), float(high)
    except (TypeError, ValueError):
        raise ConfigError(f"expected [low, high] with low < high, or null, got {box!r}", key="threat.box") from None


def expect_threat(threat: object, who: str) -> None:
    """Expect a threat model.

    Raises:
        ConfigError: it is none; the message begins with ``who`` and shows how to write one.
    """
    if not isinstance(threat, ThreatModel):
        raise ConfigError(f'{who}: expected threat=ThreatModel("linf", "8/255") or the like, got {threat!r}')


def shrink_l2(delta: Tensor, radius: float) -> Tensor:
    """``delta [B,*]`` scaled per example into the L2 ball; examples inside it are left as they are."""
    tiny = torch.finfo(delta.dtype).tiny
    return delta * per_example((radius / l2_norm(delta).clamp_min(tiny)).clamp_max(1.0), delta)


def renorm_l2(delta: Tensor, radius: float) -> Tensor:
    """``shrink_l2`` as ``torch.renorm`` does it: a longer example ends ``1e-7 radius / norm`` short of the radius."""
    return delta.flatten(1).renorm(2, 0, radius).view_as(delta)
