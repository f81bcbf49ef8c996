"""Write files so that they survive a crash: JSON, text, and tensors as safetensors, never pickle.

A file is written beside its place, synced, and renamed. ``reading`` reads them.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from buttress.errors import StorageError
from buttress.storage.reading import system_error

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names that may be part of a file name: no separator, no leading dot."""

_FULL = {errno.ENOSPC, errno.EFBIG, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])}

FOLDERS_OPEN = os.name != "nt"
"""Whether a folder can be opened, to be synced and locked; Windows opens files only."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, object] | None = None) -> str:
    """Write a safetensors file atomically; return its sha256. Equal tensors and facts give equal files.

    ``facts`` become one JSON text in the header (safetensors does not keep the order of several). Tensors that share
    memory are written as copies of their own.

    Raises:
        StorageError: the disk is full or refuses; whatever stood at ``path`` still does.
    """
    own = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    header = header_facts(facts) if facts else None
    seen: set[int] = set()
    for name, tensor in own.items():
        if tensor.untyped_storage().data_ptr() in seen:
            own[name] = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
    return write_with(path, lambda temporary: save_file(own, temporary, header))


def header_facts(facts: Mapping[str, object]) -> dict[str, str]:
    """The metadata of a safetensors header that ``read_facts`` reads."""
    return {"buttress": json.dumps(facts, sort_keys=True)}


def write_json(path: Path, value: object) -> str:
    """Write JSON atomically, one text for equal values; return the sha256 of the file."""
    return write_text(path, json_text(value, sort_keys=True))


def json_text(value: object, sort_keys: bool = False) -> str:
    """JSON for a file; with ``sort_keys`` one text for equal values, else the keys keep their order."""
    return json.dumps(value, indent=1, sort_keys=sort_keys) + "\n"


def write_text(path: Path, text: str) -> str:
    """Write a text file atomically; return its sha256."""
    return write_with(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, data: bytes) -> str:
    """Write a file atomically; return its sha256."""
    return write_with(path, lambda temporary: temporary.write_bytes(data))


def write_with(path: Path, write: Callable[[Path], object]) -> str:
    """Let ``write(temporary)`` make a file, then put it at ``path`` atomically; return its sha256.

    The file has the permissions that the umask (or the folder's access list) gives to new files, whatever ``write``
    gave it: the safetensors library makes files that only their owner can read.

    Raises:
        StorageError: the disk is full or refuses; whatever stood at ``path`` still does.
    """
    temporary = _temporary(path)
    with storage_errors(path):
        try:
            temporary.touch(exist_ok=False)
            permissions = temporary.stat().st_mode
            write(temporary)
            temporary.chmod(permissions)
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            temporary.replace(path)
            sync_folder(path.parent)
            return digest
        finally:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}")


# The second kind is made by the safetensors library, which writes beside the file that it is to write.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.[^.]+)?|\.tmp[A-Za-z0-9]{6}")


def finished_files(folder: Path, pattern: str) -> list[Path]:
    """The files in ``folder`` that match ``pattern``, sorted; temporary files of a killed writer are none of them."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files of writers that were killed, in all of ``folder``; returns them.

    Call it only while other writers are kept out: the temporary file of a writer that is alive looks the same.
    """
    with storage_errors(folder):
        leftovers = [path for path in folder.rglob(".*") if _TEMPORARY.fullmatch(path.name) and path.is_file()]
        for path in leftovers:
            path.unlink()
    return leftovers


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name, atomically, in the place of whatever has it; a copy where there are no hard links.

    Raises:
        StorageError: the disk is full or refuses, or there is no source.
    """
    temporary = _temporary(target)
    with storage_errors(target):
        if target.exists() and target.samefile(source):
            return
        try:
            os.link(source, temporary)
            temporary.replace(target)
        except OSError:  # a file system without hard links; whatever else is wrong, copying says too
            write_with(target, lambda copy: shutil.copyfile(source, copy))
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(target.parent)


def unshare_file(path: Path) -> None:
    """Copy a file that has further names before it is written in place, so that only this one changes.

    ``cp -al`` makes such names, and a link to another file is one.

    Raises:
        StorageError: the disk is full or refuses.
    """
    with storage_errors(path):
        if path.is_symlink() or (path.exists() and path.stat().st_nlink > 1):
            write_with(path, lambda copy: shutil.copyfile(path, copy))


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing; a power failure leaves what has been made.

    Raises:
        StorageError: the disk is full or refuses.
    """
    with storage_errors(path):
        if path.is_dir():
            return
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable, where the system syncs folders."""
    if not FOLDERS_OPEN:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system about writing ``path`` into a StorageError that names the cure."""
    try:
        yield
    except SafetensorError as problem:
        code = system_error(problem)
        if code is None:
            raise
        raise _storage_error(path, OSError(code, os.strerror(code))) from problem
    except OSError as problem:
        raise _storage_error(path, problem) from problem


def _storage_error(path: Path, problem: OSError) -> StorageError:
    cure = "free some space" if problem.errno in _FULL else "check the folder and its permissions"
    return StorageError(
        f"cannot write {path}: {problem.strerror or problem}; what was saved before is intact; {cure}, "
        f"then give the command again, or continue a run with 'buttress resume'"
    )
