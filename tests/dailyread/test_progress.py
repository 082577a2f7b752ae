"""Live progress: a moving picture on a terminal, a few lines elsewhere, and log lines whole in both."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from contextlib import suppress
from datetime import date, timedelta

import pytest

from dailyread.progress import LINES_MAX, Progress

FIRST = date(2025, 9, 26)
SCRIPT = """
import logging, sys
from datetime import date, timedelta
from dailyread.progress import Progress
logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
with Progress("demo", 40) as progress:
    for n in range(40):
        progress.update(date(2025, 9, 26) + timedelta(n), {"polls": n * 30, "failed polls": n // 10})
        if n == 20:
            logging.warning("SMP-07 [red]has gone[/red]")
            progress.note("SMP-03 is \\x1b[31msilent")
logging.warning("after")
"""


def run(days: int, total: int) -> list[str]:
    out = io.StringIO()
    with Progress("demo", total, out) as progress:
        for n in range(days):
            for polls in (n * 30, n * 30 + 15):
                progress.update(FIRST + timedelta(days=n), {"polls": polls, "facts": n * 1000})
    return out.getvalue().splitlines()


def test_lines_elsewhere_are_few_and_end_with_the_last_day() -> None:
    lines = run(40, 40)
    assert len(lines) == LINES_MAX
    assert lines[0] == "demo: Day 4 of 40, Mon 29 Sep 2025; polls 90, facts 3,000"
    assert lines[-1] == "demo: Day 40 of 40, Tue 4 Nov 2025; polls 1,170, facts 39,000"


@pytest.mark.parametrize(("days", "total"), [(1, 1), (3, 40), (7, 7), (41, 400)])
def test_where_a_run_ended_is_always_told(days: int, total: int) -> None:
    lines = run(days, total)
    assert 1 <= len(lines) <= LINES_MAX
    assert lines[-1].startswith(f"demo: Day {days} of {total}, ")


def test_nothing_to_tell() -> None:
    assert run(0, 40) == []


def test_where_a_run_failed_is_told() -> None:
    out = io.StringIO()
    with suppress(ZeroDivisionError), Progress("demo", 40, out) as progress:
        progress.update(FIRST, {"polls": 1})
        raise ZeroDivisionError
    assert out.getvalue() == "demo: Day 1 of 40, Fri 26 Sep 2025; polls 1\n"


def on_a_terminal(term: str) -> str:
    keyboard, screen = pty.openpty()
    environment = os.environ | {"TERM": term, "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=screen, stderr=screen, env=environment)
    os.close(screen)
    seen = b""
    try:
        while data := os.read(keyboard, 65536):
            seen += data
    except OSError:  # Linux says EIO when the other end of a pty has gone
        pass
    os.close(keyboard)
    assert process.wait() == 0
    return seen.decode()


def test_picture_on_a_terminal() -> None:
    seen = on_a_terminal("xterm-256color")
    assert "\x1b[?25l" in seen  # the cursor goes while it moves,
    assert seen.count("\x1b[?25h") == 1  # and comes back
    last = seen[seen.rindex("Day 40 of 40, Tue 4 Nov 2025") :]
    assert "1,170" in last
    for whole in ("WARNING SMP-07 [red]has gone[/red]\r\n", "SMP-03 is \ufffd[31msilent\r\n", "WARNING after\r\n"):
        assert whole in seen


def test_lines_on_a_terminal_that_cannot_move() -> None:
    seen = on_a_terminal("dumb")
    assert "\x1b" not in seen
    assert seen.count("demo: Day ") == LINES_MAX
