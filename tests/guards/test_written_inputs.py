"""A hook that writes into what it is given to read is refused in its plugin's name, in training and in evaluation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Adv, Batch, Split, evaluate
from buttress.components.loaded import LoadedPlugin
from buttress.errors import HookError
from tests.core.helpers import LINF, batch_of, clean_attack, engine_of, plugin
from tests.models import MLP

WAYS: dict[str, Callable[[Tensor], object]] = {
    "in place": lambda x: x.add_(0.6).clamp_(0, 1),
    "through a view": lambda x: x[:2].zero_(),
    "through detach": lambda x: x.detach().zero_(),
    "through .data": lambda x: x.data.zero_(),
    "through NumPy": lambda x: x.numpy().fill(0),
    "with another shape": lambda x: x.resize_(2, *x.shape[1:]),
    "with other memory": lambda x: x.set_(torch.zeros_like(x)),
    "by exchange": lambda x: torch.utils.swap_tensors(x, torch.zeros_like(x)),
    "through its storage": lambda x: x.untyped_storage().fill_(0),
}


def attack(write: Callable[[Batch], object]) -> Any:
    """An attack that writes, and answers with the inputs that it was given."""

    def generate_adv(self: Any, batch: Batch) -> Adv:
        write(batch)
        return Adv(batch.x)

    return plugin("careless", generate_adv=generate_adv)


@pytest.mark.parametrize("way", WAYS)
def test_an_attack_that_writes_into_its_inputs_is_refused_in_training(way: str):
    given, model = batch_of(), MLP()
    engine = engine_of(model, attack(lambda batch: WAYS[way](batch.x)))
    with pytest.raises(
        HookError, match=r"(?s)plugin 'careless' .*generate_adv, epoch 1, step 1:\n  batch\.x was changed"
    ):
        engine.step(given.x, given.y)
    assert torch.equal(given.x, batch_of().x)  # they are the caller's


@pytest.mark.parametrize("way", WAYS)
def test_an_attack_that_writes_into_its_inputs_is_refused_in_evaluation(way: str):
    given = batch_of()
    loaded = LoadedPlugin("careless", attack(lambda batch: WAYS[way](batch.x)))
    with pytest.raises(
        HookError, match=r"(?s)plugin 'careless' .*batch\.x was changed in place; .* batch\.x\.clone\(\)"
    ):
        evaluate(MLP(), Split(given.x, given.y), loaded, LINF)


@pytest.mark.parametrize("level", ["always", "interval", "off"])
def test_what_torch_counts_is_seen_at_every_level(level: Any):
    with pytest.raises(HookError, match=r"batch\.x was changed"):
        engine_of(MLP(), attack(lambda batch: batch.x.zero_()), checks=level).step(batch_of().x, batch_of().y)


def test_uncounted_writes_do_not_move_the_ball_where_values_are_read_later():
    def far(self: Any, batch: Batch) -> Adv:
        batch.x.data.add_(0.5).clamp_(0, 1)
        return Adv(batch.x.clone())

    engine = engine_of(MLP(), plugin("careless", generate_adv=far), checks="interval")
    engine.step(batch_of().x, batch_of().y)
    with pytest.raises(HookError, match="plugin 'careless'"):
        engine.read_checks()


@pytest.mark.parametrize(("name", "write"), [("y", lambda b: b.y.zero_()), ("index", lambda b: b.index.zero_())])
def test_labels_and_positions_are_read_only_too(name: str, write: Callable[[Batch], object]):
    given = batch_of()
    with pytest.raises(HookError, match=rf"batch\.{name} was changed"):
        engine_of(MLP(), attack(write)).step(given.x, given.y, index=given.index)


def hook(name: str) -> Any:
    """A plugin whose hook ``name`` writes into the adversarial examples that it is given."""

    def compute_loss(self: Any, model: Any, batch: Batch, adv: Adv) -> Tensor:
        adv.x.zero_()
        return torch.nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")

    def wrapped_loss(self: Any, adv: Adv) -> Any:
        adv.x.zero_()
        return (yield)

    def transform_batch(self: Any, batch: Batch) -> Batch:
        batch.x.zero_()
        return batch

    def perturb_weights(self: Any, adv: Adv) -> None:
        adv.x.zero_()

    if name == "wrapper":
        return plugin("bad", wrapper=True, compute_loss=wrapped_loss)
    return plugin("bad", **{name: locals()[name]})


@pytest.mark.parametrize("name", ["compute_loss", "wrapper", "transform_batch", "perturb_weights"])
def test_every_hook_that_is_given_examples_reads_them(name: str):
    with pytest.raises(HookError, match=r"(?s)plugin 'bad' .*\.x was changed in place"):
        engine_of(MLP(), clean_attack(), hook(name)).step(batch_of().x, batch_of().y)


def test_a_wrapper_that_writes_into_the_checked_answer_has_it_checked_again():
    def outside(self: Any) -> Any:
        adv = yield
        adv.x.add_(0.5)
        return adv

    attacks = plugin("attack", generate_adv=lambda self, batch: Adv(batch.x.clone()))
    with pytest.raises(HookError, match=r"(?s)plugin 'w' .*expected values in \[0, 1\]"):
        engine_of(MLP(), plugin("w", wrapper=True, generate_adv=outside), attacks).step(batch_of().x, batch_of().y)


class Marked(Tensor):
    """A class of an author's own."""


def test_what_is_computed_of_an_answer_is_of_no_class_of_its_author():
    made = plugin("attack", generate_adv=lambda self, batch: Adv(batch.x.clone().as_subclass(Marked)))
    engine = engine_of(MLP(), made, momentum=0.9)
    result = engine.step(batch_of().x, batch_of().y)
    kept = [state["momentum_buffer"] for state in engine.optimizer.state.values()]
    assert {type(each) for each in (result.adv.x, *kept)} == {Tensor}


def test_examples_made_in_inference_mode_are_taken():
    def made(self: Any, batch: Batch) -> Adv:
        with torch.inference_mode():
            return Adv(batch.x.clone())

    result = engine_of(MLP(), plugin("attack", generate_adv=made)).step(batch_of().x, batch_of().y)
    assert torch.equal(result.adv.x, batch_of().x)


@pytest.mark.parametrize("name", ["transform_batch", "generate_adv", "compute_loss", "adjust_grads"])
def test_weights_move_by_whom_they_may_be_moved(name: str):
    model = MLP()

    def write() -> None:
        with torch.no_grad():
            model.first.weight.zero_()

    bodies = {
        "transform_batch": lambda self, batch: (write(), batch)[1],
        "generate_adv": lambda self, batch: (write(), Adv(batch.x))[1],
        "compute_loss": lambda self, model, batch: (model(batch.x).logsumexp(1), write())[0],
        "adjust_grads": lambda self: write(),
    }
    others = [] if name == "generate_adv" else [clean_attack()]
    engine, before = engine_of(model, plugin("bad", **{name: bodies[name]}), *others), model.first.weight.clone()
    with pytest.raises(
        HookError, match=rf"(?s)plugin 'bad' .*hook {name}, .*\n  the weight 'first\.weight' was changed"
    ):
        engine.step(batch_of().x, batch_of().y)
    assert torch.equal(model.first.weight, before)


def test_a_model_that_writes_into_its_own_weights_is_nobodys_fault():
    class Normalised(MLP):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.first.weight.div_(self.first.weight.norm(dim=1, keepdim=True))
            return super().forward(x)

    engine = engine_of(Normalised(), "fgsm")
    for _ in range(2):
        engine.step(batch_of().x, batch_of().y)
