"""Images that grow when they are read, and files that are none: refused by the header, or cut before they grow."""

import os
import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from buttress import ThreatModel
from buttress.errors import DataError
from buttress.storage import image_file
from buttress_plugins.data.image_folder import ImageFolder


def png(path: Path, width: int, height: int, rows: int | None = None) -> None:
    """A black image of one bit a pixel: 5,000,000 pixels are 5 kB. ``rows`` are written, by default all."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = bytes(1 + (width + 7) // 8)
    pixels = zlib.compress(row * (height if rows is None else rows), 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(1, 3):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def images(root: Path, **settings: Any) -> torch.Tensor:
    """All of the training split, checked first."""
    train = ImageFolder(root=root, size=8, workers=0, **settings).load(0).train
    train.check("train", 2, ThreatModel("linf", "8/255"))
    return torch.cat([batch.x for batch in train.batches(torch.arange(len(train)), 2)])


@pytest.mark.parametrize(("width", "height"), [(1, 5_000_000), (5_000_000, 1), (3, 1_000_000)])
def test_a_strip_is_cut_before_it_is_resized(root: Path, width: int, height: int):
    png(root / "train" / "a" / "0.png", width, height)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert images(root).shape == (5, 3, 8, 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB; it was 3.8 GB


@pytest.mark.parametrize("size", [(16, 16), (20, 31), (64, 17), (40, 160), (33, 8), (7, 9)])
def test_usual_images_are_what_they_were(root: Path, size: tuple[int, int]):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "train" / "a" / "0.png")
    square = v2.Compose([v2.Resize(8), v2.CenterCrop(8), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    assert torch.equal(images(root)[0], square(Image.fromarray(pixels)))


def test_of_a_strip_the_middle_is_kept(root: Path):
    pixels = np.zeros((10, 1001, 3), dtype=np.uint8)
    pixels[:, 490:511] = 255
    Image.fromarray(pixels).save(root / "train" / "a" / "0.png")
    actual = images(root)[0]
    assert actual.min() == 1.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [9_460, 20_000, 2**31 - 1])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(root: Path, side: int):
    png(root / "train" / "a" / "0.png", side, side, rows=1)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"a/0\.png cannot be read: .*pixels.*; repair or remove it$"):
        images(root)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def postscript(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pipe, "expected a regular file, it is a pipe"),
        (device, "expected a regular file, it is a device"),
        (postscript, "cannot identify image file"),
    ],
    ids=["pipe", "device", "postscript"],
)
def test_what_is_no_image_is_named(root: Path, make: Callable[[Path], None], message: str):
    make(root / "train" / "a" / "0.png")
    with pytest.raises(DataError, match=rf"a/0\.png cannot be read: {message}; repair or remove it$"):
        images(root)


@pytest.mark.parametrize("target", [".", "..", "../../train/a"])
def test_a_link_that_leads_round_is_named(root: Path, target: str):
    (root / "train" / "a" / "round").symlink_to(target)
    with pytest.raises(DataError, match=r"train/a/round is a link to a folder that it is in; remove it"):
        images(root)


def test_two_links_that_lead_round_are_named(root: Path):
    (root / "train" / "a" / "x").symlink_to("../b")
    (root / "train" / "b" / "y").symlink_to("../a")
    with pytest.raises(DataError, match=r"is a link to a folder that it is in; remove it"):
        images(root)


def test_links_to_folders_elsewhere_are_followed(root: Path):
    (root / "elsewhere").mkdir()
    (root / "train" / "b" / "1.png").rename(root / "elsewhere" / "9.png")
    (root / "train" / "b" / "link").symlink_to(root / "elsewhere")
    assert images(root).shape[0] == 4


def test_every_format_that_is_taken_is_one_of_pillow_s():
    Image.init()
    assert set(image_file.FORMATS) <= set(Image.OPEN)
