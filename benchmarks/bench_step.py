"""The engine's training step over that of the public code of each method.

Both sides train PreActResNet-18 on 32x32 images in batches of 32, with PGD-10 (L-inf 8/255, step 2/255, eval mode), SGD
with momentum and weight decay, and the same random start. The public codes, as ``step/official.py`` has them, run in
float32 and in the plain format of memory; the engine runs in each of the settings of ``step/settings.py``. The public
code in channels_last is timed as well, to tell how much the format does. All in one process, rounds interleaved; the
ratio is the median of the rounds' ratios. With one thread on the CPU the clock is that of the thread, which other
programs on the machine hardly move. On CUDA (``--device cuda``) a step is timed between two events of the stream, the
public codes have torch's defaults, so convolutions in TF32, and there are settings of the engine in TF32 and with CUDA
graphs.

Before timing, both sides take one step from equal weights, and the largest differences of their adversarial examples
and weights are printed: in float32 on the measured network, where rounding turns the signs of small gradients and takes
digits from the proxies of AWP and RWP, and in float64 on a small network, where it hides nothing.
"""

import argparse
from time import perf_counter, thread_time
from typing import Any

import torch
from common import facts, interleaved, load, parser, ratio, summary, write
from devices import add_device, device_facts, stopwatch
from step.problem import REAL, SMALL, Problem, Sizes
from step.proof import proof
from step.settings import EAGER, SETTINGS, settings_of
from step.stacks import STACKS

from buttress.console.tables import table

PUBLIC, PUBLIC_CHANNELS_LAST = "public", "public, channels_last"


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    sizes = SMALL if options.quick else REAL._replace(batch=options.batch)
    results = {name: measured(name, sizes, options) for name in options.stacks}
    print(f"\nseconds of a step of the public code, and each over it ({options.rounds} rounds):")
    columns = [PUBLIC_CHANNELS_LAST, *options.settings]
    print(table(["stack", PUBLIC, *columns], [row(name, result, columns) for name, result in results.items()]))
    problem = {"model": sizes.model.__name__, "batch": sizes.batch, "attack": "PGD-10, eval mode"}
    circumstances = {**device_facts(options.device), "load": load()}
    write(options.json, facts(benchmark="bench_step", **problem, **circumstances, stacks=results))


def parsed() -> argparse.Namespace:
    options = parser(__doc__, rounds=7, warmup=2)
    add_device(options)
    options.add_argument("--stacks", nargs="+", choices=STACKS, default=list(STACKS), metavar="STACK")
    options.add_argument("--settings", nargs="+", choices=SETTINGS, metavar="SETTING")
    options.add_argument("--batch", type=int, default=REAL.batch, help=f"examples of a batch (default: {REAL.batch})")
    chosen = options.parse_args()
    chosen.settings = chosen.settings or (EAGER if chosen.quick else settings_of(chosen.device))
    return chosen


def measured(name: str, sizes: Sizes, options: argparse.Namespace) -> dict[str, Any]:
    """Differences, times and ratios of a stack, printed as soon as they are there."""
    differences = proof(STACKS[name], sizes, options.device)
    for dtype, each in differences.items():
        print(
            f"{name}, a step in {dtype}: {100 * each['adv_share']:.1f} % of the adversarial examples' elements differ, "
            f"by at most {each['adv']:.1e}; weights differ by {each['weights']:.1e} of the largest change",
            flush=True,
        )
    problem = Problem(STACKS[name], sizes, options.device)
    sides = {
        PUBLIC: problem.public(),
        PUBLIC_CHANNELS_LAST: problem.public(torch.channels_last),
        **{setting: problem.engine(SETTINGS[setting]) for setting in options.settings},
    }
    steps = {key: side.step for key, side in sides.items()}
    seconds = stopwatch(options.device, thread_time if options.threads == 1 else perf_counter)
    times = interleaved(steps, options.rounds, warmup=options.warmup, seconds=seconds)
    ratios = {key: ratio(rounds, times[PUBLIC]) for key, rounds in times.items()}
    print(f"{name}: " + "; ".join(f"{key} {value:.3f}" for key, value in ratios.items()), flush=True)
    return {
        "differences": differences,
        "times": {key: summary(rounds) for key, rounds in times.items()},
        "median_of_ratios": ratios,
    }


def row(name: str, result: dict[str, Any], columns: list[str]) -> list[str]:
    seconds, ratios = result["times"][PUBLIC]["median_s"], result["median_of_ratios"]
    return [name, f"{seconds:.3g} s", *(f"{ratios[each]:.2f}" for each in columns)]


if __name__ == "__main__":
    main()
