"""Rows of bytes filled from files, one call of the system after another."""

from collections.abc import Sequence

from buttress.storage.tensor_file import TensorFile


def read_rows(files: Sequence[TensorFile], offsets: Sequence[int], rows: Sequence[memoryview]) -> None:
    """Fill each row with its file's bytes from its offset on.

    Raises:
        CheckpointError: a file cannot be read, or ends before; names it.
    """
    for file, offset, row in zip(files, offsets, rows, strict=True):
        file.read_into(row, offset)
