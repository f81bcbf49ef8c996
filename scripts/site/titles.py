"""A hook of MkDocs: in the navigation the page of a method has the name that a config has for it.

Its heading says more: ``# awp: the loss is taken at the worst weights of one step``.
"""

from typing import Any


def on_nav(nav: Any, **_: Any) -> None:
    """Called once, with the whole navigation."""
    for page in nav.pages:
        heading = page.file.content_string.partition("\n")[0]
        if page.file.src_uri.startswith("methods/") and ": " in heading:
            page.title = heading.removeprefix("# ").partition(":")[0]
