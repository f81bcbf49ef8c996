"""Check that the current data are those that a run was started with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from buttress.errors import CheckpointError, DataError
from buttress.storage.fingerprints import Fingerprint, fingerprint_differences
from buttress.storage.run_folder import RunFolder
from buttress.training.manifest import read_manifest

logger = logging.getLogger("buttress")


def expect_same_data(
    folder: RunFolder, current: Mapping[str, Fingerprint], warn: Callable[[str], None] = logger.warning
) -> None:
    """Compare the current data with the record of them in the manifest of a run.

    Args:
        folder: folder of the run.
        current: split name to fingerprint, of the current data.
        warn: function that tells the user of a manifest without fingerprints; a damaged one has been named before.

    Raises:
        DataError: they differ; says in what.
    """
    try:
        recorded = read_manifest(folder.manifest).fingerprint
    except CheckpointError:
        return
    if recorded is None:
        warn(
            f"{folder.path} was started by a version that did not record its data: whether they are still the same is "
            "not known"
        )
        return
    expect_equal_data(folder, recorded, current)


def recorded_data(manifest: Mapping[str, Any]) -> Mapping[str, Fingerprint] | None:
    """Split name to fingerprint, as a manifest records it; None in the manifest of an older version."""
    data = manifest.get("data")
    fingerprint = data.get("fingerprint") if isinstance(data, Mapping) else None
    return fingerprint if isinstance(fingerprint, Mapping) else None


def expect_equal_data(
    folder: RunFolder, recorded: Mapping[str, Fingerprint], current: Mapping[str, Fingerprint]
) -> None:
    """Compare two records of the data of one run.

    Raises:
        DataError: they differ; says in what.
    """
    changed = fingerprint_differences(recorded, current)
    if changed:
        raise DataError(
            f"{folder.path} was started with other data: {'; '.join(changed)}. Put the data back as they were, or "
            f"start a new run. To attack its weights on the data that are there now: buttress evaluate "
            f"{folder.weights_file('best', 'live')} --config {folder.config}"
        )
