"""What every built-in plugin promises, tested on all of them by one table."""

import inspect
import io
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress.errors import ConfigError, PluginError
from buttress.registry import load_plugins
from buttress.settings import documentation_of, signature_of

from .catalogue import ATTACKS, CATALOGUE
from .conftest import TinyNet, assert_same, batch_of, engine_of, parameters, state

POINTS = {point.name: point for group in ("plugins", "attacks") for point in entry_points(group=f"buttress.{group}")}
BUILT_IN = {name: point for name, point in POINTS.items() if point.value.startswith("buttress_plugins.")}
TRAINING = {point.name for point in entry_points(group="buttress.plugins")}

every = pytest.mark.parametrize("name", CATALOGUE)
stateful = pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.stateful])


def trained(name: str, model: torch.nn.Module | None = None, epochs: int = 1):
    model = model or TinyNet()
    engine = engine_of(model, *CATALOGUE[name].stack)
    dtype = next(model.parameters()).dtype
    for _ in range(epochs):
        for step in range(2):
            batch = batch_of(seed=step, dtype=dtype)
            engine.step(batch.x, batch.y, index=batch.index)
        engine.end_epoch()
    return engine


def plugin_of(engine: Any, name: str) -> Any:
    (found,) = [loaded.plugin for loaded in engine.plugins if loaded.label == name]
    return found


def test_the_catalogue_holds_every_built_in_plugin_and_no_other():
    assert set(CATALOGUE) == set(BUILT_IN) & TRAINING
    assert set(CATALOGUE) | set(ATTACKS) == set(BUILT_IN)


@every
def test_the_smallest_config_names_the_plugin_itself(name: str):
    assert name in [loaded.label for loaded in load_plugins(CATALOGUE[name].stack)]


@every
def test_two_instances_share_nothing_and_are_not_equal(name: str):
    stack = CATALOGUE[name].stack
    one, two = ({loaded.label: loaded.plugin for loaded in load_plugins(stack)}[name] for _ in range(2))
    assert one is not two
    assert one != two
    shared = {
        key for key, value in vars(one).items() if isinstance(value, (dict, list, set)) and value is vars(two)[key]
    }
    assert not shared


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_setting_is_documented_and_every_documented_setting_exists(name: str):
    component = BUILT_IN[name].load()
    documented = documentation_of(component)
    assert list(documented) == [parameter.name for parameter in signature_of(component)]
    assert all(len(text) > 10 for text in documented.values())


@pytest.mark.parametrize("group", ["models", "datasets"])
def test_every_setting_of_models_and_data_sets_is_documented(group: str):
    points = [p for p in entry_points(group=f"buttress.{group}") if p.value.startswith("buttress_plugins.")]
    assert points
    for point in points:
        component = point.load()
        assert list(documentation_of(component)) == [parameter.name for parameter in signature_of(component)], (
            point.name
        )


@every
def test_every_plugin_has_a_docstring_and_every_optional_setting_a_valid_default(name: str):
    component = BUILT_IN[name].load()
    assert inspect.getdoc(component)
    assert inspect.getdoc(inspect.getmodule(component))
    load_plugins([name], given={"num_classes": 3})  # without settings: the defaults pass their own checks


@every
def test_two_steps_and_the_end_of_an_epoch_train_and_leave_flags_and_modes_as_found(name: str):
    model = TinyNet()
    model.conv.weight.requires_grad_(False)
    model.bn.eval()
    before, flags = parameters(model), {n: p.requires_grad for n, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    trained(name, model)
    assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
    assert [module.training for module in model.modules()] == modes
    after = parameters(model)
    assert torch.equal(before["conv.weight"], after["conv.weight"])
    assert not torch.equal(before["linear.weight"], after["linear.weight"])
    assert all(torch.isfinite(value).all() for value in after.values())


@every
def test_training_is_the_same_every_time(name: str):
    assert_same(state(trained(name).model), state(trained(name).model))


@every
def test_float64_works_from_end_to_end(name: str):
    engine = trained(name, TinyNet().double())
    batches = [batch_of(seed=step, dtype=torch.float64) for step in range(2)]
    assert all(weight.dtype == torch.float64 for weight in engine.model.parameters())
    for track in engine.tracks():
        assert all(weight.dtype == torch.float64 for weight in (track.weights or {}).values())
        with engine.track(track, lambda: batches) as model:
            assert torch.isfinite(model(batches[0].x)).all()


@every
def test_a_track_puts_everything_back_bit_for_bit(name: str):
    engine = trained(name)
    before = state(engine.model)
    for track in engine.tracks():
        with engine.track(track, lambda: [batch_of()]):
            pass
    assert_same(before, state(engine.model))


def plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return type(value) is dict and all(isinstance(key, (str, int)) and plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(plain(item) for item in value)
    return value is None or isinstance(value, (Tensor, str, int, float, bool))


@every
def test_a_state_is_declared_where_there_is_one(name: str):
    assert hasattr(BUILT_IN[name].load(), "state_dict") == CATALOGUE[name].stateful
    assert hasattr(BUILT_IN[name].load(), "load_state_dict") == CATALOGUE[name].stateful


@stateful
def test_the_state_holds_tensors_and_plain_values_that_the_restricted_loader_takes(name: str):
    saved = trained(name).state_dict()["plugins"]
    assert set(saved) == {name}
    assert saved[name]
    assert plain(saved[name])
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    torch.load(file, weights_only=True)


@stateful
def test_a_resumed_run_goes_on_as_the_run_that_was_not_interrupted(name: str):
    model = TinyNet()
    engine = trained(name, model, epochs=2)
    file = io.BytesIO()
    torch.save({"engine": engine.state_dict(), "model": model.state_dict(), "sgd": engine.optimizer.state_dict()}, file)

    def go_on(engine: Any) -> Mapping[str, Tensor]:
        batch = batch_of(seed=9)
        engine.step(batch.x, batch.y)
        engine.end_epoch()
        return {f"{track.name}.{key}": value for track in engine.tracks() for key, value in track.weights.items()}

    expected = go_on(engine)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = TinyNet(seed=5)
    resumed = engine_of(other, *CATALOGUE[name].stack)
    other.load_state_dict(saved["model"])
    resumed.optimizer.load_state_dict(saved["sgd"])
    resumed.load_state_dict(saved["engine"])
    assert_same(expected, go_on(resumed))
    assert_same(state(model), state(other))


@pytest.mark.parametrize("name", ["ema", "meat", "piat", "swa"])
def test_a_loaded_state_is_not_changed_by_training_on(name: str):
    saved = trained(name).state_dict()
    flat = _tensors(saved["plugins"])
    before = [tensor.clone() for tensor in flat]
    engine = engine_of(TinyNet(seed=1), *CATALOGUE[name].stack)
    engine.load_state_dict(saved)
    batch = batch_of(seed=9)
    engine.step(batch.x, batch.y)
    engine.end_epoch()
    assert before
    assert all(torch.equal(a, b) for a, b in zip(before, flat, strict=True))


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    ("name", "settings"), [(name, wrong) for name, entry in CATALOGUE.items() for wrong in entry.wrong], ids=str
)
def test_a_wrong_setting_is_refused_with_its_name(name: str, settings: dict[str, Any]):
    (key,) = settings
    with pytest.raises((ConfigError, PluginError), match=rf"^plugins\.0\.{name}\.{key}: "):
        load_plugins([{name: settings}], given={"num_classes": 3})


@pytest.mark.parametrize(
    "name", [n for n, p in BUILT_IN.items() if n in TRAINING and "track" in inspect.signature(p.load()).parameters]
)
def test_the_track_has_the_name_that_is_asked_for_and_by_default_the_plugin_s(name: str):
    entry = dict(CATALOGUE[name].stack[-1][name])
    engine = engine_of(TinyNet(), "fgsm", {name: entry}, {name: {**entry, "track": "second"}})
    assert [track.name for track in engine.tracks()] == [name, "second"]
