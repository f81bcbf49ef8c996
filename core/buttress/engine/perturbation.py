"""Take a weight perturbation back exactly, after the plugin has added it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from torch import Tensor

from buttress.hookspecs import ExitOrder
from buttress.kernels import restore_, unperturb_
from buttress.nn.as_found import put_values_back
from buttress.nn.scratch import Scratch
from buttress.types import Adv


class Perturbed:
    """A weight perturbation in force, as the training step sees it.

    Args:
        adv: adversarial examples for the training loss.
        before_step: ends the plugin's context manager, and with ``restore_then_step`` the perturbation.
    """

    def __init__(self, adv: Adv, before_step: Callable[[], None]) -> None:
        self.adv = adv
        self.before_step = before_step


class Copies:
    """Memory for copies of the weights before and after a perturbation, and of the buffers, reused in all steps."""

    def __init__(self) -> None:
        self.before, self.after = Scratch(), Scratch()
        self.buffers = Scratch()

    def weights(self, needed: bool) -> Scratch | None:
        """Memory for copies of the weights; None, and the memory given back, where they are not ``needed``."""
        if not needed:
            self.before.free()
        return self.before if needed else None


@contextmanager
def perturbed(
    manager: AbstractContextManager[Adv | None] | None,
    adv: Adv,
    weights: Iterable[Tensor],
    order: ExitOrder,
    saved: Sequence[Tensor] | None = None,
    after: Scratch | None = None,
) -> Iterator[Perturbed]:
    """Run a step's loss, backward and optimizer inside ``manager``, and take its perturbation back.

    ``saved`` holds copies of ``weights``; None makes them here. Without a manager nothing is perturbed.

    ``restore_then_step`` (AMP): the saved weights come back, bit for bit, before the optimizer steps.
    ``step_while_perturbed`` (AWP, RWP): the optimizer steps at w0 + v, so weight decay sees w0 + v; afterwards the
    weights are ``w0 + (w_stepped - w_perturbed)``, and elements that were not perturbed keep their stepped value.
    An exception brings the saved weights back.
    """
    if manager is None:
        yield Perturbed(adv, lambda: None)
        return
    weights = list(weights)
    if saved is None:
        saved = Scratch().copies(weights)
    try:
        with ExitStack() as stack:
            answer = stack.enter_context(manager)
            moved = (after or Scratch()).copies(weights) if order == "step_while_perturbed" else []

            def before_step() -> None:
                stack.close()
                if order == "restore_then_step":
                    restore_(weights, saved)

            yield Perturbed(answer if isinstance(answer, Adv) else adv, before_step)
            if order == "step_while_perturbed":
                unperturb_(weights, saved, moved)
    except BaseException:  # after the plugin's manager has been left, whatever it did while leaving
        put_values_back(weights, saved)
        raise
