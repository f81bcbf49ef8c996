"""Read files and verify them: JSON, tensors and the facts beside them, as ``files`` writes them; never pickle.

A file that is damaged is a CheckpointError, one that the system withholds an UnreadableError.
"""

import errno
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from buttress.errors import CheckpointError, UnreadableError
from buttress.storage.regular_file import expect_regular_file, open_regular_file, read_regular_file

_NO_FILE = {errno.ENOENT, errno.EISDIR, errno.EINVAL, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
"""Errors of the system where something else than a file stands; any other error may be over soon."""


def file_sha256(path: Path) -> str:
    with open_regular_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def has_sha256(path: Path, sha256: str) -> bool:
    """Whether there is such a file with that content.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return file_sha256(path) == sha256
    except FileNotFoundError:
        return False
    except OSError as problem:
        expect_handed_out(path, problem)
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}", path=path) from None


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        CheckpointError: missing, truncated, or with another sha256 than expected.
        UnreadableError: the system does not hand it out.
    """
    try:
        if sha256 is not None and file_sha256(path) != sha256:
            raise CheckpointError(f"{path} is damaged: its sha256 is not the recorded one", path=path)
        expect_regular_file(path)
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist", path=path) from None
    except (SafetensorError, OSError) as problem:
        expect_handed_out(path, problem)
        raise CheckpointError(
            f"{path} cannot be read: {problem}; the file is truncated or no safetensors", path=path
        ) from None


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        CheckpointError: missing or not JSON, or a text in it cannot be written again.
        UnreadableError: the system does not hand it out.
    """
    try:
        return parse_json(read_regular_file(path).decode("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist", path=path) from None
    except (ValueError, OSError) as problem:
        expect_handed_out(path, problem)
        raise CheckpointError(f"{path} cannot be read: {problem}", path=path) from None
    except RecursionError:
        raise CheckpointError(f"{path} cannot be read: it is nested too deeply", path=path) from None


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError, RecursionError: it is none, or holds half of a character (a lone surrogate), which no file can.
    """
    value = json.loads(text)
    if (b"\\u" if isinstance(text, bytes) else "\\u") in text:  # type: ignore[operator]
        json.dumps(value, ensure_ascii=False).encode()
    return value


def read_facts(path: Path) -> dict[str, Any]:
    """The ``facts`` that ``write_tensors`` put into the header; empty where there are none.

    Raises:
        CheckpointError: missing, truncated, or a header that has been changed.
    """
    try:
        expect_regular_file(path)
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("buttress", "{}"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist", path=path) from None
    except (SafetensorError, OSError, ValueError, RecursionError) as problem:
        raise CheckpointError(
            f"{path} cannot be read: {problem}; the file is truncated or no safetensors", path=path
        ) from None
    if not isinstance(facts, dict):
        raise CheckpointError(f"{path} is damaged: its header holds no facts about the tensors", path=path)
    return facts


def expect_handed_out(path: Path, problem: Exception) -> None:
    """Distinguish a file that the system withholds from one that is damaged.

    Raises:
        UnreadableError: the system does not hand the file out, whatever stands in it.
    """
    code = system_error(problem)
    if code is not None and code not in _NO_FILE:
        raise UnreadableError(f"{path} cannot be read: {os.strerror(code)}", path=path) from None


def system_error(problem: Exception) -> int | None:
    """The errno of an error of the operating system, also where the safetensors library passes it on."""
    if isinstance(problem, OSError):
        return problem.errno
    code = re.search(r"os error (\d+)", str(problem)) if isinstance(problem, SafetensorError) else None
    return int(code.group(1)) if code else None
