"""PGD on models whose optimum is known in closed form, and inside every threat model."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from buttress import Batch, Engine, Split, ThreatModel, evaluate
from buttress.engine.context import Context
from buttress.errors import DataError
from buttress_plugins.attacks.pgd import PGD

from ..models import ConvNet, Linear
from .conftest import batch_of, context, engine_of, state

RNG = np.random.default_rng(5)
WEIGHT = RNG.normal(size=(2, 6))
THREE = RNG.normal(size=(3, 6))
EPS = 8 / 255


def flat_batch(n: int = 8, classes: int = 2, low: float = 0.0, high: float = 1.0, seed: int = 1) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(torch.from_numpy(rng.uniform(low, high, (n, 6))), torch.from_numpy(rng.integers(0, classes, n)))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def directions(batch: Batch, weight: np.ndarray = WEIGHT) -> np.ndarray:
    """``w_other - w_own`` of each example: the direction in which a two-class linear loss rises."""
    y = batch.y.numpy()
    return weight[1 - y] - weight[y]


def close(result: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-12)


# Closed forms


@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize("start", ["uniform", "gaussian", "none"])
@pytest.mark.parametrize(("box", "low", "high"), [((0.0, 1.0), 0.0, 1.0), ((-2.0, 0.5), -2.0, 0.5), (None, -9.0, 9.0)])
def test_linf_reaches_the_corner_of_the_ball_clipped_to_the_box(loss, start, box, low, high):
    batch = flat_batch(low=low, high=high)
    adv = PGD(loss=loss, start=start).generate_adv(Linear(WEIGHT), batch, context(ThreatModel("linf", "8/255", box)))
    expected = batch.x.numpy() + EPS * np.sign(directions(batch))
    close(adv.x, expected if box is None else np.clip(expected, *box))


@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize(("box", "low", "high"), [((0.0, 1.0), 0.4, 0.6), (None, -9.0, 9.0)])
def test_l2_goes_eps_along_the_direction_of_the_weights(loss, box, low, high):
    batch = flat_batch(low=low, high=high)
    threat = ThreatModel("l2", 0.25, box)
    adv = PGD(loss=loss, start="none").generate_adv(Linear(WEIGHT), batch, context(threat))
    w = directions(batch)
    expected = batch.x.numpy() + 0.25 * w / np.linalg.norm(w, axis=1, keepdims=True)
    np.testing.assert_allclose(adv.x.numpy(), expected, rtol=0, atol=1e-8)  # the guard of the norm is 1e-10


def test_l2_from_a_random_start_ends_at_the_same_point():
    batch = flat_batch(low=0.4, high=0.6)
    adv = PGD(steps=120).generate_adv(Linear(WEIGHT), batch, context(ThreatModel("l2", 0.25)))
    w = directions(batch)
    expected = batch.x.numpy() + 0.25 * w / np.linalg.norm(w, axis=1, keepdims=True)
    np.testing.assert_allclose(adv.x.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_default_step_is_a_quarter_of_eps(norm):
    batch = flat_batch(low=0.4, high=0.6)
    ctx = context(ThreatModel(norm, 0.08))
    one, three, four, five = (
        PGD(steps=steps, start="none").generate_adv(Linear(WEIGHT), batch, ctx).x - batch.x for steps in (1, 3, 4, 5)
    )
    size = {"linf": lambda d: d.abs().amax(1), "l2": lambda d: d.norm(dim=1)}[norm]
    for delta, expected in ((one, 0.02), (three, 0.06), (four, 0.08), (five, 0.08)):
        np.testing.assert_allclose(size(delta).numpy(), expected, rtol=1e-7)


def test_ten_steps_are_the_default():
    calls = []

    class Counted(Linear):
        def forward(self, x):
            calls.append(1)
            return super().forward(x)

    PGD().generate_adv(Counted(WEIGHT), flat_batch(), context())
    assert len(calls) == 10  # and no forward after the last step


def test_a_step_larger_than_eps_ends_on_the_border():
    batch = flat_batch()
    pgd = PGD(steps=1, step_size=5.0, start="none")
    adv = pgd.generate_adv(Linear(WEIGHT), batch, context())
    close(adv.x, np.clip(batch.x.numpy() + EPS * np.sign(directions(batch)), 0, 1))


# Losses, by hand


def gradient_by_hand(loss: str, weight: np.ndarray, x: np.ndarray, x_adv: np.ndarray, y: np.ndarray) -> np.ndarray:
    z = x_adv @ weight.T
    if loss == "ce":
        return (softmax(z) - np.eye(len(weight))[y]) @ weight
    if loss == "kl":
        return (softmax(z) - softmax(x @ weight.T)) @ weight
    wrong = np.where(np.eye(len(weight))[y] == 1, -np.inf, z).argmax(1)
    return weight[wrong] - weight[y]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "kl", "margin"])
def test_five_steps_equal_five_steps_by_hand(loss: str, norm: str):
    batch = flat_batch(n=20, classes=3, low=0.3, high=0.7)
    rng = np.random.default_rng(9)
    start = rng.uniform(-0.02, 0.02, (20, 6))
    threat, alpha = ThreatModel(norm, 0.1), 0.03
    pgd = PGD(steps=5, step_size=alpha, loss=loss)
    adv = pgd.generate_adv(Linear(THREE), batch, context(threat, "pgd", {"pgd.start": torch.from_numpy(start)}))

    x, y = batch.x.numpy(), batch.y.numpy()
    expected = x + start
    for _ in range(5):
        g = gradient_by_hand(loss, THREE, x, expected, y)
        if norm == "linf":
            expected = np.clip(np.clip(expected + alpha * np.sign(g), x - 0.1, x + 0.1), 0, 1)
        else:
            delta = expected + alpha * g / np.linalg.norm(g, axis=1, keepdims=True) - x
            delta *= np.minimum(1, 0.1 / np.linalg.norm(delta, axis=1, keepdims=True))
            expected = np.clip(x + delta, 0, 1)
    close(adv.x, expected)


def test_soft_labels_are_attacked_by_their_own_cross_entropy():
    batch = flat_batch(classes=3)
    soft = np.random.default_rng(3).dirichlet(np.ones(3), len(batch.x))
    pgd = PGD(steps=1, start="none")
    adv = pgd.generate_adv(Linear(THREE), Batch(batch.x, torch.from_numpy(soft)), context())
    x = batch.x.numpy()
    g = (softmax(x @ THREE.T) - soft) @ THREE
    close(adv.x, np.clip(x + EPS / 4 * np.sign(g), 0, 1))


def test_margin_with_soft_labels_is_refused():
    batch = flat_batch()
    soft = Batch(batch.x, torch.full((8, 2), 0.5, dtype=torch.float64))
    with pytest.raises(ValueError, match="loss margin needs hard labels"):
        PGD(loss="margin").generate_adv(Linear(WEIGHT), soft, context())


# Starts: with a step of length zero, what comes out is the start


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_start_and_no_step_give_the_input_back(norm):
    batch = flat_batch()
    adv = PGD(steps=2, step_size=0, start="none").generate_adv(Linear(WEIGHT), batch, context(ThreatModel(norm, 0.1)))
    np.testing.assert_array_equal(adv.x.numpy(), batch.x.numpy())


def first_input(pgd: PGD, batch: Batch, ctx: Context) -> np.ndarray:
    """The input of the attack's first forward, before anything is projected."""
    seen = []

    class Recorded(Linear):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x)

    pgd.generate_adv(Recorded(WEIGHT), batch, ctx)
    return seen[0].numpy()


def test_the_uniform_linf_start_fills_the_cube_and_stays_in_the_box():
    x = torch.full((500, 6), 0.5, dtype=torch.float64)
    x[:, 0], x[:, 1] = 0.0, 1.0
    batch = Batch(x, torch.zeros(500, dtype=torch.int64))
    delta = first_input(PGD(), batch, context(ThreatModel("linf", 0.1))) - x.numpy()
    inner = delta[:, 2:]
    assert np.abs(inner).max() <= 0.1 + 1e-12
    assert inner.min() < -0.099
    assert inner.max() > 0.099
    assert abs(inner.mean()) < 5 * 0.1 / np.sqrt(3 * inner.size)
    assert abs(inner.var() - 0.1**2 / 3) < 0.1 * 0.1**2 / 3
    for column in (delta[:, 0], -delta[:, 1]):
        assert column.min() >= 0
        assert 0.4 < (column == 0).mean() < 0.6  # half is cut off by the box


def test_the_uniform_l2_start_has_a_uniform_radius():
    batch = Batch(torch.full((2000, 6), 0.5, dtype=torch.float64), torch.zeros(2000, dtype=torch.int64))
    delta = first_input(PGD(), batch, context(ThreatModel("l2", 0.2))) - 0.5
    radius = np.linalg.norm(delta, axis=1)
    assert radius.max() <= 0.2 + 1e-12
    assert abs(np.mean(radius) - 0.1) < 5 * 0.2 / np.sqrt(12 * 2000)
    assert abs((radius < 0.05).mean() - 0.25) < 0.05
    assert np.abs(delta.mean(0)).max() < 0.01


def test_the_gaussian_start_is_clamped_neither_to_the_ball_nor_to_the_box():
    batch = Batch(torch.zeros(400, 6, dtype=torch.float64), torch.zeros(400, dtype=torch.int64))
    seen = first_input(PGD(start="gaussian"), batch, context(ThreatModel("linf", 0.0001)))
    assert seen.min() < -0.001
    assert abs(seen.std() - 0.001) < 0.0001
    assert abs(seen.mean()) < 5 * 0.001 / np.sqrt(seen.size)


@pytest.mark.parametrize("start", ["uniform", "gaussian"])
def test_an_injected_start_is_used_as_it_is(start):
    batch = flat_batch()
    noise = torch.full((8, 6), 7.0, dtype=torch.float64)  # far outside of ball and box
    ctx = context(plugin="pgd", draws={"pgd.start": noise})
    np.testing.assert_array_equal(first_input(PGD(start=start), batch, ctx), (batch.x + noise).numpy())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_injected_start_replays_a_step_bit_for_bit(norm):
    batch = batch_of()
    threat = ThreatModel(norm, 0.1)
    noise = threat.random_start(batch.x, torch.Generator().manual_seed(4)) - batch.x
    results = []
    for seed in (1, 2):
        engine = engine_of(ConvNet(), "pgd", threat=threat, seed=seed)
        results.append(engine.step(batch.x, batch.y, draws={"pgd.start": noise}).adv.x)
    assert torch.equal(*results)
    free = engine_of(ConvNet(), "pgd", threat=threat, seed=2).step(batch.x, batch.y).adv.x
    assert not torch.equal(results[0], free)


def test_equal_seeds_give_equal_starts_and_other_seeds_and_steps_others():
    batch = flat_batch()
    a, b, c = (first_input(PGD(), batch, context(seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    model = ConvNet()
    engine = engine_of(model, {"pgd": {"step_size": 0}})
    images = batch_of()
    first, second = (engine.step(images.x, images.y).adv.x for _ in range(2))
    assert not torch.equal(first, second)


# Restarts


@pytest.mark.parametrize("loss", ["ce", "kl", "margin"])
def test_of_several_restarts_each_example_keeps_the_one_of_highest_loss(loss: str):
    batch = flat_batch(n=30, classes=3, low=0.2, high=0.8)
    starts = torch.from_numpy(np.random.default_rng(8).uniform(-0.1, 0.1, (4, 30, 6)))
    pgd = PGD(steps=1, step_size=0, restarts=4, loss=loss)
    adv = pgd.generate_adv(Linear(THREE), batch, context(ThreatModel("linf", 0.2), "pgd", {"pgd.start": starts}))

    x, y = batch.x.numpy(), batch.y.numpy()
    candidates = x + starts.numpy()
    losses = []
    for candidate in candidates:
        z = candidate @ THREE.T
        log_q, log_p = np.log(softmax(z)), np.log(softmax(x @ THREE.T))
        own = z[np.arange(30), y]
        wrong = np.where(np.eye(3)[y] == 1, -np.inf, z).max(1)
        losses.append(
            {"ce": -log_q[np.arange(30), y], "kl": (np.exp(log_p) * (log_p - log_q)).sum(1), "margin": wrong - own}[
                loss
            ]
        )
    winner = np.argmax(losses, axis=0)
    assert len(set(winner)) == 4  # every restart wins somewhere
    close(adv.x, candidates[winner, np.arange(30)])


def test_restarts_draw_different_starts():
    seen = []

    class Recorded(Linear):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x)

    PGD(steps=1, restarts=3).generate_adv(Recorded(WEIGHT), flat_batch(), context())
    assert len(seen) == 6  # a step and a final loss each
    assert not torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[2], seen[4])


def test_more_restarts_never_lower_the_loss():
    model, batch = ConvNet().eval(), batch_of(20)
    threat = ThreatModel("linf", 0.2)
    losses = []
    for restarts in (1, 2, 5):
        adv = PGD(steps=2, restarts=restarts).generate_adv(model, batch, context(threat))
        losses.append(nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none").detach())
    assert (losses[1] >= losses[0] - 1e-6).all()
    assert (losses[2] >= losses[1] - 1e-6).all()
    assert (losses[2] > losses[0] + 1e-6).any()


# Projection


@pytest.mark.parametrize(
    ("order", "expected"),
    [("norm_then_box", [1.0, 0.5]), ("box_then_norm", [0.9 + 0.1 * 0.5 / 0.65**0.5, 0.1 + 0.8 * 0.5 / 0.65**0.5])],
)
def test_the_order_of_the_projections_matters_at_the_border_of_the_box(order, expected):
    # w_other - w_own = (3, 4): one step of length 1 from (0.9, 0.1) leads to (1.5, 0.9)
    batch = Batch(torch.tensor([[0.9, 0.1]], dtype=torch.float64), torch.tensor([0]))
    pgd = PGD(steps=1, step_size=1.0, start="none", projection_order=order)
    adv = pgd.generate_adv(Linear([[0, 0], [3, 4]]), batch, context(ThreatModel("l2", 0.5)))
    np.testing.assert_allclose(adv.x.numpy(), [expected], atol=1e-9)


@pytest.mark.parametrize("box", [(0.0, 1.0), (-1.0, 0.25), None], ids=str)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("eps", ["0", "1/255", "8/255", "0.5", "1"])
def test_the_result_is_always_in_the_ball_and_in_the_box(norm: str, eps: str, box):
    threat = ThreatModel(norm, eps, box)
    for seed, (start, order, loss) in enumerate(
        [
            ("uniform", "norm_then_box", "ce"),
            ("gaussian", "norm_then_box", "kl"),
            ("none", "box_then_norm", "margin"),
            ("uniform", "box_then_norm", "ce"),
        ]
    ):
        batch = batch_of(16, seed)
        low, high = box or (-3.0, 3.0)
        x = low + (high - low) * batch.x
        x[:3] = low  # on the border too
        x[3:6] = high
        x = x.clamp(low, high)
        pgd = PGD(steps=3, start=start, projection_order=order, loss=loss, restarts=1 + seed % 2)
        adv = pgd.generate_adv(ConvNet(seed).eval(), Batch(x, batch.y), context(threat, seed=seed))
        assert adv.x.dtype == x.dtype
        assert not adv.x.requires_grad
        delta = (adv.x.double() - x.double()).flatten(1).numpy()
        size = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
        assert size.max() <= float(threat.eps) + 3e-6
        if box is not None:
            assert low <= adv.x.min()
            assert adv.x.max() <= high
            assert threat.contains(adv.x, x)


def test_box_then_norm_never_leaves_a_box_around_zero_by_rounding():
    threat = ThreatModel("l2", 100, (-1.0, 0.25))
    x = (-1 + 1.25 * batch_of(64).x).clamp(-1, 0.25)  # 1,024 values: some of them are rounded up
    projected = threat.project(x + 2, x, order="box_then_norm")
    assert projected.max() <= 0.25
    assert threat.contains(projected, x)


# Gradients that are zero or not finite


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_gradient_does_not_move(norm):
    batch = flat_batch()
    adv = PGD(start="none").generate_adv(Linear(np.zeros((2, 6))), batch, context(ThreatModel(norm, 0.1)))
    np.testing.assert_array_equal(adv.x.numpy(), batch.x.numpy())
    assert adv.aux["nonfinite_grads"].tolist() == [0] * 8


class Spoiled(torch.autograd.Function):
    """Identity whose gradient is NaN, inf and -inf at elements 0, 1, 2 of the first example."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        grad = grad.clone()
        grad[0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
        return grad


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("restarts", [1, 2])
def test_a_non_finite_gradient_element_counts_as_zero_and_is_counted(norm, restarts):
    class Bad(Linear):
        def forward(self, x):
            return super().forward(Spoiled.apply(x))

    batch = flat_batch(low=0.4, high=0.6)
    pgd = PGD(steps=4, start="none", restarts=restarts)
    adv = pgd.generate_adv(Bad(WEIGHT), batch, context(ThreatModel(norm, 0.1)))
    assert adv.aux["nonfinite_grads"].tolist() == [12 * restarts, 0, 0, 0, 0, 0, 0, 0]
    w = directions(batch)
    w[0, :3] = 0
    expected = np.sign(w) if norm == "linf" else w / np.linalg.norm(w, axis=1, keepdims=True)
    np.testing.assert_allclose(adv.x.numpy(), batch.x.numpy() + 0.1 * expected, rtol=0, atol=1e-8)


# In a run


@pytest.mark.parametrize("mode", ["eval", "train", "train_notrack"])
def test_the_attack_mode_reaches_the_engine(mode: str):
    model = ConvNet()
    engine = engine_of(model, {"pgd": {"steps": 3, "attack_mode": mode}})
    assert engine.attack_mode == mode
    modes = []
    model.bn.register_forward_pre_hook(lambda module, _: modes.append((module.training, module.track_running_stats)))
    batch = batch_of()
    engine.step(batch.x, batch.y)
    during = {"eval": (False, True), "train": (True, True), "train_notrack": (True, False)}[mode]
    assert modes == [during] * 3 + [(True, True)]
    assert model.bn.num_batches_tracked.item() == {"eval": 1, "train": 4, "train_notrack": 1}[mode]


def test_an_explicit_attack_mode_of_the_engine_wins():
    assert engine_of(ConvNet(), {"pgd": {"attack_mode": "train"}}, attack_mode="eval").attack_mode == "eval"


@pytest.mark.parametrize("mode", ["eval", "train", "train_notrack"])
def test_evaluation_always_attacks_in_eval_mode(mode: str):
    model = ConvNet().train()
    before = state(model)
    modes = []
    model.bn.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    batch = batch_of(10)
    evaluate(model, Split(batch.x, batch.y), {"pgd": {"steps": 2, "attack_mode": mode}}, ThreatModel("linf", 0.1))
    assert modes == [False] * 4
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_attack_leaves_inputs_gradients_and_flags_as_found():
    model = ConvNet()
    model.conv.weight.requires_grad_(False)
    batch = batch_of()
    x = batch.x.clone()
    engine = Engine(model, torch.optim.SGD(model.parameters(), lr=0.0), [PGD()], ThreatModel("linf", 0.1))
    engine.step(batch.x, batch.y)
    assert torch.equal(batch.x, x)
    assert not batch.x.requires_grad
    assert not model.conv.weight.requires_grad
    assert model.conv.weight.grad is None
    assert model.linear.weight.requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"step_size": -1}, "step_size"),
        ({"step_size": "1/0"}, "step_size"),
        ({"loss": "cw"}, "loss"),
        ({"start": "random"}, "start"),
        ({"restarts": 0}, "restarts"),
        ({"projection_order": "box"}, "projection_order"),
        ({"attack_mode": "test"}, "attack_mode"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_by_name(settings, message):
    from buttress.components.loaded import load_plugins
    from buttress.errors import ConfigError

    with pytest.raises(ConfigError, match=rf"plugins\.0\.pgd\.{message}: "):
        load_plugins([{"pgd": settings}])


@pytest.mark.parametrize(("restarts", "shape"), [(1, (1, 4, 4)), (2, (6, 1, 4, 4)), (1, (2, 6, 1, 4, 4))])
def test_a_start_of_another_shape_is_refused_instead_of_broadcast(restarts: int, shape: tuple[int, ...]):
    engine = engine_of(ConvNet(), {"pgd": {"steps": 1, "restarts": restarts}})
    batch = batch_of()
    with pytest.raises(DataError, match=r"draws\['pgd\.start'\]: expected a tensor of shape"):
        engine.step(batch.x, batch.y, draws={"pgd.start": torch.zeros(shape)})


def test_a_divergence_from_the_start_itself_is_refused():
    with pytest.raises(ValueError, match=r"^start: loss kl is smallest at x itself"):
        PGD(loss="kl", start="none")


# Targets


@pytest.mark.parametrize(("targets", "rows"), [("next", [1, 2, 0]), ("least_likely", None), ("random", None)])
def test_a_targeted_step_goes_up_the_logit_of_the_target(targets: str, rows: list[int] | None):
    batch, model = flat_batch(classes=3, low=0.4, high=0.6), Linear(THREE)
    logits = model(batch.x).detach().numpy()
    y = batch.y.numpy()
    if rows is not None:
        target = np.array(rows)[y]
    elif targets == "random":
        target = (y + 2) % 3
    else:
        target = np.where(np.arange(3) == y[:, None], np.inf, logits).argmin(1)
    draws = {"pgd.targets": torch.from_numpy(target)} if targets == "random" else {}
    attack = PGD(loss="margin", targets=targets, start="none", steps=1, step_size=0.01)
    adv = attack.generate_adv(model, batch, context(ThreatModel("linf", EPS), "pgd", draws))
    close(adv.x, batch.x.numpy() + 0.01 * np.sign(THREE[target] - THREE[y]))


def test_of_all_targets_each_example_keeps_the_largest_margin():
    batch, model, threat = flat_batch(classes=3, low=0.4, high=0.6), Linear(THREE), ThreatModel("linf", EPS)
    attack = PGD(loss="margin", targets="all", start="none")
    adv = attack.generate_adv(model, batch, context(threat)).x
    y = batch.y.numpy()
    margins = []
    for step in (1, 2):
        towards = THREE[(y + step) % 3] - THREE[y]
        moved = (batch.x.numpy() + EPS * np.sign(towards)) @ THREE.T
        others = np.where(np.arange(3) == y[:, None], -np.inf, moved).max(1)
        margins.append(others - moved[np.arange(len(y)), y])
    actual = model(adv).detach().numpy()
    others = np.where(np.arange(3) == y[:, None], -np.inf, actual).max(1)
    np.testing.assert_allclose(others - actual[np.arange(len(y)), y], np.maximum(*margins), rtol=0, atol=1e-12)
