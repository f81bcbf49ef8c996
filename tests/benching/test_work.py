"""Floating-point operations and bytes are those of the operators."""

import torch
import torch.nn.functional as F

from buttress.benching.work import OperatorCount


def test_a_matrix_product_has_two_operations_for_each_multiplication():
    one, other = torch.rand(3, 4), torch.rand(4, 5)
    with OperatorCount() as count:
        one @ other
    assert (count.flops, count.bytes) == (2 * 3 * 4 * 5, 4 * (12 + 20 + 15))


def test_backward_passes_count_too():
    weight = torch.rand(2, 1, 3, 3, requires_grad=True)
    x = torch.rand(1, 1, 5, 5, requires_grad=True)
    with OperatorCount() as count:
        loss = F.conv2d(x, weight).sum()
    forward = count.flops
    with OperatorCount() as count:
        torch.autograd.grad(loss, [x, weight])
    assert forward == 2 * 9 * 2 * 9
    assert count.flops >= 2 * forward


def test_views_and_fresh_memory_move_nothing():
    x = torch.rand(4, 4)
    with OperatorCount() as count:
        x.view(2, 8).T[1:].expand(7, 2), torch.empty(100)
    assert count.bytes == 0


def test_an_expanded_tensor_has_the_bytes_of_its_memory():
    x = torch.rand(1)
    with OperatorCount() as count:
        x.expand(1000).sum()
    assert count.bytes == 8
