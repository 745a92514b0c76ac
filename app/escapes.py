"""Texts of others on their way out: what would steer a terminal, a table or a page is shown as an escape instead."""

import re

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (ESC begins a command to the terminal), line separators, marks and overrides of the direction of
reading (Unicode Bidirectional Algorithm), and surrogates, which no file in UTF-8 can hold."""


def visible(text: str) -> str:
    r"""Replaces every character that steers by an escape: \x1b, \u202e, or \xff for a byte of a name that is no UTF-8.

    A text without such characters, one that went through here included, stays as it is.
    """
    return _STEERING.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python reads such a byte
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
