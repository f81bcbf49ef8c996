"""One logger for each promise of loggers, that breaks it; as in ``broken``."""

import torch

from buttress import hookimpl


class ExpectsALoss:
    """Takes for granted that every record has a loss; an evaluation has none."""

    breaks = "takes_records"

    @hookimpl
    def log(self, metrics):
        assert metrics["loss"]


class MakesItsFolder:
    """Makes a folder that is there already when a run goes on."""

    breaks = "takes_records"

    @hookimpl
    def start_run(self, ctx):
        (ctx.folder / "mine").mkdir()

    @hookimpl
    def log(self, metrics):
        pass


class Rounds:
    """Rounds the weights that it is shown."""

    breaks = "run_untouched"

    @hookimpl
    def start_run(self, model):
        for weight in model.parameters():
            weight.data.copy_(weight.data.bfloat16())

    @hookimpl
    def log(self, metrics):
        pass


class DrawsGlobally:
    """Logs every second record, by a global draw."""

    breaks = "global_generators_untouched"

    @hookimpl
    def log(self, metrics):
        torch.rand(1)
