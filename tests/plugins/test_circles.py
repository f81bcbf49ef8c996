"""The toy set: radii, noise and seeds."""

import torch

from buttress_plugins.data.circles import Circles, circles


def test_a_point_is_where_its_angle_and_noise_put_it():
    x = circles(torch.tensor([2.0]), torch.tensor([torch.pi / 2]), torch.tensor([0.5]), torch.tensor([-0.1]))
    assert torch.allclose(x, torch.tensor([[0.0, 2.5, -0.1]]), atol=1e-6)


def test_two_circles_of_their_radii_with_the_noise_asked_for():
    data = Circles(per_class=4000, inner=1.0, outer=3.0, noise=0.1).load(0)
    assert data.num_classes == 2
    for k, radius in ((0, 1.0), (1, 3.0)):
        points = data.train.x[data.train.y == k]
        distance = points[:, :2].norm(dim=1)
        assert abs(float(distance.mean()) - radius) < 0.01
        assert abs(float(distance.std()) - 0.1) < 0.01
        assert abs(float(points[:, 2].std()) - 0.1) < 0.01
        assert abs(float(points[:, 0].mean())) < 0.1 * radius


def test_splits_differ_and_follow_the_seed():
    one, again, other = Circles().load(0), Circles().load(0), Circles().load(1)
    assert torch.equal(one.train.x, again.train.x)
    assert not torch.equal(one.train.x, other.train.x)
    assert not torch.equal(one.train.x, one.test.x)
    assert torch.equal(Circles(split_seed=0).load(5).train.x, one.train.x)
