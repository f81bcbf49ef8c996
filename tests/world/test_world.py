"""Sums, rows and draws on several ranks, and the number of collectives of a step against numbers by hand."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from buttress import Batch
from buttress.engine.faults import Faults
from buttress.engine.world import World
from buttress.errors import RanksError
from buttress.nn.synced_batchnorm import SyncedBatchNorm, sync_batch_norm
from buttress.types import Rows

from ..models import ConvNet
from .ranks import Ranks
from .runs import LINF, batches, difference, engine_of, trained

PGD = {"pgd": {"steps": 2}}
WHOLE = 2  # rows of the last of the five batches of an epoch, which three ranks compute whole


@pytest.mark.parametrize("total", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_rows_of_all_ranks_are_those_of_the_batch(total: int, blocks: int, ranks: int):
    values = torch.arange(blocks * total)
    every = [Rows(total, rank, ranks, blocks) for rank in range(ranks)]
    owned = torch.cat([rows.own(rows.of(values)) for rows in every])
    assert sorted(owned.tolist()) == values.tolist()
    assert all(len(rows.of(values)) == rows.count for rows in every)
    assert every[0].whole or sum(rows.share for rows in every) == pytest.approx(1.0)
    for rows in every:  # the rows of an example stay together
        examples = (rows.of(values) % total).view(blocks, -1)
        assert (examples == examples[0]).all()


def sums(world: World) -> list[Any]:
    rows = world.rows(5)
    own = rows.of(torch.arange(5.0, dtype=torch.float64)).requires_grad_()
    total = world.sum(own.sum())
    total.square().backward()
    a, b = torch.full((3,), float(world.rank), dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    world.mean_([a, b], "test")
    like = {"one": torch.zeros(4), "two": torch.zeros(2), "three": torch.zeros(1)}
    asked: list[str] = []

    def compute(names: Any) -> dict[str, Tensor]:
        asked.extend(names)
        return {name: like[name] + len(name) for name in names}

    parts = world.shared_out(like, compute, "test")
    whole = world.rows_of_all(own.detach(), rows, "test")
    return [
        float(total),
        own.grad,
        a,
        b,
        bool(world.all(torch.tensor(world.rank == 0))),
        world.from_main(world.rank),
        world.gathered(world.rank),
        {name: part.tolist() for name, part in parts.items()},
        asked,
        whole,
    ]


def test_sums_means_and_values_of_all_ranks(ranks: Ranks):
    answers = ranks.call(sums)
    n = ranks.size
    for answer in answers:
        assert answer[0] == 10.0
        assert answer[1].tolist() == [20.0 * n] * len(answer[1])  # each rank's backward adds its own gradient
        assert answer[2].tolist() == pytest.approx([(n - 1) / 2] * 3)
        assert answer[3].tolist() == pytest.approx([1.0, 1.0])
        assert answer[4] is False
        assert answer[5:7] == [0, list(range(n))]
        assert answer[7] == {"one": [3.0] * 4, "two": [3.0] * 2, "three": [5.0]}
        assert answer[9].tolist() == [0, 1, 2, 3, 4]
    assert sorted(name for answer in answers for name in answer[8]) == ["one", "three", "two"]


def counts(stack: list[Any], size: int, **by_hand: int) -> dict[str, int]:
    """Numbers of collectives in 20 steps, of which those on fewer rows than ranks make no sums."""
    steps = 20 - (4 if size > WHOLE else 0)
    each = {name.replace("_", " "): number * steps for name, number in by_hand.items()}
    return {"gradients": steps, "agreement": 20, "weights": 8, **each}


BY_HAND: dict[str, tuple[list[Any], dict[str, int]]] = {
    "pgd": ([{"pgd": {"steps": 10}}], {}),
    "trades": ([PGD, "trades"], {}),
    "awp": ([PGD, "awp"], {"ascent": 1}),
    "awp, local": ([PGD, {"awp": {"ascent": "local", "exit_order": "restore_then_step"}}], {}),
    "amp": ([PGD, {"amp": {"steps": 2}}], {"ascent": 2}),
    "rwp": ([PGD, {"rwp": {"c_min": "inf", "k2": 3}}], {"ascent": 3, "kept_examples": 3}),
    "drop_easy": ([PGD, {"drop_easy": {"c_min": 0.5}}], {"ctx.sum": 1}),
    "free_at": (["free_at"], {"ctx.whole": 1}),
}


def numbers_of(world: World, stack: list[Any], batch_norm: str) -> dict[str, int]:
    answer = trained(world, stack, batch_norm=batch_norm)["counts"]
    return {name: number for name, number in answer.items() if name not in ("sum", "records")}  # the test's own


@pytest.mark.parametrize("name", BY_HAND)
def test_a_step_makes_the_collectives_counted_by_hand(ranks: Ranks, name: str):
    stack, by_hand = BY_HAND[name]
    expected = counts(stack, ranks.size, batch_norm=1, **by_hand)  # local: the mean of the buffers
    assert ranks.call(numbers_of, stack, "local") == [expected] * ranks.size


def test_synced_batch_norm_costs_one_sum_in_the_forward_and_one_in_the_backward(ranks: Ranks):
    assert ranks.call(numbers_of, [PGD], "sync") == [counts([PGD], ranks.size, batch_norm=2)] * ranks.size


def local_reference(size: int) -> dict[str, Tensor]:
    """PGD-AT by hand, with batch-norm statistics of every ``size``-th row, and buffers that are averaged."""
    from buttress.functional import attack_loss, cross_entropy, pgd

    model = ConvNet().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for epoch in range(4):
        for batch in batches(epoch):
            every = [Rows(len(batch.x), rank, size) for rank in range(size)]
            if every[0].whole:
                every = every[:1]
            buffers = {name: value.clone() for name, value in model.named_buffers()}
            moved: list[dict[str, Tensor]] = []
            optimizer.zero_grad()
            for rows in every:
                x, y = rows.of(batch.x), rows.of(batch.y)
                model.eval().requires_grad_(False)
                x_adv = pgd(attack_loss("ce", model, x, y), x, LINF, steps=2, step_size=1 / 40)
                model.train().requires_grad_(True)
                (cross_entropy(model(x_adv), y).mean() * rows.share).backward()
                moved.append({name: value.clone() for name, value in model.named_buffers()})
                model.load_state_dict({**model.state_dict(), **buffers})
            for name, buffer in model.named_buffers():
                if buffer.is_floating_point():
                    parts = zip(every, moved, strict=True)
                    buffer.copy_(sum(rows.share * own[name] for rows, own in parts))  # type: ignore[arg-type]
                else:
                    buffer.copy_(moved[0][name])
            optimizer.step()
    return model.state_dict()


def test_local_batch_norm_is_that_of_a_reference_that_splits_the_batch(ranks: Ranks):
    stack = [{"pgd": {"steps": 2, "step_size": "1/40", "start": "none"}}]
    answers = ranks.call(partial_local, stack)
    for answer in answers:
        assert difference(answer, local_reference(ranks.size)) < 1e-9
    assert difference(answers[0], trained(World(), stack)["state"]) > 1e-6


def partial_local(world: World, stack: list[Any]) -> Any:
    return trained(world, stack, batch_norm="local")["state"]


def local_ascent(world: World, name: str) -> Any:
    settings = {} if name == "amp" else {"exit_order": "restore_then_step"}
    more = {"c_min": 5.0, "k2": 2} if name == "rwp" else {}
    return trained(world, [PGD, {name: {**settings, **more, "ascent": "local"}}])["state"]


@pytest.mark.parametrize("name", ["awp", "rwp", "amp"])
def test_ranks_that_ascend_on_their_own_rows_keep_equal_weights(ranks: Ranks, name: str):
    one, *others = ranks.call(local_ascent, name)
    assert all(difference(one, other) == 0.0 for other in others)
    assert difference(one, local_ascent(World(), name)) > 1e-9  # and are not those of one process


@pytest.mark.parametrize("name", ["awp", "rwp", "rat_wp"])
def test_a_local_ascent_refuses_weight_decay_at_weights_that_differ(name: str):
    from buttress import PluginError
    from buttress.components.loaded import load_plugins

    with pytest.raises(PluginError, match=r"ascent: local needs exit_order: restore_then_step"):
        load_plugins([{name: {"ascent": "local"}}])


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_over_parts_is_that_of_the_whole_batch(momentum: float | None):
    torch.manual_seed(0)
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64) * 3 + 1000
    plain, synced = (torch.nn.BatchNorm2d(3, momentum=momentum).double() for _ in range(2))
    sync_batch_norm(synced, lambda: False, lambda values: 2 * values)  # as where the other rank has the same rows
    assert isinstance(synced, SyncedBatchNorm)
    twice = torch.cat([x, x]).requires_grad_()
    part = x.clone().requires_grad_()
    expected, got = plain(twice), synced(part)
    assert difference(got.detach(), expected[:6].detach()) < 1e-9
    assert difference(dict(synced.state_dict()), dict(plain.state_dict())) < 1e-9


def test_two_halves_make_the_step_of_the_whole(ranks: Ranks):
    """A caller that gives each rank its rows alone has the numbers of one that gives all."""
    one, *_ = ranks.call(with_rows_alone)
    assert difference(one, trained(World(), [PGD])["state"]) < 1e-9


def with_rows_alone(world: World) -> Any:
    engine = engine_of(world, [PGD])
    for epoch in range(4):
        for batch in batches(epoch):
            rows = world.rows(len(batch.x))
            mine: Batch = batch.part(rows.of(torch.arange(len(batch.x))))
            engine.step(mine.x, mine.y, index=mine.index, rows=rows)
        engine.end_epoch({"loss": 1.0})
    return {name: value.clone() for name, value in engine.model.state_dict().items()}


class Breaking(World):
    """Loses the other ranks in a sum of one number, as where one of them has died."""

    def _reduce(self, values: Tensor, kind: Any = dist.ReduceOp.SUM) -> None:
        group = self._group  # as the calls of torch refer to it
        if values.numel() == 1:
            raise RuntimeError(f"no answer from a rank of {group}")
        super()._reduce(values, kind)


def broken_on_rank_0(world: World) -> str:
    store = dist.PrefixStore("broken", dist.distributed_c10d._get_default_store())
    kind = Breaking if world.rank == 0 else World
    alone = kind(dist.new_group(), Faults(store, 60.0))
    try:
        alone.sum(torch.ones(1))
    except RanksError as problem:
        return str(problem)
    return "summed"


def test_a_rank_that_loses_the_others_keeps_none_of_them_waiting(ranks: Ranks):
    for answer in ranks.call(broken_on_rank_0):
        assert "the ranks lost one another within 60 s at: sum 'sum' (1,) torch.float32" in answer
