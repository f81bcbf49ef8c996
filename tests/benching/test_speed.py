"""The numbers that follow from rounds, worked out by hand; and how they are said and drawn."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from buttress.benching.between_epochs import BetweenEpochs
from buttress.benching.hand_written import LoopMethod
from buttress.benching.measured_run import Sizes, StepWork
from buttress.benching.picture import draw_speed, speed_figure
from buttress.benching.rounds import Round
from buttress.benching.speed import Speed
from buttress.benching.speed_text import digits, speed_text
from buttress.nn.passes import Passes
from buttress.precision import Precision

PHASES = ("data", "attack", "loss and backward", "optimizer", "ensembles", "engine", "evaluation")


def one_round(factor: float, loop: float) -> Round:
    """A round of two steps, slowed by ``factor``."""
    seconds = {"data": 0.1, "attack": 4.0, "loss and backward": 1.0, "optimizer": 0.5, "ensembles": 0.2, "engine": 0.3}
    phases = {name: factor * each for name, each in seconds.items()}
    limits = {"matrix product, bf16": 0.1, "matrix product, float32": 0.2, "copy of memory": 0.5}
    return Round(0.1 * factor, 6.0 * factor, phases, 2.0 * factor, loop, limits)


BY_HAND = Speed(
    name="by hand, at $100",
    config={"model": {"memory_format": "channels_last"}, "seed": 0},
    epoch=1,
    warmup=1,
    sizes=Sizes(32, (3, 32, 32), 2, 10, 5, 1000, 50),
    facts={
        "threads": 2,
        "device_name": None,
        "hardware": {"cpu": "a processor"},
        "packages": {"torch": "2"},
        "load": {"before": 0.5, "after": 1.5},
    },
    precision=Precision("bf16", "float32"),
    phases=PHASES,
    work=StepWork(Passes(11, 10, 1), {"attack": 8e9, "loss and backward": 4e9}, {"attack": 2e9, "engine": 1e9}),
    rounds=[one_round(1.0, 8.0), one_round(1.5, 9.0), one_round(3.0, 20.0)],
    limits={"matrix product, bf16": 10**10, "matrix product, float32": 10**10, "copy of memory": 10**10},
    method=LoopMethod(10, trades=False, awp=True, without=("ema", "swa")),
    between=BetweenEpochs({"ensembles": 7.0}, tracks=3, track_seconds=4.0, examples=100, every=2),
    peak_memory=2**30,
)


def test_a_step_has_the_median_of_the_rounds_over_its_replays():
    assert BY_HAND.step_seconds == pytest.approx(1.5 * 6.1 / 2)
    assert BY_HAND.examples_per_second == pytest.approx(32 / (1.5 * 6.1 / 2))
    assert BY_HAND.phase_seconds()["attack"] == pytest.approx(1.5 * 4.0 / 2)


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    assert BY_HAND.ratio == pytest.approx(0.9)  # of 6/8, 9/9 and 18/20
    assert BY_HAND.loop_seconds == pytest.approx(4.5)


def test_an_epoch_has_its_steps_its_end_and_its_share_of_an_evaluation():
    seconds = BY_HAND.epoch_seconds()
    assert seconds["attack"] == pytest.approx(10 * 3.0)
    assert seconds["ensembles"] == pytest.approx(10 * 0.15 + 7.0)
    assert seconds["evaluation"] == pytest.approx((4.0 + 3 * 100 * 3.0 / 50) / 2)


def test_the_share_of_a_limit_is_that_of_the_precision_of_each_phase():
    shares = {share.limit: share for share in BY_HAND.shares()}
    step = BY_HAND.step_seconds
    assert shares["matrix product, bf16"].share == pytest.approx(8e9 / 1e11 / step)
    assert shares["matrix product, float32"].share == pytest.approx(4e9 / 5e10 / step)
    assert shares["copy of memory"].share == pytest.approx(3e9 / 2e10 / step)


def test_what_is_said_has_every_number_that_matters():
    said = speed_text(BY_HAND)
    assert "by hand, at $100: 6.99 examples/s, 4,575 ms a step of 32 examples" in said
    assert "a processor, 2 threads; attack bf16, train float32" in said
    assert "epoch 2 of 5, medians of 3 rounds; load 1.5; peak memory 1,024 MiB" in said
    assert "evaluation: 16.7 examples/s; 3 models, 100 examples each, every 2 epochs" in said
    assert "hand-written loop: PGD-AT-AWP, 10 attack steps, without ema, swa" in said
    assert "buttress takes 0.90 of its time: 4,500 ms" in said
    assert "matrix product, bf16     8.00 GFLOP  100 GFLOP/s" in said


def test_a_config_without_an_attack_says_why_no_loop_is_beside_it():
    clean = replace(BY_HAND, method=None)
    assert "no hand-written loop to compare with: a step takes no gradient" in speed_text(clean)
    assert clean.to_json()["hand_written"] == {
        "method": None,
        "step_seconds": None,
        "ratio": None,
        "reason": "a step takes no gradient of the inputs alone, so there is no attack to write by hand",
    }
    assert len(speed_figure(clean).axes) == 2


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0.000"), (0.00273, "0.003"), (0.5, "0.500"), (1.234, "1.23"), (99.96, "100.0"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits(number: float, text: str):
    assert digits(number) == text


@pytest.mark.parametrize("name", ["at", "a-name-that-is-so-long " * 8], ids=["short", "long"])
def test_nothing_in_the_picture_overlaps_or_is_cut_off(name: str):
    long = replace(BY_HAND, name=name, method=LoopMethod(10, True, True, ("label_smoothing", "ema", "swa", "fawa")))
    figure = speed_figure(long)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    boxes = {text.get_text(): text.get_window_extent(canvas.get_renderer()) for text in texts if is_shown(text)}
    assert {"attack", "buttress", "hand-written loop", "copy of memory"} <= set(boxes)
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes.values())
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes.values())
    pairs = [(one, other) for one in boxes for other in boxes if one < other]
    assert [pair for pair in pairs if Bbox.intersection(boxes[pair[0]], boxes[pair[1]]) is not None] == []


def is_shown(text: Text) -> bool:
    """Whether a text is drawn: labels of ticks that are off have no place."""
    return bool(text.get_window_extent().width) and text.get_text() not in {"0", "1"}


def test_the_picture_is_a_png(tmp_path: Path):
    draw_speed(tmp_path / "speed.png", BY_HAND)
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
