"""Facts about the installation and about a model for ``buttress doctor``, and advice about what is to be done."""

import platform
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from buttress import kernels
from buttress._version import __version__
from buttress.components.installed import broken_distributions
from buttress.components.sources import GROUPS, sources, words
from buttress.config.file import load_config
from buttress.config.recipes import GROUP as RECIPES
from buttress.errors import describe
from buttress.kernels import native
from buttress.nn.two_layouts import compared
from buttress.precision import PrecisionName, Work
from buttress.training.dataset import load_data
from buttress.training.model import build_model
from buttress.training.trial import GRADIENTS, expect_works, refusal


def installation_facts() -> dict[str, Any]:
    """Facts about the installation, by section."""
    extension = kernels.status()
    return {
        "buttress": {"version": __version__, "python": platform.python_version(), "executable": sys.executable},
        "torch": {
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
            "CUDA devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or "none",
            "CPU capability": torch.backends.cpu.get_cpu_capability(),
        },
        "kernels": extension,
        "components": {kind: ", ".join(source.name for source in sources(kind)) for kind in GROUPS},
        "advice": [*_advice_about_kernels(extension), *_advice_about_distributions()] or ["nothing to do"],
    }


def model_facts(config: Path, *, trust: bool = False) -> dict[str, Any]:
    """Facts about the model of a config: the layouts and the precisions in which its gradients can be taken.

    Args:
        config: YAML file, or ``distribution:recipe``.
        trust: whether to execute the code that came with a config in a run folder, and remember it as trusted.

    Raises:
        InputError: the model cannot be made, or not be trained as the config says.
    """
    file = load_config(config, trust=trust)
    file.own.expect_trusted()
    neutral = load_config(config, ["model.memory_format=contiguous", "precision=float32"], trust=trust)
    data, _ = load_data(neutral)
    model, _ = build_model(neutral, data)
    x = next(iter(data.train.batches(torch.arange(min(2, len(data.train))), 2))).x
    expect_works(model, x, file)
    precisions = [word for word in get_args(PrecisionName) if word != "float32" and (word != "tf32" or x.is_cuda)]
    return {
        "config": str(config),
        "model": str(file.config.model.chosen),
        "parameters": f"{sum(weight.numel() for weight in model.parameters()):,}",
        "channels_last": _layouts(model, x) if x.dim() == 4 else "a layout of images alone",
        **{word: _precision(model, x, word) for word in precisions},
    }


def _layouts(model: nn.Module, x: Tensor) -> str:
    comparison = compared(model, x)
    if comparison.fault:
        return f"not usable: {comparison.fault}"
    differences = ", ".join(f"{apart:.1g} in {dtype}" for dtype, apart in comparison.differences.items())
    return f"the input gradients of the contiguous layout, up to rounding ({differences or 'not compared'})"


def _precision(model: nn.Module, x: Tensor, word: str) -> str:
    works: tuple[Work, ...] = ("attack", "train")
    for work in works:
        problem = refusal(model, x, work, word)
        if problem is not None:
            return f"not usable: no {GRADIENTS[work]}: {describe(problem)}"
    return f"{' and '.join(GRADIENTS[work] for work in works)}"


def _advice_about_kernels(extension: dict[str, Any]) -> Iterator[str]:
    if extension["extension"] != "loaded":
        yield (
            f"to build the extension, with torch and a C++ compiler: {native.INSTALL} (in a copy of the repository; "
            "BUTTRESS_EXTENSION=1 before it shows why it does not compile)"
        )


def _advice_about_distributions() -> Iterator[str]:
    for broken in broken_distributions((*GROUPS.values(), RECIPES)):
        yield (
            f"a distribution cannot be read, and its components are not seen: {broken}; repair it, or remove that "
            "folder"
        )
    for source in chain.from_iterable(map(sources, GROUPS)):
        who = f"{words(source.kind)} {source.name!r}"
        if source.status == "shadowed":
            yield f"{who} is in several distributions: write {source.distribution}:{source.name}"
        elif source.status == "incompatible":
            yield f"{who} from {source} requires another buttress: upgrade {source.distribution}"


def facts_text(facts: dict[str, Any]) -> str:
    """The facts as indented text."""
    lines = []
    for section, values in facts.items():
        lines.append(section)
        items = values.items() if isinstance(values, dict) else (("-", value) for value in values)
        lines += [f"  {name + ':' if name != '-' else name} {value}" for name, value in items]
    return "\n".join(lines)
