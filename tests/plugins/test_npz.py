"""Arrays from an .npz file: scaling, layouts, the held-out split, and every refusal."""

import gc
import io
import math
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from buttress.components.construct import build
from buttress.errors import ConfigError, DataError
from buttress.storage import memory
from buttress_plugins.data.npz import Npz

RNG = np.random.default_rng(0)
X, Y = RNG.random((60, 2, 3, 4)).astype(np.float32), np.repeat(np.arange(3), 20)


def save(folder: Path, **arrays: Any) -> str:
    given = {"x_train": X, "y_train": Y, "x_test": X[::6], "y_test": Y[::6], **arrays}
    np.savez(folder / "d.npz", **{name: array for name, array in given.items() if array is not None})
    return str(folder / "d.npz")


def test_float_inputs_are_taken_as_they_are(tmp_path: Path):
    data = Npz(path=save(tmp_path, x_train=3 * X - 1)).load(0)
    np.testing.assert_array_equal(data.train.x.numpy(), 3 * X - 1)
    assert data.train.y.tolist() == Y.tolist()
    assert data.test.x.shape == (10, 2, 3, 4)
    assert data.validation is None
    assert data.num_classes == 3


def test_uint8_images_are_divided_by_255(tmp_path: Path):
    bytes_ = np.arange(256, dtype=np.uint8).reshape(64, 1, 2, 2)
    data = Npz(path=save(tmp_path, x_train=bytes_, y_train=np.arange(64) % 4)).load(0)
    assert data.train.x.dtype == torch.float32
    np.testing.assert_allclose(data.train.x.flatten().numpy(), np.arange(256) / 255, rtol=1e-7)
    assert data.train.x.max() == 1.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_becomes_float32(dtype, tmp_path: Path):
    data = Npz(path=save(tmp_path, x_train=X.astype(dtype))).load(0)
    assert data.train.x.dtype == torch.float32
    np.testing.assert_array_equal(data.train.x.numpy(), X.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_every_integer_label_becomes_int64(dtype, tmp_path: Path):
    data = Npz(path=save(tmp_path, y_train=Y.astype(dtype))).load(0)
    assert data.train.y.dtype == torch.int64
    assert data.train.y.tolist() == Y.tolist()


def test_nhwc_is_moved_to_nchw_in_every_split(tmp_path: Path):
    given = {"x_train": X, "x_test": X[::6], "x_val": X[:5], "y_val": Y[:5]}
    last = {name: np.transpose(a, (0, 2, 3, 1)) if name[0] == "x" else a for name, a in given.items()}
    data = Npz(path=save(tmp_path, **last), layout="nhwc").load(0)
    for split, name in ((data.train, "x_train"), (data.test, "x_test"), (data.validation, "x_val")):
        np.testing.assert_array_equal(split.x.numpy(), given[name])
        assert split.x.is_contiguous()


def test_the_file_s_own_validation_split_wins(tmp_path: Path):
    data = Npz(path=save(tmp_path, x_val=X[:7], y_val=Y[:7]), validation=20).load(0)
    np.testing.assert_array_equal(data.validation.x.numpy(), X[:7])
    assert len(data.train) == 60


def test_the_validation_split_is_carved_out_of_the_training_set_by_class(tmp_path: Path):
    path = save(tmp_path)
    data = Npz(path=path, validation=15).load(0)
    assert np.bincount(data.validation.y).tolist() == [5, 5, 5]
    assert np.bincount(data.train.y).tolist() == [15, 15, 15]
    rows = {image.tobytes() for split in (data.train, data.validation) for image in split.x.numpy()}
    assert rows == {image.tobytes() for image in X}
    lookup = {image.tobytes(): label for image, label in zip(X, Y, strict=True)}
    for split in (data.train, data.validation):
        assert [lookup[image.tobytes()] for image in split.x.numpy()] == split.y.tolist()


@pytest.mark.parametrize(("share", "held"), [(0.25, 15), ("1/3", 20), (0.29, 17), (1 / 3, 20)])
def test_a_share_of_the_training_set_is_held_out(share: float | str, held: int, tmp_path: Path):
    npz, _, settings = build("dataset", "npz", {"path": save(tmp_path), "validation": share})
    assert isinstance(settings["validation"], float)
    data = npz.load(0)
    assert (len(data.validation), len(data.train)) == (held, 60 - held)


@pytest.mark.parametrize("wrong", [1.0, -0.1, 1.5, -1, "1", "2/1", True, 0.0, None])
def test_what_is_neither_a_number_nor_a_share_is_refused(wrong: Any, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"npz\.validation: expected a number of examples .* or a share of them"):
        build("dataset", "npz", {"path": save(tmp_path), "validation": wrong})


def test_a_share_that_is_none_of_the_examples_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"d\.npz: validation: a share of 0\.01 of 60 examples is none"):
        Npz(path=Path(save(tmp_path)), validation=0.01).load(0)


def test_the_seed_fixes_what_is_held_out(tmp_path: Path):
    path = save(tmp_path)
    a, b, c, d = (
        Npz(path=path, validation=15, split_seed=own).load(seed).validation.x
        for own, seed in ((None, 1), (None, 1), (None, 2), (1, 9))
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(a, d)


@pytest.mark.parametrize(("given", "expected"), [(None, 3), (3, 3), (7, 7)])
def test_the_number_of_classes_is_given_or_counted(given: int | None, expected: int, tmp_path: Path):
    assert Npz(path=save(tmp_path), num_classes=given).load(0).num_classes == expected


@pytest.mark.parametrize("labels", [Y + 1, 10 * Y])
def test_labels_with_gaps_are_no_number_of_classes(labels: np.ndarray, tmp_path: Path):
    path = save(tmp_path, y_train=labels)
    with pytest.raises(DataError, match=r"d\.npz: y_train: expected labels from 0 to 2 for 3 classes, got"):
        Npz(path=path).load(0)
    assert Npz(path=path, num_classes=21).load(0).num_classes == 21


@pytest.mark.parametrize("label", [-1, -100, 3])
@pytest.mark.parametrize("validation", [0, 15])
def test_a_wrong_label_is_named_before_anything_is_held_out(label: int, validation: int, tmp_path: Path):
    y = Y.copy()
    y[7] = label
    data = Npz(path=Path(save(tmp_path, y_train=y)), num_classes=3, validation=validation)
    with pytest.raises(DataError, match=rf"y_train: label out of range at example 7: expected 0 to 2, got {label}"):
        data.load(0)


def test_flat_features_are_allowed(tmp_path: Path):
    flat = X.reshape(60, -1)
    data = Npz(path=save(tmp_path, x_train=flat, x_test=flat[:3], y_test=Y[:3])).load(0)
    assert data.train.x.shape == (60, 24)


# Refusals


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": None}, "array 'x_train' is missing; found: x_test, y_test, y_train"),
        ({"y_test": None}, "array 'y_test' is missing; found: x_test, x_train, y_train"),
        ({"x_val": X}, "array 'y_val' is missing"),
        (
            {"x_train": X[:0], "y_train": Y[:0]},
            r"x_train: expected uint8 or float \[n,\*\], got float32 \(0, 2, 3, 4\)",
        ),
        ({"x_train": X[:, 0, 0, 0]}, r"x_train: expected uint8 or float \[n,\*\], got float32 \(60,\)"),
        ({"x_test": X.astype(np.int64)}, r"x_test: expected uint8 or float \[n,\*\], got int64"),
        ({"x_train": X.astype(np.uint16)}, r"x_train: expected uint8 or float \[n,\*\], got uint16"),
        ({"x_train": X.astype(np.complex64)}, r"x_train: expected uint8 or float \[n,\*\], got complex64"),
        ({"y_train": Y[:-1]}, r"y_train: expected 60 integer labels, got int64 \(59,\)"),
        ({"y_train": Y.astype(np.float32)}, r"y_train: expected 60 integer labels, got float32 \(60,\)"),
        ({"y_train": np.eye(3, dtype=int)[Y]}, r"y_train: expected 60 integer labels, got int64 \(60, 3\)"),
        ({"x_train": X.astype(object)}, r"is no readable \.npz of plain arrays: Object arrays cannot be loaded"),
    ],
)
def test_wrong_arrays_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message) as refused:
        Npz(path=save(tmp_path, **arrays)).load(0)
    assert str(refused.value).startswith(str(tmp_path / "d.npz"))


@pytest.mark.parametrize("validation", [60, 1000])
def test_holding_out_everything_is_refused(validation: int, tmp_path: Path):
    with pytest.raises(DataError, match=rf"d\.npz: validation: expected less than 60 examples, got {validation}$"):
        Npz(path=save(tmp_path), validation=validation).load(0)


def test_a_missing_file_is_refused_with_the_folder_it_was_sought_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as refused:
        Npz(path="nowhere.npz").load(0)
    assert str(refused.value) == f"{tmp_path}/nowhere.npz does not exist"


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04", b"\x80\x04N."], ids=str)
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"d\.npz is no readable \.npz of plain arrays: "):
        Npz(path=str(tmp_path / "d.npz")).load(0)
    gc.collect()


def test_a_truncated_or_damaged_file_is_refused(tmp_path: Path):
    path = Path(save(tmp_path))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:300] + b"\xff\xff\xff\xff" + whole[304:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is no readable"):
            Npz(path=str(path)).load(0)
        gc.collect()


def test_a_single_array_and_a_folder_are_refused(tmp_path: Path):
    np.save(tmp_path / "one.npy", X)
    for name in ("one.npy", "."):
        with pytest.raises(DataError, match="is no readable"):
            Npz(path=str(tmp_path / name)).load(0)


def test_a_scalar_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="x_train: expected uint8 or float"):
        Npz(path=save(tmp_path, x_train=np.float32(1))).load(0)


@pytest.mark.parametrize(("y", "validation"), [(Y, 2), (Y, 59), (np.r_[Y[:-1], 3], 15)], ids=["few", "many", "lone"])
def test_a_validation_split_that_cannot_be_stratified_is_refused(y: np.ndarray, validation: int, tmp_path: Path):
    with pytest.raises(DataError, match="validation"):
        Npz(path=save(tmp_path, y_train=y), validation=validation).load(0)


def test_a_damaged_compressed_file_is_refused(tmp_path: Path):
    np.savez_compressed(tmp_path / "d.npz", x_train=X)
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[:80] + b"\xff" * 40 + whole[120:])
    with pytest.raises(DataError, match="is no readable"):
        Npz(path=str(tmp_path / "d.npz")).load(0)


# Files that grow


def bomb(path: Path, name: str, shape: tuple[int, ...]) -> None:
    """Add an array of zeros to a file, by its compressed bytes alone: 1 GB are 1 MB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(header.getvalue())
        for _ in range(4 * math.prod(shape) // 2**20):
            stream.write(bytes(2**20))


def test_an_array_that_nobody_asks_for_is_not_read(tmp_path: Path):
    path = Path(save(tmp_path))
    bomb(path, "extra", (2**20, 64))
    tracemalloc.start()
    assert len(Npz(path=path).load(0).train) == 60
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24  # the array has 2**28 bytes


def test_arrays_that_do_not_fit_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = Path(save(tmp_path, x_train=None))
    bomb(path, "x_train", (2**20, 64))
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**8)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"its arrays take 0\.5 GB in memory, and 0\.1 GB are free"):
        Npz(path=path).load(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_arrays_of_different_lengths_are_refused_before_they_are_read(tmp_path: Path):
    path = Path(save(tmp_path, x_train=None))
    bomb(path, "x_train", (2**20, 64))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"y_train: expected 1048576 integer labels, got int64 \(60,\)"):
        Npz(path=path).load(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path: Path):
    path = Path(save(tmp_path, x_train=None))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", header.getvalue() + bytes(100))
    with pytest.raises(DataError, match=r"x_train is to be float32 \(1000000000000, 3\), and its bytes are fewer"):
        Npz(path=path).load(0)


def test_an_encrypted_file_is_refused(tmp_path: Path):
    path = Path(save(tmp_path))
    raw = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag of every entry, in both directories
        at = raw.find(signature)
        while at >= 0:
            raw[at + place] |= 1
            at = raw.find(signature, at + 1)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"is no readable \.npz of plain arrays: .*encrypted"):
        Npz(path=path).load(0)


def test_of_many_names_some_are_listed(tmp_path: Path):
    many = {f"a{number:04}": np.zeros(1) for number in range(100)}
    with pytest.raises(DataError, match=r"array 'x_train' is missing; found: a0000, .*a0019 and 83 more$"):
        Npz(path=Path(save(tmp_path, x_train=None, **many))).load(0)


def test_the_memory_that_is_free_is_told_or_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    assert memory.available_bytes() is None
    (tmp_path / "meminfo").write_text("MemTotal:       100 kB\nMemAvailable:       50 kB\n")
    assert memory.available_bytes() == 51200


# Files of images and labels alone


def single(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "d.npz", **arrays)
    return folder / "d.npz"


IMAGES = RNG.integers(0, 256, (6, 3, 4, 2), dtype=np.uint8)


def test_image_and_label_are_extra_examples_with_the_channels_last(tmp_path: Path):
    data = Npz(path=single(tmp_path, image=IMAGES, label=np.array([0, 4, 2, -1, 1, 0]))).load(0)
    (batch,) = data.train.batches(torch.arange(6), 6)
    np.testing.assert_array_equal(batch.x.numpy(), np.moveaxis(IMAGES, -1, 1).astype(np.float32) / 255)
    assert data.train.y.tolist() == [0, 4, 2, -1, 1, 0]
    assert (data.num_classes, len(data.test), data.validation) == (5, 0, None)
    assert Npz(path=tmp_path / "d.npz", layout="nchw", num_classes=9).load(0).train.example_shape == IMAGES.shape[1:]
    assert Npz(path=tmp_path / "d.npz", num_classes=9).load(0).num_classes == 9


def test_images_without_label_have_none(tmp_path: Path):
    data = Npz(path=single(tmp_path, image=IMAGES)).load(0)
    assert data.train.y.tolist() == [-1] * 6
    assert data.num_classes == 2


def test_flat_inputs_may_be_called_image(tmp_path: Path):
    x = RNG.random((6, 5), dtype=np.float32)
    np.testing.assert_array_equal(Npz(path=single(tmp_path, image=x)).load(0).train.x.numpy(), x)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": IMAGES, "label": np.arange(5)}, r"label: expected 6 integer labels, got int64 \(5,\)"),
        ({"image": IMAGES, "label": np.arange(6.0)}, r"label: expected 6 integer labels, got float64 \(6,\)"),
        ({"image": IMAGES.astype(np.int32)}, r"image: expected uint8 or float \[n,\*\], got int32"),
        ({"label": np.arange(6)}, "array 'x_train' is missing; found: label"),
    ],
)
def test_wrong_images_and_labels_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        Npz(path=single(tmp_path, **arrays)).load(0)
