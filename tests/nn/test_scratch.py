"""Memory that is used again in every step."""

import torch
from torch import Tensor

from buttress import Adv
from buttress.engine.perturbation import Copies, perturbed
from buttress.nn.scratch import Scratch

from ..core.helpers import adding, batch_of


def places(tensors: list[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def test_copies_lie_where_the_last_ones_lay():
    buffers, weights = Scratch(), [torch.rand(3, 4), torch.rand(5)]
    first = places(buffers.copies(weights))
    weights[0].zero_()
    again = buffers.copies(weights)
    assert places(again) == first
    assert all(torch.equal(copy, weight) for copy, weight in zip(again, weights, strict=True))
    assert not set(first) & set(places(weights))


def test_other_tensors_get_memory_like_theirs():
    buffers = Scratch()
    for weights in (
        [torch.rand(3, 4)],
        [torch.rand(3, 4), torch.rand(2)],
        [torch.rand(4, 3)],
        [torch.rand(4, 3).double()],
        [torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)],
        [torch.rand(2, 3, 4, 5)],
        [],
    ):
        copies = buffers.copies(weights)
        assert all(torch.equal(copy, weight) for copy, weight in zip(copies, weights, strict=True))
        assert [copy.stride() for copy in copies] == [weight.stride() for weight in weights]


def test_what_is_handed_out_may_be_rearranged_by_its_owner():
    buffers, weights = Scratch(), [torch.rand(3), torch.rand(5)]
    buffers.like(weights).clear()
    assert [copy.shape for copy in buffers.like(weights)] == [weight.shape for weight in weights]


def test_copies_of_parameters_require_no_gradient():
    (copy,) = Scratch().copies([torch.nn.Parameter(torch.rand(3))])
    assert not copy.requires_grad
    assert copy.grad_fn is None


def test_a_perturbation_after_an_exception_is_not_troubled_by_what_the_copies_hold():
    copies, weight = Copies(), torch.rand(4)

    def run(fails: bool) -> None:
        saved, order = copies.before.copies([weight]), "step_while_perturbed"
        with perturbed(
            adding([weight], [torch.ones(4)]), Adv(batch_of().x), [weight], order, saved, copies.after
        ) as given:
            given.before_step()
            if fails:
                raise ValueError("no")
            weight.mul_(0.5)

    before = weight.clone()
    try:
        run(fails=True)
    except ValueError:
        assert torch.equal(weight, before)
    held = places([*copies.before.like([weight]), *copies.after.like([weight])])
    run(fails=False)
    torch.testing.assert_close(weight, before - (before + 1) * 0.5)
    assert places([*copies.before.like([weight]), *copies.after.like([weight])]) == held
