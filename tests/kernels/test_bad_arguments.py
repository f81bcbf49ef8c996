"""Wrong arguments: one table, and the same error on both backends. Nothing is written."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from buttress.kernels import (
    amp_first_step_,
    amp_step_,
    lsc_cross_entropy,
    lsc_mean,
    median,
    median_many,
    perturb_,
    restore_,
    rwp_first_step_,
    rwp_step_,
    unperturb_,
)

pytestmark = pytest.mark.usefixtures("backend")

A, B, C, D = (torch.full((3,), float(k)) for k in range(4))
WIDE = torch.ones(2, 3)
META = torch.ones(3, device="meta")
LOGITS, TARGETS = torch.zeros(3, 4), torch.zeros(3).long()
STATE = torch.ones(2, 1, dtype=torch.float64)
MEMORY = torch.zeros(20)
CPU = "torch.float32 on cpu"
NUMBERS = "expected float32, float64, float16 or bfloat16"


def rwp(*, first: bool = False, state: Any = STATE, gamma: Any = 0.1, **settings: Any) -> None:
    (rwp_first_step_ if first else rwp_step_)([A], [B], [C], [D], state, gamma, **settings)


def amp(*, first: bool = False, **settings: Any) -> None:
    (amp_first_step_ if first else amp_step_)([A], [B], [C], [D], **{"xi": 1.0, "delta": 1.0, **settings})


Row = tuple[str, Callable[[], object], str]

MEDIAN: list[Row] = [
    ("none", lambda: median([]), "median: expected at least one tensor, got none"),
    ("even", lambda: median([A], even="middle"), "median: even: expected lower, upper or mean, got 'middle'"),
    ("integers", lambda: median([A.long()]), f"median: tensors[0] has dtype torch.int64, {NUMBERS}"),
    (
        "float8",
        lambda: median([A.to(torch.float8_e4m3fn)]),
        f"median: tensors[0] has dtype torch.float8_e4m3fn, {NUMBERS}",
    ),
    (
        "shape",
        lambda: median([WIDE, WIDE, WIDE.T]),
        f"median: tensors[2] has shape (3, 2), {CPU}, expected shape (2, 3), {CPU}",
    ),
    (
        "dtype",
        lambda: median([A, A.double()]),
        f"median: tensors[1] has shape (3,), torch.float64 on cpu, expected shape (3,), {CPU}",
    ),
    (
        "device",
        lambda: median([A, META]),
        f"median: tensors[1] has shape (3,), torch.float32 on meta, expected shape (3,), {CPU}",
    ),
    (
        "shape of out",
        lambda: median([WIDE], out=torch.zeros(6)),
        f"median: out has shape (6,), {CPU}, expected shape (2, 3), {CPU}",
    ),
    (
        "dtype of out",
        lambda: median([torch.tensor(1.0)], out=torch.tensor(1.0).half()),
        f"median: out has shape (), torch.float16 on cpu, expected shape (), {CPU}",
    ),
    (
        "out is an input",
        lambda: median([torch.zeros(9), MEMORY[:9]], out=MEMORY[:9]),
        "median: out overlaps tensors[1] in memory; give it memory of its own",
    ),
    (
        "out overlaps an input",
        lambda: median([torch.zeros(9), MEMORY[:9]], out=MEMORY[4:13]),
        "median: out overlaps tensors[1] in memory; give it memory of its own",
    ),
]

MEDIAN_MANY: list[Row] = [
    (
        "lengths",
        lambda: median_many([[A, A], [A]]),
        "median_many: lists[1] has 1 tensors, expected 2, as in lists[0]",
    ),
    ("none", lambda: median_many([[], []]), "median_many: lists[0]: expected at least one tensor, got none"),
    (
        "dtype",
        lambda: median_many([[A, A], [WIDE, WIDE.double()]]),
        "median_many: lists[1]: tensors[1] has shape (2, 3), torch.float64 on cpu, expected shape (2, 3), " + CPU,
    ),
    (
        "integers",
        lambda: median_many([[A], [A.long()]]),
        f"median_many: lists[1]: tensors[0] has dtype torch.int64, {NUMBERS}",
    ),
    ("device", lambda: median_many([[A], [META]]), "median_many: lists[1] is on meta, expected cpu, as lists[0]"),
    ("even", lambda: median_many([[A]], even="low"), "median_many: even: expected lower, upper or mean, got 'low'"),
    (
        "few outs",
        lambda: median_many([[A], [B]], out=[A.clone()]),
        "median_many: expected 2 tensors in out, one for each list, got 1",
    ),
    (
        "shape of out",
        lambda: median_many([[WIDE]], out=[WIDE.T]),
        f"median_many: out[0] has shape (3, 2), {CPU}, expected shape (2, 3), {CPU}",
    ),
    (
        "own input",
        lambda: median_many([[A], [MEMORY[:5]]], out=[A.clone(), MEMORY[4:9]]),
        "median_many: out[1] overlaps lists[1][0] in memory; give it memory of its own",
    ),
    (
        "input of another",
        lambda: median_many(
            [[A.new_zeros(5), MEMORY[:5]], [WIDE, WIDE]], out=[A.new_zeros(5), MEMORY[4:10].view(2, 3)]
        ),
        "median_many: out[1] overlaps lists[0][1] in memory; give it memory of its own",
    ),
    (
        "longer input",
        lambda: median_many([[MEMORY[:9]], [MEMORY[2:4]]], out=[torch.zeros(9), MEMORY[5:7]]),
        "median_many: out[1] overlaps lists[0][0] in memory; give it memory of its own",
    ),
    (
        "two outs",
        lambda: median_many([[MEMORY[:5]], [MEMORY[5:9]]], out=[MEMORY[10:15], MEMORY[14:18]]),
        "median_many: out[1] overlaps out[0] in memory; give it memory of its own",
    ),
]

PERTURBATIONS: list[Row] = [
    ("few directions", lambda: perturb_([A], [], 0.1), "perturb_: expected as many directions as weights (1), got 0"),
    (
        "many directions",
        lambda: perturb_([], [A], 0.1),
        "perturb_: expected as many directions as weights (0), got 1",
    ),
    (
        "shape",
        lambda: perturb_([WIDE, A], [WIDE + 1, WIDE + 1], 0.1),
        f"perturb_: directions[1] has shape (2, 3), {CPU}, expected shape (3,), {CPU} as weights[1]",
    ),
    (
        "dtype",
        lambda: perturb_([A], [A.double()], 0.1),
        f"perturb_: directions[0] has shape (3,), torch.float64 on cpu, expected shape (3,), {CPU} as weights[0]",
    ),
    (
        "device",
        lambda: perturb_([A], [META], 0.1),
        f"perturb_: directions[0] has shape (3,), torch.float32 on meta, expected shape (3,), {CPU} as weights[0]",
    ),
    (
        "devices",
        lambda: perturb_([A, META], [B, META], 0.1),
        "perturb_: weights[1] is on meta, expected all on cpu",
    ),
    (
        "integers",
        lambda: perturb_([A, B.long()], [C, B.long()], 0.1),
        f"perturb_: weights[1] has dtype torch.int64, {NUMBERS}",
    ),
    ("gamma", lambda: perturb_([A], [B], -0.1), "perturb_: gamma: expected a finite number >= 0, got -0.1"),
    ("gamma nan", lambda: perturb_([A], [B], math.nan), "perturb_: gamma: expected a finite number >= 0, got nan"),
    (
        "norm",
        lambda: perturb_([A], [B], 0.1, norm="tensor"),
        "perturb_: norm: expected layer or global, got 'tensor'",
    ),
    (
        "saved",
        lambda: perturb_([A], [B], 0.1, saved=[WIDE]),
        f"perturb_: saved[0] has shape (2, 3), {CPU}, expected shape (3,), {CPU} as weights[0]",
    ),
    ("restore", lambda: restore_([A], [B, C]), "restore_: expected as many saved as weights (1), got 2"),
    (
        "unperturb",
        lambda: unperturb_([A], [WIDE], [B]),
        f"unperturb_: saved[0] has shape (2, 3), {CPU}, expected shape (3,), {CPU} as weights[0]",
    ),
    (
        "state",
        lambda: rwp(state=torch.zeros(2, 2)),
        f"rwp_step_: state: expected a contiguous float64 [2,1] on cpu, got shape (2, 2), {CPU}",
    ),
    (
        "state of the first",
        lambda: rwp(first=True, state=torch.zeros(2).double()),
        "rwp_first_step_: state: expected a contiguous float64 [2,1] on cpu, got shape (2,), torch.float64 on cpu",
    ),
    (
        "kept",
        lambda: rwp(kept=torch.ones(2).long()),
        "rwp_step_: kept: expected one int64 number on cpu, got shape (2,), torch.int64 on cpu",
    ),
    (
        "kept of the first",
        lambda: rwp(first=True, kept=torch.tensor(1.0)),
        f"rwp_first_step_: kept: expected one int64 number on cpu, got shape (), {CPU}",
    ),
    ("gamma of RWP", lambda: rwp(gamma=-1), "rwp_step_: gamma: expected a finite number >= 0, got -1.0"),
    ("norm of RWP", lambda: rwp(norm="all"), "rwp_step_: norm: expected layer or global, got 'all'"),
    (
        "gamma of the first",
        lambda: rwp(first=True, gamma=math.inf),
        "rwp_first_step_: gamma: expected a finite number >= 0, got inf",
    ),
    ("xi", lambda: amp(xi=math.inf), "amp_step_: xi: expected a finite number >= 0, got inf"),
    ("delta", lambda: amp(delta=-1e-7), "amp_step_: delta: expected a finite number >= 0, got -1e-07"),
    ("clip_norm", lambda: amp(clip_norm=0.0), "amp_step_: clip_norm: expected a number > 0, got 0.0"),
    ("clip_norm nan", lambda: amp(clip_norm=math.nan), "amp_step_: clip_norm: expected a number > 0, got nan"),
    ("ball", lambda: amp(ball="layer"), "amp_step_: ball: expected global or per_tensor, got 'layer'"),
    (
        "ball of the first",
        lambda: amp(first=True, ball="layer"),
        "amp_first_step_: ball: expected global or per_tensor, got 'layer'",
    ),
    (
        "total",
        lambda: amp_step_([A], [B], [C], [WIDE], xi=1.0, delta=1.0),
        f"amp_step_: total[0] has shape (2, 3), {CPU}, expected shape (3,), {CPU} as weights[0]",
    ),
]

OVERLAPS: list[Row] = [
    ("a direction", lambda: perturb_([MEMORY[:9]], [MEMORY[8:17]], 0.1), "perturb_: weights[0] overlaps directions[0]"),
    (
        "what is saved",
        lambda: perturb_([MEMORY[:9]], [torch.ones(9)], 0.1, saved=[MEMORY[8:17]]),
        "perturb_: saved[0] overlaps weights[0]",
    ),
    (
        "two weights",
        lambda: perturb_([MEMORY[:9], MEMORY[8:17]], [torch.ones(9)] * 2, 0.1),
        "perturb_: weights[1] overlaps weights[0]",
    ),
    (
        "rows with gaps",
        lambda: perturb_([MEMORY.view(4, 5)[:, :2], MEMORY[12:14]], [torch.ones(4, 2), torch.ones(2)], 0.1),
        "perturb_: weights[1] overlaps weights[0]",
    ),
    ("what is restored", lambda: restore_([MEMORY[:9]], [MEMORY[8:17]]), "restore_: weights[0] overlaps saved[0]"),
    (
        "the perturbed",
        lambda: unperturb_([MEMORY[:9]], [torch.ones(9)], [MEMORY[8:17]]),
        "unperturb_: weights[0] overlaps perturbed[0]",
    ),
    (
        "a first origin",
        lambda: rwp_first_step_([A], [MEMORY[:3]], [MEMORY[2:5]], [D], STATE, 0.1),
        "rwp_first_step_: origin[0] overlaps directions[0]",
    ),
    ("an origin", lambda: rwp_step_([A], [B], [MEMORY[:3]], [MEMORY[2:5]], STATE, 0.1), "rwp_step_: total[0] overlaps"),
]

LSC: list[Row] = [
    (
        "vector",
        lambda: lsc_cross_entropy(LOGITS[0], TARGETS, 1.0),
        f"lsc_cross_entropy: logits: expected floating-point [B,K] with K >= 1, got shape (4,), {CPU}",
    ),
    (
        "no class",
        lambda: lsc_cross_entropy(LOGITS[:, :0], TARGETS, 1.0),
        f"lsc_cross_entropy: logits: expected floating-point [B,K] with K >= 1, got shape (3, 0), {CPU}",
    ),
    (
        "integers",
        lambda: lsc_cross_entropy(LOGITS.long(), TARGETS, 1.0),
        "lsc_cross_entropy: logits: expected floating-point [B,K] with K >= 1, got shape (3, 4), torch.int64 on cpu",
    ),
    (
        "few targets",
        lambda: lsc_cross_entropy(LOGITS, TARGETS[:2], 1.0),
        "lsc_cross_entropy: targets: expected int64 [3] on cpu, got shape (2,), torch.int64 on cpu",
    ),
    (
        "int32",
        lambda: lsc_cross_entropy(LOGITS, TARGETS.int(), 1.0),
        "lsc_cross_entropy: targets: expected int64 [3] on cpu, got shape (3,), torch.int32 on cpu",
    ),
    (
        "soft",
        lambda: lsc_cross_entropy(LOGITS, LOGITS, 1.0),
        f"lsc_cross_entropy: targets: expected int64 [3] on cpu, got shape (3, 4), {CPU}",
    ),
    (
        "condition",
        lambda: lsc_cross_entropy(LOGITS, TARGETS, math.nan),
        "lsc_cross_entropy: c_min: expected a number or an infinity, got nan",
    ),
    (
        "matrix",
        lambda: lsc_mean(LOGITS, 1.0),
        f"lsc_mean: losses: expected floating-point [B], got shape (3, 4), {CPU}",
    ),
    (
        "integer losses",
        lambda: lsc_mean(TARGETS, 1.0),
        "lsc_mean: losses: expected floating-point [B], got shape (3,), torch.int64 on cpu",
    ),
    ("mean", lambda: lsc_mean(A, math.nan), "lsc_mean: c_min: expected a number or an infinity, got nan"),
]


def table(rows: list[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("call", "message"), [row[1:] for row in rows], ids=[row[0] for row in rows])


def expect_refusal(call: Callable[[], object], pattern: str) -> None:
    everything = (A, B, C, D, WIDE, STATE, MEMORY, LOGITS)
    before = [each.clone() for each in everything]
    with pytest.raises(ValueError, match=pattern):
        call()
    assert all(torch.equal(one, other) for one, other in zip(everything, before, strict=True))


@table(MEDIAN)
def test_of_the_median(call: Callable[[], object], message: str):
    expect_refusal(call, f"^{re.escape(message)}$")


@table(MEDIAN_MANY)
def test_of_many_medians(call: Callable[[], object], message: str):
    expect_refusal(call, f"^{re.escape(message)}$")


@table(PERTURBATIONS)
def test_of_perturbations(call: Callable[[], object], message: str):
    expect_refusal(call, f"^{re.escape(message)}$")


@table(LSC)
def test_of_the_condition(call: Callable[[], object], message: str):
    expect_refusal(call, f"^{re.escape(message)}$")


@table(OVERLAPS)
def test_of_memory_that_is_written(call: Callable[[], object], message: str):
    expect_refusal(call, rf"^{re.escape(message)}.*in memory; give it memory of its own$")


def test_tensors_that_are_read_may_share_memory():
    unperturb_([A.clone()], [B], [B])
    rwp_step_([A.clone()], [C], [C], [D.clone()], STATE.clone(), 0.1)
    assert torch.equal(median([A, A]), A)


def test_neighbours_in_memory_do_not_overlap():
    memory = torch.ones(40)
    a, b, c = memory[:9], memory[9:18], memory[18:27]
    perturb_([a], [b], 0.1)
    perturb_([a, b], [c, c], 0.1, saved=[memory[27:36], memory[30:30].new_zeros(9)])
    restore_([a], [b])
    median([a, b], out=c)
