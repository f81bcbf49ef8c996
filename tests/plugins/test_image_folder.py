"""Folders of images: read while training, in the order asked for."""

import signal
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms import v2

from buttress import ThreatModel
from buttress.config.file import ConfigFile
from buttress.config.yaml_source import dump_yaml, parse_yaml
from buttress.errors import DataError, InterruptionError, WorkError
from buttress.training.launch import continue_run, launch
from buttress_plugins.data import image_folder
from buttress_plugins.data.image_folder import ImageFolder

from ..cli.conftest import stopped_at
from ..photo_folder import write_photos

BOX = ThreatModel("linf", "8/255")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_photos(tmp_path / "images", {"train": 6, "test": 3})
    return tmp_path / "images"


def folder(root: Path, **settings: Any) -> Any:
    return ImageFolder(root=str(root), **{"size": 8, "workers": 0, **settings}).load(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_the_images_in_the_order_asked_for(root: Path, workers: int):
    train = folder(root, workers=workers).train
    order = torch.tensor([11, 0, 5, 6, 2])
    batches = list(train.batches(order, 2))
    assert [batch.index.tolist() for batch in batches] == [[11, 0], [5, 6], [2]]
    assert [batch.y.tolist() for batch in batches] == [[1, 0], [0, 1], [0]]
    with Image.open(root / "train" / "coffee" / "5.png") as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    assert torch.allclose(batches[0].x[0], expected, rtol=0, atol=1e-7)
    assert [batch.index.tolist() for batch in train.batches(order, 2, start=1)] == [[5, 6], [2]]


@pytest.mark.parametrize(("suffix", "close"), [("png", 1e-7), ("jpg", 0.01)])
def test_photographs_are_those_that_were_saved(tmp_path: Path, suffix: str, close: float):
    saved = write_photos(tmp_path / "images", {"train": 6, "test": 3}, 32, suffix)
    read = folder(tmp_path / "images", size=32)
    for name, split in read.splits().items():
        (batch,) = split.batches(torch.arange(len(split)), len(split))
        of_both = saved.splits()[name]
        expected = torch.cat([of_both.x[of_both.y == number] for number in (1, 2)])  # cat and coffee
        assert batch.y.tolist() == [0] * (len(split) // 2) + [1] * (len(split) // 2)
        assert float((batch.x - expected).abs().mean()) <= close


def test_images_are_resized_and_cropped(root: Path):
    data = folder(root, size=4)
    (batch,) = data.test.batches(torch.arange(6), 6)
    assert batch.x.shape == (6, 3, 4, 4)
    assert data.train.example_shape == (3, 4, 4)
    assert float(batch.x.min()) >= 0
    assert float(batch.x.max()) <= 1


def test_what_is_held_out_is_stratified_and_leaves_the_training_set(root: Path):
    data = folder(root, validation=4)
    assert data.validation.y.tolist() == [0, 0, 1, 1]
    assert len(data.train) == 8


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_inputs_are_the_numbers_of_torchvision(tmp_path: Path, workers: int, suffix: str):
    write_photos(tmp_path / "images", {"train": 6, "test": 3}, 32, suffix)
    transform = v2.Compose([v2.Resize(20), v2.CenterCrop(20), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    expected = torch.stack([image for image, _ in datasets.ImageFolder(tmp_path / "images" / "train", transform)])
    train = folder(tmp_path / "images", size=20, workers=workers).train.to(torch.device("cpu"), torch.channels_last)
    read = list(train.batches_at([torch.tensor([7, 0, 3]), torch.tensor([11])]))
    assert torch.equal(torch.cat([batch.x for batch in read]), expected[[7, 0, 3, 11]])
    assert read[0].x.is_contiguous(memory_format=torch.channels_last)


def test_all_8_bit_values_are_inputs_inside_the_box():
    values = image_folder.inputs(torch.arange(256, dtype=torch.uint8))
    assert float(values.min()) == 0
    assert float(values.max()) == 1


def test_8_bit_images_beside_a_deep_one_keep_their_numbers(root: Path):
    plain = next(folder(root).train.batches(torch.tensor([0]), 1)).x
    deep = np.random.default_rng(0).integers(0, 2**16, (8, 8), dtype=np.uint16)
    Image.fromarray(deep).save(root / "train" / "cat" / "1.png")
    both = next(folder(root).train.batches(torch.tensor([0, 1]), 2)).x
    assert torch.equal(both[:1], plain)
    assert torch.allclose(
        both[1], torch.from_numpy(deep / np.float32(65535)).float().expand(3, 8, 8), rtol=0, atol=1e-6
    )


def test_workers_read_ahead_and_end_with_the_reading(root: Path):
    batches = folder(root, workers=2).train.batches(torch.arange(12), 1)
    next(batches)
    workers = active_children()
    assert len(workers) == 2
    batches.close()
    assert not any(worker.is_alive() for worker in workers)


def test_a_killed_worker_is_one_clear_error_where_its_images_are_waited_for(root: Path):
    before = signal.getsignal(signal.SIGCHLD)
    batches = folder(root, workers=1).train.batches(torch.arange(12), 1)
    next(batches)
    assert signal.getsignal(signal.SIGCHLD) is before
    (worker,) = active_children()
    worker.kill()
    worker.join()
    with pytest.raises(
        WorkError, match=r"^image_folder: a process that reads examples has ended by itself: "
    ) as caught:
        list(batches)
    assert "\n" not in str(caught.value)


def test_reading_moves_no_global_generator(root: Path):
    train = folder(root, workers=2).train
    before = torch.get_rng_state()
    list(train.batches(torch.arange(4), 2))
    assert torch.equal(before, torch.get_rng_state())


def test_an_unreadable_image_is_named(root: Path):
    (root / "train" / "coffee" / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"train/coffee/2\.png cannot be read"):
        list(folder(root).train.batches(torch.arange(12), 4))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["truncated", "bomb"])
def test_every_way_in_which_an_image_cannot_be_read_is_one_clear_error(
    root: Path, workers: int, damage: str, monkeypatch: pytest.MonkeyPatch
):
    path = root / "train" / "coffee" / "2.png"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # 64 pixels are then more than twice as many
    with pytest.raises(DataError, match=r"^image_folder: .*\.png cannot be read: .*; repair or remove it$"):
        list(folder(root, workers=workers).train.batches(torch.tensor([8]), 1))


def test_an_unreadable_header_is_found_before_the_first_step(root: Path, monkeypatch: pytest.MonkeyPatch):
    (root / "train" / "coffee" / "2.png").write_bytes(b"no image")
    train = folder(root).train
    with pytest.raises(DataError, match=r"train/coffee/2\.png cannot be read: cannot identify image file"):
        train.check("train", 2, BOX)
    monkeypatch.setattr(image_folder, "READ_BEFORE", 100)  # of a larger set the headers are not read
    train.check("train", 2, BOX)


# Fingerprints


def overwrite(path: Path) -> None:
    """Change one byte of the pixels, not the size."""
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


CHANGES = {
    "contents of files": lambda root: overwrite(root / "train" / "cat" / "1.png"),
    "sizes of files": lambda root: (root / "train" / "cat" / "1.png").write_bytes(b"x"),
    "names of files": lambda root: (root / "train" / "cat" / "1.png").rename(root / "train" / "cat" / "1b.png"),
    "labels": lambda root: (root / "train" / "cat" / "5.png").rename(root / "train" / "coffee" / "a.png"),
    "n": lambda root: (root / "train" / "cat" / "1.png").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_the_files_changes_the_fingerprint(root: Path, change: str):
    before = folder(root).train.fingerprint()
    CHANGES[change](root)
    now = folder(root).train.fingerprint()
    assert before[change] != now[change]
    same = {"n", "shape", "labels", "names of files", "sizes of files", "contents of files"} - {change}
    assert change != "contents of files" or all(before[key] == now[key] for key in same)


def test_a_folder_that_moves_and_settings_of_reading_change_no_fingerprint(root: Path):
    before = folder(root, validation=4).fingerprint
    root.rename(root.with_name("moved"))
    after = folder(root.with_name("moved"), validation=4, workers=2)
    assert after.fingerprint == before
    assert set(before) == {"train", "validation", "test"}
    assert after.train.to(torch.device("cpu"), torch.channels_last).fingerprint() == before["train"]


def test_of_a_large_set_names_and_sizes_are_known(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_folder, "READ_BEFORE", 100)
    before = folder(root).train.fingerprint()
    assert "contents of files" not in before
    overwrite(root / "train" / "cat" / "1.png")
    assert folder(root).train.fingerprint() == before
    (root / "train" / "cat" / "1.png").write_bytes(b"x")
    assert folder(root).train.fingerprint() != before


def test_a_file_that_cannot_be_read_is_named_by_the_fingerprint(root: Path):
    train = folder(root).train
    (root / "train" / "cat" / "1.png").unlink()
    with pytest.raises(DataError, match=r"train/cat/1\.png cannot be read"):
        train.fingerprint()


def test_missing_folders_and_other_classes_are_refused(root: Path, tmp_path: Path):
    with pytest.raises(DataError, match="one folder of images for each class"):
        folder(tmp_path / "nowhere")
    (root / "test" / "coffee").rename(root / "test" / "wolf")
    with pytest.raises(DataError, match=r"has classes \['cat', 'wolf'\]"):
        folder(root)


def test_a_box_that_images_leave_is_refused(root: Path):
    with pytest.raises(DataError, match="outside of threat"):
        folder(root).train.check("train", 2, ThreatModel("linf", "1/10", (0.0, 0.5)))


def run_file(root: Path) -> ConfigFile:
    config = {
        "name": "folders",
        "data": {"name": "image_folder", "root": str(root), "size": 8, "validation": 4, "batch_size": 3, "workers": 1},
        "model": {"name": "preact_tiny", "width": 2},
        "threat": {"norm": "linf", "eps": "8/255"},
        "plugins": [{"augment": {"pad": 1}}, "fgsm", {"swa": {"start": 0}}],
        "optimizer": {"lr": 0.1},
        "epochs": 2,
        "evaluation": {"attack": "fgsm", "every": 2},
    }
    return ConfigFile(parse_yaml(dump_yaml(config), "folders.yaml"))


def test_a_run_trains_on_it_and_resumes_within_an_epoch_exactly(root: Path, tmp_path: Path):
    rows = launch(run_file(root), tmp_path / "runs", "whole")
    assert [row.track for row in rows] == ["live", "swa"]
    assert rows[0].n == 6
    with stopped_at(4), pytest.raises(InterruptionError, match=r"epoch 2/2, 1 of its 3 steps done"):
        launch(run_file(root), tmp_path / "runs", "stopped")
    continue_run(tmp_path / "runs" / "folders" / "stopped")
    whole, stopped = (
        [path.read_bytes() for path in sorted((tmp_path / "runs" / "folders" / name / "weights").iterdir())]
        for name in ("whole", "stopped")
    )
    assert whole == stopped
