"""Check that the runs of a comparison are about the same examples, continued runs and joined ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from buttress.comparing.jobs import Job
from buttress.storage.fingerprints import Fingerprint
from buttress.training.dataset import load_data
from buttress.training.same_data import expect_same_data
from buttress.training.summary_file import read_summary


def expect_same_data_as_started(jobs: Sequence[Job]) -> None:
    """Load the data of every job that has a run already, each data set once, and compare them with its record.

    Raises:
        DataError: a run was started with other data, so that its numbers cannot stand beside new ones.
        InputError: the data do not load any more.
    """
    loaded: dict[str, Mapping[str, Fingerprint]] = {}
    for job in jobs:
        if not job.folder.manifest.is_file():
            continue
        file = job.file()
        settings = file.config.model_dump(mode="json", include={"data", "seed", "threat", "modules"})
        key = json.dumps(settings, sort_keys=True)
        if key not in loaded:
            loaded[key] = load_data(file)[0].fingerprint
        expect_same_data(job.folder, loaded[key])


def other_examples(jobs: Sequence[Job]) -> str:
    """A sentence that names runs of one seed whose test examples differ, as a sweep over settings of the data makes
    them; empty where there are none.

    Raises:
        CheckpointError: a summary is damaged.
    """
    first: dict[int, tuple[str, Fingerprint]] = {}
    for job in jobs:
        fingerprint = read_summary(job.folder.summary).body.get("data", {}).get("test")
        if fingerprint is None:  # a run of an older version
            continue
        label, expected = first.setdefault(job.seed, (job.label, fingerprint))
        if fingerprint != expected:
            return (
                f"Caution: {label} and {job.label} were tested on different examples (seed {job.seed}): compare their "
                "accuracies with care."
            )
    return ""
