"""Taking a weight perturbation back, with numbers at which rounding would show."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from buttress import Adv, Engine
from buttress.engine.checks import ValueChecks
from buttress.engine.objective import Objective
from buttress.engine.perturbation import perturbed
from buttress.errors import DataError, HookError
from buttress.types import ParamGroup

from ..core.helpers import (
    CPU,
    LINF,
    adding,
    assert_same,
    batch_of,
    clean_attack,
    engine_of,
    perturbation,
    plugin,
    step,
    weights_of,
)
from ..models import MLP

ADV = Adv(batch_of().x)
ORDERS = pytest.mark.parametrize("exit_order", ["restore_then_step", "step_while_perturbed"])


def test_an_unperturbed_element_keeps_its_stepped_value_after_a_large_step():
    origin, v = torch.tensor([12345.678, 12345.678, 777.77]), torch.tensor([0.0, 0.5, 0.0])
    stepped = torch.tensor([1e-3, 1e-3, 3.3e-4])
    assert not bool((origin + (stepped - origin) == stepped).any())  # what the formula alone would give
    weight = origin.clone()
    with perturbed(adding([weight], [v]), ADV, [weight], "step_while_perturbed") as perturbation:
        perturbation.before_step()
        weight.copy_(stepped)
    assert torch.equal(weight[[0, 2]], stepped[[0, 2]])
    assert torch.equal(weight[1], origin[1] + (stepped[1] - (origin[1] + v[1])))


@pytest.mark.parametrize("order", ["restore_then_step", "step_while_perturbed"])
def test_a_perturbation_that_swamps_the_weights_is_taken_back_exactly(order: Any):
    origin = torch.rand(100) * 1e-6
    weight = origin.clone()
    with perturbed(adding([weight], [torch.full((100,), 1e9)]), ADV, [weight], order) as perturbation:
        assert bool((weight == 1e9).all())
        perturbation.before_step()
        assert torch.equal(weight, origin) == (order == "restore_then_step")
    assert torch.equal(weight, origin)


@pytest.mark.parametrize("order", ["restore_then_step", "step_while_perturbed"])
@pytest.mark.parametrize("stepped", [False, True])
def test_a_perturbation_of_not_a_number_does_not_survive_an_exception(order: Any, stepped: bool):
    origin = torch.rand(4)
    weight = origin.clone()

    def run() -> None:
        with perturbed(adding([weight], [torch.full((4,), torch.nan)]), ADV, [weight], order) as perturbation:
            if stepped:
                perturbation.before_step()
                weight.add_(1.0)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run()
    assert torch.equal(weight, origin)


@pytest.mark.parametrize(("given", "used"), [(None, ADV), (ADV, ADV)])
def test_the_given_adv_is_used_unless_another_is_yielded(given: Adv | None, used: Adv):
    other = Adv(batch_of(seed=1).x)
    with perturbed(nullcontext(given), ADV, [], "restore_then_step") as perturbation:
        assert perturbation.adv is used
    with perturbed(nullcontext(other), ADV, [], "restore_then_step") as perturbation:
        assert perturbation.adv is other


def test_the_manager_leaves_once_and_before_the_optimizer_steps():
    events: list[str] = []

    @contextmanager
    def manager() -> Any:
        events.append("enter")
        yield None
        events.append("exit")

    with perturbed(manager(), ADV, [], "step_while_perturbed") as perturbation:
        events.append("loss")
        perturbation.before_step()
        events.append("step")
    assert events == ["enter", "loss", "exit", "step"]


def test_after_a_fault_of_perturb_weights_the_batch_cannot_be_attacked_again():
    kept: list[Objective] = []

    def perturb_weights(self: Any, objective: Objective) -> Any:
        kept.append(objective)
        raise ValueError("no")

    with pytest.raises(HookError, match="ValueError: no"):
        step(engine_of(MLP(), clean_attack(), plugin("bad", perturb_weights=perturb_weights)))
    with pytest.raises(RuntimeError, match=r"objective\.attack\(\) is available within perturb_weights only"):
        kept[0].attack()


class Giver:
    def __init__(self, name: str) -> None:
        self.name = name

    def fault(self, message: str, when: tuple[int, int] | None = None) -> DataError:
        return DataError(f"{self.name} at {when}: {message}")

    def failure(self, problem: BaseException) -> DataError:
        return self.fault(str(problem))


def test_of_several_faults_on_record_the_earliest_is_raised_and_then_forgotten():
    checks = ValueChecks("interval", CPU)
    late, early, good = Giver("late"), Giver("early"), Giver("good")
    for number in range(6):
        checks.expect(good, torch.tensor(True), (3, number), lambda: "unread")
        checks.expect(late, torch.tensor(number < 4), (3, number), lambda: "unread")
        checks.expect(early, torch.tensor(number < 2), (3, number), lambda: "unread")
    with pytest.raises(DataError, match=r"^early at \(3, 2\): what it gave was outside"):
        checks.read("after step 1 of epoch 1")
    checks.read("after step 1 of epoch 1")
    checks.expect(early, torch.tensor(False), (9, 1), lambda: "unread")
    with pytest.raises(DataError, match=r"^early at \(9, 1\):"):
        checks.read("after step 1 of epoch 1")


@ORDERS
def test_a_perturbation_of_frozen_parameters_is_taken_back(exit_order: str):
    model = MLP()
    model.first.weight.requires_grad_(False)
    before = model.first.weight.clone()
    step(engine_of(model, clean_attack(), perturbation(exit_order)))
    assert torch.equal(model.first.weight, before)


@ORDERS
def test_an_exception_takes_a_perturbation_of_a_frozen_group_back(exit_order: str):
    def frozen_first(self: Any, groups: list[ParamGroup]) -> list[ParamGroup]:
        return [
            ParamGroup(("first.weight",), frozen=True),
            ParamGroup(tuple(name for name in groups[0].names if name != "first.weight")),
        ]

    def fail(self: Any) -> Any:
        raise ValueError("no")

    model = MLP()
    before = weights_of(model)
    plugins = [clean_attack(param_groups=frozen_first), perturbation(exit_order), plugin("bad", compute_loss=fail)]
    engine = Engine(model, functools.partial(torch.optim.SGD, lr=0.1), plugins, LINF)
    with pytest.raises(HookError):
        step(engine)
    assert_same(before, weights_of(model))


def test_an_adv_of_a_wrong_shape_from_a_perturbation_is_blamed_on_it():
    @contextmanager
    def shorter(adv: Adv) -> Iterator[Adv]:
        yield Adv(adv.x[:2])

    bad = plugin("bad", perturb_weights=lambda self, adv: shorter(adv))
    with pytest.raises(HookError, match=r"plugin 'bad'.*hook perturb_weights"):
        step(engine_of(MLP(), clean_attack(), bad))


def test_an_adv_outside_of_the_ball_from_a_perturbation_is_blamed_on_it():
    @contextmanager
    def far(adv: Adv) -> Iterator[Adv]:
        with adding([], []):
            yield Adv(adv.x + 100)

    bad = plugin("bad", perturb_weights=lambda self, adv: far(adv))
    with pytest.raises(HookError, match=r"plugin 'bad'.*hook perturb_weights"):
        step(engine_of(MLP(), clean_attack(), bad))
