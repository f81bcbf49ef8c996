"""Weights to start from, and whether a model fits the data."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from buttress.errors import CheckpointError, ModelError
from buttress.files import read_facts, read_tensors
from buttress.modes import Modes
from buttress.seals import KEY as SEAL
from buttress.seals import expect_contents


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
        tensors, facts = read_tensors(path), read_facts(path)
        if SEAL in facts:
            expect_contents(path, tensors, facts)
        return tensors
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


@torch.no_grad()
def check_logits(model: nn.Module, x: Tensor, num_classes: int) -> None:
    """Try the model on two examples ``x [2,*]``, in eval mode.

    Raises:
        ModelError: it raises, or its output is not ``[2,K]`` logits.
    """
    try:
        with Modes(model).evaluating():
            logits = model(x)
    except Exception as problem:
        raise ModelError(
            f"model {type(model).__name__} cannot take inputs of shape {tuple(x.shape)}: "
            f"{type(problem).__name__}: {problem}"
        ) from problem
    if not isinstance(logits, Tensor) or logits.shape != (len(x), num_classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"model {type(model).__name__}: expected logits of shape ({len(x)}, {num_classes}), got {got}; the "
            f"data has {num_classes} classes"
        )
