"""What a long run is doing, for the person who waits: a live line or two on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from types import TracebackType
from typing import IO, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dailyread.report.wording import gas_day, plain

LINES_MAX = 10
REFRESH_PER_S = 8


class Progress:
    """Shows how far a run over Gas Days has come. Leave the block and the last state stays on the screen.

    `with Progress("demo", 40) as progress: progress.update(day, {"polls": 12, "failures": 0})`. Days may come again (the
    counters change while a Day goes on); elsewhere than on a terminal about every tenth part of the run gets a line.
    """

    def __init__(self, title: str, days_total: int, to: IO[str] | None = None) -> None:
        self._title = title
        self._total = max(1, days_total)
        self._to = to or sys.stderr
        self._console = Console(file=self._to, highlight=False)
        self._live: Live | None = None
        self._handlers: list[logging.StreamHandler[IO[str]]] = []
        self._days: set[date] = set()
        self._line_at = 0
        self._counters: Mapping[str, int] = {}
        self._day: date | None = None
        self._began_s = time.monotonic()

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            before = sys.stderr
            self._live = Live(console=self._console, get_renderable=self._picture, refresh_per_second=REFRESH_PER_S)
            self._live.start()
            # Log handlers keep the stream they began with: give them the one that writes above the live part.
            self._handlers = [h for h in _stream_handlers() if h.stream is before]
            for handler in self._handlers:
                handler.setStream(sys.stderr)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            for handler in self._handlers:
                handler.setStream(sys.stderr)
        elif self._day is not None and self._line_at != len(self._days):
            self._write_line()

    def update(self, day: date, counters: Mapping[str, int]) -> None:
        """The run is at this Gas Day, and these are the counts so far, by their names as people read them."""
        self._days.add(day)
        self._day = day
        self._counters = dict(counters)
        step = max(1, self._total // LINES_MAX)
        if self._live is None and len(self._days) >= self._line_at + step:
            self._write_line()

    def note(self, text: str) -> None:
        """One line that stays, above the live part: something worth knowing happened."""
        if self._live is not None:
            self._live.console.print(Text(plain(text)))
        else:
            self._put(plain(text))

    def _write_line(self) -> None:
        self._line_at = len(self._days)
        self._put(f"{self._title}: {self._where()}; {self._counts()}")

    def _put(self, line: str) -> None:
        """Write to the stream; who closed it does not want to know, and the run goes on."""
        with suppress(BrokenPipeError):
            print(line, file=self._to, flush=True)

    def _where(self) -> str:
        return f"Day {len(self._days)} of {self._total}, {gas_day(self._day)}" if self._day else "starting"

    def _counts(self) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in self._counters.items())

    def _picture(self) -> Group:
        elapsed_s = time.monotonic() - self._began_s
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self._total, completed=len(self._days), width=30, complete_style="cyan", finished_style="green")
        line.add_row(Text(self._title, style="bold"), bar, Text(self._where()), Text(f"{elapsed_s:.0f} s", style="dim"))
        counts = Text("  ")
        for name, count in self._counters.items():
            counts.append(f"{name} ", style="dim").append(f"{count:,}   ", style=self._style(name, count))
        return Group(line, counts)

    @staticmethod
    def _style(name: str, count: int) -> str:
        return "bold yellow" if count and "fail" in name else "bold"


def _stream_handlers() -> list[logging.StreamHandler[IO[str]]]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
