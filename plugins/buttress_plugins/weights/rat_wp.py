"""RAT_WP: adversarial weight perturbation of the latter layers alone.

Source: Nguyen, Yu, Nandakumar, Lee, Liu, "On Intriguing Layer-Wise Properties of Robust Overfitting in Adversarial
Training", TMLR 2024, section 4: AWP with v_j = 0 outside of the latter layer groups. On all groups it is AWP.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from torch import nn

from buttress import Adv, Ascent, Context, ExitOrder, Objective, hookimpl
from buttress.kernels import perturb_
from buttress.nn import Patterns, layer_names, matrices
from buttress.settings import Epoch, NonNegative, PerEpoch, expect_fitting_ascent

NO_MIXED_INPUTS = {"mixed inputs": "the public code of AWP refuses Mixup, and nobody has measured the two together"}


@dataclass(eq=False, kw_only=True)
class RAT_WP:  # noqa: N801  (its name in the paper)
    """AWP on some layer groups.

    Args:
        gamma: size of the perturbation, relative to the weights'; 0 switches it off. 0.005 with TRADES.
        layers: numbers of the layer groups; all groups together mean the whole network.
        groups: patterns of parameter names by group number, for models whose groups are not known.
        head_group: the group that the last norm and the classifier join; null: none.
        start: first epoch with a perturbation: 0-based epoch, or a fraction of the epochs in (0, 1).
        exit_order: ``step_while_perturbed`` (the public code of AWP), or ``restore_then_step``.
        ascent: gradient on several processes: that of the mean over all examples of the step (``global``, as in one
            process), or each process's own, without a collective (``local``, with ``restore_then_step``).
    """

    refuses = NO_MIXED_INPUTS

    gamma: PerEpoch[NonNegative] = 0.01
    layers: list[int] = field(default_factory=lambda: [3, 4])
    groups: Patterns | None = None
    head_group: int | None = None
    start: Epoch = 0
    exit_order: ExitOrder = "step_while_perturbed"
    ascent: Ascent = "global"

    _weights: list[nn.Parameter] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        expect_fitting_ascent(self.ascent, self.exit_order)

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        names = set(layer_names(model, self.layers, self.groups, self.head_group))
        chosen = {id(weight) for name, weight in model.named_parameters() if name in names}
        self._weights = [weight for weight in matrices(model) if id(weight) in chosen]

    @hookimpl
    def perturb_weights(self, adv: Adv, objective: Objective, ctx: Context) -> AbstractContextManager[None] | None:
        gamma = ctx.value(self.gamma)
        if gamma == 0 or ctx.epoch < ctx.resolve_epoch(self.start):
            return None
        return self._perturbed(adv, objective, gamma)

    @contextmanager
    def _perturbed(self, adv: Adv, objective: Objective, gamma: float) -> Iterator[None]:
        grads = objective.grads(objective(adv).mean(), self._weights, ascent=self.ascent)
        perturb_(self._weights, grads, gamma, norm="layer")
        yield
