"""Weights to start from, and whether a model fits the data."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from buttress.errors import CheckpointError, ModelError
from buttress.modes import Modes
from buttress.nn.contract import expect_logits, is_too_few
from buttress.storage.seals import read_any_weights


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights into ``model``: every key and shape must fit.

    Args:
        model: the model.
        path: ``.safetensors``, or ``.pth``/``.pt`` read by torch's restricted loader, which runs no code.

    Raises:
        CheckpointError: the file is missing, truncated, changed since a run wrote it, or holds more than tensors.
        ModelError: the weights are of another model.
    """
    fit_weights(model, _read_weights(path), str(path))


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load ``weights`` (from ``name``) into ``model``: every key and shape must fit.

    Raises:
        ModelError: the weights are of another model.
    """
    own = model.state_dict()
    missing, extra = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    shapes = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    if missing or extra or shapes:
        parts = [
            f"{what} {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}"
            for what, keys in (("missing", missing), ("unexpected", extra), ("other shape", shapes))
            if keys
        ]
        raise ModelError(
            f"{name} holds the weights of another model: {'; '.join(parts)}; choose the model that they were trained "
            "with"
        )
    model.load_state_dict(dict(weights))


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_any_weights(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}") from None
    except Exception as problem:  # the restricted loader raises many kinds; all mean: this file is not taken
        asked = re.search(r"GLOBAL (\S+)", str(problem))
        reason = f"it asks for {asked.group(1)}, and only tensors are taken" if asked else "truncated, or no weights"
        raise CheckpointError(f"{path} is refused by torch's restricted loader, which runs no code: {reason}") from None
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path}: expected a mapping of names to tensors, or one under 'state_dict'")
    return loaded


def check_logits(model: nn.Module, x: Tensor, num_classes: int) -> None:
    """Try the model on two examples ``x [2,*]``, in eval mode; leaves no trace, in random generators either.

    Raises:
        ModelError: it raises, or its output is not ``[2,K]`` logits.
    """
    modes = Modes(model)
    try:
        with modes.evaluating(), modes.buffers_as_found():
            logits = _tried(model, x)
    except Exception as problem:
        raise ModelError(
            f"model {type(model).__name__} cannot take inputs of shape {tuple(x.shape)}: "
            f"{type(problem).__name__}: {problem}"
        ) from problem
    classes = expect_logits(model, logits, len(x))
    if classes != num_classes:
        raise ModelError(
            f"model {type(model).__name__}: expected logits of shape ({len(x)}, {num_classes}), got "
            f"({len(x)}, {classes}); the data has {num_classes} classes"
        )


def trains_on_one(model: nn.Module, x: Tensor) -> bool:
    """Whether the model, in the modes that its modules are in, can take a batch ``x [1,*]`` of one example.

    Batch norm cannot, where one example gives it one value a channel.
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
