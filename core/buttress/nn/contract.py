"""Check a model: parameters that can learn, on one device, and logits ``[B,K]`` from its forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from buttress.errors import ButtressError, DataError, HookError, ModelError, describe, extended
from buttress.nn.calls import calls_seen
from buttress.nn.layout import expect_safe_layout
from buttress.nn.lost_gradient import expect_gradient_through


def device_of(model: nn.Module, who: str) -> torch.device:
    """The one device of the parameters of ``model``.

    Raises:
        ModelError: ``model`` is no module, has no parameters, has them on several devices, or has tensors without a
            shape, without values, or made under ``torch.inference_mode``. The message begins with ``who``.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"{who}: expected a model that is an nn.Module, got {form_of(model)}")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if problem := _unfit(tensor):
            raise ModelError(f"{who}: {name!r} of the model {problem}")
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) != 1:
        names = ", ".join(sorted(map(str, devices))) or "none"
        raise ModelError(f"{who}: expected a model with parameters on one device, got {names}")
    return devices.pop()


def _unfit(tensor: Tensor) -> str:
    if is_lazy(tensor):
        return "has no shape yet, as in nn.LazyLinear; run the model on one batch before"
    if tensor.is_meta:
        return "has no values: it is on the meta device; give the model weights, for example by model.to_empty(...)"
    if tensor.is_inference():
        return "was made under torch.inference_mode() and can never learn; build and load the model outside of it"
    return ""


def expect_learnable(model: nn.Module, who: str) -> None:
    """Expect parameters that are real numbers, so that they have norms and can be perturbed, and some that can learn.

    Raises:
        ModelError: a parameter is of another kind, none requires a gradient, or the model is TorchScript. The message
            begins with ``who``.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            f"{who}: it is TorchScript, which takes no hooks (a traced one no modes either); train the module that it "
            "was made of, and script it afterwards"
        )
    for name, parameter in model.named_parameters():
        if parameter.is_complex():
            raise ModelError(
                f"{who}: parameter {name!r} is of complex numbers ({parameter.dtype}), for which norms and "
                "perturbations of weights are not defined; make a parameter of torch.view_as_real(...), and combine "
                "its two parts in the forward by torch.view_as_complex"
            )
        if not parameter.is_floating_point():
            raise ModelError(
                f"{who}: parameter {name!r} is of {parameter.dtype}, which cannot learn; register it as a buffer"
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{who}: no parameter of the model requires a gradient; call requires_grad_() on some")


def expect_logits(model: nn.Module, output: object, examples: int) -> int:
    """The number of classes K of ``output``, logits ``[examples,K]`` that ``model`` gave.

    Raises:
        ModelError: the output is something else; the message says how to make logits of it.
    """
    who = f"model {type(model).__name__}"
    if not isinstance(output, Tensor):
        raise ModelError(f"{who}: expected its forward to return logits [B,K], got {form_of(output)}{_way_out(output)}")
    got = form_of(output)
    if output.shape == (examples,) or output.shape == (examples, 1):
        raise ModelError(
            f"{who}: expected logits [B,K] of K >= 2 classes, got one number for each example, {got}; for two classes "
            "give the last layer two outputs, and int64 labels 0 and 1 of shape [B]"
        )
    if output.dim() != 2 or len(output) != examples or not output.is_floating_point():
        raise ModelError(f"{who}: expected floating-point logits [B,K] with B = {examples}, got {got}")
    return output.shape[1]


def _way_out(output: object) -> str:
    """The end of a message: how to make logits of ``output`` by a module around the model."""
    if isinstance(output, Mapping):
        named = [key for key, value in output.items() if isinstance(value, Tensor)]
        key = "logits" if "logits" in named or not named else named[0]
        picked = f"net(x)[{key!r}]"
    elif isinstance(getattr(output, "logits", None), Tensor):
        picked = "net(x).logits"
    elif isinstance(output, (tuple, list)) and output:
        picked = "net(x)[0]"
    else:
        return "; return the logits"
    return f"; wrap it in a module whose forward returns the logits alone, for example: return {picked}"


def form_of(value: object) -> str:
    """A description of a value for messages: its type, shape, dtype and device."""
    if isinstance(value, Tensor):
        if value.is_nested:  # it has no shape
            return f"a nested tensor of {value.dtype} on {value.device}"
        layout = "" if value.layout is torch.strided else f", {value.layout}"
        return f"a tensor {tuple(value.shape)} of {value.dtype} on {value.device}{layout}"
    kind = type(value).__name__
    named = f"{'an' if kind[0] in 'AEIOaeio' else 'a'} {kind}"
    if isinstance(value, Mapping):
        return f"{named} with {', '.join(map(repr, value)) or 'nothing'} in it"
    if isinstance(value, (tuple, list)):
        return f"{named} of {len(value)}"
    return "None (is a 'return' missing?)" if value is None else named


def is_dense(value: object) -> bool:
    """Whether ``value`` is a tensor that is neither sparse nor nested."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_nested


def raised_in_forward(model: nn.Module, error: BaseException | None) -> bool:
    """Whether ``error`` came out of a forward of ``model``, whoever called it."""
    trace: TracebackType | None = error.__traceback__ if error is not None else None
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals.get("__name__") == nn.Module.__module__ and frame.f_locals.get("self") is model:
            return True
        trace = trace.tb_next
    return False


class Forwards:
    """Watches the forwards of a model that hooks make during a step; costs no forward of its own.

    The first output must be logits, and shows the number of classes. An error that comes out of a forward is blamed on
    the model, whichever plugin called it.

    Args:
        model: the model.
        expect_classes: called once with the number of classes; may raise.
    """

    def __init__(self, model: nn.Module, expect_classes: Callable[[int], None]) -> None:
        self._model, self._expect_classes = model, expect_classes
        self._known = False

    @contextmanager
    def watched(self, x: Tensor) -> Iterator[None]:
        """Watch the block, in which a step with inputs ``x [B,*]`` runs.

        Raises:
            ModelError: the model has not given logits yet, and now gives something else, or raises; its forward cuts
                a gradient that a hook needs; or the layout in memory is not safe.
            DataError: the batch has one example, too few for batch norm.
            HookError: the model raised in a later step.
        """
        if not self._known:
            expect_safe_layout("engine.step", self._model, x)
        problem: ButtressError | None = None

        def look(given: object, output: object) -> None:
            nonlocal problem
            if self._known:
                return
            given = given if isinstance(given, Tensor) else x
            try:
                self._expect_classes(expect_logits(self._model, output, len(given)))
            except ButtressError as raised:
                problem = raised
                raise
            self._known = True

        try:
            with nullcontext() if self._known else calls_seen(self._model, look):
                yield
        except ButtressError as fault:
            if problem is not None:
                raise problem from None
            cause = fault.__cause__
            if isinstance(fault, HookError) and cause is not None and raised_in_forward(self._model, cause):
                raise self._own(fault, cause, x) from cause
            if isinstance(fault, HookError):
                expect_gradient_through("engine.step", self._model, x, fault)
            raise

    def _own(self, fault: HookError, cause: BaseException, x: Tensor) -> ButtressError:
        if len(x) == 1 and is_too_few(cause):
            return DataError(f"engine.step: {ONE_EXAMPLE}")
        if self._known:
            return extended(fault, f"\n  It was raised in the forward of model {type(self._model).__name__}.")
        return cannot_take("engine.step", self._model, x, cause)


def cannot_take(who: str, model: nn.Module, x: Tensor, problem: BaseException) -> ModelError:
    """An error that begins with ``who``: inputs ``x [B,*]`` made the forward of ``model`` raise ``problem``."""
    weight = next(model.parameters())
    cure = f"; its weights are of {weight.dtype}: give both one dtype" if weight.dtype != x.dtype else ""
    return ModelError(f"{who}: model {type(model).__name__} cannot take x, {form_of(x)}: {describe(problem)}{cure}")


def expect_some_finite(who: str, model: nn.Module, nonfinite: int, examples: int) -> str:
    """A sentence about the number of examples whose logits are not finite, or an empty text where there is none.

    Raises:
        ModelError: the logits of all examples are not finite; names the first weights that are not finite. The message
            begins with ``who``.
    """
    if nonfinite < examples or not examples:
        return (
            f"logits are not finite for {nonfinite} of {examples} examples, which count as wrong" if nonfinite else ""
        )
    tensors = [*model.named_parameters(), *model.named_buffers()]
    bad = [name for name, value in tensors if not bool(torch.isfinite(value).all())]
    cause = (
        f"{bad[0]!r} of its weights holds NaN or infinity; choose other weights" if bad else "its weights are finite"
    )
    raise ModelError(f"{who}: the logits of model {type(model).__name__} are not finite for any example: {cause}")


def is_too_few(error: BaseException) -> bool:
    """Whether ``error`` comes from a batch norm that got one value per channel, of which there is no variance."""
    return isinstance(error, ValueError) and "Expected more than 1 value per channel" in str(error)


ONE_EXAMPLE = (
    "a batch of one example, and the model's batch norm needs more in train mode; leave out the incomplete last batch "
    "of an epoch (data.drop_last: true; DataLoader(drop_last=True)), or choose another batch size"
)
