"""``python -m tests.torture [--seed N] [SECTION ...]``: every section in turn; all of them write the page."""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from . import (
    contained,
    damage,
    file_operations,
    fuzz,
    hostile,
    killed_ranks,
    kills,
    misbehaving,
    payloads,
    recipes_on_ranks,
    refusals,
    resume_points,
    soak,
)
from .report import write_page

# One module a section, in the order of the page; each has ``section(work, rng) -> Section``.
MODULES = {
    "kills": kills,
    "killed_ranks": killed_ranks,
    "file_operations": file_operations,
    "damage": damage,
    "resume": resume_points,
    "processes": recipes_on_ranks,
    "refusals": refusals,
    "payloads": payloads,
    "hostile": hostile,
    "fuzz": fuzz,
    "contained": contained,
    "misbehaving": misbehaving,
    "soak": soak,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(MODULES)} (all)")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (0)")
    options = parser.parse_args()
    unknown = set(options.sections) - set(MODULES)
    if unknown:
        parser.error(f"unknown section {', '.join(unknown)}; choose of {', '.join(MODULES)}")
    torch.set_num_threads(1)
    started, sections = perf_counter(), []
    for name in options.sections or MODULES:
        begun = perf_counter()
        with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory() as configuration:
            os.environ["XDG_CONFIG_HOME"] = configuration  # what buttress remembers about its user
            found = MODULES[name].section(Path(work), random.Random(f"{options.seed} {name}"))
        sections.append(found)
        print(f"{found.markdown()}\n\n({perf_counter() - begun:.0f} s)\n", flush=True)
    if not options.sections:
        write_page(sections, options.seed, perf_counter() - started)
    return int(any(section.lost for section in sections))


if __name__ == "__main__":
    sys.exit(main())
