"""The cost of hooks and of kernel doors: dispatch with shape checks, value checks, calls of compiled operators.

*Dispatch*: every hook call of a training step (transform_batch, generate_adv, perturb_weights, compute_loss,
adjust_grads, ensemble_weights), with answers checked for shape, dtype and device, through providers that return ready
tensors, beside five plugins that implement all chain hooks of a step and do nothing. Over it: the same with no such
plugin, and the five plugins' functions called by hand, without any core. ``checks: off``, so values are not looked at.

*Overhead* of the engine in a step: see ``engine_overhead.py``.

*Keeping*: what is remembered before every step to put the model back where a hook raises, for preact_tiny: its objects,
and copies of weights and buffers in memory that is used again.

*Value checks*: a PGD-10 step of preact_tiny on 8x8 images, batch 80, with ``checks: always`` over ``checks: off``,
rounds interleaved; and the same checks timed alone, since their share is below the noise of whole steps.

*Doors*: functions of ``buttress.kernels`` on 62 small tensors, over the bare calls of their operators in
``torch.ops.buttress``, which check the arguments themselves; rounds interleaved, the fastest of each.

On CUDA (``--device cuda``) every time ends when the device has done what was asked for.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from common import facts, summary, write
from devices import add_device, device_facts, now
from engine_overhead import OVERHEADS, SMALL, Sizes, measure_overhead
from torch import Tensor, nn

from buttress import Adv, Batch, Engine, Loss, ThreatModel, hookimpl
from buttress.engine.perturbation import Copies
from buttress.kernels import amp_step_, native, perturb_, restore_, rwp_step_, unperturb_, use_backend
from buttress.nn.as_found import AsFound
from buttress_plugins.models.preact_resnet import preact_tiny

THREAT = ThreatModel("linf", "1/10")

# Tensors of a list, about as many as a ResNet-18 has.
TENSORS = 62


class Timing(NamedTuple):
    """The way in which calls that take microseconds are timed.

    Args:
        device: device of all tensors.
        calls: number of calls that are timed together.
        rounds: number of times that these are timed.
    """

    device: torch.device
    calls: int = 2000
    rounds: int = 15

    def of_some(self, calls: int = 200, rounds: int | None = None) -> "Timing":
        """The same with at most ``calls`` calls."""
        return self._replace(calls=min(calls, self.calls), rounds=rounds or self.rounds)


class Ready:
    """Provides ready answers, so that nothing but the hooks is timed."""

    def __init__(self, adv: Adv, loss: Loss) -> None:
        self.adv, self.loss = adv, loss

    @hookimpl
    def generate_adv(self) -> Adv:
        return self.adv

    @hookimpl
    def compute_loss(self) -> Loss:
        return self.loss


class NoOp:
    """Implements every chain hook of a step and does nothing."""

    @hookimpl
    def transform_batch(self, batch: Batch) -> Batch:
        return batch

    @hookimpl
    def adjust_grads(self, model: nn.Module) -> None:
        return None

    @hookimpl
    def ensemble_weights(self, model: nn.Module, event: str) -> None:
        return None


def dispatch(engine: Engine, batch: Batch, adv: Adv) -> None:
    """The hook calls of one step, in order."""
    hooks = engine.hooks
    batch = hooks.transform_batch(batch)
    adv = hooks.generate_adv(engine.model, batch)
    hooks.perturb_weights(engine.model, batch, adv, None)  # type: ignore[arg-type]
    hooks.compute_loss(engine.model, batch, adv)
    hooks.adjust_grads(engine.model, engine.optimizer)
    hooks.ensemble_weights(engine.model, "step")


def microseconds(call: Callable[[], object], timing: Timing) -> float:
    """The median over rounds of the mean time of a call."""
    times = []
    for _ in range(timing.rounds):
        begin = now(timing.device)
        for _ in range(timing.calls):
            call()
        times.append((now(timing.device) - begin) / timing.calls)
    return 1e6 * median(times)


def images(device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch of images of digits, and labels."""
    return torch.rand(80, 1, 8, 8, device=device), torch.randint(10, (80,), device=device)


def measure_dispatch(timing: Timing) -> dict[str, float]:
    x, y = images(timing.device)
    batch, adv, loss = Batch(x, y), Adv(x.clone()), Loss(torch.rand(80, device=x.device, requires_grad=True))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(x.device)

    def engine(count: int) -> Engine:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return Engine(model, optimizer, [Ready(adv, loss), *(NoOp() for _ in range(count))], THREAT, checks="off")

    with_five, without, five = engine(5), engine(0), [NoOp() for _ in range(5)]

    def by_hand() -> None:
        for plugin in five:
            plugin.transform_batch(batch)
        for plugin in five:
            plugin.adjust_grads(model)
        for plugin in five:
            plugin.ensemble_weights(model, "step")

    return {
        "five_noop_plugins_us": microseconds(lambda: dispatch(with_five, batch, adv), timing),
        "no_plugin_us": microseconds(lambda: dispatch(without, batch, adv), timing),
        "called_by_hand_us": microseconds(by_hand, timing),
    }


def measure_keeping(timing: Timing) -> float:
    model, copies = preact_tiny(in_channels=1, num_classes=10).to(timing.device), Copies()

    def keep() -> None:
        before = AsFound(model)
        with before.kept_on_error(), before.values_kept_on_error(copies.before, copies.buffers):
            pass

    return microseconds(keep, timing.of_some())


def measure_value_checks(rounds: int, timing: Timing) -> dict[str, Any]:
    torch.manual_seed(0)
    x, y = images(timing.device)
    engines = {}
    for level in ("always", "off"):
        torch.manual_seed(0)
        model = preact_tiny(in_channels=1, num_classes=10).to(timing.device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        engines[level] = Engine(model, optimizer, ["pgd"], THREAT, checks=level)  # type: ignore[arg-type]
    times: dict[str, list[float]] = {"always": [], "off": []}
    for _ in range(rounds):
        for level, engine in engines.items():
            begin = now(timing.device)
            engine.step(x, y)
            times[level].append(now(timing.device) - begin)
    adv = (x + 0.05).clamp(0, 1)
    losses = torch.rand(80, device=x.device)

    def checks() -> None:  # those of a step: the input, the adversarial examples, the loss
        bool(THREAT.box_contains(x))
        bool(THREAT.contains(adv, x))
        bool(torch.isfinite(losses.mean()))

    checks_us = microseconds(checks, timing.of_some())
    step = summary(times["off"])["median_s"]
    return {
        "always": summary(times["always"]),
        "off": summary(times["off"]),
        "step_ratio": summary(times["always"])["median_s"] / step,
        "checks_alone_us": checks_us,
        "share_of_step": checks_us / (1e6 * step),
    }


def doors(device: torch.device) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """By name, a door's call and the bare call of its operator."""
    lists = [[torch.randn(8, 8, device=device) for _ in range(TENSORS)] for _ in range(4)]
    weights, directions, origin, total = lists
    state, kept = torch.ones(2, TENSORS, dtype=torch.float64, device=device), torch.tensor(1, device=device)
    ops = torch.ops.buttress
    return {
        "perturb_": (
            lambda: perturb_(weights, directions, 0.0, saved=origin),
            lambda: ops.perturb_(weights, directions, 0.0, "layer", origin),
        ),
        "restore_": (lambda: restore_(weights, origin), lambda: ops.restore_(weights, origin)),
        "unperturb_": (
            lambda: unperturb_(weights, origin, total),
            lambda: ops.unperturb_(weights, origin, total),
        ),
        "rwp_step_": (
            lambda: rwp_step_(*lists, state, 0.0, kept=kept),
            lambda: ops.rwp_step_(*lists, state, 0.0, "global", True, kept),
        ),
        "amp_step_": (
            lambda: amp_step_(*lists, xi=0.1, delta=1.0),
            lambda: ops.amp_step_(*lists, 0.1, 1.0, "global", None),
        ),
    }


def measure_doors(rounds: int, timing: Timing) -> dict[str, dict[str, float]]:
    """Microseconds of a door's call and of the bare one, in the fastest rounds, and their difference."""
    results, timing = {}, timing.of_some(rounds=1)
    with use_backend("native"):
        for name, calls in doors(timing.device).items():
            pairs = [[microseconds(call, timing) for call in calls] for _ in range(rounds)]
            door, bare = (min(times) for times in zip(*pairs, strict=True))
            results[name] = {"door_us": door, "bare_us": bare, "overhead_us": door - bare}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--overhead-rounds", type=int, default=7)
    parser.add_argument("--only-overhead", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a small network and few calls instead, for tests")
    add_device(parser)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device, about = options.device, device_facts(options.device)
    overhead = measure_overhead(options.overhead_rounds, device, SMALL if options.quick else Sizes())
    for name, words in OVERHEADS.items():
        print(
            f"engine overhead of a step without attack work, {words}: {1e-3 * overhead['overhead_us'][name]:.2f} ms, "
            f"{100 * overhead['share_of_step'][name]:.3f} % of a PGD-10 step"
        )
    if options.only_overhead:
        write(options.json, facts(benchmark="bench_hooks", **about, overhead=overhead))
        return
    timing = Timing(device, calls=2, rounds=1) if options.quick else Timing(device)
    hooks, values = measure_dispatch(timing), measure_value_checks(options.rounds, timing)
    keeping = measure_keeping(timing)
    print(
        f"dispatch and shape checks of a step: {hooks['five_noop_plugins_us']:.1f} us with five no-op plugins, "
        f"{hooks['no_plugin_us']:.1f} us with none; the five called by hand {hooks['called_by_hand_us']:.1f} us"
    )
    share = keeping / (1e6 * values["off"]["median_s"])
    print(f"keeping the model as found: {keeping:.0f} us a step, {100 * share:.2f} % of a PGD-10 step")
    print(
        f"value checks: {values['checks_alone_us']:.0f} us a step, {100 * values['share_of_step']:.2f} % of a PGD-10 "
        f"step ({1e3 * values['off']['median_s']:.1f} ms); whole steps with over without: {values['step_ratio']:.3f}"
    )
    kernels = measure_doors(options.rounds, timing) if native.operations() else {}
    for name, each in kernels.items():
        print(
            f"{name} on {TENSORS} tensors: {each['door_us']:.1f} us, the bare operator {each['bare_us']:.1f} us; "
            f"the door costs {each['overhead_us']:.1f} us"
        )
    results = {"overhead": overhead, "dispatch": hooks, "keeping_us": keeping, "value_checks": values, "doors": kernels}
    write(options.json, facts(benchmark="bench_hooks", **about, **results))


if __name__ == "__main__":
    main()
