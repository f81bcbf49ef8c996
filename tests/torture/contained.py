"""An environment with broken plugins and broken metadata: whoever does not choose them does not notice them."""

import os
import random
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from .payloads import CONFIG
from .report import Section

HOOK = "from buttress import hookimpl\nclass Plugin:\n    @hookimpl\n    def end_epoch(self): pass\n"

BROKEN = {
    "no_module": "import a_module_that_is_not_there\n" + HOOK,
    "no_syntax": "def broken(:\n",
    "other_spec": HOOK + "    hookspec = '2.0'\n",
    "exits": "raise SystemExit(0)\n",
    "sleeps": "import time\ntime.sleep(30)\n" + HOOK,
}
"""Plugin name to its module."""

METADATA = {
    "not-utf-8": (b"Metadata-Version: 2.1\nName: not-utf-8\nVersion: 1.0\nSummary: caf\xe9\n", b"{} = a:B\n"),
    "no-equals-sign": (b"Metadata-Version: 2.1\nName: no-equals-sign\nVersion: 1.0\n", b"just words\n"),
    "no-metadata": (None, b"{} = a:B\n"),
    "no-text": (b"Metadata-Version: 2.1\nName: no-text\nVersion: 1.0\n", b"{} = \xff\n"),
    "a-pipe": (b"", b"{} = a:B\n"),
}
"""Distribution to what stands in its METADATA (b"" for a pipe) and among its plugins: none of them can be read."""

SAYS = {
    "no_module": "raised ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
    "no_syntax": "raised SyntaxError: invalid syntax",
    "other_spec": "is written for hook specification 2.0",
    "exits": "raised SystemExit: 0",
}
"""What is said of a broken plugin that is chosen; the one that sleeps is waited for."""

COMMANDS = {
    "--help": ["--help"],
    "plugins list": ["plugins", "list"],
    "recipes list": ["recipes", "list"],
    "a built-in run": ["train", "payload.yaml"],
}

SLOWER = 0.3
"""Seconds by which broken plugins may slow a command down."""


def install(site: Path) -> None:
    """All of them in a folder for PYTHONPATH, as ``broken-NAME``; a module that is imported leaves a file there."""
    for name, (metadata, points) in METADATA.items():
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_bytes(b"[buttress.plugins]\n" + points.replace(b"{}", name.encode()))
        if metadata:
            (info / "METADATA").write_bytes(metadata)
        elif metadata is not None:
            os.mkfifo(info / "METADATA")
    for name, source in BROKEN.items():
        trace = f"import pathlib\npathlib.Path({str(site / name)!r} + '.imported').touch()\n"
        # What cannot be compiled cannot leave a trace either; its bytecode is looked for, which is never written.
        (site / f"broken_{name}.py").write_text(source if name == "no_syntax" else trace + source)
        info = site / f"broken_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: broken-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[buttress.plugins]\n{name} = broken_{name}:Plugin\n")


def imported(site: Path) -> list[str]:
    """The broken plugins that anybody has imported since they were installed."""
    return sorted(path.stem for path in site.glob("*.imported"))


def command(work: Path, site: Path | None, *words: str) -> subprocess.CompletedProcess[str]:
    """``buttress WORDS`` in a process of its own, with the broken plugins of ``site`` or without."""
    paths = [*([str(site)] if site else []), *sys.path]
    return subprocess.run(
        [sys.executable, "-c", "from buttress.cli import main; raise SystemExit(main())", *words],
        cwd=work,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def unnamed(work: Path, site: Path) -> list[str]:
    """The distributions with broken metadata whose folder ``plugins list`` does not name."""
    said = command(work, site, "plugins", "list").stdout
    return [name for name in METADATA if f"{name.replace('-', '_')}-1.0.dist-info" not in said]


def prepare(work: Path) -> Path:
    """A config without broken plugins, and a folder with them, which is returned."""
    (work / "payload.yaml").write_text(CONFIG)
    site = work / "site"
    site.mkdir()
    install(site)
    return site


def section(work: Path, rng: random.Random, rounds: int = 9) -> Section:
    """Every command, without and with them in turn; other work on the machine slows both of a pair."""
    site = prepare(work)
    rows: list[tuple[str, int | str]] = [
        ("broken plugins installed", len(BROKEN)),
        ("distributions with broken metadata", len(METADATA)),
    ]
    lost = []
    for name, words in COMMANDS.items():
        pairs: list[tuple[float, float]] = []
        for number in range(rounds):
            seconds = {}
            for among in (None, site) if number % 2 else (site, None):
                run = ["--run", f"r{number}-{among is site}"] if words[0] == "train" else []
                started = perf_counter()
                done = command(work, among, *words, *run)
                seconds[among] = perf_counter() - started
                lost += [f"{name} exits with {done.returncode}: {done.stderr[-200:]}"] if done.returncode else []
            pairs.append((seconds[None], seconds[site]))
        slower = median(among_them - without for without, among_them in pairs)
        rows.append((f"{name}: without them", f"{median(without for without, _ in pairs):.2f} s"))
        rows.append((f"{name}: slower with them by", f"{slower:.2f} s"))
        if slower > SLOWER:
            lost.append(f"{name} is {slower:.2f} s slower with broken plugins installed")
    rows.append(("imported by any of these commands", len(imported(site))))
    lost += [f"{name} was imported" for name in imported(site)]
    lost += [f"the folder of {name} is not named" for name in unnamed(work, site)]
    return Section(
        "Broken plugins",
        "Five distributions whose plugins raise ImportError, have a SyntaxError, want another hook specification, exit "
        "or sleep when they are imported; and five whose metadata are not UTF-8, have a line without an equals sign, "
        "are missing, are no text, or are a pipe: `plugins list` names the folder of each. Each "
        f"command {rounds} times without and with them, in turn; medians, of the "
        "times and of the differences of a pair.",
        rows,
        lost,
    )
