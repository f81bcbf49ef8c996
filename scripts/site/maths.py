"""A hook of MkDocs: formulas become MathML, so that a page needs no script and no server to show them.

In the sources they stand as ``$..$`` and ``$$..$$``, which a forge renders itself; ``pymdownx.arithmatex`` finds them.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>', flags=re.DOTALL
)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Called with the HTML of every page."""
    return _FORMULA.sub(lambda formula: _mathml(formula, page.file.src_uri), content)


def _mathml(formula: re.Match[str], page: str) -> str:
    latex, display = html.unescape(formula["latex"]).strip(), "block" if formula["open"] == "[" else "inline"
    try:
        return str(convert(latex, display=display))
    except Exception as problem:  # the converter raises many kinds
        raise PluginError(f"{page}: no formula: {latex!r} ({type(problem).__name__}: {problem})") from problem
