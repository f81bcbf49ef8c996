"""Things that the plugins of a run share without touching each other: random streams, records, gradients, labels."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress.components.loaded import as_loaded
from buttress.engine.context import Context
from buttress.engine.state import RunState
from buttress.errors import DataError
from buttress.streams import Streams, seeded_generator
from buttress.types import Rows

from ..core.helpers import CPU, LINF, clean_attack, context, engine_of, plugin, step
from ..models import MLP


def draw(ctx: Context, purpose: str = "noise", n: int = 2) -> tuple[float, ...]:
    return tuple(torch.rand(n, generator=ctx.generator(purpose), dtype=torch.float64).tolist())


def test_every_part_of_the_key_makes_a_stream_of_its_own():
    drawn = []
    for seed, rank, epoch, number, label, purpose in product(*[(0, 1)] * 4, ("a", "b"), ("noise", "start")):
        state = RunState(LINF, CPU, seed=seed)
        state.world.rank, state.epoch, state.step = rank, epoch, number
        with state.on_rows(Rows(4, rank, 2)):
            drawn.append(draw(Context(state, label), purpose))
    assert len(set(drawn)) == len(drawn) == 64


def test_neighbouring_keys_do_not_run_into_each_other():
    keys = [("ab", "c"), ("a", "bc"), ("a", "b", "c"), (1, 11), (11, 1), ("1", 11), (1, "11")]
    drawn = {float(torch.rand((), generator=seeded_generator(CPU, *key), dtype=torch.float64)) for key in keys}
    assert len(drawn) == len(keys)


def test_two_of_one_plugin_draw_from_streams_of_their_own():
    drawn: list[tuple[float, ...]] = []

    def transform_batch(self: Any, batch: Any, ctx: Context) -> Any:
        drawn.append(draw(ctx, "same"))
        return batch

    first, second = (plugin("twin", transform_batch=transform_batch) for _ in range(2))
    step(engine_of(MLP(), clean_attack(), first, second))
    assert len(set(drawn)) == len(drawn) == 2


def test_a_stream_is_the_same_whatever_was_drawn_before_it():
    early, late = context(seed=5), context(seed=5)
    for purpose in ("x", "y"):
        draw(late, purpose, 100)
    assert draw(early) == draw(late)


def test_a_later_step_starts_its_stream_at_its_beginning():
    visited, skipped = RunState(LINF, CPU), RunState(LINF, CPU)
    draw(Context(visited, "p"), n=7)
    visited.step = skipped.step = 3
    assert draw(Context(visited, "p")) == draw(Context(skipped, "p"))


def test_streams_apart_move_nothing_outside_and_continue_where_they_were():
    state = RunState(LINF, CPU)
    ctx = Context(state, "p")
    first = draw(ctx)
    with state.streams_apart("track t"):
        inside = draw(ctx, n=100)
    with state.streams_apart("track u"):
        other = draw(ctx, n=100)
    second = draw(ctx)
    whole = draw(Context(RunState(LINF, CPU), "p"), n=4)
    assert first + second == whole
    assert inside[:2] != first
    assert inside != other


def test_streams_apart_see_no_injected_draws_and_give_them_back():
    state = RunState(LINF, CPU)
    ctx = Context(state, "p")
    state.draws = {"p.start": torch.ones(1)}
    with state.streams_apart("track t"):
        assert ctx.draw("start", (1,)) is None
    drawn = ctx.draw("start", (1,))
    assert isinstance(drawn, Tensor)
    assert torch.equal(drawn, torch.ones(1))


def test_a_draw_is_found_by_plugin_and_purpose():
    state = RunState(LINF, CPU)
    state.draws = {"p.start": torch.ones(1), "q.start": torch.zeros(1)}
    assert float(Context(state, "q").draw("start", (1,))) == 0.0
    assert Context(state, "p").draw("other", (1,)) is None
    assert Context(state, "r").draw("start", (1,)) is None


def test_a_draw_of_another_shape_is_refused_instead_of_broadcast():
    state = RunState(LINF, CPU)
    state.draws = {"p.start": torch.ones(1)}
    with pytest.raises(DataError, match=r"draws\['p.start'\]: expected a tensor of shape \(2, 1\), got \(1,\)"):
        Context(state, "p").draw("start", (2, 1))


def test_streams_apart_continue_in_the_dictionary_that_is_handed_in():
    ctx = Context(state := RunState(LINF, CPU), "p")
    with state.streams_apart("t"):
        whole = draw(ctx, n=4)
    streams: Streams = {}
    parts = []
    for _ in range(2):
        with state.streams_apart("t", streams):
            parts += draw(ctx, n=2)
    assert tuple(parts) == whole


# Streams that last longer than a step


def lasting(ctx: Context, per: Any, n: int = 2) -> tuple[float, ...]:
    return tuple(torch.rand(n, generator=ctx.generator("noise", per), dtype=torch.float64).tolist())


@pytest.mark.parametrize(("per", "kinds"), [("step", 4), ("epoch", 2), ("run", 1)])
def test_a_stream_begins_at_the_same_place_in_every_step_of_its_span(per: Any, kinds: int):
    state = RunState(LINF, CPU)
    ctx, drawn = Context(state, "p"), []
    for state.epoch in range(2):
        for state.step in range(2):
            first, second = lasting(ctx, per), lasting(ctx, per)
            assert first != second  # a second call continues
            drawn.append(first + second)
            assert lasting(Context(placed(state), "p"), per, n=4) == drawn[-1]  # and so it is after a resume
    assert len(set(drawn)) == kinds


def placed(state: RunState) -> RunState:
    other = RunState(LINF, CPU)
    other.epoch, other.step = state.epoch, state.step
    return other


def test_spans_plugins_and_purposes_have_streams_of_their_own():
    state = RunState(LINF, CPU)
    one = Context(state, "p")
    assert (
        len({lasting(one, "step"), lasting(one, "epoch"), lasting(one, "run"), lasting(Context(state, "q"), "run")})
        == 4
    )
    assert draw(one, purpose="other") != lasting(one, "run")


def test_a_lasting_stream_is_the_same_for_every_reader_and_batch():
    state = RunState(LINF, CPU)
    ctx, streams = Context(state, "p"), {}
    training = lasting(ctx, "run")
    for _ in range(2):
        with state.streams_apart("track t", streams):
            assert lasting(ctx, "run") == training
    assert training + lasting(ctx, "run") == lasting(Context(RunState(LINF, CPU), "p"), "run", n=4)


def test_a_generator_is_made_on_the_device_that_is_asked_for():
    ctx = Context(RunState(LINF, torch.device("meta")), "p")
    assert ctx.generator("noise", device="cpu").device == CPU
    assert lasting(Context(RunState(LINF, CPU), "p"), "step") == draw(Context(RunState(LINF, CPU), "p"))


def test_a_span_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"^ctx\.generator\('noise'\): per: expected step, epoch, run, got 'batch'$"):
        lasting(Context(RunState(LINF, CPU), "p"), "batch")


def test_a_rewound_state_repeats_its_draws():
    state = RunState(LINF, CPU)
    ctx = Context(state, "p")
    first = draw(ctx)
    state.rewind()
    assert draw(ctx) == first


def test_a_record_keeps_no_graph():
    state = RunState(LINF, CPU)
    weight = torch.ones((), requires_grad=True)
    for _ in range(2):
        Context(state, "p").record("loss", 3 * weight)
    total, count = state.records["p.loss"]
    assert isinstance(total, Tensor)
    assert not total.requires_grad
    assert (float(total), float(count)) == (6.0, 2.0)


def test_a_state_of_the_records_is_a_copy_in_both_directions():
    recording = clean_attack(adjust_grads=lambda self, ctx: ctx.record("v", 2.0))
    one, two = engine_of(MLP(), recording), engine_of(MLP(), recording)
    step(one)
    state = one.state_dict()
    step(one)
    assert state["records"] == {"attack.v": [2.0, 1.0]}
    two.load_state_dict(state)
    step(two)
    assert state["records"] == {"attack.v": [2.0, 1.0]}
    assert two.records() == {"attack.v": 2.0}


def test_the_training_forward_finds_the_gradients_of_the_last_step_freed():
    freed: list[bool] = []

    def compute_loss(self: Any, model: torch.nn.Module, batch: Any, adv: Any) -> Tensor:
        freed.append(all(weight.grad is None for weight in model.parameters()))
        return torch.nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")

    engine = engine_of(MLP(), clean_attack(compute_loss=compute_loss))
    step(engine)
    assert all(weight.grad is not None for weight in engine.model.parameters())
    step(engine)
    assert freed == [True, True]


def test_loaded_plugins_are_labelled_anew_where_they_are_put_together():
    loaded = as_loaded([plugin("twin"), plugin("twin")])
    assert [item.label for item in loaded] == ["twin", "twin#2"]
    assert [item.label for item in as_loaded(loaded[1:])] == ["twin"]
    assert [item.label for item in as_loaded(loaded[::-1])] == ["twin", "twin#2"]
