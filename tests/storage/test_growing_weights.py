"""Files of weights that grow when they are read: refused by what they say of themselves."""

import struct
import zipfile
from pathlib import Path

import pytest
import torch

from buttress.errors import CheckpointError
from buttress.storage.weights_file import read_weight_sets


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def repeated(path: Path) -> None:
    """The directory names one part many times."""
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
        archive.filelist += [largest] * 100
        archive.start_dir, archive._didModify = archive.fp.tell(), True  # type: ignore[attr-defined, union-attr]
        archive.fp.seek(0, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize("change", [compressed, repeated])
def test_an_archive_whose_parts_are_larger_than_it_is_is_refused(change, tmp_path: Path):
    path = tmp_path / "w.pth"
    torch.save({"w": torch.zeros(100_000)}, path)
    read_weight_sets(path)
    change(path)
    with pytest.raises(CheckpointError, match=r"w\.pth is refused: it has [0-9,]+ bytes, and its parts [0-9,]+; exp"):
        read_weight_sets(path)


def test_what_torch_writes_is_taken(tmp_path: Path):
    for number, options in enumerate([{}, {"_use_new_zipfile_serialization": False}]):
        path = tmp_path / f"{number}.pth"
        torch.save({"w": torch.arange(3.0)}, path, **options)
        assert read_weight_sets(path)[""]["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("length", [2**63, 2**40, 99_999_999])
def test_a_header_without_measure_is_refused(length: int, tmp_path: Path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(CheckpointError, match=r"w\.safetensors cannot be read"):
        read_weight_sets(path)
