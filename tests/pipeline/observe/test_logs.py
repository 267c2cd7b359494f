"""Logs: fields, secrets, escape sequences and floods."""

import io
import json
import logging
import re
import time
from datetime import datetime

import pytest

from pipeline.clock import ManualClock
from pipeline.observe.logs import (
    MAX_ALIKE,
    WINDOW_S,
    RateLimit,
    RateLimitedHandler,
    TextFormatter,
    set_up_logs,
)

LOGGER = logging.getLogger("maskstream.test")


class Flood:
    """A handler with a clock of its own and timers that a test lets go off."""

    def __init__(self, read):
        self.clock, self.timers, self._read = ManualClock(), [], read
        self.handler = RateLimitedHandler(self.clock, self._call_later)
        self.handler.setFormatter(logging.Formatter("%(message)s"))
        LOGGER.addHandler(self.handler)

    def _call_later(self, delay_s, call):
        self.timers.append((self.clock.monotonic_s() + delay_s, call))

    def advance(self, seconds):
        self.clock.advance(seconds)
        due = [call for at_s, call in self.timers if at_s <= self.clock.monotonic_s()]
        self.timers = [timer for timer in self.timers if timer[1] not in due]
        for call in due:
            call()

    def lines(self):
        return self._read().err.splitlines()


@pytest.fixture
def flood(capsys):
    flood = Flood(capsys.readouterr)
    yield flood
    LOGGER.removeHandler(flood.handler)


def drop(number, *, stream="gate"):
    LOGGER.warning("dropped frame %d", number, extra={"stream": stream})


def shown(style, capsys, log):
    """Return what is on stderr after ``log`` was called."""
    set_up_logs(style=style, level=logging.INFO)
    log()
    return capsys.readouterr().err


def test_text_line_has_date_zone_level_logger_and_fields(capsys):
    extra = {"stream": "gate", "sink": "kafka"}
    line = shown("text", capsys, lambda: LOGGER.info("all is %s", "well", extra=extra))
    stamp, rest = line.split(" ", 1)
    assert datetime.fromisoformat(stamp).tzinfo is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", stamp)
    assert rest == "INFO    maskstream.test [stream=gate sink=kafka]: all is well\n"


def test_text_line_without_fields_has_no_brackets(capsys):
    line = shown("text", capsys, lambda: LOGGER.warning("starting"))
    assert line.endswith(" WARNING maskstream.test: starting\n")


def test_json_line_has_every_field(capsys):
    error = ValueError("no picture")
    log = LOGGER.error
    line = shown(
        "json", capsys, lambda: log("frame %d", 7, exc_info=error, extra={"stream": "gate"})
    )
    body = json.loads(line)
    assert list(body) == ["time", "level", "logger", "message", "stream", "sink", "error"]
    assert body["time"].endswith("Z")
    assert (body["level"], body["logger"]) == ("error", "maskstream.test")
    assert (body["message"], body["stream"], body["sink"]) == ("frame 7", "gate", None)
    assert body["error"] == "ValueError: no picture"


def test_level_decides_what_is_shown(capsys):
    assert shown("text", capsys, lambda: LOGGER.debug("detail")) == ""
    set_up_logs()
    LOGGER.info("story")
    assert capsys.readouterr().err == ""


def test_setting_up_twice_shows_a_line_once(capsys):
    set_up_logs()
    assert shown("text", capsys, lambda: LOGGER.warning("once")).count("once") == 1


@pytest.mark.parametrize("style", ["text", "json"])
def test_passwords_are_hidden_everywhere(style, capsys):
    url = "rtsp://bob:hunter2@camera/1"

    def log():
        LOGGER.error("at %s", url, exc_info=ValueError(f"bad {url}"), extra={"stream": url})

    told = shown(style, capsys, log)
    assert told.count("camera") == 3
    assert "hunter2" not in told


@pytest.mark.parametrize("style", ["text", "json"])
def test_long_message_is_cut_without_showing_half_a_secret(style, capsys):
    told = shown(style, capsys, lambda: LOGGER.error("%s", "x" * 3980 + " rtsp://bob:hunter2@gate"))
    assert "hunt" not in told
    told = shown(style, capsys, lambda: LOGGER.error("x" * 5000))
    assert len(told) < 4400
    assert "(1000 more characters)" in told


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize(
    "evil", ["\x1b[2J", "\n2026 forged", "\x9b2J", "\u202egnp", "\r", "\u2028"]
)
def test_names_from_outside_steer_no_terminal(style, evil, capsys):
    error = ValueError(f"{evil}error")
    told = shown(
        style, capsys, lambda: LOGGER.error("at %s", evil, exc_info=error, extra={"stream": evil})
    )
    assert not set("\x1b\x9b\u202e\r\u2028") & set(told)
    assert not [line for line in told.splitlines() if line.startswith("2026 forged")]


def test_traceback_is_indented(capsys):
    def log():
        try:
            int("no number")
        except ValueError:
            LOGGER.exception("lost")

    first, *trace = shown("text", capsys, log).splitlines()
    assert first.endswith(": lost")
    assert trace[0] == "  Traceback (most recent call last):"
    assert trace[-1].startswith("  ValueError: invalid literal")


def test_flood_is_a_few_lines_and_a_count(flood):
    for number in range(4936):
        drop(number)
    assert flood.lines() == [f"dropped frame {number}" for number in range(MAX_ALIKE)]
    flood.advance(WINDOW_S)  # nothing else is logged
    assert flood.lines() == [f"dropped frame 4935 (+{4936 - MAX_ALIKE - 1} like it in 10 s)"]


def test_lasting_flood_is_one_line_per_window(flood):
    for number in range(800):
        drop(number)
        flood.advance(0.125)
    flood.advance(WINDOW_S)
    lines = flood.lines()
    assert len(lines) == MAX_ALIKE + 800 * 0.125 / WINDOW_S
    hidden = [int(line.partition("(+")[2].partition(" ")[0]) for line in lines[MAX_ALIKE:]]
    assert MAX_ALIKE + sum(num + 1 for num in hidden) == 800


def test_after_a_quiet_window_lines_are_shown_again(flood):
    for number in range(20):
        drop(number)
    flood.advance(WINDOW_S)
    flood.advance(WINDOW_S)
    flood.lines()
    drop(20)
    assert flood.lines() == ["dropped frame 20"]


def test_one_hidden_line_is_shown_as_it_is(flood):
    for number in range(MAX_ALIKE + 1):
        drop(number)
    flood.advance(WINDOW_S)
    assert flood.lines()[-1] == f"dropped frame {MAX_ALIKE}"


def test_streams_sinks_templates_and_errors_do_not_hide_one_another(flood):
    for number in range(20):
        drop(number)
    flood.lines()
    drop(0, stream="yard")
    LOGGER.warning("dropped frame %d", 0, extra={"sink": "kafka"})
    LOGGER.warning("lost", extra={"stream": "gate"})
    for _ in range(20):
        LOGGER.warning("%s", ValueError("a"), extra={"stream": "gate"})
    LOGGER.warning("%s", OSError("b"), extra={"stream": "gate"})
    lines = flood.lines()
    assert lines == ["dropped frame 0", "dropped frame 0", "lost", *["a"] * MAX_ALIKE, "b"]


def test_open_counts_are_shown_at_the_end(flood):
    for number in range(20):
        drop(number)
    flood.lines()
    flood.handler.close()
    assert flood.lines() == [f"dropped frame 19 (+{20 - MAX_ALIKE - 1} like it in 10 s)"]


def test_counts_hold_no_error_alive():
    limit = RateLimit()
    for _ in range(MAX_ALIKE + 1):
        record = LOGGER.makeRecord("a", 30, "f", 1, "%s", (OSError("x"),), (OSError, None, None))
        limit.admit(record, 0.0)
    [summary] = limit.take_due(WINDOW_S)
    assert (summary.getMessage(), summary.args, summary.exc_info) == ("x", None, None)


def test_kinds_are_bounded():
    limit = RateLimit()
    for number in range(3000):
        record = LOGGER.makeRecord("a", 30, "f", 1, f"kind {number}", (), None)
        limit.admit(record, 0.0)
    assert len(limit._kinds) == 1001
    limit.take_due(WINDOW_S)
    limit.take_due(2 * WINDOW_S)
    assert len(limit._kinds) == 0


def test_debug_shows_every_line(capsys):
    set_up_logs(level=logging.DEBUG)
    for number in range(50):
        drop(number)
    assert len(capsys.readouterr().err.splitlines()) == 50


def test_line_goes_to_what_stderr_is_now(monkeypatch, capsys):
    set_up_logs()
    monkeypatch.setattr("sys.stderr", written := io.StringIO())
    LOGGER.warning("here")
    assert "here" in written.getvalue()


def test_zone_is_that_of_the_machine(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    record = LOGGER.makeRecord("a", 30, "f", 1, "x", (), None)
    record.created = 0.0
    line = TextFormatter().format(record)
    monkeypatch.undo()
    time.tzset()
    assert line.startswith("1970-01-01T05:30:00.000+05:30 ")
