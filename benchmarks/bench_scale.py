"""A training step on two processes over that on one.

PGD-AT, TRADES-AWP and RWP on PreActResNet-18 with PGD-10 (``step/stacks.py``), in three crews of processes: two with
one thread each, one with two threads, and one with one. The batch is the same in all three, and each process of the
first takes half of it. All processes stay. In each round each crew makes one step while the others sleep, so that other
programs on the machine slow all alike; a ratio is the median of the rounds' ratios. The clock is that of the wall, from
the order to the last answer.

For the crew of several processes the collectives of a step are listed by purpose: calls, bytes, and time. Its time is
that of the process that waits least, so mostly that of the sum itself; ``waiting`` is the time for which the processes
wait for one another beside it, on average.
"""

import argparse
from statistics import mean, median
from typing import Any

from common import facts, load, parser, ratio, summary, write
from scale.crew import Crew, Work
from scale.metered import Collectives
from step.problem import REAL, SMALL
from step.settings import EAGER
from step.stacks import STACKS

from buttress.console.tables import table

TARGET = 1.75
"""Speed of two processes over that of one with the threads of one of them."""


def main() -> None:
    options = parsed()
    count, threads = options.processes, options.threads
    crews: list[Crew] = []
    try:
        for processes, each in ((count, threads), (1, count * threads), (1, threads)):
            crews.append(Crew(processes, each))
        results = {stack: measured(stack, crews, options) for stack in options.stacks}
    finally:
        for crew in crews:
            crew.close()
    many, wide, one = (crew.name for crew in crews)
    heads = ["stack", f"{one}, s", f"{wide}, s", f"{many}, s", f"{wide} over {one}", f"{many} over {one}"]
    print(f"\nprocesses x threads: seconds of a step, and speed over {one} ({options.rounds} rounds):")
    print(table(heads, [row(name, result) for name, result in results.items()]))
    if count == 2:
        for name, result in results.items():
            print(f"{name}: {result['speed'][many]:.2f} times {one} as measured; target: at least {TARGET} times")
    problem = {"model": sizes_of(options).model.__name__, "batch": options.batch, "attack": "PGD-10, eval mode"}
    choices = {key: getattr(options, key) for key in ("processes", "setting", "batch_norm")}
    times = {"load": load(), "target": TARGET, "stacks": results}
    write(options.json, facts(benchmark="bench_scale", **problem, **choices, **times) | {"threads": threads})


def sizes_of(options: argparse.Namespace) -> Any:
    return SMALL if options.quick else REAL


def parsed() -> argparse.Namespace:
    options = parser(__doc__, rounds=5)
    options.add_argument("--processes", type=int, default=2, help="number of processes of the first crew (default: 2)")
    chosen = ["pgd-at", "trades-awp", "rwp"]
    options.add_argument("--stacks", nargs="+", choices=STACKS, default=chosen, metavar="STACK")
    options.add_argument("--setting", choices=EAGER, default="channels_last", help="format and precision of all crews")
    options.add_argument("--batch", type=int, help="examples of the whole batch (default: 64; 8 with --quick)")
    options.add_argument("--batch-norm", choices=("local", "sync"), default="local", help="as in a config")
    parsed = options.parse_args()
    if parsed.processes < 2:
        options.error(f"--processes: expected at least 2, got {parsed.processes}")
    parsed.batch = parsed.batch or (SMALL.batch if parsed.quick else 64)
    return parsed


def measured(stack: str, crews: list[Crew], options: argparse.Namespace) -> dict[str, Any]:
    """Times, speeds and collectives of a stack, printed as soon as they are there."""
    for crew in crews:
        crew.begin(Work(stack, options.setting, options.quick, options.batch, options.batch_norm))
    times: dict[str, list[float]] = {crew.name: [] for crew in crews}
    rounds: list[list[Collectives]] = []
    for number in range(options.warmup + options.rounds):
        for crew in crews:
            seconds, collectives = crew.step()
            if number >= options.warmup:
                times[crew.name].append(seconds)
                rounds += [collectives] if crew is crews[0] else []
    one = times[crews[-1].name]
    purposes = {purpose: of_purpose(purpose, rounds) for purpose in rounds[-1][0].calls}
    print(f"\n{stack}, {crews[0].name}: collectives of a step", flush=True)
    print(table(["purpose", "calls", "bytes", "ms", "waiting, ms"], lines(purposes)), flush=True)
    return {
        "times": {name: summary(each) for name, each in times.items()},
        "speed": {name: ratio(one, each) for name, each in times.items()},
        "collectives": purposes,
    }


def of_purpose(purpose: str, rounds: list[list[Collectives]]) -> dict[str, Any]:
    """Calls and bytes of a step, which are the same in every round, and medians of its seconds."""
    seconds = [[rank.seconds[purpose] for rank in ranks] for ranks in rounds]
    return {
        "calls": rounds[-1][0].calls[purpose],
        "bytes": rounds[-1][0].bytes.get(purpose, 0),
        "seconds": median(map(min, seconds)),
        "waiting_s": median(mean(each) - min(each) for each in seconds),
    }


def lines(purposes: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The rows of a table of collectives, with their sum as the last."""
    every = {key: sum(each[key] for each in purposes.values()) for key in ("calls", "bytes", "seconds", "waiting_s")}
    rows = []
    for name, each in {**purposes, "all": every}.items():
        times = [f"{1e3 * each[key]:.2f}" for key in ("seconds", "waiting_s")]
        rows.append([name, str(each["calls"]), f"{each['bytes']:,}", *times])
    return rows


def row(name: str, result: dict[str, Any]) -> list[str]:
    many, wide, one = result["times"]
    seconds = [f"{result['times'][each]['median_s']:.3g}" for each in (one, wide, many)]
    return [name, *seconds, *(f"{result['speed'][each]:.2f}" for each in (wide, many))]


if __name__ == "__main__":
    main()
