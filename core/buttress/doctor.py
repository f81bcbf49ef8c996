"""``buttress doctor``: what is installed, what was compiled, and what to do about what is missing."""

import platform
import sys
from typing import Any

import torch

from buttress import kernels
from buttress._version import __version__
from buttress.components.installed import broken_distributions
from buttress.components.sources import GROUPS, sources
from buttress.config.recipes import GROUP as RECIPES
from buttress.kernels import native


def examine() -> dict[str, Any]:
    """Facts about the installation, by section."""
    extension = kernels.status()
    advice = []
    if extension["extension"] != "loaded":
        advice.append(
            f"to build the extension, with torch and a C++ compiler: {native.INSTALL} (in a copy of the repository; "
            "BUTTRESS_EXTENSION=1 before it shows why it does not compile)"
        )
    advice += [
        f"a distribution cannot be read, and its components are not seen: {broken}; repair it, or remove that folder"
        for broken in broken_distributions((*GROUPS.values(), RECIPES))
    ]
    for kind in GROUPS:
        for source in sources(kind):
            if source.status == "shadowed":
                advice.append(
                    f"{kind} {source.name!r} is in several distributions: write {source.distribution}:{source.name}"
                )
            elif source.status == "incompatible":
                advice.append(
                    f"{kind} {source.name!r} from {source} requires another buttress: upgrade {source.distribution}"
                )
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
        "advice": advice or ["nothing to do"],
    }


def render(facts: dict[str, Any]) -> str:
    """The facts as indented text."""
    lines = []
    for section, values in facts.items():
        lines.append(section)
        items = values.items() if isinstance(values, dict) else (("-", value) for value in values)
        lines += [f"  {name + ':' if name != '-' else name} {value}" for name, value in items]
    return "\n".join(lines)
