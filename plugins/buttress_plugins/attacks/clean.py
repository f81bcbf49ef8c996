"""Natural training and clean accuracy: the attack that returns its input."""

from buttress import Adv, Batch, hookimpl


class Clean:
    """No attack: the inputs themselves serve as adversarial examples."""

    takes = ("unlabelled examples",)

    @hookimpl
    def generate_adv(self, batch: Batch) -> Adv:
        return Adv(batch.x.detach())
