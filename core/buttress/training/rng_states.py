"""The states of torch's global generators on all ranks, from which dropout in a user's model draws."""

from __future__ import annotations

from typing import Any

import torch

from buttress.engine.world import World
from buttress.streams import seed_of
from buttress.training.checkpoint_state import CheckpointState


def seed_globally(world: World, *key: object) -> None:
    """Seed torch's global generators for this rank: masks of dropout on its rows are its own."""
    torch.manual_seed(seed_of((*key, "rank", world.rank)))


def rng_states(world: World, device: torch.device) -> dict[str, Any]:
    """The states, as a checkpoint holds them: those of the main rank, and of the others in their order."""
    own = torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    (main, main_cuda), *others = world.gathered(own, "random states")
    return {
        "global_rng": main,
        "cuda_rng": main_cuda,
        "processes": world.size,
        "other_rngs": [{"cpu": cpu, "cuda": cuda} for cpu, cuda in others],
    }


def restore_rng(state: CheckpointState, world: World, device: torch.device, key: tuple[object, ...]) -> None:
    """Restore the generators of this rank; on another number of ranks than before they are seeded anew by ``key``."""
    if state.processes != world.size:
        seed_globally(world, *key)
        return
    cpu, cuda = state.global_rng, state.cuda_rng
    if not world.is_main:
        other = state.other_rngs[world.rank - 1]
        cpu, cuda = other.cpu, other.cuda
    torch.set_rng_state(cpu)
    if cuda is not None and device.type == "cuda":
        torch.cuda.set_rng_state(cuda, device)
