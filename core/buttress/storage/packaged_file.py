"""A file that lies in an installed package, such as data that come with it."""

import importlib.resources
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from buttress.errors import DataError


@contextmanager
def open_packaged_file(owner: str, package: str, path: str, *, distribution: str, extra: str) -> Iterator[IO[bytes]]:
    """The file at a path in a package, open for reading; the package is imported, its modules are not.

    Args:
        owner: name of the component that needs the file, for messages.
        package: name by which the package is imported.
        path: path of the file in the package, with slashes.
        distribution: name by which pip installs the package.
        extra: extra of buttress that installs it too.

    Raises:
        DataError: the package is not installed or has no such file, or the file cannot be read or decoded.
    """
    try:
        place = importlib.resources.files(package).joinpath(path)
    except ImportError as problem:
        raise DataError(
            f"{owner}: expected the package {distribution}, which has its images, and it cannot be imported "
            f"({problem}); pip install {distribution}, or pip install 'buttress[{extra}]'"
        ) from None
    try:
        with place.open("rb") as stream:
            yield stream
    except FileNotFoundError:
        raise DataError(
            f"{owner}: the installed {distribution} has no file {path}; expected it at {place}; "
            f"pip install --force-reinstall {distribution}"
        ) from None
    except (OSError, ValueError, EOFError, SyntaxError, zlib.error) as problem:
        raise DataError(
            f"{owner}: {place} cannot be read: {problem}; pip install --force-reinstall {distribution}"
        ) from None
