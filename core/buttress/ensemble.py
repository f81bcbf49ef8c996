"""``buttress ensemble``: combine weights files into one, and measure batch norm afresh."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
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
from buttress.kernels import (
    MEAN,
    Middle,
    Reduction,
    median_reduction,
    trimmed_mean_reduction,
    use_backend,
    weighted_mean_reduction,
)
from buttress.kernels.agreement import TensorVersions, agreed_versions
from buttress.kernels.files import combine_versions
from buttress.kernels.geometric import TOLERANCE, geometric_weights, squared_distances
from buttress.nn.loading import fit_weights, load_weights
from buttress.storage.files import header_facts, write_tensors
from buttress.storage.new_file import expect_new_file
from buttress.storage.reading import file_sha256
from buttress.storage.shards import is_index
from buttress.storage.weights_file import is_pickled
from buttress.storage.weights_source import WeightsSource, open_sources
from buttress.training.assembly import assemble
from buttress.training.checkpoint_file import MODEL_PREFIX, expect_undamaged
from buttress.training.dataset import load_data
from buttress.training.existing import existing_folder
from buttress.training.same_data import expect_same_data
from buttress.types import Track

Method = Literal["median", "mean", "trimmed-mean", "geometric-median"]


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
    dtype: torch.dtype | None = None,
    key: str | None = None,
) -> Ensemble:
    """Make one weights file of several.

    Args:
        paths: files of one model: a run's ``weights/``, ``history/`` or ``checkpoints/``, or any others, see
            ``buttress.kernels.median_files``.
        output: safetensors file, never overwritten.
        method: method of combining.
        even: middle of an even number for the median, see ``buttress.kernels.median``; None for ``lower``.
        trim: share of the files that the trimmed mean leaves out at each end; None for 0.1.
        source: config or run folder, whose model batch norm is re-estimated in, on its training inputs.
        trust: execute the code that came with the run ``source``, and remember it as trusted.
        dtype: dtype of all floating-point results, see ``buttress.kernels.median_files``.
        key: key of the weights in files that hold several sets.

    Raises:
        TrustError: code came with the run ``source`` that the user has not trusted. Nothing has been written.
        InputError: files that are missing, truncated or of different models, an output that exists, or a model that
            they do not fit. Nothing has been written.
        StorageError: the disk is full or refuses; nothing has been left there.
    """
    combining = _combining(method, even, trim, len(paths))
    expect_new_file(output, ".safetensors")
    with open_sources(paths, key, output.parent) as sources:
        prefix = MODEL_PREFIX if any(name.startswith(MODEL_PREFIX) for name in sources[0].tensors) else ""
        versions = agreed_versions(sources, prefix, dtype=dtype)
        engine = None if source is None else _engine(source, trust)
        with ThreadPoolExecutor() as pool:
            inputs = list(pool.map(_input, sources))
        facts: dict[str, Any] = {"method": method, "n": len(paths), "inputs": inputs}
        facts |= ({} if dtype is None else {"dtype": str(dtype).removeprefix("torch.")}) | ({"key": key} if key else {})
        reduction, settings, notes = combining(versions, paths)
        counted = _Counted(reduction, dtype)
        combine = partial(combine_versions, versions, Reduction(counted, reduction.scratch))
        facts |= settings
        with byte_bar(f"{method} of {len(paths)} files") as progress:
            if engine is None:
                combine(output, metadata=header_facts(facts), progress=progress)
            else:
                weights = combine(progress=progress)
    if engine is not None:
        facts |= {"reestimated": str(source), "precision": engine.at_work.precision.score}
        _write_reestimated(output, engine, weights, facts)
    notes = [*_repetitions(inputs), *notes, *_cautions(versions, engine)]
    if counted.bad:
        notes.append(f"{counted.bad:,} values are not finite: some file holds NaN or infinity there")
    return Ensemble(facts, notes)


def _cautions(versions: Mapping[str, TensorVersions], engine: Engine | None) -> list[str]:
    """The notes about results that no model loads, or whose batch norm was not measured."""
    if engine is not None:
        return []
    if all(len(each.entry.shape) == 1 for each in versions.values()):
        return [
            "these are snapshots of a history, flattened parameters alone, which no model loads; "
            "--reestimate CONFIG|RUN makes a whole model's weights of them"
        ]
    if any(name.endswith("running_mean") for name in versions):
        return ["batch-norm statistics were combined like weights; --reestimate CONFIG|RUN measures them afresh"]
    return []


def _input(source: WeightsSource) -> dict[str, Any]:
    """Name and sha256 of a file; of an index those of its files, too."""
    if [file.path for file in source.files] == [source.path]:
        return {"name": str(source.path), "sha256": _sha256(source.path)}
    shards = {file.path.name: _sha256(file.path) for file in source.files}
    return {"name": str(source.path), "sha256": _sha256(source.path), "shards": shards}


def _sha256(path: Path) -> str:
    return file_sha256(path) if is_index(path) or is_pickled(path) else expect_undamaged(path)


def _repetitions(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note for each content that several of the files share: by mistake, where two patterns overlap."""
    names: dict[str, list[str]] = defaultdict(list)
    for each in inputs:
        names[str([each["sha256"], each.get("shards")])].append(each["name"])
    return [
        f"{', '.join(same)} have the same contents, and each of them counts; leave all but one out if that is a mistake"
        for same in names.values()
        if len(same) > 1
    ]


# A function from the versions of the tensors, and the files, to the reduction, its settings with every default filled
# in, and notes.
_Combining = Callable[[Mapping[str, TensorVersions], Sequence[Path]], tuple[Reduction, dict[str, Any], list[str]]]


def _combining(method: Method, even: Middle | None, trim: float | None, n: int) -> _Combining:
    """The way to combine ``n`` files; options that do not belong to it are refused."""
    if even is not None and method != "median":
        raise ConfigError(f"--even belongs to --method median, not {method}; leave it out")
    if trim is not None and method != "trimmed-mean":
        raise ConfigError(f"--trim belongs to --method trimmed-mean, not {method}; leave it out")
    if method == "geometric-median":
        return _geometric
    reduction, settings = _elementwise(method, even or "lower", 0.1 if trim is None else trim, n)
    return lambda versions, paths: (reduction, settings, [])


def _elementwise(method: Method, even: Middle, share: float, n: int) -> tuple[Reduction, dict[str, Any]]:
    if method == "median":
        return median_reduction(even), {"even": even}
    if method == "mean":
        return MEAN, {}
    if not 0 < share < 0.5:
        raise ConfigError("expected a share of the files in (0, 0.5)", key=f"--trim {share:g}")
    cut = int(share * n + 1e-9)  # 0.29 * 100 is 28.999...
    if cut == 0:
        raise ConfigError(f"--trim {share:g} leaves out none of {n} files; raise it, or choose --method mean")
    return trimmed_mean_reduction(cut), {"trim": share}


def _geometric(
    versions: Mapping[str, TensorVersions], paths: Sequence[Path]
) -> tuple[Reduction, dict[str, Any], list[str]]:
    with byte_bar(f"distances of {len(paths)} files") as progress:
        result = geometric_weights(squared_distances(versions, paths, progress=progress))
    notes = []
    if result.excess > TOLERANCE:
        notes.append(
            f"after {result.iterations:,} iterations the sum of distances exceeds the least one by a part of up to "
            f"{result.excess:.1g}, not {TOLERANCE:g}"
        )
    settings = {"tolerance": TOLERANCE, "iterations": result.iterations, "excess": result.excess}
    return weighted_mean_reduction(result.weights), {**settings, "weights": list(result.weights)}, notes


class _Counted:
    """A reduction that counts results which are not finite, in the dtype that they are written in."""

    def __init__(self, reduction: Reduction, dtype: torch.dtype | None) -> None:
        self.bad = 0
        self._reduction, self._dtype, self._lock = reduction, dtype, Lock()

    def __call__(self, rows: Sequence[Tensor], out: Tensor) -> None:
        self._reduction.reduce(rows, out)
        bad = int(torch.isfinite(out.to(self._dtype or out.dtype)).logical_not_().sum())
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
