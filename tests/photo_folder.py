"""Folders of real images, one a class, in the layout that torchvision reads."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import to_pil_image

from buttress import Data
from buttress_plugins.data.photos import FILES, Photos

CLASSES = ("cat", "coffee")
_BEST: Mapping[str, Mapping[str, int]] = {"png": {}, "jpg": {"quality": 100, "subsampling": 0}}


def write_photos(root: Path, counts: Mapping[str, int], size: int = 8, suffix: str = "png") -> Data:
    """Write crops of two photographs as ``root/<split>/<class>/<number>.<suffix>``; the data set that they are of.

    Args:
        root: folder of the splits; made.
        counts: number of images of each class in the splits ``train`` and ``test``.
        size: side of the images in pixels.
        suffix: kind of the files: ``png``, or ``jpg`` of best quality.
    """
    data = Photos(size=size, train_per_class=counts["train"], test_per_class=counts["test"], validation=0).load(0)
    for split, examples in data.splits().items():
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number, crop in enumerate(examples.x[examples.y == list(FILES).index(name)]):
                image = to_pil_image((crop * 255).round().to(torch.uint8))
                image.save(
                    folder / f"{number}.{suffix}", **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {})
                )
    return data
