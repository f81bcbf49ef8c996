"""What comes with the examples of a batch, and the sizes of the training set."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Batch, Split, evaluate
from buttress.errors import ConfigError, DataError, HookError

from ..core.helpers import CPU, LINF, SHORT_PGD, batch_of, clean_attack, context, engine_of, plugin
from ..models import MLP, ConvNet

X, Y, INDEX = batch_of().x, batch_of().y, batch_of().index
AUX = {"weight": torch.rand(6, 2, dtype=torch.float64), "extra": torch.arange(6) > 3}
TRANSFORMS: list[Any] = [
    {"augment": {"pad": 1, "rotation": 10}},
    {"cutout": {"size": 2}},
    {"mixup": {"num_classes": 3}},
]


def reader(seen: list[Batch]) -> Any:
    """An attack that keeps every batch it is given."""
    return plugin("reader", generate_adv=lambda self, batch: seen.append(batch) or batch.x)


def test_aux_reaches_the_hooks_through_every_built_in_transform():
    seen: list[Batch] = []
    engine_of(ConvNet(), *TRANSFORMS, reader(seen)).step(X, Y, index=INDEX, aux=AUX)
    assert {name: id(value) for name, value in seen[0].aux.items()} == {name: id(v) for name, v in AUX.items()}


def test_a_batch_without_aux_has_an_empty_one():
    seen: list[Batch] = []
    engine_of(MLP(), reader(seen)).step(X, Y)
    assert seen[0].aux == {} == Batch(X, Y).aux


def test_a_transform_may_add_and_permute():
    turned = torch.arange(6).flip(0)

    def turn(self: Any, batch: Batch) -> Batch:
        aux = {name: value[turned] for name, value in {**batch.aux, "place": torch.arange(6)}.items()}
        return Batch(batch.x[turned], batch.y[turned], None, aux)

    seen: list[Batch] = []
    engine_of(MLP(), plugin("turn", transform_batch=turn), reader(seen)).step(X, Y, aux=AUX)
    assert torch.equal(seen[0].aux["weight"], AUX["weight"][turned])
    assert torch.equal(seen[0].aux["place"], turned)


def test_a_transform_that_loses_a_name_is_told_how_to_keep_it():
    lossy = plugin("lossy", transform_batch=lambda self, batch: Batch(batch.x, batch.y))
    with pytest.raises(
        HookError, match=r"plugin 'lossy' .*\n  the batch has lost aux 'weight'; .*dataclasses\.replace\("
    ):
        engine_of(MLP(), lossy, clean_attack()).step(X, Y, aux=AUX)


WRONG: list[tuple[Any, str]] = [
    ([AUX["weight"]], "expected aux to be a mapping of names to tensors, got a list of 1"),
    ({3: AUX["weight"]}, "expected names in aux that are text, got 3"),
    ({"w": torch.zeros(5)}, r"aux 'w': expected a tensor \[6,\.\.\.\] on cpu, got a tensor \(5,\)"),
    ({"w": torch.zeros(())}, r"aux 'w': expected a tensor \[6,\.\.\.\] on cpu, got a tensor \(\)"),
    ({"w": torch.zeros(6, device="meta")}, r"aux 'w': expected a tensor \[6,\.\.\.\] on cpu, got .* on meta"),
    ({"w": torch.zeros(6, 2).to_sparse()}, r"aux 'w': expected a tensor \[6,\.\.\.\] on cpu, got .*sparse"),
    ({"w": 3}, r"aux 'w': expected a tensor \[6,\.\.\.\] on cpu, got an int"),
    ({"w": torch.zeros(6, requires_grad=True)}, r"aux 'w': expected a detached tensor, got one with a graph"),
]


@pytest.mark.parametrize(("aux", "message"), WRONG)
def test_aux_of_a_wrong_kind_is_refused_in_the_name_of_its_giver(aux: Any, message: str):
    with pytest.raises(DataError, match=rf"^engine\.step: {message}"):
        engine_of(MLP(), clean_attack()).step(X, Y, aux=aux)
    giver = plugin("giver", transform_batch=lambda self, batch: replace(batch, aux=aux))
    with pytest.raises(HookError, match=rf"^plugin 'giver' .*\n  {message}"):
        engine_of(MLP(), giver, clean_attack()).step(X, Y)


@pytest.mark.parametrize("hook", ["transform_batch", "generate_adv", "compute_loss"])
def test_a_hook_that_writes_into_aux_is_named(hook: str):
    def write(self: Any, batch: Batch) -> Any:
        batch.aux["weight"].zero_()
        return batch

    attack = [] if hook == "generate_adv" else [clean_attack()]
    aux = {"weight": AUX["weight"].clone()}
    with pytest.raises(HookError, match=r"plugin 'writer' .*\n  batch\.aux\['weight'\] was changed in place"):
        engine_of(MLP(), plugin("writer", **{hook: write}), *attack).step(X, Y, aux=aux)


def test_aux_made_in_inference_mode_can_be_used_in_a_loss():
    with torch.inference_mode():
        aux = {"weight": torch.rand(6)}

    def compute_loss(self: Any, model: Any, batch: Batch, adv: Any) -> Tensor:
        return model(adv.x).logsumexp(1) * batch.aux["weight"]

    engine_of(MLP(), clean_attack(compute_loss=compute_loss)).step(X, Y, aux=aux)


def test_aux_of_a_split_comes_with_its_batches_and_into_an_evaluation():
    seen: list[Batch] = []
    split = Split(X, Y, aux=AUX).to(CPU)
    (batch,) = split.batches(torch.tensor([4, 1]), 2)
    assert torch.equal(batch.aux["weight"], AUX["weight"][[4, 1]])
    evaluate(MLP(), split, plugin_of(reader(seen)), LINF, batch_size=4)
    assert torch.equal(torch.cat([each.aux["extra"] for each in seen]), AUX["extra"])
    assert split.fingerprint()["aux extra"] != Split(X, Y, aux={"extra": ~AUX["extra"]}).fingerprint()["aux extra"]
    assert "aux extra" not in Split(X, Y).fingerprint()


def plugin_of(attack: Any) -> Any:
    from buttress.components.loaded import as_loaded

    return as_loaded([attack])[0]


@pytest.mark.parametrize(
    ("aux", "message"),
    [
        ({"w": [1] * 6}, r"aux\['w'\] to be a dense tensor \[n,\*\]"),
        ({"w": torch.zeros(5)}, r"aux\['w'\] to have 6 rows, as x"),
    ],
)
def test_aux_of_a_split_has_a_row_for_each_example(aux: Any, message: str):
    with pytest.raises(DataError, match=rf"^Split: expected {message}, got "):
        Split(X, Y, aux=aux)


# Sizes of the training set


def test_plugins_see_the_sizes_of_the_training_set():
    seen: list[Any] = []
    asks = clean_attack(start_run=lambda self, ctx: seen.append((ctx.examples, ctx.classes)))
    engine_of(MLP(), asks, examples=6, classes=[1, 2, 3]).start()
    engine_of(MLP(), asks).start()
    assert seen == [(6, (1, 2, 3)), (None, None)]
    assert context(examples=4).examples == 4


@pytest.mark.parametrize("checks", ["always", "interval"])
@pytest.mark.parametrize(("index", "got"), [(INDEX + 1, "1 to 6"), (INDEX - 1, "-1 to 4")])
def test_a_position_beyond_the_training_set_is_refused(index: Tensor, got: str, checks: Any):
    engine = engine_of(MLP(), SHORT_PGD, examples=6, checks=checks)
    engine.step(X, Y, index=INDEX)
    expected = f"expected positions index from 0 to 5, those of the 6 training examples, got {got}"
    place = rf": {expected}" if checks == "always" else " first at epoch 1, step 2"

    def bad_step() -> None:
        engine.step(X, Y, index=index)
        engine.read_checks()

    with pytest.raises(DataError, match=rf"^engine\.step{place}"):
        bad_step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 0}, "examples: expected the number of training examples, at least 1, got 0"),
        ({"examples": 2.0}, "examples: expected the number of training examples, at least 1, got 2.0"),
        ({"classes": 3}, "classes: expected the number of training examples of each class, got 3"),
        ({"classes": [1, -1]}, "classes: expected the number of training examples of each class, got [1, -1]"),
        (
            {"classes": [1, 4], "examples": 4},
            "classes: expected numbers whose sum is at most examples, 4, got a sum of 5",
        ),
    ],
)
def test_sizes_that_are_none_are_refused(options: Any, message: str):
    with pytest.raises(ConfigError, match=f"^engine: {re.escape(message)}$"):
        engine_of(MLP(), clean_attack(), **options)
