"""TensorBoard: every number of ``metrics.jsonl`` as a curve, through torch's own writer.

Show them with ``tensorboard --logdir runs``. A resumed run continues its curves: points that an interrupted run had
written after the checkpoint are withdrawn (TensorBoard's purge step).
"""

from collections.abc import Mapping

from torch import nn

from buttress import Context, PluginError, hookimpl


class TensorBoard:
    """Event files in the folder ``tensorboard`` of the run; needs the package tensorboard.

    Tags are ``train/loss`` and whatever else a training record holds, ``epoch/loss``, and ``test/robust/meat`` for
    split, measure and track of an evaluation. The step is the number of training steps done.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as problem:
            raise PluginError(
                f"logger tensorboard: its package is not installed ({problem}); pip install 'buttress[tensorboard]', "
                "or take tensorboard out of loggers"
            ) from None
        self._open = SummaryWriter

    @hookimpl
    def start_run(self, model: nn.Module, ctx: Context) -> None:
        assert ctx.folder is not None  # a logger has one
        self._writer = self._open(ctx.folder / "tensorboard", purge_step=ctx.global_step + 1)

    @hookimpl
    def log(self, metrics: Mapping[str, object], ctx: Context) -> None:
        for tag, value in scalars(metrics).items():
            self._writer.add_scalar(tag, value, ctx.global_step)
        if metrics["event"] == "evaluation":
            self._writer.flush()

    @hookimpl
    def end_run(self) -> None:
        self._writer.close()


def scalars(metrics: Mapping[str, object]) -> dict[str, float]:
    """The numbers of one record by tag, without those that only tell when and on how many examples they were taken."""
    event = metrics["event"]
    about = {"epoch", "global_step", "n"}
    numbers = {
        name: float(value) for name, value in metrics.items() if isinstance(value, (int, float)) and name not in about
    }
    if event == "evaluation":
        return {f"{metrics['split']}/{name}/{metrics['track']}": value for name, value in numbers.items()}
    return {f"{event}/{name}": value for name, value in numbers.items()}
