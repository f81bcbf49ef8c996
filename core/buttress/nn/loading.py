"""Load weights to start from, and try whether a model fits the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from buttress.errors import ModelError, describe
from buttress.nn.contract import expect_logits, is_too_few
from buttress.nn.fit import Fit
from buttress.nn.modes import Modes
from buttress.nn.public_files import translated
from buttress.storage.weights_file import expect_key, read_weight_sets


def load_weights(model: nn.Module, path: Path, *, key: str | None = None, fresh: Sequence[str] = ()) -> None:
    """Load a file of weights into ``model``, as ``fit_weights`` does, also a public one of other names.

    Wide ResNets of the code of TRADES, AWP and DeepMind, and so of RobustBench, are known by their names; a position
    embedding of another image size is resized; a normalization in the file must be that of the model.

    Args:
        model: the model.
        path: safetensors, or a file of ``torch.save`` read by torch's restricted loader, which runs no code.
        key: key of the weights in a file that holds several sets: ``state_dict``, ``model.ema``; None takes the
            set that fits.
        fresh: see ``fit_weights``.

    Raises:
        CheckpointError: the file is missing, truncated, changed since a run wrote it, or holds more than tensors.
        ModelError: the weights are of another model, several sets fit and differ, or the file has no such key; the
            model normalizes or pads otherwise than the public code.
    """
    sets = read_weight_sets(path)
    if key is not None:
        expect_key(sets, key, path)
    fits = {each: _fit(model, sets[each], str(path), fresh) for each in (sets if key is None else [key])}
    whole = {each: fit for each, fit in fits.items() if fit.is_whole}
    if not whole:
        raise ModelError(max(fits.values(), key=lambda fit: fit.score).refusal(str(path)))
    chosen = next(iter(whole.values()))
    if not all(chosen.loads_the_same_as(other) for other in whole.values()):
        raise ModelError(
            f"{path} holds {len(whole)} sets of weights that fit and differ: {', '.join(map(repr, whole))}; choose one "
            f"by its key: weights: {{file: {path}, key: {list(whole)[-1]}}}, or evaluate --key"
        )
    chosen.load()


def _fit(model: nn.Module, weights: Mapping[str, Tensor], source: str, fresh: Sequence[str]) -> Fit:
    """The fit of ``weights`` as they are, or else as those of public code."""
    fit = Fit(model, weights, fresh)
    if fit.is_whole:
        return fit
    public = Fit(model, translated(model, weights, source), fresh)
    return public if public.is_whole or public.score > fit.score else fit


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], name: str, fresh: Sequence[str] = ()) -> None:
    """Load ``weights`` into ``model``: every name and shape must fit.

    Prefixes (``module.``, ``model.``) and markers (``_orig_mod.``) of wrappers make no difference, on either side.
    Batch norm's counters, which old files lack, stay as they are.

    Args:
        model: the model.
        weights: tensors by name.
        name: name of their source, for messages.
        fresh: names or patterns (``fc``, ``head.*``) of parameters, buffers and modules that are not loaded: the
            model's stay as they are, those of ``weights`` are left out.

    Raises:
        ModelError: the weights are of another model, or ``fresh`` matches a name in neither. Nothing is loaded.
    """
    fit = Fit(model, weights, fresh)
    if not fit.is_whole:
        raise ModelError(fit.refusal(name))
    fit.load()


def check_logits(model: nn.Module, x: Tensor, num_classes: int) -> None:
    """Try the model on two examples ``x [2,*]``, in eval mode; leaves no trace, in random generators either.

    Raises:
        ModelError: the model raises, or its output is not logits ``[2,K]`` of ``num_classes`` classes.
    """
    modes = Modes(model)
    try:
        with modes.evaluating(), modes.buffers_as_found():
            logits = _tried(model, x)
    except Exception as problem:
        raise ModelError(
            f"model {type(model).__name__} cannot take inputs of shape {tuple(x.shape)}: "
            f"{describe(problem).rstrip('.')}; choose a model, or settings of it, for inputs of that shape"
        ) from problem
    classes = expect_logits(model, logits, len(x))
    if classes != num_classes:
        raise ModelError(
            f"model {type(model).__name__}: expected logits of shape ({len(x)}, {num_classes}), got "
            f"({len(x)}, {classes}); the data has {num_classes} classes"
        )


def trains_on_one(model: nn.Module, x: Tensor) -> bool:
    """Whether the model, with its modules in their present modes, can take a batch ``x [1,*]`` of one example.

    Batch norm cannot, where one example gives it one value per channel.
    """
    try:
        with Modes(model).buffers_as_found():
            _tried(model, x)
    except ValueError as problem:
        return not is_too_few(problem)
    return True


@torch.no_grad()
def _tried(model: nn.Module, x: Tensor) -> object:
    with torch.random.fork_rng([x.device] if x.is_cuda else []):
        return model(x)
