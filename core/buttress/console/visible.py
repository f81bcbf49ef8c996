"""Text of strangers made fit for a terminal: a key of a config, a file's name, an exception of a plugin."""

import re

# C0 but tabs and newlines, DEL and C1 (escape sequences begin with them); marks that turn the direction of writing;
# separators of lines that are no newline; letters that nobody sees (tags, the byte order mark); halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_BREAKS = re.compile("[\t\n]")


def visible(text: str) -> str:
    """``text`` with whatever a terminal would obey or hide written as an escape, as JSON writes it.

    Tabs and newlines stay: they are ours. Escaping what is escaped already changes nothing.
    """
    return _UNSEEN.sub(_escape, text)


def one_line(text: str) -> str:
    """As ``visible``, for what must not begin a line of its own: names, keys and other words within a sentence."""
    return _BREAKS.sub(_escape, visible(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
