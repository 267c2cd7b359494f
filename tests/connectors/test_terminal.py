"""Text from outside on a terminal."""

import pytest

from connectors.terminal import escape_controls


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("deer, Rehe, 鹿, 🦌", "deer, Rehe, 鹿, 🦌"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x00\x1f\x7f\x80\x9f", "\\x00\\x1f\\x7f\\x80\\x9f"),
        ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ud800", "\\ud800"),
    ],
)
def test_controls_are_written_out_and_letters_are_not(raw, shown):
    assert escape_controls(raw) == shown
