"""Every mode and tag that Pillow knows: the pixels that a person sees, or a refusal by name; nothing becomes white."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from buttress import ThreatModel
from buttress.errors import DataError
from buttress.storage.image_file import visible_image
from buttress_plugins.data.image_folder import ImageFolder

GREY = np.array([[0, 1, 2, 3]] * 4) * 85  # columns of 0, 1/3, 2/3 and 1
LINEAR = GREY / 255
BOX = ThreatModel("linf", "8/255")
Write = Callable[[Path], object]


def read(tmp_path: Path, write: Write, name: str = "0.png", **settings: Any) -> np.ndarray:
    """The image that ``write`` makes at a path, as training sees it: ``[3,4,4]``; headers are checked first."""
    for split in ("train", "test"):
        folder = tmp_path / split / "a"
        folder.mkdir(parents=True)
        write(folder / name)
    data = ImageFolder(root=str(tmp_path), size=4, workers=0, **settings).load(0)
    data.train.check("train", 1, BOX)
    (batch,) = data.train.batches(torch.arange(1), 1)
    assert float(batch.x.min()) >= 0
    assert float(batch.x.max()) <= 1
    return batch.x[0].numpy()


def image(array: np.ndarray, mode: str | None = None) -> Image.Image:
    made = Image.fromarray(np.ascontiguousarray(array))
    return made if mode is None else made.convert(mode)


def saved(made: Image.Image, **options: Any) -> Write:
    return lambda path: made.save(path, **options)


L8 = image(GREY.astype(np.uint8))
L16 = image((GREY * 257).astype(np.uint16))
RGB = image(np.stack([GREY, GREY.T, 255 - GREY], axis=-1).astype(np.uint8))
PALETTE = L8.convert("P")


def tiff(values: np.ndarray, bits: int, photometric: int, order: str = "<", sample: int = 1) -> Write:
    """A TIFF file of one strip with ``values [4,4]``, which Pillow itself does not write."""

    def write(path: Path) -> None:
        if bits == 12:
            pairs = values.astype(int).reshape(-1, 2)
            data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())
        else:
            data = values.astype(f"{order}{'uif'[sample - 1]}{bits // 8}").tobytes()
        tags = {256: 4, 257: 4, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 4, 279: len(data)}
        tags[339] = sample
        entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
        head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
        path.write_bytes(head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))

    return write


SEEN = {
    "1": (saved(image(GREY > 100, "1")), "0.png", (GREY > 100) * 1.0),
    "L": (saved(L8), "0.png", LINEAR),
    "L, 4 bits": (saved(L8, bits=4), "0.png", LINEAR),
    "I;16 in PNG": (saved(L16), "0.png", LINEAR),
    "I;16 in TIFF": (saved(L16), "0.tif", LINEAR),
    "I;16B in TIFF": (tiff(GREY * 257, 16, 1, ">"), "0.tif", LINEAR),
    "I;16 in TIFF, 0 is white": (tiff(GREY * 257, 16, 0), "0.tif", 1 - LINEAR),
    "12 bits in TIFF": (tiff(GREY * 4095 // 255, 12, 1), "0.tif", LINEAR),
    "16 bits in PGM": (saved(L16), "0.pgm", LINEAR),
    "10 bits in PGM": (
        lambda path: path.write_bytes(b"P5 4 4 1023\n" + (GREY * 1023 // 255).astype(">u2").tobytes()),
        "0.pgm",
        LINEAR,
    ),
    "F in TIFF": (saved(image(LINEAR.astype(np.float32))), "0.tif", LINEAR),
    "F in TIFF, big-endian": (tiff(LINEAR, 32, 1, ">", 3), "0.tif", LINEAR),
    "P": (saved(PALETTE), "0.png", LINEAR),
    "LA, opaque": (saved(L8.convert("LA")), "0.png", LINEAR),
    "RGBX as BMP": (saved(L8.convert("RGB")), "0.bmp", LINEAR),
    "webp": (saved(L8.convert("RGB"), lossless=True), "0.webp", LINEAR),
}


@pytest.mark.parametrize("case", SEEN)
def test_grey_images_keep_their_greys(case: str, tmp_path: Path):
    write, name, expected = SEEN[case]
    np.testing.assert_allclose(read(tmp_path, write, name), np.stack([expected] * 3), rtol=0, atol=2e-3)


COLOURS = {
    "RGB": (RGB, "0.png", 1e-6),
    "RGBA, opaque": (RGB.convert("RGBA"), "0.png", 1e-6),
    "CMYK": (RGB.convert("CMYK"), "0.tif", 0.01),
    "YCbCr": (RGB.convert("YCbCr"), "0.tif", 0.02),
    "P": (RGB.quantize(16), "0.png", 0.01),
}


@pytest.mark.parametrize("case", COLOURS)
def test_colour_images_keep_their_colours(case: str, tmp_path: Path):
    made, name, close = COLOURS[case]
    expected = np.asarray(RGB).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(read(tmp_path, saved(made), name), expected, rtol=0, atol=close)


def test_lab_is_converted_to_the_colours_that_it_means(tmp_path: Path):
    srgb, other = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
    lab = ImageCms.profileToProfile(RGB, srgb, other, outputMode="LAB")
    actual = read(tmp_path, saved(lab), "0.tif")  # but for saturated ones, which Lab clips
    np.testing.assert_allclose(
        actual, np.asarray(RGB).transpose(2, 0, 1) / 255, rtol=0, atol=0.15
    )  # saturated colours lie outside of it


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_every_mode_of_eight_bits_has_a_way_to_rgb(mode: str):
    made = (RGB.convert("RGBA") if mode == "RGBa" else RGB).convert(mode)
    assert visible_image(made, "white").mode == "RGB"


def test_deep_images_are_not_cut_off_when_they_are_resized(tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 65536, (40, 40), dtype=np.uint16)
    actual = read(tmp_path, saved(image(values)))
    assert 0.4 < actual.mean() < 0.6
    assert (actual == 1).mean() < 0.01


# Transparency


def see_through(mode: str, colour: int) -> Image.Image:
    """An image of one colour whose left half is transparent."""
    made = image(np.full((4, 4), colour, np.uint8), mode)
    made.putalpha(image(np.where(GREY > 100, 255, 0).astype(np.uint8)))
    return made


@pytest.mark.parametrize(("background", "shown"), [("white", 1.0), ("black", 0.0)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_background_stands_behind_transparent_pixels(mode: str, background: str, shown: float, tmp_path: Path):
    actual = read(tmp_path, saved(see_through(mode, 85)), background=background)
    np.testing.assert_allclose(actual, np.stack([np.where(GREY > 100, 1 / 3, shown)] * 3), atol=1e-6)


@pytest.mark.parametrize(
    ("made", "transparent"), [(L8, 85), (L8.convert("RGB"), (85, 85, 85)), (PALETTE, 85), (image(GREY > 100, "1"), 0)]
)
def test_a_transparent_colour_is_transparent(made: Image.Image, transparent: Any, tmp_path: Path):
    opaque = np.asarray(made.convert("L")) / 255
    actual = read(tmp_path, saved(made, transparency=transparent))
    level = (85 if made.mode != "1" else 0) / 255
    np.testing.assert_allclose(actual[0], np.where(np.isclose(opaque, level), 1, opaque), atol=1e-6)


# Tags


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_tag_says(orientation: int, tmp_path: Path):
    pixels = np.asarray(RGB)
    seen = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    actual = read(tmp_path, saved(RGB, exif=exif))
    np.testing.assert_allclose(actual, seen.transpose(2, 0, 1) / 255, atol=1e-6)


def test_a_deep_image_is_turned_too(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 3
    np.testing.assert_allclose(read(tmp_path, saved(L16, exif=exif))[0], LINEAR[:, ::-1], atol=1e-5)


def test_the_previews_in_a_camera_s_file_are_no_frames(tmp_path: Path):
    large, preview = L8.resize((16, 16)).convert("RGB"), L8.convert("RGB")
    actual = read(tmp_path, saved(large, format="MPO", save_all=True, append_images=[preview]), "0.jpg")
    assert actual.shape == (3, 4, 4)


# Refusals


def frames(path: Path) -> None:
    RGB.save(path, save_all=True, append_images=[L8.convert("RGB")])


def text(path: Path) -> None:
    path.write_bytes(b"no image")


REFUSED = {
    "int32": (tiff(GREY * 65537, 32, 1, sample=1), "0.tif", "its pixels are 32-bit or signed integers"),
    "signed int32": (tiff(GREY * 65537, 32, 1, sample=2), "0.tif", "its pixels are 32-bit or signed integers"),
    "signed int16": (tiff(GREY * 128, 16, 1, sample=2), "0.tif", "its pixels are 32-bit or signed integers"),
    "F beyond 1": (
        saved(image(GREY.astype(np.float32))),
        "0.tif",
        r"expected floating-point pixels in \[0, 1\], got \[0, 255\]",
    ),
    "F below 0": (saved(image((LINEAR - 1).astype(np.float32))), "0.tif", r".*got \[-1, 0\]"),
    "NaN": (saved(image(np.full((4, 4), np.nan, np.float32))), "0.tif", r".*got \[nan, nan\]"),
    "frames of TIFF": (frames, "0.tif", "it has 2 frames, expected one"),
    "frames of PNG": (frames, "0.png", "it has 2 frames"),
    "frames of WebP": (frames, "0.webp", "it has 2 frames"),
    "deep and transparent": (saved(L16, transparency=0), "0.png", "it has 16 bits and a transparent colour"),
    "nothing visible": (saved(Image.new("LA", (4, 4))), "0.png", "all of its pixels are transparent"),
    "text": (text, "0.png", "cannot identify image file"),
    "empty": (lambda path: path.touch(), "0.png", "cannot identify image file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_image_that_would_lose_its_content_is_refused_by_name(case: str, tmp_path: Path):
    write, name, reason = REFUSED[case]
    message = rf"^image_folder: .*train/a/{name} cannot be read: {reason}.*; repair or remove it$"
    with pytest.raises(DataError, match=message):
        read(tmp_path, write, name)


def test_other_text_in_a_file_changes_nothing(tmp_path: Path):
    about = PngInfo()
    about.add_text("Comment", "a comment")
    np.testing.assert_allclose(read(tmp_path, saved(L8, pnginfo=about, dpi=(72, 72), gamma=1)), np.stack([LINEAR] * 3))
