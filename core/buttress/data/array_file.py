"""Arrays of ``.npy`` and ``.npz`` files as places in a file, of which rows are read when they are asked for.

A member of an ``.npz`` file that is stored uncompressed (``np.savez``) is used where it lies. A compressed one
(``np.savez_compressed``) is unpacked once, into a ``.npy`` file of its own.
"""

from __future__ import annotations

import os
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import IO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from buttress.console.bars import byte_bar
from buttress.data.mapped_array import MappedArray
from buttress.errors import DataError, StorageError, extended
from buttress.storage.files import write_with
from buttress.storage.locks import open_lock_of, take_lock
from buttress.storage.regular_file import open_regular_file

_NPY, _ZIP, _LOCAL = b"\x93NUMPY", b"PK\x03\x04", 30
_CHUNK = 2**22
_ENCRYPTED = 1


def map_array(path: Path, name: str, cache: Path | None = None) -> MappedArray | None:
    """Map an array of a file; None where the file is an ``.npz`` without it. A ``.npy`` file is the array itself.

    Args:
        path: ``.npy`` or ``.npz`` file.
        name: name of the array in an ``.npz`` file.
        cache: folder for an array that has to be unpacked; default: that of the file.

    Raises:
        DataError: the file is missing, truncated or no such file, or the array is not stored plainly: row by row, in
            the byte order of this machine, without Python objects.
        StorageError: an array has to be unpacked, and cannot be written.
    """
    try:
        with open_regular_file(path) as raw:
            kind = raw.read(len(_NPY))
            if kind == _NPY:
                return _mapped(path, str(path))
            if not kind.startswith(_ZIP):
                raise DataError(
                    f"{path}: expected a file of np.save or np.savez, got one that begins with {kind!r}; save the "
                    "arrays anew, or name the right file"
                )
            with ZipFile(raw) as archive:
                member = next((each for each in archive.infolist() if each.filename == f"{name}.npy"), None)
                return None if member is None else _of_member(path, name, archive, member, cache)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path.absolute()} does not exist; correct the path") from None
    except OSError as problem:
        raise DataError(
            f"{path} cannot be read: {problem.strerror or problem}; check the path and its rights"
        ) from None
    except (BadZipFile, EOFError, zlib.error, RuntimeError, NotImplementedError, ValueError) as problem:
        raise DataError(
            f"{path} is damaged, or no .npz of plain arrays: {problem}; get or save the file anew"
        ) from None


def array_names(path: Path) -> list[str]:
    """Names of the arrays of an ``.npz`` file that ``map_array`` takes."""
    with ZipFile(path) as archive:
        return [each.filename.removesuffix(".npy") for each in archive.infolist()]


def _of_member(path: Path, name: str, archive: ZipFile, member: ZipInfo, cache: Path | None) -> MappedArray:
    what = f"{path}: {name}"
    if member.flag_bits & _ENCRYPTED:
        raise DataError(f"{what}: expected a plain array, got an encrypted one; save it anew with np.savez")
    with archive.open(member) as stream:
        _expect_plain(what, _Header.read(stream, what), member.file_size)
    if member.compress_type == ZIP_STORED:
        return _mapped(path, what, _start_of(path, member), member.file_size)
    return _mapped(_unpacked(path, name, archive, member, cache or path.parent), what)


def _start_of(path: Path, member: ZipInfo) -> int:
    """Position of the bytes of a stored member: behind its local header, whose length the central one does not tell."""
    with open_regular_file(path) as raw:
        raw.seek(member.header_offset)
        header = raw.read(_LOCAL)
    return (
        member.header_offset
        + _LOCAL
        + int.from_bytes(header[26:28], "little")
        + int.from_bytes(header[28:30], "little")
    )


def _mapped(path: Path, what: str, start: int = 0, size: int | None = None) -> MappedArray:
    """The array whose ``.npy`` bytes begin at ``start``; ``what`` names it in messages."""
    raw = open_regular_file(path)
    try:
        raw.seek(start)
        header = _Header.read(raw, what)
        _expect_plain(what, header, os.fstat(raw.fileno()).st_size - start if size is None else size)
        return MappedArray(raw, what, start + header.length, header.shape, header.dtype)
    except BaseException:
        raw.close()
        raise


# Headers


@dataclass(frozen=True)
class _Header:
    """The header of an array in NumPy's format."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype
    length: int

    @staticmethod
    def read(stream: IO[bytes] | BufferedReader, what: str) -> _Header:
        before = stream.tell()
        try:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, dtype = read(stream)
        except ValueError as problem:
            raise DataError(f"{what}: expected an array of np.save, got {problem}; save it anew") from None
        return _Header(shape, by_columns and len(shape) > 1, dtype, stream.tell() - before)


def _expect_plain(what: str, header: _Header, size: int) -> None:
    """Expect an array whose bytes, of which there are ``size`` with the header, can be used as they lie.

    Raises:
        DataError: names what it is instead.
    """
    dtype, got = header.dtype, ""
    if dtype.hasobject:
        got = "Python objects"
    elif dtype.names is not None or dtype.subdtype is not None:
        got = f"records of {dtype}"
    elif not dtype.isnative:
        got = f"{dtype.str}, in the byte order of another machine"
    elif header.by_columns:
        got = "an array in Fortran order, column by column"
    if got:
        raise DataError(
            f"{what}: expected plain numbers, row by row in the byte order of this machine, got {got}; save it anew: "
            "np.ascontiguousarray(array, dtype='u1') for images, 'i8' for labels"
        )
    needed = header.length + prod(header.shape) * dtype.itemsize
    if size < needed:
        raise DataError(
            f"{what}: expected {needed:,} bytes for {dtype} {header.shape}, got {size:,}: it is truncated; get or save "
            "the file anew"
        )


# Compressed members


def _unpacked(path: Path, name: str, archive: ZipFile, member: ZipInfo, folder: Path) -> Path:
    """The ``.npy`` file of a compressed member, which is made where there is none yet that is whole.

    Its name has the member's CRC-32 in it, so that another content has another file. It is whole if its size is right
    and its time is that of the ``.npz`` file, which it is given at the end, or else if its own CRC-32 is right.
    """
    target = folder / f"{path.stem}.{name}-{member.CRC:08x}.npy"
    if _is_whole(target, path, member):
        return target
    try:
        descriptor = open_lock_of(folder)
    except OSError as problem:
        raise DataError(f"{folder}: expected a folder to unpack {path}: {name} into: {problem}{_cure(path)}") from None
    try:
        take_lock(descriptor, wait=True)  # several processes begin at once, and one of them unpacks
        if not _is_whole(target, path, member):
            _expect_room(path, name, member, folder)
            try:
                write_with(target, lambda temporary: _unpack(path, name, archive, member, temporary))
            except StorageError as problem:
                raise extended(problem, _cure(path)) from None
    finally:
        os.close(descriptor)
    return target


def _cure(path: Path) -> str:
    return (
        f"; or set cache to a folder that can be written, or save {path.name} uncompressed, by np.savez, which is used "
        "as it is"
    )


def _expect_room(path: Path, name: str, member: ZipInfo, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < member.file_size:
        raise DataError(
            f"{path}: {name} takes {member.file_size / 1e9:,.1f} GB unpacked, and {free / 1e9:,.1f} GB are free in "
            f"{folder}; free some space{_cure(path)}"
        )


def _unpack(path: Path, name: str, archive: ZipFile, member: ZipInfo, target: Path) -> None:
    done = 0
    with archive.open(member) as stream, target.open("wb") as out, byte_bar(f"unpacking {path.name}: {name}") as show:
        while chunk := stream.read(_CHUNK):  # its CRC-32 is compared at the end
            out.write(chunk)
            show(done := done + len(chunk), member.file_size)
    _date(target, path)


def _is_whole(target: Path, path: Path, member: ZipInfo) -> bool:
    try:
        with open_regular_file(target) as stream:
            status = os.fstat(stream.fileno())
            if status.st_size != member.file_size:
                return False
            if status.st_mtime_ns == path.stat().st_mtime_ns:
                return True
            crc = 0
            while chunk := stream.read(_CHUNK):
                crc = zlib.crc32(chunk, crc)
    except FileNotFoundError:
        return False
    if crc == member.CRC:
        with suppress(OSError):  # a file of somebody else is compared again next time
            _date(target, path)
    return crc == member.CRC


def _date(target: Path, source: Path) -> None:
    """Give a file the times of another one."""
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
