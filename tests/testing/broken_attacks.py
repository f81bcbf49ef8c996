"""One attack for each promise of attacks, that breaks it; as in ``broken``."""

import torch
import torch.nn.functional as F

from buttress import hookimpl


class Works:
    """One signed step on the cross-entropy."""

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        return signed(model, batch, ctx.threat)


def signed(model, batch, threat, scale=1.0):
    x = batch.x.clone().requires_grad_()
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(F.cross_entropy(model(x), batch.y), x)
    return threat.project(batch.x + scale * float(threat.eps) * grad.sign(), batch.x)


class Averages:
    """Divides by the standard deviation over the batch, which a single example does not have."""

    breaks = "attacks"

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        return ctx.threat.project(batch.x + batch.x.std(0, keepdim=True), batch.x)


class LeavesBall:
    """Does not project where the threat is L2."""

    breaks = "stays_inside"

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        return signed(model, batch, ctx.threat) if ctx.threat.norm == "linf" else 1 - batch.x


class Trains:
    """Leaves the model in train mode."""

    breaks = "model_as_found"

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        model.layer4.train()
        return signed(model, batch, ctx.threat)


class Accumulates:
    """Differentiates by backward(), which leaves gradients in the weights."""

    breaks = "model_as_found"

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        x = batch.x.clone().requires_grad_()
        F.cross_entropy(model(x), batch.y).backward()
        return ctx.threat.project(batch.x + float(ctx.threat.eps) * x.grad.sign(), batch.x)


_calls = [0]


class CountsBatches:
    """Attacks the weaker, the more batches it has seen."""

    breaks = "repeats_itself"

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        _calls[0] += 1
        return signed(model, batch, ctx.threat, 1 / _calls[0])


class DrawsGlobally:
    """Starts from noise of the global generator."""

    breaks = "global_generators_untouched"
    also = ("repeats_itself",)

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        return ctx.threat.project(batch.x + torch.randn_like(batch.x), batch.x)


class ForSinglePrecision:
    """Does nothing to what is not float32."""

    breaks = "formats_agree"

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        return signed(model, batch, ctx.threat) if batch.x.dtype == torch.float32 else batch.x


class SaysTooLittle(Works):
    """Has one forward, and says none."""

    breaks = "forwards_counted"

    def forwards(self, examples):
        return 0


class WritesInputs:
    """Takes its step in the caller's own tensor."""

    breaks = "inputs_as_found"

    @hookimpl
    def generate_adv(self, model, batch, ctx):
        adv = signed(model, batch, ctx.threat)
        batch.x.mul_(0.999)
        return ctx.threat.project(adv, batch.x)
