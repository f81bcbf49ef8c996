"""One plugin for each promise, that breaks it: it says which by ``breaks``, and by ``also`` what follows from it."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt

from buttress import Loss, Track, hookimpl
from buttress.errors import HookError
from buttress.settings import PerEpoch

Share = Annotated[float, Ge(0), Lt(1)]


def grads_of(model):
    return [weight.grad for weight in model.parameters() if weight.grad is not None]


class Passes:
    """Changes nothing: what most of the plugins below are but for one thing."""

    @hookimpl
    def transform_batch(self, batch):
        return batch


# Answers


class Stops:
    """Freezes everything."""

    breaks = "trains"

    @hookimpl
    def adjust_grads(self, model):
        for grad in grads_of(model):
            grad.zero_()


class LeavesBox:
    """Adds a constant and does not clamp."""

    breaks = "inside_box"
    also = ("trains",)  # the core refuses its batches

    @hookimpl
    def transform_batch(self, batch):
        return replace(batch, x=batch.x + 0.01)


class LeavesBall:
    """Steps in float64 by a little more than eps and does not project, where the threat is L2."""

    breaks = "inside_ball"

    @hookimpl
    def generate_adv(self, batch, ctx):
        reach = float(ctx.threat.eps) * (1.2 if ctx.threat.norm == "l2" else 1.0)
        shift = torch.ones_like(batch.x) * (0.5 - batch.x).sign()
        size = 1.0 if ctx.threat.norm == "linf" else batch.x[0].numel() ** 0.5
        return batch.x + shift * reach / size


class MeansLosses:
    """Gives every example the mean of all losses."""

    breaks = "one_loss_an_example"

    @hookimpl
    def compute_loss(self, model, batch, adv):
        return F.cross_entropy(model(adv.x), batch.y).expand(len(batch.y))


class KeepsShape:
    """Mixes in the batch before, of the same size."""

    breaks = "incomplete_batch"
    also = ("exact_resume", "evaluation_moves_nothing", "replays_repeat")  # the batch before is in no checkpoint

    def __init__(self) -> None:
        self._before = None

    @hookimpl
    def transform_batch(self, batch):
        x = batch.x if self._before is None else 0.5 * (batch.x + self._before)
        self._before = batch.x
        return replace(batch, x=x)


class NamesItsTrack:
    """Has a setting for the name of its track and does not look at it.

    Args:
        track: ignored.
    """

    breaks = "track_named"

    def __init__(self, *, track: str = "mine") -> None:
        self.track = track

    @hookimpl
    def ensemble_weights(self, model, event, ctx):
        return Track(f"mine{id(self)}", None) if event == "evaluate" else None


# Batches


class Permutes:
    """Gives the examples another order, and leaves those of aux where they are."""

    breaks = "aux_kept"

    @hookimpl
    def transform_batch(self, batch):
        return replace(batch, x=batch.x.flip(0), y=batch.y.flip(0), index=batch.index.flip(0))


class Smooths:
    """Makes soft labels, and says so to nobody."""

    breaks = "gives_declared"

    @hookimpl
    def transform_batch(self, batch):
        return replace(batch, y=0.9 * F.one_hot(batch.y, 10).to(batch.x) + 0.01)


class CountsSteps:
    """Darkens the batches by the step of the run."""

    breaks = "replays_repeat"

    @hookimpl
    def transform_batch(self, batch, ctx):
        return replace(batch, x=batch.x * 0.99**ctx.global_step)


# Settings


class SaysNothing(Passes):
    """Has a line for its setting that says nothing.

    Args:
        alpha: -
    """

    breaks = "documented_settings"

    def __init__(self, *, alpha: Share = 0.5) -> None:
        self.alpha = alpha


class NoSource:
    breaks = "documented_source"

    @hookimpl
    def transform_batch(self, batch):
        return batch


class Undocumented(Passes):
    """Does not say what its setting means."""

    breaks = "documented_settings"

    def __init__(self, *, alpha: Share = 0.5) -> None:
        self.alpha = alpha


class WrongDefault(Passes):
    """Refuses its own default.

    Args:
        alpha: a share.
    """

    breaks = "valid_defaults"

    def __init__(self, *, alpha: Share = 1.5) -> None:
        self.alpha = alpha


class Unbounded(Passes):
    """Takes any number.

    Args:
        alpha: any number.
    """

    breaks = "bounded_settings"

    def __init__(self, *, alpha: float = 0.5) -> None:
        self.alpha = alpha


class TakesAnything(Passes):
    """Takes whatever it is given.

    Args:
        alpha: anything.
    """

    breaks = "refuses_bad_settings"

    def __init__(self, *, alpha: Any = None) -> None:
        self.alpha = alpha


class ReadsScheduleOnce:
    """Multiplies the loss by a setting, whatever the epoch says; and a schedule counts as 1.

    Args:
        weight: factor on the loss.
    """

    breaks = "follows_schedules"

    def __init__(self, *, weight: PerEpoch[Share] = 0.5) -> None:
        self.weight = weight

    @hookimpl(wrapper=True)
    def compute_loss(self):
        loss = yield
        return Loss(loss.per_example * (self.weight if isinstance(self.weight, float) else 1.0), loss.penalty)


_shared: list[int] = []


class Shares(Passes):
    """Keeps its list where all instances do."""

    breaks = "own_instances"

    def __init__(self) -> None:
        self.seen = _shared


@dataclass
class Equals(Passes):
    """Equal to every other one."""

    breaks = "own_instances"


# Surroundings


class NeedsEveryGradient:
    """Takes for granted that every weight has a gradient."""

    breaks = "trains_beside_frozen"

    @hookimpl
    def adjust_grads(self, model):
        for weight in model.parameters():
            weight.grad.clamp_(-1, 1)


class Evaluates:
    """Leaves the classifier in eval mode."""

    breaks = "mode_restored"

    @hookimpl
    def adjust_grads(self, model):
        model.layer4.eval()


class Freezes:
    """Freezes a layer in the middle of the run."""

    breaks = "requires_grad_restored"
    also = ("exact_resume",)  # what it froze is in no checkpoint

    @hookimpl
    def ensemble_weights(self, model, event):
        if event == "epoch":
            model.layer3.weight.requires_grad_(False)


class MovesFrozen:
    """Decays every weight, frozen or not."""

    breaks = "frozen_weights_stay"
    also = ("weights_as_found",)

    @hookimpl
    def ensemble_weights(self, model, event):
        if event == "step":
            for weight in model.parameters():
                weight.data.mul_(0.999)


class Accumulates:
    """Attacks with backward(), which leaves gradients in the weights."""

    breaks = "no_gradients_left"

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        x = batch.x.clone().requires_grad_()
        F.cross_entropy(model(x), batch.y).backward()
        return ctx.threat.project(batch.x + float(ctx.threat.eps) * x.grad.sign(), batch.x)


class MovesStatistics:
    """Looks at the clean batch in train mode at the end of each step."""

    breaks = "buffers_as_found"

    def __init__(self) -> None:
        self._x = torch.zeros(0)

    @hookimpl
    def transform_batch(self, batch):
        self._x = batch.x
        return batch

    @hookimpl
    def adjust_grads(self, model):
        with torch.no_grad():
            model(self._x)


class EditsWeights:
    """Shrinks the weights where it should shrink the gradients."""

    breaks = "weights_as_found"
    also = ("frozen_weights_stay",)

    @hookimpl
    def adjust_grads(self, model):
        for weight in model.parameters():
            weight.data.mul_(0.99)


class Swallows:
    """Answers with losses of its own where the training loss fails."""

    breaks = "weights_restored_after_failure"

    @hookimpl(wrapper=True)
    def compute_loss(self, model, batch):
        try:
            return (yield)
        except HookError:
            return model(batch.x).logsumexp(1)


class WritesInputs:
    """Adds its noise to the caller's own tensor."""

    breaks = "inputs_as_found"

    @hookimpl
    def transform_batch(self, batch):
        batch.x.mul_(0.99)
        return batch


class GivesLiveWeights:
    """Gives the live weights as its track, which training then goes on moving."""

    breaks = "tracks_restored"

    @hookimpl
    def ensemble_weights(self, model, event):
        return Track("alias", dict(model.named_parameters())) if event == "evaluate" else None


# Randomness


class DrawsGlobally:
    """Draws its noise from the global generator."""

    breaks = "global_generators_untouched"
    also = ("equal_seeds_equal_draws",)

    @hookimpl
    def transform_batch(self, batch, ctx):
        return replace(batch, x=ctx.threat.clamp(batch.x + 0.1 * torch.randn_like(batch.x)))


_calls = [0]


class CountsRuns:
    """Does something else in every run of the process."""

    breaks = "equal_seeds_equal_draws"

    @hookimpl
    def start_run(self):
        _calls[0] += 1

    @hookimpl
    def transform_batch(self, batch):
        return replace(batch, x=batch.x * (1 - 1e-3 * (_calls[0] % 100)))


class Meddles:
    """Draws from the stream of another plugin."""

    breaks = "moves_nobody_else"

    @hookimpl
    def transform_batch(self, batch, ctx):
        torch.rand(1, generator=ctx._state.generator("bystander", "noise"))
        return batch


class CountsEvaluations:
    """Scales the loss by how often its track was asked for."""

    breaks = "evaluation_moves_nothing"

    def __init__(self) -> None:
        self._asked = 0

    @hookimpl
    def ensemble_weights(self, event):
        self._asked += event == "evaluate"

    @hookimpl(wrapper=True)
    def compute_loss(self):
        loss = yield
        return Loss(loss.per_example / (1 + self._asked))


class Counts:
    """Remembers how often it was called, in its checkpoints too."""

    def __init__(self) -> None:
        self._calls = 0

    def state_dict(self):
        return {"calls": self._calls}

    def load_state_dict(self, state):
        self._calls = state["calls"]


class CountsTransforms(Counts):
    """Darkens the batches, the more of them it has seen; measuring batch norm shows it some, too."""

    breaks = "evaluation_moves_nothing"
    also = ("replays_repeat",)

    @hookimpl
    def transform_batch(self, batch):
        self._calls += 1
        return replace(batch, x=batch.x * 0.99**self._calls)


class CountsAttacks(Counts):
    """Attacks the weaker, the more batches it has seen; measuring batch norm shows it some, too."""

    breaks = "evaluation_moves_nothing"

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        self._calls += 1
        return ctx.threat.project(batch.x + float(ctx.threat.eps) * 0.9**self._calls, batch.x)


class CountsLosses(Counts):
    """Scales the loss by how often it was asked for one; a weight perturbation asks, too."""

    breaks = "objective_moves_nothing"

    @hookimpl(wrapper=True)
    def compute_loss(self):
        loss = yield
        self._calls += 1
        return Loss(loss.per_example * 0.99**self._calls)


class RemembersLosses(Counts):
    """Counts the losses that it gives, those for a weight perturbation too; they depend on nothing."""

    breaks = "objective_moves_nothing"

    @hookimpl(wrapper=True)
    def compute_loss(self):
        self._calls += 1
        return (yield)


class RemembersEvaluations(Counts):
    """Counts the times that it is asked for a track."""

    breaks = "evaluation_moves_nothing"

    @hookimpl
    def ensemble_weights(self, event):
        self._calls += event == "evaluate"


# Numbers


class SinglePrecision:
    """Answers in float32 whatever it is given."""

    breaks = "float64_works"

    @hookimpl
    def compute_loss(self, model, batch, adv):
        return F.cross_entropy(model(adv.x), batch.y, reduction="none").float()


class HalfPrecision:
    """Computes with seven bits of mantissa where it is given float32."""

    breaks = "float32_agrees"

    @hookimpl
    def adjust_grads(self, model):
        for grad in grads_of(model):
            if grad.dtype == torch.float32:
                grad.copy_(grad.bfloat16())


class Underflows:
    """Adds a small number that bfloat16 does not hold beside 1, and divides by what is left."""

    breaks = "bfloat16_agrees"

    @hookimpl
    def adjust_grads(self, model):
        for grad in grads_of(model):
            one = torch.ones((), dtype=grad.dtype)
            grad *= (one + 1e-3 - one) * 1e3


# State


class KeepsSet(Passes):
    """Its state is a set."""

    breaks = "plain_state"

    def __init__(self) -> None:
        self.seen = {1}

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class KeepsCounter(Passes):
    """Its state is a Counter."""

    breaks = "plain_state"

    def __init__(self) -> None:
        self.seen = Counter("a")

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class Forgets:
    """Divides by a count of steps that no checkpoint holds."""

    breaks = "exact_resume"

    def __init__(self) -> None:
        self._steps = 0

    @hookimpl
    def adjust_grads(self, model):
        self._steps += 1
        for grad in grads_of(model):
            grad /= self._steps


class AveragesAnything:
    """Remembers the mean of the losses, whatever they are."""

    breaks = "finite_state"

    def __init__(self) -> None:
        self.mean = torch.zeros(())
        self._latest = torch.zeros(())

    @hookimpl(wrapper=True)
    def compute_loss(self):
        loss = yield
        self._latest = loss.per_example.detach().mean()
        return loss

    @hookimpl
    def ensemble_weights(self, event):
        if event == "step":
            self.mean = self.mean.lerp(self._latest.to(self.mean), 0.1)

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


class SharesState:
    """Goes on counting in the very tensor that it was given."""

    breaks = "loaded_state_kept"

    def __init__(self) -> None:
        self.count = torch.zeros(1)

    @hookimpl
    def ensemble_weights(self, event):
        if event == "step":
            self.count += 1

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


# Company


class TakesTheName:
    """Names its track as the median's in the examination is named."""

    breaks = "beside_meat"

    @hookimpl
    def ensemble_weights(self, event):
        return Track("median", None) if event == "evaluate" else None


class ExpectsLogits:
    """Takes for granted that the loss has called the model on the adversarial examples alone."""

    breaks = "beside_joint_forward"

    @hookimpl(wrapper=True)
    def compute_loss(self, adv, ctx):
        loss = yield
        return Loss(loss.per_example * ctx.outputs(adv.x).detach().softmax(1).amax(1))


class ExpectsOneForward:
    """Takes the loss's first look at the model for its only one."""

    breaks = "beside_trades"

    def __init__(self) -> None:
        self._forwards = 0

    @hookimpl
    def start_run(self, model):
        model.register_forward_hook(self._count)

    def _count(self, module, inputs, output):
        self._forwards += module.training and output.requires_grad

    @hookimpl(wrapper=True)
    def compute_loss(self):
        before = self._forwards
        loss = yield
        if self._forwards > before + 1:
            raise RuntimeError("two forwards in a step")
        return loss
