"""Random draws of a run: equal for equal seeds, independent of one another, injected for one step."""

from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Batch, Engine, Split, evaluate
from buttress.engine.context import Context
from buttress.engine.state import RunState
from buttress.errors import DataError

from ..core.helpers import (
    LINF,
    SHORT_PGD,
    assert_same,
    batch_of,
    clean_attack,
    context,
    engine_of,
    plugin,
    snapshot,
    step,
)
from ..models import MLP, ConvNet


def pgd(engine: Engine, seeds: range) -> list[Tensor]:
    return [step(engine, seed).adv.x for seed in seeds]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def drawing(label: str = "drawing") -> Any:
    def transform_batch(self: Any, batch: Batch, ctx: Any) -> Batch:
        torch.rand(11, generator=ctx.generator("start"))
        return batch

    return plugin(label, transform_batch=transform_batch)


def test_equal_seeds_give_equal_runs_and_other_seeds_others():
    first, second, third = (pgd(engine_of(MLP(), SHORT_PGD, seed=seed), range(3)) for seed in (1, 1, 2))
    assert same(first, second)
    assert not any(torch.equal(a, b) for a, b in zip(first, third, strict=True))


def test_every_step_and_epoch_draws_anew():
    noise = []

    def transform_batch(self: Any, batch: Batch, ctx: Any) -> Batch:
        noise.append(tuple(torch.rand(2, generator=ctx.generator("a")).tolist()))
        noise.append(tuple(torch.rand(2, generator=ctx.generator("b")).tolist()))
        return batch

    engine = engine_of(MLP(), clean_attack(transform_batch=transform_batch))
    for _ in range(2):
        for _ in range(2):
            step(engine)
        engine.end_epoch()
    assert len(set(noise)) == len(noise) == 8


def test_adding_a_plugin_does_not_move_the_random_stream_of_another():
    single = pgd(engine_of(MLP(), SHORT_PGD), range(3))
    accompanied = pgd(engine_of(MLP(), drawing(), SHORT_PGD, drawing("too")), range(3))
    assert same(single, accompanied)


def test_streams_differ_by_plugin_and_by_purpose():
    state = RunState(LINF, torch.device("cpu"))
    draws = {
        (label, purpose): torch.rand(4, generator=Context(state, label).generator(purpose))
        for label in ("one", "two", "one#2")
        for purpose in ("start", "noise")
    }
    assert len({tuple(draw.tolist()) for draw in draws.values()}) == 6


def test_the_generator_continues_within_a_step():
    ctx = context(seed=3)
    first, second = (torch.rand(4, generator=ctx.generator("noise")) for _ in range(2))
    together = torch.rand(8, generator=context(seed=3).generator("noise"))
    assert torch.equal(torch.cat([first, second]), together)


def test_nothing_touches_the_global_generator():
    before = torch.random.get_rng_state()
    engine = engine_of(
        ConvNet(), SHORT_PGD, {"ema": {"tau": 0.5}}, {"meat": {"start": 0, "history": "memory"}}, epochs=1
    )
    before = torch.random.get_rng_state()
    step(engine)
    engine.end_epoch()
    for track in engine.tracks():
        with engine.track(track, lambda: [batch_of()]):
            pass
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("bn_data", "attack_mode"),
    [
        ("clean", "eval"),
        ("clean", "train"),
        ("adv", "eval"),
        ("adv", "train_notrack"),
        ("adv", "train"),
    ],
)
def test_evaluation_does_not_move_the_training(bn_data: str, attack_mode: Any):
    def train(evaluating: bool) -> dict[str, Tensor]:
        model = ConvNet()
        meat = {"meat": {"start": 0, "history": "memory", "bn_data": bn_data}}
        engine = engine_of(model, {"pgd": {"steps": 2}}, meat, epochs=3, attack_mode=attack_mode)
        split = Split(batch_of(seed=9).x, batch_of(seed=9).y)
        for epoch in range(3):
            for seed in range(2):
                step(engine, 10 * epoch + seed)
                if evaluating:
                    evaluate(model, split, {"pgd": {"steps": 2}}, LINF)
            engine.end_epoch()
            if evaluating:
                for track in engine.tracks():
                    with engine.track(track, lambda: [batch_of(seed=8)]):
                        evaluate(model, split, {"pgd": {"steps": 2}}, LINF)
        return snapshot(model)

    assert_same(train(False), train(True))


def test_an_injected_draw_replays_the_adversarial_examples():
    own = step(engine_of(MLP(), SHORT_PGD, seed=1)).adv.x
    x = batch_of().x
    start = LINF.random_start(x, context("pgd", seed=1).generator("start")) - x
    assert torch.equal(step(engine_of(MLP(), SHORT_PGD, seed=2), draws={"pgd.start": start}).adv.x, own)
    assert not torch.equal(step(engine_of(MLP(), SHORT_PGD, seed=2)).adv.x, own)


def test_a_draw_that_nobody_asks_for_is_an_error():
    with pytest.raises(DataError, match=r"draws \['pdg\.start'\] were not asked for.*asked for: \['pgd\.start'\]"):
        step(engine_of(MLP(), SHORT_PGD), draws={"pdg.start": torch.zeros(1)})


def test_injected_draws_serve_one_step_only():
    first, second = engine_of(MLP(), SHORT_PGD), engine_of(MLP(), SHORT_PGD)
    step(first, draws={"pgd.start": torch.zeros(6, 1, 4, 4)})
    step(second, draws={"pgd.start": torch.zeros(6, 1, 4, 4)})
    with_own = step(first, 1).adv.x
    zero_again = step(second, 1, draws={"pgd.start": torch.zeros(6, 1, 4, 4)}).adv.x
    assert not torch.equal(with_own, zero_again)
