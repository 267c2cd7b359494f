"""Text from outside that a terminal is to show."""

import re

# C0 and C1 controls, line separators, the overrides of writing direction, and halves of characters
# that no terminal can be sent.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_controls(text: str) -> str:
    r"""Return ``text`` with each character that steers a terminal written out.

    Stream ids, concepts and messages of libraries come from outside: raw, an escape sequence could
    move the cursor, and a line feed could forge a line of a log.

    >>> escape_controls("deer\x1b[2J\n")
    'deer\\x1b[2J\\n'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
