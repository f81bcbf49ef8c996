"""The verb ``pseudo-label``."""

from __future__ import annotations

from pathlib import Path

from buttress.cli.answer import json_answer, reporter_aside
from buttress.cli.options import FILE, NUMBER, WordType, json_option, subject_arguments, trust_option
from buttress.cli.verb import option, verb


@verb("pseudo-label", imports_torch=True)
@subject_arguments
@option(
    "--data",
    required=True,
    metavar="DATA",
    help="images to label: a data set as data.extra has it, like '{name: npz, path: FILE}', or its name alone",
)
@option(
    "--split",
    type=WordType(["extra", "train", "validation", "test"]),
    show_default="extra where the data set has it, else train",
    help="split of those data to label",
)
@option(
    "--min-confidence",
    type=float,
    metavar="P",
    default=0.0,
    help="least probability of the predicted class, in [0, 1); images below it are left out (FILE.npy: have no label)",
)
@option(
    "--batch-size",
    type=NUMBER,
    metavar="N",
    show_default="evaluation.batch_size of the config",
    help="number of images per forward",
)
@option("--device", metavar="DEVICE", show_default="device of the config", help="auto, cpu, cuda or cuda:N")
@option(
    "--output",
    type=FILE,
    required=True,
    metavar="FILE.npz",
    help="file to write; FILE.npy holds labels alone; a record of it is FILE.json",
)
@trust_option()
@json_option
def pseudo_label(
    subject: Path,
    overrides: tuple[str, ...],
    config: Path | None,
    track: str | None,
    checkpoint: str | None,
    key: str | None,
    data: str,
    split: str | None,
    min_confidence: float,
    batch_size: int | None,
    device: str | None,
    output: Path,
    trust: bool,
    as_json: bool,
) -> str:
    """Label images by the predictions of a run, as extra examples for other runs."""
    from buttress.evaluation.pseudo_labels import Request, result_table
    from buttress.evaluation.pseudo_labels import pseudo_label as label
    from buttress.evaluation.subject import load_subject

    request = Request(data=data, output=output, split=split, min_confidence=min_confidence)
    chosen = {"evaluation.batch_size": batch_size, "device": device}
    overrides += tuple(f"{name}={value}" for name, value in chosen.items() if value is not None)
    with reporter_aside("loading data and weights") as reporter:
        loaded = load_subject(
            subject, overrides=overrides, config=config, track=track, checkpoint=checkpoint, key=key, trust=trust
        )
        result = label(loaded, request, reporter=reporter)
    return json_answer(result) if as_json else result_table(result, loaded)
