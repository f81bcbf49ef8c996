"""The speed of a config as text for a person."""

from __future__ import annotations

from math import floor, log10

from buttress.benching.limits import COPY
from buttress.benching.speed import NO_METHOD, LimitShare, Speed
from buttress.console.tables import WIDTH, percent, table, wrapped


def speed_text(speed: Speed) -> str:
    """Rate and conditions, phases, limits, and the hand-written loop."""
    head = "\n".join([headline(speed), setting(speed), *_conditions(speed)])
    return "\n\n".join(wrapped(part, WIDTH) for part in (head, _phases(speed), _limits(speed), _loop(speed)))


def headline(speed: Speed) -> str:
    """``"digits-at: 12,000 examples/s, 6.7 ms a step of 80 examples"``."""
    return (
        f"{speed.name}: {digits(speed.examples_per_second)} examples/s, {milliseconds(speed.step_seconds)} a step of "
        f"{speed.sizes.batch} examples"
    )


def setting(speed: Speed) -> str:
    """Machine, precision and memory format."""
    facts = speed.facts
    threads = f"{facts['threads']} thread{'s' if facts['threads'] != 1 else ''}"
    where = facts["device_name"] or f"{facts['hardware']['cpu']}, {threads}"
    return f"{where}; {speed.precision}, {speed.config['model']['memory_format']}; torch {facts['packages']['torch']}"


def _conditions(speed: Speed) -> list[str]:
    """Lines: the epoch, the rounds and the load; the passes of a step; the evaluation."""
    load = speed.facts["load"]["after"]
    busy = "" if load is None else f"; load {load:.1f}"
    memory = f"; peak memory {speed.peak_memory / 2**20:,.0f} MiB" if speed.peak_memory else ""
    rounds = "one round" if len(speed.rounds) == 1 else f"medians of {len(speed.rounds)} rounds"
    passes, between = speed.work.passes, speed.between
    models = "one model" if between.tracks == 1 else f"{between.tracks} models"
    return [
        f"epoch {speed.epoch + 1} of {speed.sizes.epochs}, {rounds}{busy}{memory}",
        f"each step: {passes.forwards} forwards, {passes.input_backwards} backwards to the input, "
        f"{passes.weight_backwards} to the weights",
        f"evaluation: {digits(speed.evaluated_per_second)} examples/s; {models}, {between.examples} examples each, "
        f"{'after each epoch' if between.every == 1 else f'every {between.every} epochs'}",
    ]


def _phases(speed: Speed) -> str:
    steps, epoch = speed.phase_seconds(), speed.epoch_seconds()
    whole = sum(epoch.values())
    rows = [
        [name, digits(1000 * steps[name]) if name in steps else "", digits(seconds), percent(seconds / whole)]
        for name, seconds in epoch.items()
    ]
    return table(["phase", "ms a step", "s an epoch", "% of an epoch"], rows)


def _limits(speed: Speed) -> str:
    rows = [[each.limit, *amounts(each), percent(each.share)] for each in speed.shares()]
    return table(["limit", "a step has", "the machine does", "% of a step's time"], rows)


def amounts(share: LimitShare) -> tuple[str, str]:
    """``"3.09 GFLOP"`` and ``"89.5 GFLOP/s"``."""
    unit = "B" if share.limit == COPY else "FLOP"
    return f"{_scaled(share.amount)}{unit}", f"{_scaled(share.per_second)}{unit}/s"


def _scaled(amount: float) -> str:
    """``"3.09 G"``; in T from a thousand G on."""
    return f"{digits(amount / 1e9)} G" if amount < 1e12 else f"{digits(amount / 1e12)} T"


def _loop(speed: Speed) -> str:
    """The comparison with the hand-written loop, or why there is none."""
    if speed.method is None or speed.ratio is None or speed.loop_seconds is None:
        return f"no hand-written loop to compare with: {NO_METHOD}"
    without = f", without {', '.join(speed.method.without)}" if speed.method.without else ""
    return (
        f"hand-written loop: {speed.method}{without}\n"
        f"its step, {speed.loop_precision} and contiguous: {milliseconds(speed.loop_seconds)}\n"
        f"buttress takes {speed.ratio:.2f} of its time: {milliseconds(speed.update_seconds)}"
    )


def milliseconds(seconds: float) -> str:
    """``"6.71 ms"``."""
    return f"{digits(1000 * seconds)} ms"


def digits(number: float) -> str:
    """A number that is not negative with three digits, or more in front of the point; at most three behind it."""
    places = min(3, 2 - floor(log10(number))) if number > 0 else 3
    return f"{number:,.{max(0, places)}f}"
