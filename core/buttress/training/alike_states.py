"""Expect the states of plugins to be the same on all ranks of a run, since a checkpoint holds those of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isclose, isnan
from typing import Any

import torch
from torch import Tensor

from buttress.engine.world import World
from buttress.errors import HookError
from buttress.storage.tensor_tree import split_tensors

# A digest of a state: its plain values as text, and shape, dtype and sum of each tensor by name.
_Digest = tuple[str, dict[str, tuple[str, float]]]


def expect_alike_states(world: World, states: Mapping[str, Any]) -> None:
    """Compare the states of plugins over the ranks, by their plain values and the sums of their tensors.

    Args:
        world: ranks of the run, all of which make the call.
        states: state of each plugin by its label, on this rank.

    Raises:
        HookError: the state of a plugin differs; the message names it, and the rank.
        StateError: no checkpoint can hold a state.
    """
    if world.size == 1:
        return
    main, *others = world.gathered({label: _digest(label, state) for label, state in states.items()}, "states")
    for rank, other in enumerate(others, 1):
        for label, digest in main.items():
            if not _alike(digest, other[label]):
                raise HookError(
                    f"plugin {label!r}: its state on rank {rank} is not that on rank 0, and a checkpoint holds one for "
                    "all; keep sums over the processes (ctx.sum, ctx.mean, ctx.whole) in the place of each one's own "
                    "numbers",
                    plugin=label,
                    hook="state_dict",
                )


def _digest(label: str, state: object) -> _Digest:
    tree, tensors = split_tensors({"plugins": {label: state}})
    return json.dumps(tree, sort_keys=True), {name: (_form(each), _sum(each)) for name, each in tensors.items()}


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def _sum(tensor: Tensor) -> float:
    values = tensor.detach()
    if values.is_complex():
        values = torch.view_as_real(values)
    return float(values.sum(dtype=torch.float64))


def _alike(one: _Digest, other: _Digest) -> bool:
    (tree, tensors), (other_tree, other_tensors) = one, other
    if tree != other_tree or tensors.keys() != other_tensors.keys():
        return False
    return all(
        form == other_tensors[name][0] and _close(total, other_tensors[name][1])
        for name, (form, total) in tensors.items()
    )


def _close(one: float, other: float) -> bool:
    """Whether two sums are equal up to the rounding of devices that are not of one kind."""
    return isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) or (isnan(one) and isnan(other))
