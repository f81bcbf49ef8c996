"""What ``buttress analyze`` asks a run: each part answers with findings, or says what the run lacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from buttress.analysis import pictures
from buttress.analysis.classes import draw_classes, right_by_class
from buttress.analysis.directions import digest, normalized, random_direction
from buttress.analysis.distance import distances, named_groups
from buttress.analysis.gap import best_difference, generalization_gaps
from buttress.analysis.histogram import histograms, last_convolution, matrices, moments
from buttress.analysis.images import SHOWN, draw_images
from buttress.analysis.images import pictures as images
from buttress.analysis.label_noise import fit_of_flipped
from buttress.analysis.landscape import group_landscape, surface
from buttress.analysis.study import Study
from buttress.errors import ConfigError
from buttress.nn.modes import parameters_of
from buttress.scoring.loss_groups import EDGES, group_counts, group_names


@dataclass(frozen=True)
class Options:
    """What a user may choose.

    Args:
        tracks: whose landscapes to make; empty for all.
        points: of a landscape along each direction, odd: from -1 to 1 in norms of the filters, 0 among them.
        seed: of the directions.
        recompute: attack anew at every point of a 1-D landscape.

    Raises:
        ConfigError: ``points`` is even, below 3 or above 1001.
    """

    tracks: tuple[str, ...] = ()
    points: int = 21
    seed: int = 0
    recompute: bool = False

    def __post_init__(self) -> None:
        if not 3 <= self.points <= 1001 or self.points % 2 == 0:
            raise ConfigError(
                f"--points {self.points}: expected an odd number from 3 to 1001, so that 0 is one of them"
            )

    @property
    def steps(self) -> list[float]:
        half = self.points // 2
        return [(step - half) / half for step in range(self.points)]


@dataclass(frozen=True)
class Finding:
    """One answer: numbers for a JSON file, and how to draw them.

    Args:
        stem: of both files.
        numbers: JSON-able; non-finite ones are null.
        draw: writes a picture at a path.
    """

    stem: str
    numbers: dict[str, Any]
    draw: Callable[[Path], None]


class Missing(Exception):  # noqa: N818 - no error: a part that a run cannot answer
    """A run lacks what a part needs; the message says what, and how a run gets it."""


Part = Callable[[Study, Options], Iterator[Finding]]


def gap(study: Study, options: Options) -> Iterator[Finding]:
    """Robust generalization gap over epochs, of every track."""
    gaps = generalization_gaps(study.records)
    if not gaps:
        raise Missing("the run was not scored on its training set; train with evaluation.train=true")
    tracks = {}
    for track in dict.fromkeys(gap.track for gap in gaps):
        own = [gap for gap in gaps if gap.track == track]
        rows = [{**asdict(each), "clean": each.clean, "robust": each.robust} for each in own]
        tracks[track] = {"epochs": rows, "best_train_minus_best_test": best_difference(own)}
    sizes = {record.split: record.n for record in study.records}
    numbers = {"attack": study.attack, "n": sizes, "tracks": tracks}
    yield _finding("gap", numbers, pictures.draw_gap)


def landscape(study: Study, options: Options) -> Iterator[Finding]:
    """1-D loss landscape per LSC group, along one direction."""
    for track in options.tracks or _tracks(study):
        yield _landscape(study, options, track)


def _landscape(study: Study, options: Options, track: str) -> Finding:
    epoch = study.load(track)
    weights = parameters_of(study.model)
    drawn = random_direction(weights, options.seed)
    fixed = study.attacked(study.examples)
    inputs = (lambda: study.attacked(study.examples)) if options.recompute else (lambda: fixed)
    found = group_landscape(study.model, normalized(drawn, weights), options.steps, inputs, losses=study.losses(fixed))
    numbers = {
        **_facts(study, options, track, epoch, [drawn]),
        "inputs": "attacked anew at every point" if options.recompute else "attacked once, at the weights",
        "edges": EDGES,
        "mu": options.steps,
        "mean": found.mean,
        "sizes": found.sizes,
        "groups": found.groups,
    }
    return _finding(f"landscape-{track}-{study.checkpoint}", numbers, pictures.draw_landscape)


def surfaces(study: Study, options: Options) -> Iterator[Finding]:
    """Loss over the plane of two directions."""
    for track in options.tracks or _tracks(study):
        yield _surface(study, options, track)


def _surface(study: Study, options: Options, track: str) -> Finding:
    epoch = study.load(track)
    weights = parameters_of(study.model)
    drawn = [random_direction(weights, options.seed, number) for number in (0, 1)]
    fixed = study.attacked(study.examples)
    directions = [normalized(direction, weights) for direction in drawn]
    numbers = {
        **_facts(study, options, track, epoch, drawn),
        "steps": options.steps,
        "loss": surface(study.model, directions, options.steps, lambda: fixed),
    }
    return _finding(f"surface-{track}-{study.checkpoint}", numbers, pictures.draw_surface)


def histogram(study: Study, options: Options) -> Iterator[Finding]:
    """Weights of the last convolution, of every track, on shared bins."""
    layer = last_convolution(study.model)
    weights = {track: study.parameters(track) for track in _tracks(study)}
    edges, counts = histograms({track: own[layer] for track, own in weights.items()})
    tracks = {
        track: {
            "counts": counts[track],
            **asdict(moments(own[layer])),
            "layers": {name: asdict(moments(weight)) for name, weight in matrices(own).items()},
        }
        for track, own in weights.items()
    }
    numbers = {"layer": layer, "checkpoint": study.checkpoint, "edges": edges, "tracks": tracks}
    yield _finding("histogram", numbers, pictures.draw_histogram)


def loss_groups(study: Study, options: Options) -> Iterator[Finding]:
    """Training examples by adversarial loss, over epochs: as recorded in training, else at saved weights."""
    recorded = [record for record in study.metrics.events("losses") if record["track"] == "live"]
    if recorded:
        rows = [{"epoch": record["epoch"], "counts": record["counts"]} for record in recorded]
        source, edges = "recorded in training (evaluation.train)", recorded[0]["edges"]
    else:
        rows, edges = [], list(EDGES)
        for snapshot in study.snapshots():
            with study.at_snapshot(snapshot):
                losses = study.losses(study.attacked(study.examples))
            rows.append({"epoch": snapshot.epoch, "counts": group_counts(losses).tolist()})
        source = "measured at saved weights; evaluation.train=true records it at every evaluation"
    if not rows:
        raise Missing("the run has no saved weights of its live model yet")
    numbers = {
        "attack": study.attack,
        "source": source,
        "edges": edges,
        "groups": group_names(edges),
        "n": sum(rows[0]["counts"]),
        "epochs": rows,
    }
    yield _finding("loss_groups", numbers, pictures.draw_loss_groups)


def label_noise(study: Study, options: Options) -> Iterator[Finding]:
    """How training examples with flipped labels are predicted, clean and attacked, by best and last of every track."""
    true = study.data.true_labels
    flipped = study.flipped()[: len(study.examples)]
    if true is None or not len(flipped):
        raise Missing("no label noise was injected into the training set (data.label_noise)")
    given, true = study.labels(flipped), true[flipped]
    rows = []
    for track, which in study.saved:
        epoch = study.load(track, which)
        clean = study.predicted([batch.x for batch in study.batches(flipped)])
        attacked = study.predicted([x for x, _ in study.attacked(flipped)])
        for inputs, predicted in (("clean", clean), ("attacked", attacked)):
            fit = fit_of_flipped(predicted, given, true)
            rows.append({"track": track, "checkpoint": which, "epoch": epoch, "inputs": inputs, **fit._asdict()})
    numbers = {"attack": study.attack, "n": len(flipped), "rows": rows}
    yield _finding("label_noise", numbers, pictures.draw_label_noise)


def distance(study: Study, options: Options) -> Iterator[Finding]:
    """How far each layer group is from the last saved weights, and moved between one snapshot and the next."""
    parameters = parameters_of(study.model)
    found = study.snapshots()
    if len(found) < 2:
        raise Missing(
            f"the run has kept its live model's weights of {len(found) or 'no'} epoch, and a distance needs two; keep "
            "more checkpoints (checkpoint.keep), or a history (plugin meat)"
        )
    groups = named_groups(study.model)
    last = found[-1].read(parameters)
    rows = []
    for earlier, later in pairwise(found):
        weights = earlier.read(parameters)
        rows.append(
            {
                "epoch": earlier.epoch,
                "next_epoch": later.epoch,
                "to_last": _distances(weights, last, groups),
                "to_next": _distances(weights, later.read(parameters), groups),
            }
        )
    numbers = {"groups": groups, "last_epoch": found[-1].epoch, "snapshots": rows}
    yield _finding("distance", numbers, pictures.draw_distance)


def classes(study: Study, options: Options) -> Iterator[Finding]:
    """Test accuracy of every class, clean and attacked, by best and last of every track."""
    if not study.saved:
        raise Missing("the run has no saved weights yet")
    positions, num_classes = study.test_examples, study.data.num_classes
    labels = torch.cat([batch.y for batch in study.batches(positions, "test")]).cpu()
    rows = []
    for track, which in study.saved:
        epoch = study.load(track, which)
        row: dict[str, Any] = {"track": track, "checkpoint": which, "epoch": epoch}
        for inputs, batches in (
            ("clean", [batch.x for batch in study.batches(positions, "test")]),
            ("attacked", [x for x, _ in study.attacked(positions, "test")]),
        ):
            row[inputs] = right_by_class(study.predicted(batches), labels, num_classes)
        rows.append(row)
    sizes = torch.bincount(labels, minlength=num_classes)
    numbers = {"attack": study.attack, "split": "test", "n": len(positions), "sizes": sizes, "rows": rows}
    yield _finding("classes", numbers, draw_classes)


def adversarial_images(study: Study, options: Options) -> Iterator[Finding]:
    """The first test images of a fixed order, clean and attacked, of every track."""
    shape, threat = study.data.test.example_shape, study.engine.threat
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise Missing(f"examples of shape {list(shape)} are no images: expected [C,H,W] with 1 or 3 channels")
    if threat.box is None:
        raise Missing("threat.box is none: where black and white lie is not known")
    positions = study.test_examples[:SHOWN]
    for track in options.tracks or _tracks(study):
        epoch = study.load(track)
        clean = [batch.x for batch in study.batches(positions, "test")]
        attacked = study.attacked(positions, "test")
        inputs = [x for x, _ in attacked]
        numbers = {
            "track": track,
            "checkpoint": study.checkpoint,
            "epoch": epoch,
            "attack": study.attack,
            "threat": str(threat),
            "split": "test",
            "positions": positions,
            "labels": torch.cat([y for _, y in attacked]),
            "predicted": study.predicted(clean),
            "predicted_attacked": study.predicted(inputs),
            **images(torch.cat(clean), torch.cat(inputs), threat),
        }
        yield _finding(f"images-{track}-{study.checkpoint}", numbers, draw_images)


PARTS: dict[str, Part] = {
    "gap": gap,
    "landscape": landscape,
    "surface": surfaces,
    "histogram": histogram,
    "loss_groups": loss_groups,
    "label_noise": label_noise,
    "distance": distance,
    "classes": classes,
    "images": adversarial_images,
}
"""Every part by its name on the command line."""


def _tracks(study: Study) -> list[str]:
    if not study.tracks:
        raise Missing(
            f"the run has no {study.checkpoint} weights yet; --checkpoint best takes those of the best epoch so far, "
            f"and buttress resume {study.folder.path} finishes the run"
        )
    return study.tracks


def plain(value: Any) -> Any:
    """``value`` for JSON: tensors as nested lists, null in the place of every number that is not finite."""
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finding(stem: str, numbers: Mapping[str, Any], draw: Callable[[Path, Any], None]) -> Finding:
    own = plain(numbers)
    return Finding(stem, own, lambda path: draw(path, own))


def _facts(
    study: Study, options: Options, track: str, epoch: int, drawn: Sequence[Mapping[str, Tensor]]
) -> dict[str, Any]:
    return {
        "track": track,
        "checkpoint": study.checkpoint,
        "epoch": epoch,
        "attack": study.attack,
        "split": "train",
        "n": len(study.examples),
        "seed": options.seed,
        "directions": digest(drawn),
        "normalized": "filter",
    }


def _distances(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], groups: Mapping[str, list[str]]
) -> dict[str, dict[str, float]]:
    return {group: found._asdict() for group, found in distances(a, b, groups).items()}
