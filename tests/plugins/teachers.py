"""Files of teachers for the tests of ``kd``: random weights of the architectures that the tests train."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

FOLDER = Path(tempfile.mkdtemp(prefix="buttress-teachers-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def pair_of(kind: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """Two networks of random weights, with predictions far from even; the global generator stays as it is."""
    networks = []
    for seed in (11, 12):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = kind()
            for weight in network.parameters():
                weight.data += torch.randn_like(weight)
        networks.append(network.requires_grad_(False))
    return networks[0], networks[1]


def files_of(name: str, pair: tuple[nn.Module, nn.Module], folder: Path = FOLDER) -> dict[str, str]:
    """The settings ``standard`` and ``robust`` of ``kd``; the files are written into ``folder``."""
    files = {role: str(folder / f"{name}{role}.pt") for role in ("standard", "robust")}
    for file, network in zip(files.values(), pair, strict=True):
        torch.save(network.state_dict(), file)
    return files
