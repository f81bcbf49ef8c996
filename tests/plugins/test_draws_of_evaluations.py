"""The draws of attacks of evaluations can be injected, batch by batch, under documented names."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Split, ThreatModel, evaluate
from buttress.errors import DataError, HookError
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator

from ..models import MLP
from .catalogue import ATTACKS
from .conftest import batch_of

LINF = ThreatModel("linf", "1/10")
PAGE = Path(__file__).parents[2] / "docs" / "methods" / "evaluation_attacks.md"
SPSA: dict[str, Any] = {"spsa": {"steps": 2, "samples": 6, "forward_size": 24}}  # two copies a forward
STARTS: dict[str, dict[str, Any]] = {
    "pgd": {"pgd": {"steps": 2}},
    "fgsm": {"fgsm": {"start": "uniform"}},
    "mifgsm": {"mifgsm": {"steps": 2, "start": "uniform"}},
    "cw": {"cw": {"steps": 2}},
    "apgd": {"apgd": {"steps": 2}},
}
# Every attack, with settings with which it makes all its draws, and their names.
DRAWS: dict[str, tuple[dict[str, Any], set[str]]] = {
    **{name: (settings, {f"{name}.start"}) for name, settings in STARTS.items()},
    "pgd": ({"pgd": {"steps": 2, "targets": "random"}}, {"pgd.start", "pgd.targets"}),
    "apgd": ({"apgd": {"steps": 2, "targets": "random"}}, {"apgd.start", "apgd.targets"}),
    "spsa": (SPSA, {"spsa.signs"}),
    "ifgsm": ({"ifgsm": {"steps": 2}}, set()),
    "clean": ({"clean": {}}, set()),
}


def attacked(entry: dict[str, Any], draws: dict[str, Tensor] | None, seed: int = 0) -> tuple[Tensor, set[str]]:
    evaluator = Evaluator(MLP(), load_attack(entry), LINF, seed=seed)
    return evaluator.attacked(batch_of(), draws=draws).x, evaluator._state.requested_draws


@pytest.mark.parametrize("name", DRAWS)
def test_every_draw_of_an_attack_can_be_injected_under_a_documented_name_and_no_other(name: str):
    entry, names = DRAWS[name]
    evaluator = Evaluator(MLP(), load_attack(entry), LINF)
    evaluator.attacked(batch_of())
    made = {f"{plugin}.{purpose}" for plugin, purpose, *_ in evaluator._state._generators}
    assert made <= evaluator._state.requested_draws == names
    documented = [inspect.getdoc(type(evaluator.attack.plugin)) or "", PAGE.read_text(encoding="utf-8")]
    assert all(f"`{each}`" in text for text in documented for each in names)
    wrong = f"{name}.begin"
    with pytest.raises(
        DataError, match=rf"evaluation: draws \['{wrong}'\] were not asked for by any plugin; asked for: "
    ):
        attacked(entry, {wrong: torch.zeros(1)})


def test_all_attacks_but_that_of_another_package_are_in_this_table():
    assert set(DRAWS) == set(ATTACKS) - {"autoattack"}
    assert "`autoattack` takes no draws" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", STARTS)
def test_an_injected_start_takes_the_place_of_the_random_one(name: str):
    start = 0.05 * torch.ones_like(batch_of().x)
    one, _ = attacked(STARTS[name], {f"{name}.start": start})
    assert torch.equal(one, attacked(STARTS[name], {f"{name}.start": start}, seed=1)[0])
    assert not torch.equal(one, attacked(STARTS[name], None)[0])


@pytest.mark.parametrize("name", ["pgd", "apgd"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y, r"targets: expected a class other than the label .*, got the label of example 0, \d; choose an"),
        (lambda y: (y + 1) % 3 + 30, r"targets: expected classes from 0 to 2, got 3\d for example 0; choose another"),
        (lambda y: y - 30, r"targets: expected classes from 0 to 2, got -\d+ for example 0; choose another class"),
        (lambda y: ((y + 1) % 3).int(), r"targets: expected int64 classes \[6\], got a tensor .* of torch.int32"),
    ],
    ids=["label", "above", "below", "int32"],
)
def test_targets_that_are_no_wrong_classes_are_refused(name: str, change: Callable[[Tensor], Tensor], message: str):
    y = batch_of().y
    evaluate_with = partial(attacked, {name: {"steps": 1, "targets": "random"}})
    assert evaluate_with({f"{name}.targets": (y + 1) % 3})[0].shape == batch_of().x.shape
    with pytest.raises(HookError, match=message):
        evaluate_with({f"{name}.targets": change(y)})


def test_injected_signs_take_the_place_of_the_random_ones():
    batch = batch_of()
    generator = torch.Generator().manual_seed(3)
    signs = torch.randint(0, 2, (2, 6, *batch.x.shape), generator=generator) * 2 - 1
    one, asked = attacked(SPSA, {"spsa.signs": signs})
    assert torch.equal(one, attacked(SPSA, {"spsa.signs": signs}, seed=1)[0])
    assert not torch.equal(one, attacked(SPSA, None)[0])
    assert asked == {"spsa.signs"}


def test_every_batch_has_draws_of_its_own():
    batch = batch_of()
    split, starts = Split(batch.x, batch.y), (0.1 * torch.ones_like(batch.x)).split(4)
    cw = {"cw": {"steps": 3}}
    parts = evaluate(MLP(), split, cw, LINF, batch_size=4, draws=[{"cw.start": start} for start in starts])
    whole = evaluate(MLP(), split, cw, LINF, draws=[{"cw.start": torch.cat(starts)}])
    torch.testing.assert_close(parts.robust_losses, whole.robust_losses)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ([], r"evaluation: draws: expected a mapping for each of the 1 batches of 500, got 0; give one for each"),
        (
            [{"cw.begin": torch.zeros(1)}],
            r"evaluation: draws \['cw.begin'\] were not asked for .*asked for: \['cw.start'\]",
        ),
        ([{"cw.start": torch.zeros(1)}], r"evaluation: draws\['cw.start'\]: expected a tensor of shape \(6, 1, 4, 4\)"),
        ([{"cw.start": [0.0]}], r"draws\['cw.start'\]: expected a tensor of shape \(6, 1, 4, 4\), got a list of 1"),
    ],
    ids=["batches", "name", "shape", "list"],
)
def test_wrong_draws_are_refused(draws: list[dict[str, Tensor]], message: str):
    batch = batch_of()
    with pytest.raises(DataError, match=message):
        evaluate(MLP(), Split(batch.x, batch.y), {"cw": {"steps": 2}}, LINF, draws=draws)


@pytest.mark.parametrize("entry", ["clean", "apgd-2", "pgd-2"])
def test_clean_accuracy_is_that_of_the_inputs_bit_for_bit(entry: str):
    batch, model, seen = batch_of(), MLP(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    evaluate(model, Split(batch.x, batch.y), entry, LINF)
    assert torch.equal(seen[0], batch.x)
    assert torch.equal(seen[-1], batch.x) == (entry == "clean")
