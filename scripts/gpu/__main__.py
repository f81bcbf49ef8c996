r"""Everything of buttress that needs a GPU, in one command of at most nine minutes.

Builds the extension with its CUDA part, runs the tests that need a GPU, makes steps with every plugin in which the host
may not wait for the GPU, compares layouts, and runs all benchmarks that have a form for a GPU. Each part is a process
with a time of its own; one that fails stops no other. FOLDER gets a file of JSON for each part, and summary.md with a
table of all. Where build, tests and waits ran, core/buttress/kernels/gpu-check.json says whether they passed: from then
on backend auto uses compiled code on CUDA. Exit code 0: every part passed; 1: one did not; 2: nothing could be run.

The machine needs Linux, Python >= 3.11 with torch and torchvision for CUDA, nvcc of torch's major version and a C++
compiler; no network. buttress is not installed: it runs from this folder. Other packages that the machine lacks are
listed by --missing, are made a folder of wheels on a machine with a network, and come with --wheels:

  scripts/gpu_check --missing > missing.txt                 # on the machine with the GPU
  pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest wheels -r missing.txt
  scripts/gpu_check results --wheels wheels                 # on the machine with the GPU

PYTHONPATH may name a folder in which they are installed instead.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from gpu import packages, place, record, summary
from gpu.machine import facts
from gpu.packages import NotReadyError
from gpu.parts import PARTS, PREPARATION, Part
from gpu.running import Outcome, apart, here

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    began = monotonic()
    options = parsed(arguments)
    if options.missing:
        print(*packages.missing(), sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as site:
        try:
            prepare(options, Path(site))
        except NotReadyError as problem:
            print(f"gpu_check: {problem}", file=sys.stderr)
            return 2
        outcomes = run([part for part in PARTS if part.name in options.parts], options, began)
    return int(any(each.state not in ("passed", "left out") for each in outcomes.values()))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        "scripts/gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="new folder for the results")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="folder of wheels that the machine lacks")
    parser.add_argument("--missing", action="store_true", help="list the packages that the machine lacks, and stop")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--commit", help="commit of the code, where the folder .git is not there")
    parser.add_argument("--dry", action="store_true", help="without a GPU: a small stand-in for each part, on the CPU")
    options = parser.parse_args(arguments)
    if options.folder is None and not options.missing:
        parser.error("expected FOLDER, for the results")
    if options.folder and options.folder.exists() and any(options.folder.iterdir()):
        parser.error(f"{options.folder}: expected a new or empty folder")
    return options


def prepare(options: argparse.Namespace, site: Path) -> None:
    """Expect packages and a GPU, and make the code importable.

    Args:
        options: options of the command.
        site: folder for packages and metadata.

    Raises:
        NotReadyError: packages are missing, buttress cannot be imported, or torch sees no GPU.
    """
    if options.wheels:
        packages.install(options.wheels, site)
    packages.expect_all()
    place.enter(site)
    import torch

    if not options.dry and not torch.cuda.is_available():
        raise NotReadyError(f"torch {torch.__version__} sees no CUDA device; --dry tries every part on the CPU")


def run(parts: Sequence[Part], options: argparse.Namespace, began: float) -> dict[Part, Outcome]:
    """Run the parts and write their results; each may take its time and what is left of that before it."""
    options.folder.mkdir(parents=True, exist_ok=True)
    about, outcomes, until = facts(options.commit), {}, began + PREPARATION
    for part in parts:
        until += part.seconds
        print(f"{part.name}: {part.title} ... ", end="", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            result = Path(scratch, "result.json")
            command = [*part.command(dry=options.dry), "--json", str(result)]
            outcome = outcome_of(part, command, until - monotonic(), dry=options.dry)
            summary.write_part(options.folder, part, outcome, command[:-2], result, about)
        outcomes[part] = outcome
        print(f"{outcome.state}, {outcome.seconds:.0f} s{f': {outcome.reason}' if outcome.reason else ''}", flush=True)
        (options.folder / "summary.md").write_text(summary.page(outcomes, about), encoding="utf-8")
    if not options.dry:
        print(record.write(outcomes, about))
    return outcomes


def outcome_of(part: Part, command: Sequence[str], limit: float, *, dry: bool) -> Outcome:
    if dry:
        reason = part.without_stand_in()
        return Outcome("left out", reason) if reason else here(command, ROOT)
    return apart(command, limit, ROOT) if limit > 0 else Outcome("timed out", "no time was left")


if __name__ == "__main__":
    sys.exit(main())
