"""``buttress compare``: methods x settings x seeds, each run in a process of its own; one table, one picture, JSON.

A run that fails is a row and not the end. The same command again goes on where the last one stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from buttress.build import check_config
from buttress.comparison import Comparison, Row, draw_comparison
from buttress.config import dump_config, load_config
from buttress.errors import InterruptionError, RunFolderError, WorkError
from buttress.evaluation import attack_name, load_attack
from buttress.files import read_json, write_json, write_text
from buttress.launch import attack_entry, continue_run, evaluate_run, launch
from buttress.run_folder import RunFolder, hardware
from buttress.sweep import Variant
from buttress.tables import duration

# Seconds between looks at the processes.
_LOOK = 0.05


@dataclass(frozen=True)
class Job:
    """One run: a variant with a seed."""

    variant: Variant
    seed: int
    folder: RunFolder

    @property
    def extra(self) -> Path:
        """Accuracies of its saved weights under the comparison's own attacks."""
        return self.folder.path / "compare.json"


def compare(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    runs: Path,
    name: str,
    *,
    attacks: Sequence[str] = (),
    jobs: int = 1,
    baseline: str | None = None,
    say: Callable[[str], None] = print,
) -> Comparison:
    """Train all variants at all seeds and compare them.

    Args:
        variants: see ``sweep.plan``.
        seeds: each variant is trained at each.
        runs: folder of all runs; the comparison lives in ``runs/name/``.
        name: of the comparison.
        attacks: as in ``buttress evaluate --attack``: run on best and last weights of every track, in addition.
        jobs: processes at once; each gets its share of the processors as threads.
        baseline: label of the variant that others are compared with, pair by pair; the first one by default.
        say: where progress goes.

    Raises:
        InputError: wrong input; nothing has been written.
        InterruptionError: Ctrl-C or SIGTERM; the runs have saved themselves, and the same command goes on.
    """
    folder = runs / name
    labels = [variant.label for variant in variants]
    if baseline is not None and baseline not in labels:
        raise RunFolderError(f"--baseline {baseline!r}: expected one of {', '.join(labels)}")
    extra = {text: attack_name(load_attack(attack_entry(text))) for text in attacks}
    planned = [Job(variant, seed, RunFolder(folder / variant.run(seed))) for variant in variants for seed in seeds]
    _check(planned, name)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    failed = _Pool(planned, folder, attacks, jobs, say).run()
    found = _collect(planned, failed, extra, baseline or labels[0])
    result = {
        "command": sys.argv,
        "seeds": list(seeds),
        **hardware(),
        **found.to_json(),
    }
    write_json(folder / "comparison.json", result)
    write_text(folder / "comparison.md", f"{found.table(markdown=True)}\n\n{found.notes()}\n")
    say(f"\n{found.table()}\n\n{found.notes()}")
    curves = _curves(planned, failed)
    if curves:
        draw_comparison(folder / "comparison.png", curves, found.baseline, found.attacks[0])
        say(f"Learning curves: {folder / 'comparison.png'}")
    say(f"Table and numbers: {folder / 'comparison.md'}, {folder / 'comparison.json'}")
    return found


def _check(planned: Sequence[Job], name: str) -> None:
    """Build every variant once; a run that is there already must be the one that is asked for."""
    for job in planned:
        file = job.variant.file(name, job.seed)
        resolved = check_config(file).resolved
        if job.folder.config.is_file() and job.folder.config.read_text(encoding="utf-8") != dump_config(resolved):
            raise RunFolderError(
                f"{job.folder.path} holds a run of another config; choose another --name, or remove that folder"
            )


class _Pool:
    """Runs jobs in processes, some at a time."""

    def __init__(
        self, planned: Sequence[Job], folder: Path, attacks: Sequence[str], jobs: int, say: Callable[[str], None]
    ) -> None:
        self._folder, self._attacks, self._say = folder, list(attacks), say
        self._total, self._done, self._fresh = len(planned), 0, 0
        self._waiting = list(planned)
        self._running: dict[subprocess.Popen[bytes], tuple[Job, float]] = {}
        self._slots = max(1, jobs)
        self._failed: dict[tuple[str, int], str] = {}
        self._started = monotonic()
        self._asked = ""

    def run(self) -> dict[tuple[str, int], str]:
        """Finish all; returns the last line of what each failed one said."""
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self._waiting or self._running:
                while self._waiting and len(self._running) < self._slots and not self._asked:
                    self._start(self._waiting.pop(0))
                self._look()
                if self._asked and not self._running:
                    raise InterruptionError(
                        f"stopped by {self._asked}; every run has saved itself; the same command goes on with them"
                    )
        finally:
            for process in self._running:
                process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._failed

    def _ask(self, number: int, _: object) -> None:
        self._asked = signal.Signals(number).name
        for process in self._running:
            process.send_signal(signal.SIGTERM)

    def _start(self, job: Job) -> None:
        order = {
            "config": str(job.variant.config),
            "overrides": [*job.variant.overrides, f'name="{self._folder.name}"', f"seed={job.seed}"],
            "runs": str(self._folder.parent),
            "run": job.folder.path.name,
            "attacks": self._attacks,
        }
        threads = str(max(1, (os.cpu_count() or 1) // self._slots))
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
        command = [sys.executable, "-c", "from buttress.compare import work; work()", json.dumps(order)]
        log = self._folder / "logs" / f"{job.folder.path.name}.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        self._running[process] = (job, monotonic())

    def _look(self) -> None:
        ended = [process for process in self._running if process.poll() is not None]
        if not ended:
            sleep(_LOOK)
        for process in ended:
            job, started = self._running.pop(process)
            self._done += 1
            outcome = "done"
            if process.returncode != 0 and not self._asked:
                log = self._folder / "logs" / f"{job.folder.path.name}.log"
                said = log.read_text(encoding="utf-8", errors="replace").strip() or "no output"
                self._failed[job.variant.label, job.seed] = said.splitlines()[-1].removeprefix("buttress: ")
                outcome = f"failed, see {log}"
            left = (monotonic() - self._started) / self._done * (self._total - self._done)
            self._say(
                f"[{self._done}/{self._total}] {job.variant.label}, seed {job.seed}: {outcome} "
                f"({duration(monotonic() - started)}); about {duration(left)} left"
            )


def work() -> None:
    """One job, in a process of its own: train or resume, then the comparison's own attacks."""
    from buttress.cli import exit_code_of

    order = json.loads(sys.argv[1])
    sys.exit(exit_code_of(lambda: _work(order)))


def _work(order: dict[str, Any]) -> None:
    runs, run = Path(order["runs"]), order["run"]
    file = load_config(Path(order["config"]), order["overrides"])
    folder = RunFolder(runs / file.config.name / run)
    if folder.path.exists() and not folder.summary.exists() and not any(folder.checkpoints.glob("*.json")):
        shutil.rmtree(folder.path)  # it ended before its first checkpoint: there is nothing to go on from
    if not folder.path.exists():
        launch(file, runs, run, forecast=False)
    elif not folder.summary.exists():
        continue_run(folder.path)
    tracks = [row["track"] for row in read_json(folder.summary)["tracks"]]
    kept = folder.path / "compare.json"
    found: dict[str, Any] = read_json(kept) if kept.exists() else {}
    for text in order["attacks"]:
        if text not in found:
            found[text] = {
                track: {
                    which: evaluate_run(folder.path, [text], track, which, "test")["attacks"][-1]["accuracy"]
                    for which in ("best", "last")
                }
                for track in tracks
            }
            write_json(kept, found)


def _collect(
    planned: Sequence[Job], failed: dict[tuple[str, int], str], extra: Mapping[str, str], baseline: str
) -> Comparison:
    rows: dict[tuple[str, str], Row] = {}
    attack, by, n = "", "validation", 0
    for job in planned:
        label = job.variant.label
        if (label, job.seed) in failed:
            continue
        summary = read_json(job.folder.summary)
        ((name, settings),) = summary["attack"].items()
        attack, by = attack_name(load_attack({name: settings})), summary["best_by"]
        more = read_json(job.extra) if job.extra.exists() else {}
        for track in summary["tracks"]:
            values: dict[str, float] = {}
            for what, key in (("clean", "clean"), (attack, "robust")):
                values |= {f"{what} {measure}": track[f"{key}_{measure}"] for measure in ("best", "last", "diff")}
            for text, what in extra.items():
                best, last = (more[text][track["track"]][which] for which in ("best", "last"))
                values |= {f"{what} best": best, f"{what} last": last, f"{what} diff": best - last}
            n = track["n"]
            rows.setdefault((label, track["track"]), Row(label, track["track"])).values[job.seed] = values
    if not rows:
        reasons = "; ".join(sorted(set(failed.values())))
        raise WorkError(f"every run failed: {reasons}")
    return Comparison([attack, *extra.values()], list(rows.values()), failed, baseline, by, n)


def _curves(planned: Sequence[Job], failed: dict[tuple[str, int], str]) -> dict[str, dict[str, list[Path]]]:
    curves: dict[str, dict[str, list[Path]]] = {}
    for job in planned:
        if (job.variant.label, job.seed) not in failed:
            for track in read_json(job.folder.summary)["tracks"]:
                curves.setdefault(job.variant.label, {}).setdefault(track["track"], []).append(job.folder.metrics)
    return curves
