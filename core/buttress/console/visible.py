"""Text from elsewhere, made safe for a terminal: a key of a config, the name of a file, an exception of a plugin."""

import re

# C0 except tabs and newlines, DEL and C1 (escape sequences begin with them); marks of writing direction;
# line separators other than the newline; invisible letters (tags, the byte order mark); halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_BREAKS = re.compile("[\t\n]")


def visible(text: str) -> str:
    """``text`` with every character that a terminal obeys or hides replaced by its escape, as in JSON.

    Tabs and newlines stay, since they are ours. Escaping twice changes nothing more.
    """
    return _UNSEEN.sub(_escape, text)


def one_line(text: str) -> str:
    """Like ``visible``, but on one line: for names, keys and other words within a sentence."""
    return _BREAKS.sub(_escape, visible(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
