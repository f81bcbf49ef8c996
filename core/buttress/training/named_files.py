"""Record the files that settings name, since a run depends on them as on its data, and refuse changed ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from buttress.errors import CheckpointError, RunFolderError
from buttress.storage.files import storage_errors
from buttress.storage.reading import file_sha256
from buttress.storage.run_folder import RunFolder
from buttress.storage.user_path import user_path
from buttress.training.manifest import NamedFile, read_manifest

# Sections of a config that name files which no other record covers: data have a fingerprint, targets have theirs.
_SECTIONS = ("model", "plugins", "schedule", "evaluation")


def named_files(resolved: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The files that a resolved config names, for a run's manifest.

    Args:
        resolved: the config, with every default filled in.

    Returns:
        Place of the setting to ``text`` (the setting), ``folder`` (where it was looked up first, if not in the working
        folder), ``file`` (the whole path) and ``sha256``. A text is taken for a file where there is one of that name,
        and a dot or a slash in it.
    """
    files = {}
    for place, text in _texts({section: resolved.get(section) for section in _SECTIONS}):
        folder = str(resolved.get("folder") or "") if place.startswith("model.weights") else ""
        path = _file(text, folder)
        if path is not None:
            with storage_errors(path):
                digest = file_sha256(path)
            files[place] = {"text": text, "folder": folder, "file": str(path.resolve()), "sha256": digest}
    return files


def expect_same_files(folder: RunFolder) -> None:
    """Refuse to go on with a run when a file that one of its settings names is gone or has been changed.

    Raises:
        RunFolderError: names the first such setting.
    """
    recorded: Mapping[str, NamedFile] = {}
    with suppress(CheckpointError):  # a damaged manifest has been named before
        recorded = read_manifest(folder.manifest).files
    for place, before in recorded.items():
        what = f"{folder.path}: {place} is {before.text}"
        path = _file(before.text, before.folder)
        if path is None:
            raise RunFolderError(
                f"{what}, and there is no such file; it was {before.file}: put it back, or go to the folder in "
                "which the run was started",
                path=Path(before.file),
            )
        with storage_errors(path):
            changed = file_sha256(path) != before.sha256
        if changed:
            raise RunFolderError(
                f"{what}, and {path} has been changed since the run was started (its sha256 is not that of "
                f"{folder.manifest.name}); put it back, or start a run with the new one",
                path=path,
            )


def _file(text: str, folder: str) -> Path | None:
    """The file that a text names, in ``folder`` first and then in the working folder."""
    if not {".", "/"} & set(text):
        return None
    with suppress(OSError, ValueError):  # too long for a name, or a NUL in it
        path = user_path(text)
        return next((place for place in (Path(folder) / path, path) if place.is_file()), None)
    return None


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a nested value, with its place: ``plugins.distill.teacher``."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(each, f"{place}.{key}" if place else str(key))
    elif isinstance(value, Sequence):
        for number, each in enumerate(value):
            entry = isinstance(each, Mapping) and len(each) == 1 and place == "plugins"
            yield from _texts(each, place if entry else f"{place}.{number}")
