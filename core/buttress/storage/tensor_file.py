"""Read safetensors files piece by piece into memory of the caller, without mapping them.

The format (https://github.com/huggingface/safetensors, "Format"): 8 bytes, the length of the header as a little-endian
integer; the header, a JSON object from each tensor's name to its dtype, shape and begin and end in the data; the data,
without gaps. The ``safetensors`` library reads by mapping files into memory, which the kernel counts as the process's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from buttress.errors import CheckpointError
from buttress.storage.regular_file import expect_regular_file

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

# Longer headers are refused, as the safetensors library does: a damaged length must not ask for gigabytes.
_LONGEST_HEADER = 100_000_000

# Bytes that are read at once where a tensor is read in order.
_PIECE = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its dtype and shape, and where in the file its bytes begin."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def __str__(self) -> str:
        return f"shape {self.shape}, {self.dtype}"


class TensorFile:
    """An open safetensors file.

    Args:
        path: the file.
        entries: its tensors by name, in the order of their bytes.
        descriptor: open for reading.
    """

    def __init__(self, path: Path, entries: Mapping[str, Entry], descriptor: int) -> None:
        self.path, self.entries = path, entries
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Its descriptor."""
        return self._descriptor

    def read_into(self, target: memoryview, offset: int) -> None:
        """Fill ``target`` with the file's bytes from ``offset`` on.

        Raises:
            CheckpointError: they cannot be read, or the file ends before.
        """
        while target:
            try:
                got = os.preadv(self._descriptor, [target], offset)
            except OSError as problem:
                raise CheckpointError(f"{self.path} cannot be read: {problem.strerror}", path=self.path) from None
            if got == 0:
                raise CheckpointError(
                    f"{self.path} cannot be read: it has become shorter while it was read", path=self.path
                )
            target, offset = target[got:], offset + got

    def pieces(self, entry: Entry) -> Iterator[memoryview]:
        """The bytes of a tensor, in order, each piece in the memory of the one before.

        Raises:
            CheckpointError: they cannot be read, or the file ends before.
        """
        memory = memoryview(bytearray(min(entry.nbytes, _PIECE)))
        for start in range(0, entry.nbytes, _PIECE):
            piece = memory[: entry.nbytes - start]
            self.read_into(piece, entry.begin + start)
            yield piece

    def will_need(self, offset: int, length: int) -> None:
        """Have the system read this range into its own cache meanwhile."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_WILLNEED)


@contextmanager
def open_tensor_files(paths: Iterable[Path]) -> Iterator[list[TensorFile]]:
    """Open the files and check their headers.

    Raises:
        CheckpointError: one is missing, truncated, or no safetensors file.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_open(Path(path))) for path in paths]


@contextmanager
def _open(path: Path) -> Iterator[TensorFile]:
    try:
        expect_regular_file(path)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist", path=path) from None
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}", path=path) from None
    try:
        try:
            entries = _entries(descriptor)
        except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else problem
            raise CheckpointError(
                f"{path} cannot be read: {reason}; the file is truncated or no safetensors", path=path
            ) from None
        yield TensorFile(path, entries, descriptor)
    finally:
        os.close(descriptor)


def _entries(descriptor: int) -> dict[str, Entry]:
    """The tensors of an open file.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, OSError: its header is none, or promises what is not there.
    """
    size = os.fstat(descriptor).st_size
    length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
        raise ValueError(f"its {size:,} bytes cannot hold a header of {length:,}")
    header: dict[str, Any] = json.loads(os.pread(descriptor, length, 8))
    header.pop("__metadata__", None)
    data, end = 8 + length, 0
    entries = {}
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, stop) = tensor["dtype"], tuple(map(int, tensor["shape"])), tensor["data_offsets"]
        if dtype not in DTYPES:
            raise ValueError(f"{name!r} has dtype {dtype}, expected one of {', '.join(DTYPES)}")
        entry = entries[name] = Entry(DTYPES[dtype], shape, data + start)
        if min(shape, default=0) < 0 or start != end or stop - start != entry.nbytes:
            raise ValueError(f"the header places {name!r}, {entry}, at bytes {start} to {stop}, after byte {end}")
        end = stop
    if data + end != size:
        raise ValueError(f"its header promises {data + end:,} bytes, it holds {size:,}")
    return entries


def header_of(entries: Mapping[str, Entry], metadata: Mapping[str, str] | None) -> tuple[bytes, dict[str, Entry]]:
    """The header of a file that holds such tensors one after another, and where in it each of them begins."""
    body: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    names = {dtype: name for name, dtype in DTYPES.items()}
    end = 0
    for name, entry in entries.items():
        offsets = [end, end + entry.nbytes]
        body[name] = {"dtype": names[entry.dtype], "shape": list(entry.shape), "data_offsets": offsets}
        end = offsets[1]
    text = json.dumps(body, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8 bytes
    first = 8 + len(text)
    placed = {
        name: Entry(entry.dtype, entry.shape, first + body[name]["data_offsets"][0]) for name, entry in entries.items()
    }
    return len(text).to_bytes(8, "little") + text, placed
