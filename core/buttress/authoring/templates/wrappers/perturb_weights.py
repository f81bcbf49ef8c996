"""Rare perturbations: the weights are perturbed in some steps only, whatever perturbs them."""

from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from buttress import Adv, Context, hookimpl

Manager = AbstractContextManager[Adv | None] | None


@dataclass(eq=False, kw_only=True)
class Example:
    """Leaves out the weight perturbation of most steps.

    Args:
        every: number of steps from one perturbation to the next.
    """

    every: Annotated[int, Ge(1)] = 2

    @hookimpl(wrapper=True)
    def perturb_weights(self, ctx: Context) -> Generator[None, Manager, Manager]:
        manager = yield  # the answer of the perturbation, not entered yet; None: this step has none
        return manager if is_due(ctx.global_step, self.every) else None


def is_due(step: int, every: int) -> bool:
    """Whether a step, counted from 0, is one of every ``every``."""
    return step % every == 0


def test_is_due_in_one_step_of_three() -> None:
    assert [is_due(step, 3) for step in range(5)] == [True, False, False, True, False]
