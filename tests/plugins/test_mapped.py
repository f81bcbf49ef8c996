"""The data set ``mapped``: labels that are given, by a model, or missing, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from buttress.components.construct import build
from buttress.data import NO_LABEL, MappedSplit, sha256_of_tensor
from buttress.errors import ConfigError, DataError
from buttress.storage.reading import file_sha256
from buttress.storage.seals import write_sealed
from buttress_plugins.data.mapped import Mapped
from buttress_plugins.data.npz import Npz

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
LABELS = np.arange(20) % 7
GUESSES = ((np.arange(20) + 3) % 7).astype(np.int16)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", image=IMAGES, label=LABELS)
    np.savez("bare.npz", image=IMAGES)
    np.save("i.npy", IMAGES)
    np.save("l.npy", LABELS.astype(np.uint8))


def write_guesses(name: str, images: np.ndarray = IMAGES, guesses: np.ndarray = GUESSES) -> None:
    """Labels and their record, as ``buttress pseudo-label`` writes them."""
    np.save(name, guesses)
    inputs = torch.from_numpy(images).movedim(-1, 1).contiguous() / 255
    fingerprint = {"n": len(images), "inputs": sha256_of_tensor(inputs)}
    record = {"fingerprint": fingerprint, "file_sha256": file_sha256(Path(name)), "min_confidence": 0.0}
    write_sealed(Path(name).with_suffix(".json"), record)


def loaded(**settings: Any) -> MappedSplit:
    split = Mapped(**settings).load(0).train
    assert isinstance(split, MappedSplit)
    return split


def labels_of(**settings: Any) -> list[int]:
    split = loaded(**settings)
    (batch,) = split.batches(torch.arange(20), 20)
    assert torch.equal(batch.x, Npz(path="d.npz").load(0).train.x)
    return batch.y.tolist()


def test_a_file_is_that_of_npz_without_being_read_into_memory():
    data, memory = Mapped(file="d.npz").load(0), Npz(path="d.npz").load(0)
    assert isinstance(data.train, MappedSplit)
    assert data.num_classes == memory.num_classes == 7
    assert data.train.fingerprint() == memory.train.fingerprint()
    assert len(data.test) == 0
    assert data.validation is None
    assert Mapped(file="d.npz", num_classes=9).load(0).num_classes == 9


def test_labels_come_from_the_file_or_from_one_of_their_own():
    assert labels_of(file="d.npz") == LABELS.tolist()
    assert labels_of(file="i.npy", label_file="l.npy") == LABELS.tolist()
    assert labels_of(file="i.npy", label_file="d.npz") == LABELS.tolist()
    assert labels_of(file="d.npz", label_file="l.npy") == LABELS.tolist()
    assert labels_of(file="d.npz", labels="none") == labels_of(file="i.npy", labels="none") == [NO_LABEL] * 20


def test_another_order_of_the_axes():
    np.save("chw.npy", np.moveaxis(IMAGES, -1, 1))
    assert loaded(file="chw.npy", layout="nchw", label_file="l.npy").fingerprint() == loaded(file="d.npz").fingerprint()


def test_pseudo_labels_lie_beside_the_images():
    write_guesses("d.pseudo.npy")
    assert labels_of(file="d.npz", labels="pseudo") == GUESSES.tolist()
    assert labels_of(file="d.npz", labels="given") == LABELS.tolist()
    write_guesses("elsewhere.npy")
    assert labels_of(file="i.npy", labels="pseudo", label_file="elsewhere.npy") == GUESSES.tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"file": "bare.npz"},
            r"bare\.npz: expected labels, got an \.npz of image; name a \.npy of them as label_file, l",
        ),
        (
            {"file": "i.npy"},
            r"i\.npy: expected labels, got images alone; name a \.npy of them as label_file, label the",
        ),
        (
            {"file": "bare.npz", "labels": "pseudo"},
            r"expected labels, got .*; label the images by a trained run \(buttress pseudo-label RUN --data '{name",
        ),
        (
            {"file": "d.npz", "labels": "pseudo"},
            r"d\.npz: expected labels of buttress pseudo-label, with their record in",
        ),
        ({"file": "d.npz", "labels": "none", "label_file": "l.npy"}, "labels: none, and label_file is l.npy; take one"),
        ({"file": "l.npy"}, "expected labels, got images alone"),
        (
            {"file": "l.npy", "labels": "none"},
            r"l\.npy: expected uint8 images \[n,H,W,C\], got uint8 \(20,\); save them",
        ),
        (
            {"file": "f.npy", "labels": "none"},
            r"got float32 \(2, 4, 4, 3\); .* or have float images read into memory by",
        ),
        ({"file": "e.npy", "labels": "none"}, r"expected uint8 images \[n,H,W,C\], got uint8 \(0, 4, 4, 3\)"),
        (
            {"file": "i.npy", "label_file": "few.npy"},
            r"few\.npy: expected 20 integer labels, .* got int64 \(19,\); name",
        ),
        ({"file": "i.npy", "label_file": "half.npy"}, r"half\.npy: expected 20 integer labels, .* got float64 \(20,\)"),
        ({"file": "i.npy", "label_file": "j.npy"}, r"j\.npy: expected 20 integer labels, .* got uint8 \(20, 4, 4, 3\)"),
        ({"file": "x.npz"}, r"x\.npz: expected an array 'image', got an \.npz of x, y; rename the array of images"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str):
    np.save("f.npy", np.zeros((2, 4, 4, 3), np.float32))
    np.save("e.npy", IMAGES[:0])
    np.save("j.npy", IMAGES)
    np.save("few.npy", LABELS[:19])
    np.save("half.npy", LABELS / 2)
    np.savez("x.npz", x=IMAGES, y=LABELS)
    with pytest.raises(DataError, match=message):
        Mapped(**settings).load(0)


def test_pseudo_labels_of_other_images_or_without_their_record_are_refused():
    write_guesses("d.pseudo.npy", IMAGES + np.uint8(1))
    with pytest.raises(
        DataError, match=r"expected labels of the 20 images of d\.npz, got those of 20 others; label them"
    ):
        loaded(file="d.npz", labels="pseudo")
    write_guesses("d.pseudo.npy")
    np.save("d.pseudo.npy", GUESSES + 1)
    with pytest.raises(
        DataError, match=r"the labels that d\.pseudo\.json tells of, got a file that has been changed since"
    ):
        loaded(file="d.npz", labels="pseudo")
    write_sealed(Path("d.pseudo.json"), {"other": 1})
    with pytest.raises(
        DataError, match=r"expected a record of buttress pseudo-label in d\.pseudo\.json, got another file"
    ):
        loaded(file="d.npz", labels="pseudo")
    Path("d.pseudo.json").unlink()
    with pytest.raises(DataError, match="or set labels: given to take the labels as they are"):
        loaded(file="d.npz", labels="pseudo")


def test_labels_is_one_of_three_words():
    with pytest.raises(ConfigError, match="labels: expected 'given', 'pseudo' or 'none', got 'guessed'"):
        build("dataset", "mapped", {"file": "d.npz", "labels": "guessed"})
