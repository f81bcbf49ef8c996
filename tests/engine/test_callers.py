"""Unusual inputs from a caller of engine and evaluation: they work, or are one sentence about the caller."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Batch, Engine, Split, evaluate, load_plugins
from buttress.errors import ConfigError, DataError, HookError

from ..core.helpers import LINF, batch_of, engine_of, plugin, step
from ..models import MLP

X, Y = batch_of().x, batch_of().y
SOFT = torch.nn.functional.one_hot(Y, 3).float()

FORMS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sparse": (lambda tensor: tensor.to_sparse(), r"got a tensor \(6,.*\) of torch\.\w+ on cpu, torch\.sparse_coo"),
    "csr": (lambda tensor: tensor.flatten(1).to_sparse_csr(), r"got a tensor .* on cpu, torch\.sparse_csr"),
    "nested": (lambda tensor: torch.nested.nested_tensor(list(tensor.float())), "got a nested tensor"),
    "jagged": (
        lambda tensor: torch.nested.nested_tensor(list(tensor.float().flatten(1)), layout=torch.jagged),
        "got a nested tensor",
    ),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("form", FORMS)
def test_a_tensor_that_is_not_dense_is_refused_in_the_callers_name(form: str):
    made, got = FORMS[form]
    with pytest.raises(DataError, match=rf"^engine\.step: expected dense floating-point x .*, {got}"):
        engine_of(MLP(), "pgd").step(made(X), Y)
    with pytest.raises(DataError, match=rf"^engine\.step: expected int64 labels .*, {got}"):
        engine_of(MLP(), "pgd").step(X, made(SOFT))


def test_a_split_that_is_not_dense_is_refused():
    for x, y, name in ((X.to_sparse(), Y, "x"), (X, Y.to_sparse(), "y")):
        with pytest.raises(DataError, match=rf"^Split: expected {name} to be a dense tensor \[n,\*\], got a sparse "):
            Split(x, y)


@pytest.mark.parametrize("attack", ["pgd", "fgsm", "clean"])
@pytest.mark.parametrize("made", [nn.Parameter, lambda x: x.clone().requires_grad_(), lambda x: x * nn.Parameter(x)])
def test_inputs_with_a_graph_are_taken_without_it(attack: str, made: Any):
    given = made(X)
    expected = engine_of(MLP(), attack).step(given.detach(), Y)
    result = engine_of(MLP(), attack).step(given, Y)
    assert torch.equal(result.losses, expected.losses)
    assert torch.equal(result.adv.x, expected.adv.x)
    score = evaluate(MLP(), Split(given, Y), attack, LINF)
    assert torch.equal(score.robust_losses, evaluate(MLP(), Split(given.detach(), Y), attack, LINF).robust_losses)


@pytest.mark.parametrize("field", ["x", "y"])
def test_a_transform_that_leaves_a_graph_is_named_and_not_the_attack(field: str):
    weight = nn.Parameter(torch.ones(()))

    def transform_batch(self: Any, batch: Batch) -> Batch:
        return Batch(batch.x * weight, batch.y) if field == "x" else Batch(batch.x, SOFT * weight)

    engine = engine_of(MLP(), "pgd", plugin("learned", transform_batch=transform_batch))
    message = rf"(?s)^plugin 'learned'.*hook transform_batch.*expected a detached {field}.* return {field}\.detach\(\)"
    with pytest.raises(HookError, match=message):
        step(engine)


@pytest.mark.parametrize(
    ("plugins", "message"),
    [
        ("pgd", r"expected a list, in the order of the calls, got 'pgd'; write \['pgd'\]$"),
        ({"pgd": {"steps": 3}}, r"expected a list, .*; write \[\{'pgd': \{'steps': 3\}\}\]$"),
        ({"pgd": None, "awp": {}}, r"expected a list, .*; write \[\{'pgd': None\}, \{'awp': \{\}\}\]$"),
        ({"pgd", "awp"}, "expected a list, in the order of the calls, got {'"),
        (None, "expected a list, in the order of the calls, got None$"),
        (3, "expected a list, in the order of the calls, got 3$"),
    ],
    ids=["text", "mapping", "mappings", "set", "none", "number"],  # that of a set would change from process to process
)
def test_plugins_are_a_list(plugins: Any, message: str):
    model = MLP()
    with pytest.raises(ConfigError, match=f"^plugins: {message}"):
        Engine(model, torch.optim.SGD(model.parameters(), lr=0.1), plugins, LINF)
    with pytest.raises(ConfigError, match=f"^plugins: {message}"):
        load_plugins(plugins)


@pytest.mark.parametrize(("argument", "value"), [("checks", "never"), ("nonfinite", "no"), ("attack_mode", "test")])
def test_words_of_the_engine_are_known_ones(argument: str, value: str):
    model = MLP()
    with pytest.raises(ConfigError, match=rf"^engine: {argument}: expected one of \w+.*, got '{value}'"):
        Engine(model, torch.optim.SGD(model.parameters(), lr=0.1), ["pgd"], LINF, **{argument: value})


@pytest.mark.parametrize("threat", [None, "linf", ("linf", "8/255")])
def test_an_evaluation_has_a_threat_model(threat: Any):
    with pytest.raises(ConfigError, match=r'^evaluation: expected threat=ThreatModel\("linf", "8/255"\) or the like'):
        evaluate(MLP(), Split(X, Y), "fgsm", threat)
