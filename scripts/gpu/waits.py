"""Make steps with every built-in plugin in which the host may not wait for the device.

On CUDA that is ``torch.cuda.set_sync_debug_mode("error")``, from the second step on: the first makes state. On the CPU,
which has no such mode, the same steps are made. The last one is of a late epoch, when averages have begun. Each stack
runs in pure torch and, where they are there, with compiled operations.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tests.models import ConvNet
from tests.plugins.catalogue import CATALOGUE, stack_of
from tests.plugins.conftest import batch_of, engine_of
from tests.plugins.test_waiting import SETTINGS

from buttress.components.loaded import load_plugins
from buttress.errors import describe
from buttress.kernels import native, use_backend

EPOCHS = (0, 0, 5)
"""The epoch of each step."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--plugins", nargs="+", choices=CATALOGUE, default=list(CATALOGUE), metavar="NAME")
    parser.add_argument("--json", type=Path, help="file for the reasons by plugin and backend; an empty one is good")
    options = parser.parse_args()
    device = torch.device(options.device)
    backends = ["torch", *(["native"] if native.operations() else [])]
    reasons = {name: {each: reason(name, each, device) for each in backends} for name in options.plugins}
    if options.json:
        options.json.write_text(json.dumps({"backends": backends, "reasons": reasons}, indent=1) + "\n")
    faults = [f"{name}, {each}: {text}" for name, texts in reasons.items() for each, text in texts.items() if text]
    print(f"{len(reasons)} plugins in {' and '.join(backends)}: {len(faults)} stacks whose steps wait or fail")
    print(*faults, sep="\n")
    return int(bool(faults))


def reason(name: str, backend: str, device: torch.device) -> str:
    """The error of a step with the plugin, or an empty text."""
    torch.manual_seed(0)
    *before, own = stack_of(name)
    entries = [*before, {name: {**own[name], **SETTINGS.get(name, {})}}]
    model, batches = ConvNet().to(device), [batch_of(seed=seed) for seed in range(len(EPOCHS))]
    inputs = [(batch.x.to(device), batch.y.to(device)) for batch in batches]
    try:
        with use_backend(backend):
            plugins = load_plugins(entries, given={"num_classes": 3})
            engine = engine_of(model, *plugins, checks="interval")
            engine.step(*inputs[0])
            for epoch, (x, y) in zip(EPOCHS[1:], inputs[1:], strict=True):
                engine.epoch = epoch
                with waiting_refused(device):
                    engine.step(x, y)
    except Exception as problem:  # whatever it is, it is the result
        return describe(problem)
    return ""


@contextmanager
def waiting_refused(device: torch.device) -> Iterator[None]:
    """Let torch raise wherever the host would wait for a CUDA device in the block."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


if __name__ == "__main__":
    sys.exit(main())
