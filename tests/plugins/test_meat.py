"""MEAT: the median of the true snapshots, beside a training that does not notice it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from buttress import Batch
from buttress.components.construct import build
from buttress.errors import CheckpointError, ConfigError, HookError
from buttress.storage.history import DiskHistory, MemoryHistory, _MemoryReader
from buttress_plugins.ensembles import meat

from ..models import ConvNet
from .conftest import assert_same, batch_of, engine_of, parameters, pooled_statistics, state, train


def entry(**settings: Any) -> dict[str, Any]:
    return {"meat": {"start": 0, "history": "memory", **settings}}


def middle(snapshots: list[dict[str, Tensor]], even: str = "lower") -> dict[str, np.ndarray]:
    """The median by NumPy's sort, in float64."""
    n = len(snapshots)
    actual = {}
    for name in snapshots[0]:
        ordered = np.sort(np.stack([snapshot[name].double().numpy() for snapshot in snapshots]), axis=0)
        low, high = ordered[(n - 1) // 2], ordered[n // 2]
        actual[name] = {"lower": low, "upper": high, "mean": (low + high) / 2}[even]
    return actual


def assert_median(weights: dict[str, Tensor], snapshots: list[dict[str, Tensor]], even: str = "lower") -> None:
    expected = middle(snapshots, even)
    assert set(weights) == set(expected)
    for name, values in expected.items():
        if even == "mean" and len(snapshots) % 2 == 0:
            np.testing.assert_allclose(weights[name].double().numpy(), values, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(weights[name].double().numpy(), values)


def set_weights(model: nn.Module, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(values[name])


def only_track(engine: Any) -> Any:
    (track,) = engine.tracks()
    return track


# The median


@pytest.mark.parametrize("even", ["lower", "upper", "mean"])
def test_after_every_epoch_the_track_is_the_median_of_all_snapshots_so_far(even: str):
    engine = engine_of(ConvNet(), "fgsm", entry(median=even))
    snapshots: list[dict[str, Tensor]] = []
    for _ in range(6):
        snapshots += train(engine, 1)
        assert_median(only_track(engine).weights, snapshots, even)
        if even == "lower":
            for name, weight in only_track(engine).weights.items():
                assert torch.equal(weight, torch.stack([s[name] for s in snapshots]).median(0).values)


@pytest.mark.parametrize("even", ["lower", "upper", "mean"])
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_ties_between_snapshots_give_the_tied_value(n: int, even: str):
    model = ConvNet()
    engine = engine_of(model, "fgsm", entry(median=even))
    engine.start()
    rng = np.random.default_rng(n)
    snapshots = []
    for _ in range(n):
        values = {
            name: torch.from_numpy(rng.integers(0, 2, tuple(weight.shape))).float()
            for name, weight in model.named_parameters()
        }
        set_weights(model, values)
        snapshots.append(values)
        engine.end_epoch()
    assert_median(only_track(engine).weights, snapshots, even)


@pytest.mark.parametrize("even", ["lower", "upper", "mean"])
def test_one_snapshot_gives_the_weights_of_the_model(even: str):
    model = ConvNet()
    engine = engine_of(model, "fgsm", entry(median=even))
    train(engine, 1)
    assert_same(only_track(engine).weights, parameters(model))


def test_two_snapshots_give_the_elementwise_minimum_by_default():
    engine = engine_of(ConvNet(), "fgsm", entry())
    a, b = train(engine, 2)
    assert_same(only_track(engine).weights, {name: torch.minimum(a[name], b[name]) for name in a})


def test_the_track_asks_for_reestimated_batch_norm_and_new_tensors():
    model = ConvNet()
    engine = engine_of(model, "fgsm", entry())
    train(engine, 1)
    track = only_track(engine)
    assert (track.name, track.buffers, track.bn_inputs) == ("meat", "reestimate", "clean")
    live = {weight.data_ptr() for weight in model.parameters()}
    assert not live & {weight.data_ptr() for weight in track.weights.values()}


# The live model does not notice


def optimizer_state(engine: Any) -> list[Tensor]:
    return [buffer for values in engine.optimizer.state.values() for buffer in values.values() if buffer is not None]


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("bn_data", ["clean", "adv"])
def test_live_weights_and_optimizer_are_bit_identical_with_and_without_it(bn_data: str, attack: str):
    plain, with_meat = engine_of(ConvNet(), attack), engine_of(ConvNet(), attack, entry(bn_data=bn_data))

    def evaluated(_: int) -> None:
        with with_meat.track(only_track(with_meat), lambda: [batch_of(8, seed=3)]) as model:
            model.eval()(batch_of().x)
            model.train()

    train(plain, 4)
    train(with_meat, 4, each=evaluated)
    assert_same(state(plain.model), state(with_meat.model))
    one, two = optimizer_state(plain), optimizer_state(with_meat)
    assert len(one) == len(two) == 5
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_track_leaves_the_live_model_bit_for_bit_even_after_an_error():
    model = ConvNet()
    engine = engine_of(model, "fgsm", entry())
    train(engine, 2)
    before = state(model)

    def fail() -> None:
        with engine.track(only_track(engine), lambda: [batch_of()]):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert_same(before, state(model))


def test_attacks_for_batch_norm_do_not_use_the_draws_of_the_last_step():
    engine = engine_of(ConvNet(), "pgd", entry(bn_data="adv"))
    batch = batch_of(6)
    engine.step(batch.x, batch.y, draws={"pgd.start": torch.zeros_like(batch.x)})
    engine.end_epoch()
    with engine.track(only_track(engine), lambda: [batch_of(5)]):  # another batch size than the draw's
        pass


# The window


@pytest.mark.parametrize(
    ("start", "epochs", "first"),
    [(0, 6, 0), (2, 6, 2), (5, 6, 5), (0.5, 6, 3), (0.5, 5, 2), (0.29, 100, 29), (0.99, 6, 5)],
)
def test_the_window_grows_by_one_every_epoch_from_its_start(start: float, epochs: int, first: int):
    model = ConvNet()
    engine = engine_of(model, "fgsm", entry(start=start), epochs=epochs)
    engine.start()
    snapshots = []
    for epoch in range(min(epochs, first + 4)):
        with torch.no_grad():
            model.linear.bias += epoch % 3 - 0.75
        if epoch >= first:
            snapshots.append(parameters(model))
        engine.end_epoch()
        track = only_track(engine)
        if epoch < first:
            assert track.weights is None
        else:
            assert_median(track.weights, snapshots)
            (loaded,) = [p for p in engine.plugins if p.label == "meat"]
            assert len(loaded.plugin._snapshots) == epoch - first + 1


def test_before_the_first_snapshot_the_track_is_the_live_model():
    model = ConvNet()
    engine = engine_of(model, "fgsm", entry(start=4))
    train(engine, 1)
    before = state(model)
    with engine.track(only_track(engine), lambda: pytest.fail("no batches are needed")) as same:
        assert_same(before, state(same))


def test_a_start_after_the_end_never_takes_a_snapshot():
    engine = engine_of(ConvNet(), "fgsm", entry(start=60))
    train(engine, 6)
    assert only_track(engine).weights is None


def test_a_fraction_without_the_number_of_epochs_is_refused():
    engine = engine_of(ConvNet(), "fgsm", entry(start=0.5), epochs=None)
    with pytest.raises(ConfigError, match=r"0\.5 is a fraction of the epochs, but their number is unknown"):
        engine.start()


# Refusals


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_weight_that_is_not_finite_is_refused_with_its_name(value: float):
    model = ConvNet()
    engine = engine_of(model, "fgsm", entry(), checks="off")  # the core's own look at the weights would be first
    train(engine, 1)
    with torch.no_grad():
        model.bn.weight[1:3] = value
    message = "parameter 'bn.weight' holds 2 non-finite values, so its snapshot is refused: the run has diverged"
    with pytest.raises(HookError, match=message):
        engine.end_epoch()


SIZE = 4 * (4 * 9 + 4 + 4 + 12 + 3)  # bytes of the parameters of ConvNet


@pytest.mark.parametrize(("start", "snapshots"), [(0, 6), (4, 2), (0.5, 3)])
def test_a_history_over_its_budget_is_refused_at_the_start(start: float, snapshots: int):
    fits = snapshots * SIZE / 2**30
    engine_of(ConvNet(), "fgsm", entry(start=start, memory_gib=fits)).start()
    engine = engine_of(ConvNet(), "fgsm", entry(start=start, memory_gib=fits * 0.99))
    batch = batch_of()
    with pytest.raises(
        ConfigError, match=rf"^plugin 'meat' .*: history: memory would take {snapshots} snapshots of {SIZE} bytes"
    ):
        engine.step(batch.x, batch.y)
    assert engine.global_step == 0


def test_without_the_number_of_epochs_the_budget_is_checked_at_every_snapshot():
    engine = engine_of(ConvNet(), "fgsm", entry(memory_gib=2 * SIZE / 2**30), epochs=None)
    train(engine, 2)
    with pytest.raises(ConfigError, match=f"meat: snapshot 3 of {SIZE} bytes goes over the memory budget"):
        train(engine, 1)


def test_a_history_on_disk_has_no_budget(tmp_path: Path):
    engine = engine_of(ConvNet(), "fgsm", entry(history="disk", memory_gib=1e-9), history=tmp_path)
    train(engine, 2)


def test_a_history_on_disk_needs_a_folder():
    with pytest.raises(ConfigError, match="meat: its history is to be kept on disk, but the engine has no folder"):
        engine_of(ConvNet(), "fgsm", entry(history="disk")).start()


# Histories


@pytest.mark.parametrize("even", ["lower", "upper", "mean"])
def test_disk_and_memory_give_equal_medians(even: str, tmp_path: Path):
    disk = engine_of(ConvNet(), "fgsm", entry(history="disk", median=even), history=tmp_path)
    memory = engine_of(ConvNet(), "fgsm", entry(median=even))
    for _ in range(4):
        train(disk, 1)
        train(memory, 1)
        assert_same(only_track(disk).weights, only_track(memory).weights)
    assert sorted(path.name for path in (tmp_path / "meat").iterdir()) == [f"{i:05d}.safetensors" for i in range(4)]


def test_a_checkpoint_of_the_other_history_is_refused(tmp_path: Path):
    memory = engine_of(ConvNet(), "fgsm", entry())
    train(memory, 1)
    disk = engine_of(ConvNet(), "fgsm", entry(history="disk"), history=tmp_path)
    with pytest.raises(CheckpointError, match="keeps its history in memory, the config asks for disk"):
        disk.load_state_dict(memory.state_dict())


def test_a_damaged_or_missing_file_is_refused_at_resume(tmp_path: Path):
    engine = engine_of(ConvNet(), "fgsm", entry(history="disk"), history=tmp_path)
    train(engine, 2)
    saved = engine.state_dict()
    file = tmp_path / "meat" / "00001.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    resumed = engine_of(ConvNet(), "fgsm", entry(history="disk"), history=tmp_path)
    with pytest.raises(CheckpointError, match=r"00001\.safetensors is damaged"):
        resumed.load_state_dict(saved)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"00001\.safetensors is missing"):
        resumed.load_state_dict(saved)


# Memory


def test_no_block_over_all_snapshots_is_larger_than_it_may_be(monkeypatch: pytest.MonkeyPatch):
    engine = engine_of(ConvNet(), "fgsm", entry())
    snapshots = train(engine, 5)
    asked: dict[str, list[tuple[int, int]]] = {}
    rows = _MemoryReader.rows

    def recorded(self: Any, name: str, start: int, stop: int) -> list[Tensor]:
        asked.setdefault(name, []).append((start, stop))
        actual = rows(self, name, start, stop)
        assert sum(row.numel() for row in actual) <= 40
        return actual

    monkeypatch.setattr(_MemoryReader, "rows", recorded)
    monkeypatch.setattr(meat, "_BLOCK", 40)
    assert_median(only_track(engine).weights, snapshots)
    assert asked["conv.weight"] == [(0, 8), (8, 16), (16, 24), (24, 32), (32, 36)]  # each element once
    assert set(asked) == set(snapshots[0])


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 23])
@pytest.mark.parametrize("n", [1, 4, 5])
def test_the_median_is_the_same_over_any_number_of_blocks(n: int, size: int, where: str, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(meat, "_BLOCK", 8)
    rng = np.random.default_rng((n, size))
    history = MemoryHistory("meat", None) if where == "memory" else DiskHistory(tmp_path)
    snapshots = [{"w": torch.from_numpy(rng.normal(size=size).astype(np.float32))} for _ in range(n)]
    for snapshot in snapshots:
        history.append(snapshot)
    for even in ("lower", "upper", "mean"):
        with history.reader() as reader:
            weights = meat.median_weights(reader, n, {"w": torch.empty(size)}, even)
        assert_median(weights, snapshots, even)


def test_shapes_and_layouts_of_the_parameters_come_back():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scalar = nn.Parameter(torch.tensor(2.0))
            self.empty = nn.Parameter(torch.zeros(0, 3))
            last = torch.arange(24.0).view(1, 2, 3, 4).to(memory_format=torch.channels_last)
            self.image = nn.Parameter(last)

    model = Odd()
    history = MemoryHistory("meat", None)
    for _ in range(3):
        history.append(meat.snapshot(model))
    with history.reader() as reader:
        weights = meat.median_weights(reader, 3, dict(model.named_parameters()), "lower")
    assert_same(weights, parameters(model))


# Parameters of every kind


class Tied(nn.Module):
    """A tied pair, a frozen layer, an integer and a float buffer."""

    def __init__(self) -> None:
        super().__init__()
        torch.random.manual_seed(0)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(16, 3).requires_grad_(False)
        self.bn = nn.BatchNorm1d(16)
        self.register_buffer("counter", torch.tensor(7))
        self.register_buffer("scale", torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.frozen(self.bn(torch.relu(self.second(torch.relu(self.first(x.flatten(1)))))))


def test_a_tied_parameter_is_one_snapshot_entry_and_stays_tied():
    model = Tied()
    engine = engine_of(model, "fgsm", entry())
    snapshots = train(engine, 3)
    track = only_track(engine)
    assert "first.weight" in track.weights
    assert "second.weight" not in track.weights
    assert set(meat.snapshot(model)) == set(snapshots[0])
    assert_median(track.weights, snapshots)
    with engine.track(track, lambda: [batch_of()]):
        assert model.second.weight is model.first.weight
        assert torch.equal(model.second.weight, track.weights["first.weight"])


def test_a_frozen_parameter_keeps_its_value_and_stays_frozen():
    model = Tied()
    frozen = model.frozen.weight.clone()
    engine = engine_of(model, "fgsm", entry())
    train(engine, 4)
    assert torch.equal(only_track(engine).weights["frozen.weight"], frozen)
    assert not model.frozen.weight.requires_grad


def test_integer_and_foreign_buffers_are_those_of_the_live_model():
    model = Tied()
    engine = engine_of(model, "fgsm", entry())
    train(engine, 3)
    model.counter += 4
    model.scale *= 3
    with engine.track(only_track(engine), lambda: [batch_of(), batch_of(seed=1)]):
        assert model.counter.item() == 11
        assert model.counter.dtype == torch.int64
        assert model.scale.item() == 4.5
        assert model.bn.num_batches_tracked.item() == 2  # the pass's own two batches
    assert model.bn.num_batches_tracked.item() == 6


# Batch norm


def in_track(engine: Any, batches: list[Batch]) -> dict[str, Tensor]:
    with engine.track(only_track(engine), lambda: batches) as model:
        return state(model)


def test_batch_norm_on_clean_inputs_equals_the_pooled_statistics():
    model = ConvNet()
    engine = engine_of(model, "fgsm", entry())
    train(engine, 3)
    batches = [batch_of(8, 1), batch_of(8, 2), batch_of(3, 3)]  # the last one counts less
    actual = in_track(engine, batches)
    median = ConvNet()
    set_weights(median, only_track(engine).weights)
    mean, variance = pooled_statistics(median, [batch.x for batch in batches])
    np.testing.assert_allclose(actual["bn.running_mean"].numpy(), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(actual["bn.running_var"].numpy(), variance, rtol=1e-4, atol=1e-7)
    assert not np.allclose(mean, model.bn.running_mean.numpy(), rtol=1e-3)


def test_batch_norm_on_attacked_inputs_uses_the_attack_on_the_live_model():
    model = ConvNet()
    engine = engine_of(model, "fgsm", entry(bn_data="adv"))
    train(engine, 3)
    batches = [batch_of(8, 1), batch_of(3, 2)]
    actual = in_track(engine, batches)
    attacked = []
    model.eval()  # FGSM at the live weights, by hand
    for batch in batches:
        x = batch.x.clone().requires_grad_(True)
        nn.functional.cross_entropy(model(x), batch.y, reduction="sum").backward()
        attacked.append((batch.x + 8 / 255 * x.grad.sign()).clamp(0, 1))
    median = ConvNet()
    set_weights(median, only_track(engine).weights)
    mean, variance = pooled_statistics(median, attacked)
    np.testing.assert_allclose(actual["bn.running_mean"].numpy(), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(actual["bn.running_var"].numpy(), variance, rtol=1e-4, atol=1e-7)
    clean, _ = pooled_statistics(median, [batch.x for batch in batches])
    assert not np.allclose(mean, clean, rtol=1e-4)


def test_the_setting_bn_data_reaches_the_track():
    engine = engine_of(ConvNet(), "fgsm", entry(bn_data="adv"))
    train(engine, 1)
    assert only_track(engine).bn_inputs == "adv"


def test_the_defaults_are_those_of_the_paper():
    plugin, _, settings = build("plugin", "meat", {})
    assert isinstance(plugin, meat.MEAT)
    assert settings == {
        "start": 0.5, "median": "lower", "bn_data": "clean", "history": "disk", "memory_gib": 4.0, "track": "meat"
    }  # fmt: skip
