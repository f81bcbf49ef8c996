"""The compiled reading of files, called as its twin in Python is."""

from collections.abc import Sequence
from importlib import import_module

from buttress.kernels import reference
from buttress.storage.tensor_file import TensorFile


def read_rows(files: Sequence[TensorFile], offsets: Sequence[int], rows: Sequence[memoryview]) -> None:
    filled = import_module("buttress._C").read_rows([file.fileno() for file in files], offsets, rows)
    if filled < len(rows):  # Python reads on, and names what is wrong
        reference.read_rows(files[filled:], offsets[filled:], rows[filled:])
