"""Keep the best and the last weights of every track in files that belong to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from buttress.storage.files import link_file, make_folder
from buttress.storage.names import expect_inside
from buttress.storage.reading import has_sha256
from buttress.storage.run_folder import RunFolder
from buttress.storage.seals import write_weights
from buttress.training.checkpoint import weights_copy


class KeptWeights:
    """The files in ``weights/``.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.sha256: dict[str, str] = {}
        """sha256 of each file, by its name."""

    @property
    def paths(self) -> list[Path]:
        return [self._folder.weights / name for name in self.sha256]

    def keep(self, which: str, track: str, epoch: int, model: nn.Module) -> None:
        """Write the model, as it is after ``epoch`` (from 1), over the ``best`` or ``last`` weights of a track.

        Raises:
            StorageError: the disk is full or refuses; the weights from before are intact.
        """
        path, facts = self._folder.weights_file(which, track), {"track": track, "epoch": epoch - 1}  # a position
        make_folder(path.parent)
        self.sha256[path.name] = write_weights(path, model.state_dict(), facts)

    def put_back(self, checkpoint: Path, say: Callable[[str], None]) -> None:
        """Restore the files of weights that belong to ``checkpoint`` and have since been damaged, lost or replaced.

        ``say`` gets a sentence about each file. A file is given up if its copy is damaged or lost, too.

        Raises:
            CheckpointError: a file cannot be read.
            RunFolderError: a file lies outside of the run folder.
            StorageError: the disk is full or refuses.
        """
        for name, sha256 in list(self.sha256.items()):
            path, copy = self._folder.weights / name, weights_copy(checkpoint, name)
            if has_sha256(path, sha256):
                continue
            if has_sha256(copy, sha256):
                expect_inside(path, self._folder.path)
                make_folder(path.parent)
                link_file(copy, path)
                say(f"{path} was not that of {checkpoint.stem}, and is again")
            else:
                del self.sha256[name]
                say(
                    f"{path} is damaged or missing, and so is its copy {copy}: these weights are lost; training is not "
                    "touched by it"
                )


class UnwrittenWeights(KeptWeights):
    """The kept weights of a process that leaves writing to the main one."""

    def keep(self, which: str, track: str, epoch: int, model: nn.Module) -> None:
        pass
