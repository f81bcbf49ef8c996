"""CIFAR and SVHN from files in their true format, made here."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from buttress.errors import DataError
from buttress_plugins.data.torchvision_sets import CIFAR10, CIFAR100, SVHN
from tests.image_sets import cifar, svhn


def test_cifar10_is_what_stands_in_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = cifar(tmp_path, datasets.CIFAR10, monkeypatch, 10, "labels")
    data = CIFAR10(root=str(tmp_path), validation=0).load(0)
    assert data.num_classes == 10
    assert data.validation is None
    train = np.concatenate([made[f"data_batch_{k}"] for k in range(1, 6)])
    assert torch.equal(data.train.x, torch.from_numpy(train).float() / 255)
    assert torch.equal(data.test.x, torch.from_numpy(made["test_batch"]).float() / 255)
    assert data.train.y.tolist() == [k % 10 for k in range(20)] * 5
    assert data.train.x.dtype == torch.float32


def test_cifar100_has_its_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cifar(tmp_path, datasets.CIFAR100, monkeypatch, 100, "fine_labels")
    data = CIFAR100(root=str(tmp_path), validation=0).load(0)
    assert data.num_classes == 100
    assert data.test.y.tolist() == [k % 100 for k in range(200)]


def test_svhn_is_what_stands_in_its_files_and_ten_means_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = svhn(tmp_path, monkeypatch)
    data = SVHN(root=str(tmp_path), validation=0).load(0)
    assert torch.equal(data.train.x, torch.from_numpy(made["train"]).float() / 255)
    assert torch.equal(data.test.x, torch.from_numpy(made["test"]).float() / 255)
    assert data.train.y.tolist() == [(k + 1) % 10 for k in range(40)]


def test_what_is_held_out_is_stratified_fixed_by_the_seed_and_without_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cifar(tmp_path, datasets.CIFAR10, monkeypatch, 10, "labels")

    def load(seed: int, **settings: Any) -> Any:
        return CIFAR10(root=str(tmp_path), validation=20, label_noise=0.25, **settings).load(seed)

    data, again, other = load(0), load(0), load(1)
    assert torch.bincount(data.validation.y).tolist() == [2] * 10
    assert len(data.train) == 80
    assert data.notes == {"flipped_labels": 20}
    assert int((data.train.y != data.true_labels).sum()) == 20
    few = load(0, train_per_class=2)
    assert torch.bincount(few.true_labels).tolist() == [2] * 10
    assert int((few.train.y != few.true_labels).sum()) == 5
    assert torch.equal(data.train.x, again.train.x)
    assert torch.equal(data.train.y, again.train.y)
    assert not torch.equal(data.train.x, other.train.x)
    assert torch.equal(load(1, split_seed=0).train.y, data.train.y)
    everything = torch.cat([data.train.x, data.validation.x]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == 100


def test_parts_of_the_classes_are_drawn_and_those_of_the_test_split_follow_no_setting_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cifar(tmp_path, datasets.CIFAR10, monkeypatch, 10, "labels")

    def load(**settings: Any) -> Any:
        return CIFAR10(root=str(tmp_path), **settings).load(0)

    part = load(validation=20, train_per_class=3, test_per_class=1)
    assert torch.bincount(part.train.y).tolist() == [3] * 10
    assert torch.bincount(part.test.y).tolist() == [1] * 10
    assert torch.equal(part.validation.x, load(validation=20).validation.x)
    assert torch.equal(part.test.x, load(validation=0, test_per_class=1, label_noise=0.5).test.x)
    held = {tuple(image.tolist()) for image in part.validation.x.flatten(1)}
    assert not held & {tuple(image.tolist()) for image in part.train.x.flatten(1)}
    with pytest.raises(DataError, match="CIFAR10: train_per_class: expected at most 10, got 11"):
        load(validation=0, train_per_class=11)


def test_a_download_that_fails_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.CIFAR10, "download", refuse)
    with pytest.raises(DataError, match=r"no route to host; repair the connection, or set data\.root to the folder"):
        CIFAR10(root=str(tmp_path), download=True).load(0)


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100, SVHN])
def test_missing_files_are_named_with_the_cure(kind: Any, tmp_path: Path):
    message = rf"{kind.__name__}: cannot be read from '.*': .*; set data\.download: true, or data\.root to the folder"
    with pytest.raises(DataError, match=message):
        kind(root=str(tmp_path)).load(0)


def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cifar(tmp_path, datasets.CIFAR10, monkeypatch, 10, "labels")
    path = tmp_path / datasets.CIFAR10.base_folder / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="not found or corrupted"):
        CIFAR10(root=str(tmp_path)).load(0)


class _Opens:
    """Pickled, a call that makes a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self._file), "w")


def test_a_pickle_that_is_not_the_published_one_is_never_loaded(tmp_path: Path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(pickle.dumps(_Opens(tmp_path / "canary")))
    with pytest.raises(DataError, match="CIFAR10: cannot be read from"):
        CIFAR10(root=tmp_path).load(0)
    assert not (tmp_path / "canary").exists()
