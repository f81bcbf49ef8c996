"""Facts about the installation for ``buttress doctor``, and advice about everything that is missing."""

import platform
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch

from buttress import kernels
from buttress._version import __version__
from buttress.components.installed import broken_distributions
from buttress.components.sources import GROUPS, sources, words
from buttress.config.recipes import GROUP as RECIPES
from buttress.kernels import native


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
