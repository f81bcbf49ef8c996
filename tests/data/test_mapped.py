"""Arrays mapped from files: rows as NumPy reads them, compressed ones unpacked once, and what is refused."""

import mmap
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch

from buttress.data import NO_LABEL, EightBitSplit, MappedSplit, array_file, mapped, mapped_array
from buttress.data.array_file import array_names, map_array
from buttress.data.mapped_array import MappedArray
from buttress.errors import DataError, StorageError

from ..core.helpers import LINF
from .test_training_set import same

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 5, 4, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 7, 40)
ORDER = torch.randperm(40, generator=torch.Generator().manual_seed(0))
SAVED = {"npz": np.savez, "compressed": np.savez_compressed}


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch):
    """Arrays are read in many parts where all of them are looked at."""
    monkeypatch.setattr(mapped_array, "_PART", 200)
    monkeypatch.setattr(array_file, "_CHUNK", 100)


@pytest.fixture(params=["npz", "compressed", "npy"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Path]:
    """The files of images and of labels, which are one, except for ``npy``."""
    if request.param == "npy":
        np.save(tmp_path / "images.npy", IMAGES)
        np.save(tmp_path / "labels.npy", LABELS)
        return {"image": tmp_path / "images.npy", "label": tmp_path / "labels.npy"}
    SAVED[request.param](tmp_path / "d.npz", label=LABELS, image=IMAGES)
    return dict.fromkeys(("image", "label"), tmp_path / "d.npz")


def opened(path: Path, name: str, **how: Any) -> MappedArray:
    array = map_array(path, name, **how)
    assert array is not None
    return array


def split_of(images: np.ndarray, labels: np.ndarray | None, folder: Path, channels_last: bool = True) -> MappedSplit:
    arrays = {"image": images} if labels is None else {"image": images, "label": labels}
    np.savez(folder / "s.npz", **arrays)
    return MappedSplit(
        opened(folder / "s.npz", "image"), map_array(folder / "s.npz", "label"), channels_last=channels_last
    )


# Rows


def test_rows_are_those_that_numpy_reads(saved: dict[str, Path]):
    for name, whole in (("image", IMAGES), ("label", LABELS)):
        array = opened(saved[name], name)
        assert (array.shape, array.dtype, len(array), array.nbytes) == (whole.shape, whole.dtype, 40, whole.nbytes)
        rows = array.rows(ORDER.numpy())
        assert np.array_equal(rows, whole[ORDER])
        assert np.array_equal(np.concatenate(list(array.parts())), whole)
        assert len(list(array.parts())) > 1


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8"])
@pytest.mark.parametrize("pad", range(4))
def test_a_stored_array_is_mapped_wherever_it_lies(dtype: str, pad: int, tmp_path: Path):
    labels = LABELS.astype(dtype)
    np.savez(tmp_path / "d.npz", **{"x" * (pad + 1): np.zeros(pad, "u1"), "label": labels})
    array = opened(tmp_path / "d.npz", "label")
    assert np.array_equal(array.rows(np.arange(40)), labels)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "d.npz"]


def test_an_array_behind_a_local_header_that_is_longer_than_the_central_one_is_found(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive, archive.open("label.npy", "w", force_zip64=True) as out:
        np.lib.format.write_array(out, LABELS)  # 20 bytes for sizes that stand in the local header alone
    assert np.array_equal(opened(tmp_path / "d.npz", "label").rows(np.arange(40)), LABELS)


def test_an_npz_without_the_array_is_none_and_its_names_are_listed(tmp_path: Path):
    np.savez(tmp_path / "d.npz", image=IMAGES)
    assert map_array(tmp_path / "d.npz", "label") is None
    assert array_names(tmp_path / "d.npz") == ["image"]


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="the system takes no advice")
def test_the_pages_of_rows_are_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images = RNG.integers(0, 256, (40, 50, 40, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", pad=np.zeros(99_999, np.uint8), image=images)
    array, asked = opened(tmp_path / "d.npz", "image"), []
    with zipfile.ZipFile(tmp_path / "d.npz") as archive:
        begin = archive.getinfo("image.npy").header_offset

    class Map:
        def madvise(self, advice: int, page: int, size: int) -> None:
            assert page % mmap.PAGESIZE == 0
            asked.append((advice, page, page + size))

    monkeypatch.setattr(array, "_map", Map())
    array.prefetch(np.array([39, 0, 7]))
    content = (tmp_path / "d.npz").read_bytes()[begin - begin % mmap.ALLOCATIONGRANULARITY :]
    for position, (advice, first, end) in zip((39, 0, 7), asked, strict=True):
        assert advice == mmap.MADV_WILLNEED
        row = images[position].tobytes()
        assert content[first:end].endswith(row)
        assert end - first < len(row) + mmap.PAGESIZE


def test_a_file_that_is_truncated_in_use_is_an_error_and_no_signal(tmp_path: Path):
    np.save(tmp_path / "i.npy", IMAGES)
    array = opened(tmp_path / "i.npy", "image")
    os.truncate(tmp_path / "i.npy", 300)
    with pytest.raises(
        DataError, match=r"i\.npy has been truncated while it was in use: expected 2,528 bytes, got 300"
    ):
        array.rows(np.arange(3))
    with pytest.raises(DataError, match=r"i\.npy has been truncated while it was in use"):
        list(array.parts())


# Compressed arrays


def unpacked(folder: Path) -> list[Path]:
    return sorted(folder.glob("d.*-*.npy"))


def test_a_compressed_array_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.savez_compressed(tmp_path / "d.npz", image=IMAGES, label=LABELS)
    opened(tmp_path / "d.npz", "image")
    (file,) = unpacked(tmp_path)
    assert np.array_equal(np.load(file), IMAGES)
    with zipfile.ZipFile(tmp_path / "d.npz") as archive:
        assert file.name == f"d.image-{archive.getinfo('image.npy').CRC:08x}.npy"
    assert sorted(tmp_path.iterdir()) == [file, tmp_path / "d.npz"]
    monkeypatch.setattr(array_file, "_unpack", None)
    assert np.array_equal(opened(tmp_path / "d.npz", "image").rows(np.arange(40)), IMAGES)


def test_a_copy_of_another_time_is_compared_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.savez_compressed(tmp_path / "d.npz", image=IMAGES)
    opened(tmp_path / "d.npz", "image")
    (file,) = unpacked(tmp_path)
    os.utime(file, (1, 1))
    monkeypatch.setattr(array_file, "_unpack", None)
    opened(tmp_path / "d.npz", "image")
    assert file.stat().st_mtime_ns == (tmp_path / "d.npz").stat().st_mtime_ns


@pytest.mark.parametrize("damage", ["changed", "truncated"])
def test_a_damaged_unpacked_array_is_unpacked_again(damage: str, tmp_path: Path):
    np.savez_compressed(tmp_path / "d.npz", image=IMAGES)
    opened(tmp_path / "d.npz", "image")
    (file,) = unpacked(tmp_path)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    times = file.stat()
    file.write_bytes(content if damage == "changed" else content[:-1])
    if damage == "truncated":
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert np.array_equal(opened(tmp_path / "d.npz", "image").rows(np.arange(40)), IMAGES)


def test_of_several_that_begin_at_once_one_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.savez_compressed(tmp_path / "d.npz", image=IMAGES)
    unpack, calls = array_file._unpack, []

    def slow(*words: Any) -> None:
        calls.append(words)
        sleep(0.5)
        unpack(*words)

    monkeypatch.setattr(array_file, "_unpack", slow)
    with ThreadPoolExecutor(4) as threads:
        arrays = list(threads.map(lambda _: opened(tmp_path / "d.npz", "image"), range(4)))
    assert len(calls) == 1
    assert all(np.array_equal(array.rows(np.arange(40)), IMAGES) for array in arrays)


def test_another_content_of_the_file_is_unpacked_beside_the_old_one(tmp_path: Path):
    for shift in (0, 1):
        np.savez_compressed(tmp_path / "d.npz", image=IMAGES + np.uint8(shift))
        assert np.array_equal(opened(tmp_path / "d.npz", "image").rows(np.arange(40)), IMAGES + np.uint8(shift))
    assert len(unpacked(tmp_path)) == 2


def test_a_compressed_array_that_is_damaged_leaves_nothing(tmp_path: Path):
    np.savez_compressed(tmp_path / "d.npz", image=IMAGES)
    with zipfile.ZipFile(tmp_path / "d.npz") as archive:
        middle = archive.getinfo("image.npy").compress_size // 2
    content = bytearray((tmp_path / "d.npz").read_bytes())
    content[middle : middle + 8] = b"\0" * 8
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(
        DataError, match=r"d\.npz is damaged, or no \.npz of plain arrays: .*; get or save the file anew"
    ):
        map_array(tmp_path / "d.npz", "image")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "d.npz"]


def test_arrays_are_unpacked_into_a_cache_and_what_does_not_fit_names_the_cures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    np.savez_compressed(tmp_path / "d.npz", image=IMAGES)
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match=r"cache: expected a folder to unpack .*; or set cache to a folder that can be"):
        map_array(tmp_path / "d.npz", "image", cache)
    cache.mkdir()

    def full(*_: Any) -> None:
        raise StorageError("cannot write: no space is left")

    with monkeypatch.context() as patch:
        patch.setattr(array_file, "write_with", full)
        with pytest.raises(
            StorageError, match=r"no space is left; or set cache to a folder .* or save d\.npz uncompressed"
        ):
            map_array(tmp_path / "d.npz", "image", cache)
        patch.setattr(array_file.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100}))
        with pytest.raises(
            DataError, match=r"image takes 0.0 GB unpacked, and 0.0 GB are free in .*; free some space; or"
        ):
            map_array(tmp_path / "d.npz", "image", cache)
    map_array(tmp_path / "d.npz", "image", cache)
    assert len(unpacked(cache)) == 1
    assert unpacked(tmp_path) == []


# Refusals


WRONG = {
    "big-endian": (
        LABELS.astype(">i8"),
        "plain numbers, .* got >i8, in the byte order of another machine; save it anew",
    ),
    "by columns": (np.asfortranarray(IMAGES), "row by row .* got an array in Fortran order, column by column; save it"),
    "objects": (np.array([[1], None], dtype=object), "expected plain numbers, .* got Python objects; save it anew"),
    "records": (np.zeros(3, [("a", "u1")]), "expected plain numbers, .* got records of"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("how", ["npy", *SAVED])
def test_an_array_that_cannot_be_used_as_it_lies_is_refused(kind: str, how: str, tmp_path: Path):
    array, message = WRONG[kind]
    path = tmp_path / ("d.npy" if how == "npy" else "d.npz")
    np.save(path, array) if how == "npy" else SAVED[how](path, image=array)
    before = path.read_bytes()
    with pytest.raises(DataError, match=rf"{path.name}(: image)?: .*{message}"):
        map_array(path, "image")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("how", ["npy", *SAVED])
@pytest.mark.parametrize("left", [0, 4, 100, -300, -1])
def test_a_truncated_file_is_refused(how: str, left: int, tmp_path: Path):
    path = tmp_path / ("d.npy" if how == "npy" else "d.npz")
    np.save(path, IMAGES) if how == "npy" else SAVED[how](path, image=IMAGES)
    content = path.read_bytes()[:left]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"d\.np[yz].*(truncated|damaged|begins with|array of np\.save)"):
        map_array(path, "image")
    assert path.read_bytes() == content


def test_a_member_that_says_more_than_it_holds_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive, archive.open("image.npy", "w") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 3)})
        out.write(b"few")
    with pytest.raises(
        DataError, match=r"image: expected 3,000,128 bytes for uint8 \(1000000, 3\), got 131: it is truncat"
    ):
        map_array(tmp_path / "d.npz", "image")


def test_what_is_no_file_of_arrays_is_refused(tmp_path: Path):
    (tmp_path / "d.npz").write_bytes(b"PNG....")
    with pytest.raises(
        DataError, match=r"d\.npz: expected a file of np\.save or np\.savez, got one that begins with b'PN"
    ):
        map_array(tmp_path / "d.npz", "image")
    with pytest.raises(DataError, match=r"e\.npz does not exist; correct the path"):
        map_array(tmp_path / "e.npz", "image")
    with pytest.raises(DataError, match="cannot be read: Is a directory; check the path and its rights"):
        map_array(tmp_path, "image")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="cannot be read: expected a regular file, it is a pipe"):
        map_array(tmp_path / "pipe", "image")


# The split


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_are_those_of_the_same_images_in_memory(
    tmp_path: Path, channels_last: bool, memory_format: torch.memory_format
):
    split = split_of(IMAGES, LABELS, tmp_path, channels_last).to(torch.device("cpu"), memory_format)
    images = torch.from_numpy(IMAGES).movedim(-1, 1).contiguous() if channels_last else torch.from_numpy(IMAGES)
    memory = EightBitSplit(images, torch.from_numpy(LABELS)).to(torch.device("cpu"), memory_format)
    assert (len(split), split.example_shape, split.dtype) == (40, memory.example_shape, torch.float32)
    for start in (0, 2, 6):
        for one, other in zip(split.batches(ORDER, 7, start), memory.batches(ORDER, 7, start), strict=True):
            assert same(one, other)
            assert one.x.is_contiguous(memory_format=memory_format)
    assert split.fingerprint() == memory.fingerprint()
    assert split.class_counts(8) == memory.class_counts(8)
    assert split.label_range() == memory.label_range()
    assert list(split.batches(ORDER[:0], 7)) == []


def test_large_files_have_a_sample_in_their_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mapped, "HASHED_WHOLE", 100)
    monkeypatch.setattr(mapped, "SAMPLED", 4)
    whole = split_of(IMAGES, LABELS, tmp_path).fingerprint()
    assert set(whole) == {"n", "shape", "labels", "sampled inputs"}
    for row, seen in ((0, True), (13, True), (14, False), (39, True)):
        images = IMAGES.copy()
        images[row] ^= 1
        assert (split_of(images, LABELS, tmp_path).fingerprint() != whole) == seen
    labels = LABELS.copy()
    labels[14] += 1
    assert split_of(IMAGES, labels, tmp_path).fingerprint()["labels"] != whole["labels"]


def test_images_without_labels_have_none(tmp_path: Path):
    split = split_of(IMAGES, None, tmp_path)
    assert split.label_range() == (NO_LABEL, NO_LABEL)
    assert split.class_counts(3) == [0, 0, 0]
    memory = EightBitSplit(torch.from_numpy(IMAGES).movedim(-1, 1).contiguous(), torch.full((40,), NO_LABEL))
    assert split.fingerprint() == memory.fingerprint()
    assert all(same(a, b) for a, b in zip(split.batches(ORDER, 7), memory.batches(ORDER, 7), strict=True))


def test_wrong_labels_and_boxes_are_named(tmp_path: Path):
    labels = LABELS.copy()
    labels[33] = 9
    with pytest.raises(
        DataError, match=r"extra: label out of range at example 33: expected -1 to 6, got 9; .*s\.npz: label"
    ):
        split_of(IMAGES, labels, tmp_path).check("extra", 7, LINF)
    labels[31] = -2
    with pytest.raises(DataError, match="at example 31: expected -1 to 9, got -2; renumber"):
        split_of(IMAGES, labels, tmp_path).check("extra", 10, LINF)
    with pytest.raises(DataError, match="split train: label out of range at example 0: expected 0 to 9, got -1"):
        split_of(IMAGES, None, tmp_path).check("train", 10, LINF)
    box = type(LINF)("linf", "1/10", box=(0.0, 0.5))
    with pytest.raises(
        DataError, match=r"expected images inside of threat.box \[0.0, 0.5\], got 8-bit ones, which are in"
    ):
        split_of(IMAGES, LABELS, tmp_path).check("extra", 10, box)
