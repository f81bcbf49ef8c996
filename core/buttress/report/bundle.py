"""The compressed parts of a page: its figures, and the part of plotly.js that draws them.

All of plotly.js is 4.8 MB. ``plotly/`` holds the library's own bundle of scatter and 3-D traces, compressed (0.6 MB);
``scripts/plotly_bundle`` fetches another version.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from importlib.resources import files


def plotly_bundle() -> str:
    """The bundle, compressed by gzip, in base64."""
    (file,) = (each for each in files("buttress.report").joinpath("plotly").iterdir() if each.name.endswith(".gz"))
    return base64.b64encode(file.read_bytes()).decode()


def packed(texts: Sequence[str]) -> str:
    """A JSON list of ``texts``, compressed by gzip, in base64; equal texts give equal results at any time."""
    return base64.b64encode(gzip.compress(json.dumps(texts).encode(), mtime=0)).decode()


def unpacked(text: str) -> list[str]:
    """The texts that ``packed`` was given."""
    texts: list[str] = json.loads(gzip.decompress(base64.b64decode(text)))
    return texts
