"""CIFAR and SVHN in files of their true format, made here; torchvision, which checks md5, is told theirs."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from torchvision import datasets


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def images(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)


def cifar(root: Path, kind: Any, monkeypatch: pytest.MonkeyPatch, classes: int, key: str) -> dict[str, np.ndarray]:
    """Writes the python version of a CIFAR: pickled dicts with rows of 3072 bytes, red, green, blue."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    made, lists = {}, {"train_list": [], "test_list": []}
    files = [(which, file[0]) for which in ("train_list", "test_list") for file in getattr(kind, which)]
    for number, (which, name) in enumerate(files):
        x = images(2 * classes, number)
        labels = [k % classes for k in range(2 * classes)]
        (folder / name).write_bytes(pickle.dumps({"data": x.reshape(len(x), -1), key: labels}))
        lists[which].append([name, md5(folder / name)])
        made[name] = x
    meta = {**kind.meta}
    names = [f"class {k}" for k in range(classes)]
    (folder / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: names}))
    monkeypatch.setattr(kind, "meta", {**meta, "md5": md5(folder / meta["filename"])})
    for which, files in lists.items():
        monkeypatch.setattr(kind, which, files)
    return made


def svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Writes the cropped digits: MATLAB arrays [32,32,3,n] and labels 1 to 10, where 10 is the digit 0."""
    made, lists = {}, dict(datasets.SVHN.split_list)
    for number, split in enumerate(("train", "test")):
        x = images(40, number)
        url, name, _ = lists[split]
        y = np.arange(40) % 10 + 1
        scipy.io.savemat(root / name, {"X": x.transpose(2, 3, 1, 0), "y": y[:, None].astype(np.uint8)})
        lists[split] = [url, name, md5(root / name)]
        made[split] = x
    monkeypatch.setattr(datasets.SVHN, "split_list", lists)
    return made
