"""CutMix: the window, its draws, and the labels that follow its true area."""

from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Batch
from buttress.errors import HookError
from buttress_plugins.transforms.cutmix import CutMix, cut

from ..models import MLP
from .conftest import context, engine_of


def composed(x: Tensor, y: Tensor, alpha: float = 1.0, seed: int = 0, **draws: Tensor) -> Batch:
    named = {f"cutmix.{name}": value for name, value in draws.items()}
    plugin = CutMix(num_classes=4, alpha=alpha)
    return plugin.transform_batch(Batch(x, y, torch.arange(len(x))), context(plugin="cutmix", draws=named, seed=seed))


def two_images(layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """A black image and a white one, ``[2,3,8,6]``."""
    return torch.stack([torch.zeros(3, 8, 6), torch.ones(3, 8, 6)]).contiguous(memory_format=layout)


def test_the_window_is_that_of_the_other_image_and_the_labels_have_its_area():
    x, y = two_images(), torch.tensor([3, 1])
    centre, swapped = torch.tensor([1, 3]), torch.tensor([1, 0])
    batch = composed(x, y, lam=torch.tensor(0.5), permutation=swapped, centre=centre)
    # Half of each side is 5 // 2 rows of 8 and 4 // 2 columns of 6; one row lies above the image.
    expected = x.clone()
    expected[:, :, 0:3, 1:5] = x[swapped, :, 0:3, 1:5]
    assert torch.equal(batch.x, expected)
    share = 12 / 48
    assert torch.allclose(batch.y[0], torch.tensor([0, share, 0, 1 - share]))
    assert torch.allclose(batch.y[1], torch.tensor([0, 1 - share, 0, share]))
    assert batch.index is not None
    assert batch.index.tolist() == [0, 1]


@pytest.mark.parametrize(("lam", "area"), [(1.0, 0), (0.99, 0), (0.0, 48)])
def test_lambda_one_cuts_nothing_and_lambda_zero_all(lam: float, area: int):
    inside = cut(torch.tensor(lam, dtype=torch.float64), torch.tensor([4, 3]), 8, 6)
    assert inside.shape == (1, 1, 8, 6)
    assert int(inside.sum()) == area


def test_soft_labels_are_mixed_as_they_are():
    soft = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.25, 0.75]])
    batch = composed(two_images(), soft, lam=torch.tensor(0.5), permutation=torch.tensor([1, 0]))
    assert torch.allclose(batch.y.sum(1), torch.ones(2))
    assert torch.allclose(batch.y[0] + batch.y[1], soft.sum(0))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_layout_and_the_batch_itself_are_kept(layout: Any, dtype: torch.dtype):
    x = two_images(layout).to(dtype)
    before, batch = x.clone(), composed(x, torch.tensor([0, 1]))
    assert torch.equal(x, before)
    assert batch.x.dtype == batch.y.dtype == dtype
    assert batch.x.is_contiguous(memory_format=layout)


def test_every_batch_has_one_window_of_a_drawn_size_and_place():
    x, y = torch.zeros(2, 1, 64, 64), torch.tensor([0, 1])
    shares = torch.tensor(
        [float(composed(x, y, seed=seed, permutation=torch.tensor([1, 0])).y[0, 1]) for seed in range(300)]
    )
    # A window of share u, uniform, keeps (sqrt(u) - u / 4)^2 of it on average inside the border: E = 1/2 - 1/5 + 1/48.
    assert float(shares.mean()) == pytest.approx(0.32, abs=0.04)
    assert float(shares.max()) > 0.7
    assert len(shares.unique()) > 200


def test_inputs_that_are_no_images_are_refused():
    engine = engine_of(MLP(), "fgsm", {"cutmix": {"num_classes": 3}})
    with pytest.raises(HookError, match=r"expected images \[B,C,H,W\], got x of shape \(6, 16\)"):
        engine.step(torch.rand(6, 16), torch.arange(6) % 3)
