"""The weights of the live model at different epochs, as far as a run folder holds them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from buttress.errors import CheckpointError
from buttress.storage.files import finished_files
from buttress.storage.reading import read_facts
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import after_epoch, read_any_weights, read_sealed, read_weights
from buttress.training.checkpoint import list_checkpoints
from buttress.training.checkpoint_file import load_checkpoint


@dataclass(frozen=True)
class Snapshot:
    """Saved weights of the live model.

    Args:
        epoch: epoch (from 1) after which the weights were saved.
        path: file that holds them.
        complete: whether the file has the buffers too; a plugin's history has flattened parameters only.
    """

    epoch: int
    path: Path
    complete: bool

    def read(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors, on the CPU; parameters get the shapes of ``like``.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        tensors = load_checkpoint(self.path)["model"] if self.path.suffix == ".json" else read_any_weights(self.path)
        return {name: value.view(like[name].shape) if name in like else value for name, value in tensors.items()}


def live_snapshots(folder: RunFolder, parameters: Mapping[str, Tensor]) -> list[Snapshot]:
    """At most one snapshot for each epoch, in the order of epochs.

    Weights and checkpoints come before the histories of plugins.

    Args:
        folder: run folder.
        parameters: parameters of the model by name; a history that holds other names belongs to no live model.
    """
    snapshots = [*_weights(folder), *_checkpoints(folder), *_histories(folder, parameters)]
    first: dict[int, Snapshot] = {}
    for snapshot in snapshots:
        first.setdefault(snapshot.epoch, snapshot)
    return [first[epoch] for epoch in sorted(first)]


def _weights(folder: RunFolder) -> list[Snapshot]:
    paths = [folder.weights_file(which, "live") for which in ("best", "last")]
    return [Snapshot(after_epoch(read_weights(path)[1]), path, True) for path in paths if path.is_file()]


def _checkpoints(folder: RunFolder) -> list[Snapshot]:
    """Checkpoints at the end of an epoch; damaged ones are skipped, as in resuming."""
    snapshots = []
    for path in list_checkpoints(folder.checkpoints):
        try:
            engine = read_sealed(path)["state"]["engine"]
        except CheckpointError:
            continue
        if engine["step"] == 0 and engine["epoch"] > 0:
            snapshots.append(Snapshot(engine["epoch"], path, True))
    return snapshots


def _histories(folder: RunFolder, parameters: Mapping[str, Tensor]) -> list[Snapshot]:
    snapshots = []
    for path in finished_files(folder.history, "*/*.safetensors"):
        try:
            facts = read_facts(path)
            with safe_open(path, framework="pt") as file:
                names = set(file.keys())
        except (SafetensorError, OSError):
            continue
        if "epoch" in facts and names == set(parameters):
            snapshots.append(Snapshot(after_epoch(facts), path, False))
    return snapshots
