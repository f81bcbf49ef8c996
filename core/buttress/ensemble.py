"""``buttress ensemble``: combine weights files into one, element by element, and measure batch norm afresh."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import torch
from torch import Tensor, nn

from buttress.config.file import load_config
from buttress.console.bars import byte_bar
from buttress.engine.engine import Engine
from buttress.errors import ConfigError
from buttress.kernels import Middle, Reduction, combine_files, median_reduction, use_backend
from buttress.kernels.averages import MEAN, trimmed_mean_reduction
from buttress.nn.loading import fit_weights, load_weights
from buttress.storage.files import header_facts, write_tensors
from buttress.storage.new_file import expect_new_file
from buttress.storage.tensor_file import open_tensor_files
from buttress.training.assembly import assemble
from buttress.training.checkpoint_file import MODEL_PREFIX, expect_undamaged
from buttress.training.dataset import load_data
from buttress.training.existing import existing_folder
from buttress.training.same_data import expect_same_data
from buttress.types import Track

Method = Literal["median", "mean", "trimmed-mean"]


@dataclass(frozen=True)
class Ensemble:
    """A combined weights file.

    Args:
        facts: method, number of files, their names and sha256; they are in the header of the file, too.
        notes: sentences for the user.
    """

    facts: dict[str, Any]
    notes: list[str]


def ensemble(
    paths: Sequence[Path],
    output: Path,
    *,
    method: Method = "median",
    even: Middle | None = None,
    trim: float | None = None,
    source: Path | None = None,
    trust: bool = False,
) -> Ensemble:
    """Make one weights file of several.

    Args:
        paths: safetensors files of one model: a run's ``weights/``, ``history/`` or ``checkpoints/``, or any others.
        output: safetensors file, never overwritten.
        method: method of combining.
        even: middle of an even number for the median, see ``buttress.kernels.median``; None for ``lower``.
        trim: share of the files that the trimmed mean leaves out at each end; None for 0.1.
        source: config or run folder, whose model batch norm is re-estimated in, on its training inputs.
        trust: execute the code that came with the run ``source``, and remember it as trusted.

    Raises:
        TrustError: code came with the run ``source`` that the user has not trusted. Nothing has been written.
        InputError: files that are missing, truncated or of different models, an output that exists, or a model that
            they do not fit. Nothing has been written.
        StorageError: the disk is full or refuses; nothing has been left there.
    """
    reduction, settings = _reduction(method, even, trim, len(paths))
    expect_new_file(output, ".safetensors")
    prefix, shapes = _contents(paths)
    engine = None if source is None else _engine(source, trust)
    with ThreadPoolExecutor() as pool:
        inputs = [
            {"name": str(p), "sha256": sha} for p, sha in zip(paths, pool.map(expect_undamaged, paths), strict=True)
        ]
    facts = {"method": method, **settings, "n": len(paths), "inputs": inputs}
    counted = _Counted(reduction)
    combine = partial(combine_files, paths, Reduction(counted, reduction.scratch), prefix=prefix)
    notes = _repetitions(inputs)
    with byte_bar(f"{method} of {len(paths)} files") as progress:
        if engine is None:
            combine(output, metadata=header_facts(facts), progress=progress)
        else:
            weights = combine(progress=progress)
    if engine is not None:
        facts |= {"reestimated": str(source), "precision": engine.at_work.precision.score}
        _write_reestimated(output, engine, weights, facts)
    elif all(len(shape) == 1 for shape in shapes.values()):
        notes.append(
            "these are snapshots of a history, flattened parameters alone, which no model loads; "
            "--reestimate CONFIG|RUN makes a whole model's weights of them"
        )
    elif any(name.endswith("running_mean") for name in shapes):
        notes.append("batch-norm statistics were combined like weights; --reestimate CONFIG|RUN measures them afresh")
    if counted.bad:
        notes.append(f"{counted.bad:,} values are not finite: some file holds NaN or infinity there")
    return Ensemble(facts, notes)


def _repetitions(inputs: Sequence[Mapping[str, str]]) -> list[str]:
    """A note for each content that several of the files share: by mistake, where two patterns overlap."""
    names: dict[str, list[str]] = defaultdict(list)
    for each in inputs:
        names[each["sha256"]].append(each["name"])
    return [
        f"{', '.join(same)} have the same contents, and each of them counts; leave all but one out if that is a mistake"
        for same in names.values()
        if len(same) > 1
    ]


def _reduction(method: Method, even: Middle | None, trim: float | None, n: int) -> tuple[Reduction, dict[str, Any]]:
    """The reduction, and its settings with every default filled in."""
    if even is not None and method != "median":
        raise ConfigError(f"--even belongs to --method median, not {method}; leave it out")
    if trim is not None and method != "trimmed-mean":
        raise ConfigError(f"--trim belongs to --method trimmed-mean, not {method}; leave it out")
    if method == "median":
        return median_reduction(even or "lower"), {"even": even or "lower"}
    if method == "mean":
        return MEAN, {}
    share = 0.1 if trim is None else trim
    if not 0 < share < 0.5:
        raise ConfigError("expected a share of the files in (0, 0.5)", key=f"--trim {share:g}")
    cut = int(share * n + 1e-9)  # 0.29 * 100 is 28.999...
    if cut == 0:
        raise ConfigError(f"--trim {share:g} leaves out none of {n} files; raise it, or choose --method mean")
    return trimmed_mean_reduction(cut), {"trim": share}


def _contents(paths: Sequence[Path]) -> tuple[str, dict[str, tuple[int, ...]]]:
    """How the names of the model's tensors begin in the files, and the shapes by name in the first one."""
    with open_tensor_files(paths) as files:
        shapes = {name: entry.shape for name, entry in files[0].entries.items()}
    return MODEL_PREFIX if any(name.startswith(MODEL_PREFIX) for name in shapes) else "", shapes


class _Counted:
    """A reduction that counts results which are not finite."""

    def __init__(self, reduction: Reduction) -> None:
        self.bad = 0
        self._reduction, self._lock = reduction, Lock()

    def __call__(self, rows: Sequence[Tensor], out: Tensor) -> None:
        self._reduction.reduce(rows, out)
        bad = int(torch.isfinite(out).logical_not_().sum())
        if bad:
            with self._lock:
                self.bad += bad


def _engine(source: Path, trust: bool) -> Engine:
    """The engine that a config or a run describes; with the live model of the run, where there is one."""
    folder = existing_folder(source) if source.is_dir() else None
    file = load_config(folder.config if folder else source, trust=trust)
    file.own.expect_trusted()
    with use_backend(file.config.backend):
        data, settings = load_data(file)
        if folder:
            expect_same_data(folder, data.fingerprint)
        with tempfile.TemporaryDirectory() as scratch:
            engine = assemble(file, data, settings, Path(scratch)).engine
    if folder and (live := folder.weights_file("last", "live")).is_file():
        load_weights(engine.model, live)
    return engine


def _write_reestimated(output: Path, engine: Engine, weights: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
    model = engine.model
    parameters = _flat_parameters(model, weights)
    if parameters is None:
        fit_weights(model, weights, "the result")
        parameters = dict(model.named_parameters())
    with engine.track(Track("ensemble", parameters, buffers="reestimate")):
        write_tensors(output, model.state_dict(), facts)


def _flat_parameters(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The parameters of ``model`` from the files of a history, which hold them alone and flattened; None for others."""
    own = dict(model.named_parameters())
    if {name: (weight.numel(),) for name, weight in own.items()} != {n: tuple(w.shape) for n, w in weights.items()}:
        return None
    return {name: weights[name].view(weight.shape).to(weight.device) for name, weight in own.items()}
