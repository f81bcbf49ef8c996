"""Load the model of a run in code of one's own."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from buttress.errors import ConfigError, RunFolderError
from buttress.evaluation.subject import load_subject
from buttress.storage.run_folder import RunFolder
from buttress.storage.user_path import user_path


def load_model(
    run_or_file: str | os.PathLike[str], *, track: str | None = None, checkpoint: str | None = None
) -> nn.Module:
    """The model of a run with weights that the run kept, as ``buttress evaluate`` loads it, in eval mode.

    It stands on the device of the run's config. The model is built from the config, beside the run's data, so both
    have to be there and unchanged.

    Args:
        run_or_file: a run folder, or a file of weights in the folder ``weights/`` of a run.
        track: track of a run: ``live`` (the default) or the name of an ensemble.
        checkpoint: checkpoint of a run: ``best`` (the default), ``last``, or a file of weights for its model.

    Raises:
        RunFolderError: there is no run.
        ConfigError: ``track`` or ``checkpoint`` beside a file, or a file that belongs to no run.
        TrustError: code came with the run that the user has not trusted.
        CheckpointError, ModelError, DataError: the run has no such weights, or a part is missing or has been changed.
    """
    path = user_path(run_or_file)
    if path.is_dir():
        return load_subject(path, track=track, checkpoint=checkpoint).model.eval()
    if not path.exists():
        raise RunFolderError(f"{path} does not exist; expected a run folder, or a file of weights of a run")
    if track is not None or checkpoint is not None:
        raise ConfigError(f"{path} is one file of weights: track and checkpoint choose among those of a run folder")
    return load_subject(_run_of(path), checkpoint=str(path)).model.eval()


def _run_of(file: Path) -> Path:
    """The run in whose folder of weights a file lies."""
    folder = RunFolder(file.absolute().parent.parent)
    if file.absolute().parent != folder.weights or not folder.manifest.is_file():
        raise ConfigError(
            f"{file} lies in no run's folder weights/, so that its model is not known; give the run folder with "
            "checkpoint=FILE, or load it into a model of your own: buttress.nn.load_weights(model, FILE)"
        )
    return folder.path
