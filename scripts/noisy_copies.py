"""Write noisy, also shifted, 8-bit copies of the training images of a config, as the file of a further set of examples.

``python scripts/noisy_copies.py CONFIG [KEY=VALUE ...] --output FILE.npz`` writes ``image [n,H,W,C]`` and
``label [n]``, the labels that a run of the config trains on. Validation and test images have no part in it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from buttress.config.file import load_config
from buttress.training.dataset import load_data


def noisy_copies(x: Tensor, *, copies: int, shift: int, sigma: float, seed: int) -> Tensor:
    """Copies of ``x [n,C,H,W]`` in [0, 1], ``[copies*n,C,H,W]`` in uint8: all images once, then all of them again.

    Args:
        x: images.
        copies: number of copies of each image.
        shift: largest shift along each axis, in pixels, drawn uniformly; zeros come in.
        sigma: standard deviation of the Gaussian noise, which is added after the shift.
        seed: seed of shifts and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = x.shape[2:]
    canvas = pad(x.repeat(copies, 1, 1, 1), [shift] * 4)
    corners = torch.randint(0, 2 * shift + 1, (len(canvas), 2), generator=generator).tolist()
    moved = torch.stack(
        [image[:, top : top + height, left : left + width] for image, (top, left) in zip(canvas, corners, strict=True)]
    )
    noise = torch.randn(moved.shape, generator=generator)
    return (moved + sigma * noise).clamp(0, 1).mul(255).round().to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write noisy 8-bit copies of the training images of a config.")
    parser.add_argument("config", type=Path, help="config whose training split is copied")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="overrides, as in train")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.npz", help="file to write")
    parser.add_argument("--copies", type=int, default=50, help="number of copies of each image (default: 50)")
    parser.add_argument("--shift", type=int, default=0, help="largest shift along each axis, in pixels (default: 0)")
    parser.add_argument("--sigma", type=float, default=0.1, help="standard deviation of the noise (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of shifts and noise (default: 0)")
    given = parser.parse_args()
    data, _ = load_data(load_config(given.config, given.overrides))
    x, y = data.train.x.cpu(), data.train.y.cpu()
    images = noisy_copies(x, copies=given.copies, shift=given.shift, sigma=given.sigma, seed=given.seed)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez(given.output, image=images.permute(0, 2, 3, 1).contiguous().numpy(), label=y.repeat(given.copies).numpy())
    sys.stdout.write(f"{len(images):,} copies of {len(x):,} training images: {given.output}\n")


if __name__ == "__main__":
    main()
