"""Escapes characters in texts of others that would control a terminal, a table or a page."""

import re

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (ESC begins a command to the terminal), line separators, marks and overrides of the direction of
reading (Unicode Bidirectional Algorithm), and surrogates, which no file in UTF-8 can hold."""


def visible(text: str) -> str:
    r"""Replaces control characters by escapes: \x1b, \u202e, or \xff for a byte of a name that is not UTF-8.

    A text without such characters stays as it is, so escaping twice changes nothing.
    """
    return _STEERING.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python's code for such a byte
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
