"""The worst case over attacks on a model whose robustness is known, interrupted and not."""

from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from buttress import Adv, Split, ThreatModel, evaluate
from buttress.components.loaded import LoadedPlugin
from buttress.console.reporter import Reporter
from buttress.errors import CheckpointError
from buttress.scoring.attacks import load_attack
from buttress.scoring.cells import NOT_ATTACKED, RIGHT, WRONG, Cells, Shard
from buttress.scoring.keeper import Keeper
from buttress.scoring.worst_case import Verdicts, attack_all, interval

from ..core.helpers import LINF, batch_of, plugin
from ..models import ConvNet, Halfspace

W = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
THREAT = ThreatModel("linf", "1/10", None)


def line(*scores: float) -> Tensor:
    return torch.tensor([[score / 2, score / 2, 0.0, 0.0] for score in scores], dtype=torch.float64)


# eps 1/10 moves w.x by 0.2, half of a step of it by 0.1; the fourth is wrong without an attack.
SPLIT = Split(line(0.05, 0.15, 0.3, -0.1, -0.3), torch.tensor([0, 0, 0, 0, 1]))
HALF = ("half", load_attack({"fgsm": {"step_size": "1/20"}}))
FULL = ("full", load_attack("fgsm"))


def run(attacks: Any, **options: Any) -> Verdicts:
    return attack_all(Halfspace(W), attacks, THREAT, SPLIT, torch.arange(5), **options)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_what_is_wrong_is_not_attacked_again(batch_size: int):
    verdicts = run([HALF, FULL], batch_size=batch_size)
    assert verdicts.table.tolist() == [
        [RIGHT, RIGHT, RIGHT, WRONG, RIGHT],
        [WRONG, RIGHT, RIGHT, NOT_ATTACKED, RIGHT],
        [NOT_ATTACKED, WRONG, RIGHT, NOT_ATTACKED, RIGHT],
    ]
    assert verdicts.worst.tolist() == [False, False, True, False, True]
    rows = verdicts.rows()
    shown = [[row[key] for key in ("attack", "attacked", "wrong", "accuracy", "n")] for row in rows]
    # The first attack saw whatever is right without one; the second has no accuracy of its own.
    assert shown == [["clean", 5, 1, 0.8, 5], ["half", 4, 1, 0.6, 5], ["full", 3, 1, None, 5]]
    assert [row["left"]["accuracy"] for row in rows] == [0.8, 0.6, 0.4]
    assert (rows[2]["low"], rows[2]["high"]) == (None, None)
    assert all(row["left"]["low"] < row["left"]["accuracy"] < row["left"]["high"] for row in rows)


def test_an_attack_that_saw_all_that_is_right_has_an_accuracy_of_its_own():
    nothing = ("nothing", load_attack({"fgsm": {"step_size": 0}}))
    assert [row["accuracy"] for row in run([nothing, FULL, HALF]).rows()] == [0.8, 0.8, 0.4, None]


class Bar(Reporter):
    """Remembers what a progress bar shows."""

    def __init__(self) -> None:
        super().__init__()
        self.total, self.steps = 0, [0]

    def begin(self, total: int, done: int, what: str = "training") -> None:
        self.total, self.steps = total, [done]

    def advance(self, description: str, steps: int = 1) -> None:
        self.steps.append(self.steps[-1] + steps)


@pytest.mark.parametrize(
    "attack", [{"pgd": {"steps": 7}}, {"cw": {"steps": 7}}, {"spsa": {"steps": 7, "samples": 6, "forward_size": 10}}]
)
def test_progress_is_shown_within_a_batch_and_ends_at_its_total(attack: dict[str, Any]):
    bar = Bar()
    run([("one", load_attack(attack))], reporter=bar)
    assert bar.steps[-1] == bar.total
    assert len(bar.steps) > 7
    assert bar.steps == sorted(bar.steps)
    assert max(np.diff(bar.steps)) < bar.total / 2


def test_an_attack_that_does_not_say_what_it_costs_is_counted_in_batches():
    bar = Bar()
    run([FULL], reporter=bar, batch_size=2)
    assert bar.steps == [0, 1, 2, 3]


def test_an_attack_that_sees_nobody_is_not_called():
    asked = []

    def generate_adv(self: Any, batch: Any) -> Adv:
        asked.append(len(batch.x))
        return Adv(batch.x)

    loaded = LoadedPlugin("counting", plugin("counting", generate_adv=generate_adv))
    far = load_attack({"fgsm": {"step_size": 1}})
    run([("far", far), ("counting", loaded)], batch_size=1)
    assert asked == [1, 1]  # the two that stand


def test_each_lets_every_attack_see_everything_and_gives_the_accuracy_of_an_evaluation():
    verdicts = run([FULL, HALF], each=True)
    assert (verdicts.table != NOT_ATTACKED).all()
    assert [row["accuracy"] for row in verdicts.rows()] == [0.8, 0.4, 0.6]
    assert [row["left"]["accuracy"] for row in verdicts.rows()] == [0.8, 0.4, 0.4]
    assert verdicts.worst.tolist() == [False, False, True, False, True]
    for (_, attack), row in zip([FULL, HALF], verdicts.rows()[1:], strict=True):
        assert evaluate(Halfspace(W), SPLIT, attack, THREAT).robust == row["accuracy"]


def test_right_under_attack_and_wrong_without_is_wrong_in_the_worst_case():
    """A step towards the right class, which no attack should make, saves an example that was wrong before."""
    towards = plugin("towards", generate_adv=lambda self, batch: Adv(batch.x + 0.1 * W * (1 - 2 * batch.y[:, None])))
    verdicts = run([("towards", LoadedPlugin("towards", towards))], each=True)
    assert verdicts.rows()[1]["accuracy"] == 1.0
    assert verdicts.worst.tolist() == [True, True, True, False, True]


def random_split(n: int = 23) -> Split:
    batch = batch_of(n)
    return Split(batch.x, batch.y)


def table(folder: Path | None = None, attacks: Any = None, model: Any = None, shard: Shard | None = None) -> np.ndarray:
    chosen = attacks or [
        ("pgd", load_attack({"pgd": {"steps": 2}})),
        ("spsa", load_attack({"spsa": {"steps": 2, "samples": 4}})),
    ]
    positions = torch.arange(22, -1, -2)
    keeper = None if folder is None else Keeper(folder, "work", Cells.empty(1 + len(chosen), len(positions), 5), shard)
    return attack_all(
        model or ConvNet(), chosen, LINF, random_split(), positions, seed=4, batch_size=5, keeper=keeper
    ).table


@pytest.mark.parametrize("calls", [2, 3, 7, 12, 14, 18])
def test_an_interrupted_evaluation_goes_on_and_equals_the_uninterrupted_one(calls: int, tmp_path: Path):
    whole = table()
    model, made = ConvNet(), []

    def count(*_: object) -> None:
        made.append(1)
        if len(made) == calls:
            raise KeyboardInterrupt

    handle = model.register_forward_pre_hook(count)
    with pytest.raises(KeyboardInterrupt):
        table(tmp_path, model=model)
    handle.remove()
    done = len(made)
    rest: list[int] = []
    model.register_forward_pre_hook(lambda *_: rest.append(1))
    assert np.array_equal(table(tmp_path, model=model), whole)
    full: list[int] = []
    other = ConvNet()
    other.register_forward_pre_hook(lambda *_: full.append(1))
    table(model=other)
    assert len(rest) < len(full)
    assert len(rest) + done - len(full) <= 6  # the batch that was interrupted is all that is done twice


def test_a_damaged_partial_result_is_named(tmp_path: Path):
    (tmp_path / "unfinished-work-1of1.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(CheckpointError, match=r"unfinished-work-1of1\.npz is damaged.*delete it"):
        table(tmp_path)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (5, 10), (10, 10), (381, 500)])
def test_the_interval_is_wilson_s(right: int, n: int):
    z = NormalDist().inv_cdf(0.975)
    centre, spread = right + z * z / 2, z * (right * (n - right) / n + z * z / 4) ** 0.5
    expected = [(centre - spread) / (n + z * z), (centre + spread) / (n + z * z)]
    np.testing.assert_allclose(interval(right, n), expected, rtol=0, atol=1e-12)
