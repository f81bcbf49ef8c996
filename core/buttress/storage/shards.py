"""Read the index of weights that lie in several files, as Hugging Face writes it.

``model.safetensors.index.json`` is a JSON object whose ``weight_map`` gives, for the name of each tensor, the name of
the file beside it that holds it (https://huggingface.co/docs/huggingface_hub/package_reference/serialization).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from buttress.errors import CheckpointError
from buttress.storage.reading import read_json

_SUFFIX = ".index.json"
_INDEX_OF_SAFETENSORS = "*.safetensors.index.json"
_WHOLE = "model.safetensors"


@dataclass(frozen=True)
class ShardIndex:
    """An index: the names of the tensors by the file that holds them, in the order of the index."""

    path: Path
    shards: dict[Path, list[str]]


def resolve_weights(path: Path) -> Path:
    """The file of weights or the index that ``path`` stands for: itself, or the one in the folder ``path``.

    Raises:
        CheckpointError: the folder has none, or several.
    """
    if not path.is_dir():
        return path
    indexes = sorted(path.glob(_INDEX_OF_SAFETENSORS)) or sorted(path.glob(f"*{_SUFFIX}"))
    if not indexes and (path / _WHOLE).is_file():
        return path / _WHOLE
    if len(indexes) != 1:
        got = "none" if not indexes else ", ".join(each.name for each in indexes)
        raise CheckpointError(
            f"{path} is a folder: expected one index ({_INDEX_OF_SAFETENSORS}) or {_WHOLE} in it, got {got}; name the "
            "file itself",
            path=path,
        )
    return indexes[0]


def is_index(path: Path) -> bool:
    """Whether the name is that of an index."""
    return path.name.endswith(_SUFFIX)


def read_index(path: Path) -> ShardIndex:
    """Read an index, and see that its files are there.

    Raises:
        CheckpointError: it is missing or no index, or a file that it names is missing or not beside it.
    """
    value = read_json(path)
    weight_map = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(each, str) for each in weight_map.values()):
        raise CheckpointError(
            f"{path} is no index of weights: expected an object 'weight_map' from names of tensors to names of files",
            path=path,
        )
    shards: dict[Path, list[str]] = defaultdict(list)
    for name, file in weight_map.items():
        if file in ("", ".", "..") or Path(file).name != file or "\\" in file:
            raise CheckpointError(f"{path}: expected names of files beside the index, got {file!r}", path=path)
        shards[path.parent / file].append(name)
    for shard, names in shards.items():
        if not shard.exists():
            raise CheckpointError(
                f"{path} places {names[0]!r} in {shard.name}, which does not exist; fetch all files of the index",
                path=path,
            )
    return ShardIndex(path, dict(shards))
