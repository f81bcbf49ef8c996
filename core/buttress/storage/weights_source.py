"""Open weights of any form to read them piece by piece: safetensors, files of ``torch.save``, shards with an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from buttress.errors import CheckpointError
from buttress.storage.shards import ShardIndex, is_index, read_index, resolve_weights
from buttress.storage.tensor_file import Entry, TensorFile, open_tensor_files
from buttress.storage.torch_file import open_torch_file
from buttress.storage.weights_file import is_pickled


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and the open file that it lies in."""

    file: TensorFile
    entry: Entry


@dataclass(frozen=True)
class WeightsSource:
    """The weights of one model, in one file or several.

    Args:
        path: file or index.
        files: the open files.
        tensors: the tensors by name, file by file in the order of their bytes.
    """

    path: Path
    files: Sequence[TensorFile]
    tensors: Mapping[str, StoredTensor]


@contextmanager
def open_sources(
    paths: Iterable[Path], key: str | None = None, folder: Path | None = None
) -> Iterator[list[WeightsSource]]:
    """Open weights and check what their headers say.

    Args:
        paths: safetensors files, files of ``torch.save``, indexes of shards, and folders that hold an index.
        key: key of the weights in files of ``torch.save`` that hold several sets; None takes the only set of a model.
        folder: folder for temporary files; None for the system's.

    Raises:
        CheckpointError, ModelError, StorageError: see ``open_torch_file``; an index that does not agree with its files.
    """
    with ExitStack() as stack:
        yield [_opened(resolve_weights(Path(path)), key, folder, stack) for path in paths]


def _opened(path: Path, key: str | None, folder: Path | None, stack: ExitStack) -> WeightsSource:
    index = read_index(path) if is_index(path) else None
    files = [_file(each, key, folder, stack) for each in (index.shards if index else [path])]
    if index:
        _expect_indexed(index, files)
    tensors = {name: StoredTensor(file, entry) for file in files for name, entry in file.entries.items()}
    return WeightsSource(path, files, tensors)


def _file(path: Path, key: str | None, folder: Path | None, stack: ExitStack) -> TensorFile:
    if is_pickled(path):
        return stack.enter_context(open_torch_file(path, key, folder))
    (file,) = stack.enter_context(open_tensor_files([path]))
    return file


def _expect_indexed(index: ShardIndex, files: Sequence[TensorFile]) -> None:
    """Expect every shard to hold the tensors that the index places there, and no other."""
    for file, names in zip(files, index.shards.values(), strict=True):
        for name in sorted(set(names) ^ set(file.entries)):
            fault = f"lacks {name!r}, which {index.path} places there"
            if name in file.entries:
                fault = f"holds {name!r}, which {index.path} does not place there"
            raise CheckpointError(f"{file.path} {fault}; fetch index and files again, together", path=file.path)
