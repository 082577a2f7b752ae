"""The report as tables for a terminal: rich ones there, the same words without colour elsewhere."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from typing import IO

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from dailyread.report.compare import MEANINGS, Comparison, Verdict, difference_m3, outcome
from dailyread.report.summary import ZERO, Kind, Share, Sum, Summary
from dailyread.report.wording import difference, gas_day, instant, month, number, plain

STYLES = {
    Kind.BY_11: "green",
    Kind.LATE: "bold cyan",
    Kind.ASSUMED: "bold black on yellow",
    Kind.DEEMED: "bold black on bright_yellow",
    Kind.RESTORED: "bold white on blue",
    Kind.APPORTIONED: "bold white on magenta",
    Kind.REVISED: "bold white on dark_red",
    Kind.PROVISIONAL: "dim",
}
NAME_WIDTH_MAX = 24
PLAIN_WIDTH = 120
WIDTH_MIN = 80
GRID_ROWS_MAX = 60
ROWS_MAX = 20
FIRST_WIDTH_MIN = 10


def console(file: IO[str]) -> Console:
    """A console for the stream: with colour on a terminal; elsewhere plain, and `COLUMNS` or 120 columns wide.

    Never narrower than 80 columns: a line that the terminal breaks is better than a number without its end.
    """
    to = Console(file=file, highlight=False)
    if not to.is_terminal and "COLUMNS" not in os.environ:
        to.width = PLAIN_WIDTH
    to.width = max(to.width, WIDTH_MIN)
    return to


def print_report(to: Console, summary: Summary, comparisons: Sequence[Comparison] | None = None) -> None:
    """Grid, sums, share by 11:00, rules, and the comparison with the truth where there is one."""
    if not summary.meter_points:
        to.print("The ledger holds no records.")
        return
    to.print(grid(summary, to.width))
    to.print(Group("", sums(summary), "", share_line(summary)))
    if summary.rules:
        to.print(Group("", rules(summary)))
    if comparisons is not None:
        to.print(Group("", comparison(comparisons)))


def grid(summary: Summary, width: int) -> RenderableType:
    """Sites down, Gas Days across, one character a Day; in several blocks where `width` columns are too few."""
    points, left_out = _points_shown(summary)
    name_width = min(NAME_WIDTH_MAX, max(len(_BELOW), *(len(point) for point in points)))
    per_block = max(7, width - name_width - 2 - _SHARE_WIDTH)
    parts: list[RenderableType] = [_title(summary)]
    for start in range(0, len(summary.gas_days), per_block):
        days = summary.gas_days[start : start + per_block]
        last = start + per_block >= len(summary.gas_days)
        parts.append(Text("\n").join(_block(summary, points, days, name_width, last)))
        parts.append("")
    if left_out:
        parts.append(f"{left_out} more sites have been read every Day by 11:00 and are not shown.\n")
    parts.append(_legend(summary))
    return Group(*parts)


def sums(summary: Summary) -> Table:
    """What was read, assumed, deemed, is provisional; what was determined later, and reconciled."""
    table = new_table("Sums", ("", "left"), ("Days", "right"), ("m³", "right"), ("kWh", "right"), ("not known yet", "left"))
    labels = {
        "actual": "Read (actual)",
        "assumed": "Assumed (4.4.2)",
        "deemed": "Deemed (4.2.6)",
        "provisional": "Provisional",
    }
    for status, label in labels.items():
        _sum_row(table, label, summary.sums[status])
    table.add_section()
    _sum_row(table, "All Days", summary.total, "bold")
    table.add_section()
    _sum_row(table, "Determined later (4.4.5, 4.8.10)", summary.determined)
    _sum_row(table, "Reconciled (4.4.4, 4.7.4(b) or 4.8.10)", summary.reconciled, "bold")
    return table


def share_line(summary: Summary) -> Text:
    """The share of Days Valid by 11:00 on the following Day, against 97.5%, in one line."""
    share = summary.share
    if not share.due:
        return Text("Valid by 11:00: no Day's 11:00 has passed yet.")
    verdict = "met" if share.met else "not met"
    line = Text.assemble(
        ("Valid by 11:00: ", "bold"),
        f"{share.by_11:,} of {share.due:,} Days, {share.percent}; standard 97.5% (5.2.1): ",
        (verdict, "bold green" if share.met else "bold red"),
    )
    below = sum(not s.met for s in summary.share_of_day.values())
    line.append(f"; below it on {below} of {sum(s.due > 0 for s in summary.share_of_day.values())} Days")
    return line


def rules(summary: Summary) -> Table:
    """Rules that failed: on how many Days, and how many readings or batches each rejected."""
    table = new_table(
        "Validation",
        ("rule", "left"),
        ("clause", "left"),
        ("Days failed", "right"),
        ("rejected", "right"),
    )
    for count in summary.rules:
        rejected = str(count.rejected) if count.rejected else "flagged"
        table.add_row(Text(plain(count.rule)), Text(plain(count.clause)), str(count.days_failed), rejected)
    return table


def comparison(rows: Sequence[Comparison]) -> RenderableType:
    """The ledger against the truth: per site how many Days are the truth, and every Day that disagrees."""
    order: tuple[Verdict, ...] = ("equal", "shared", "estimated", "differs", "missing")
    counts = Counter((row.meter_point, row.verdict) for row in rows)
    used = [verdict for verdict in order if any(row.verdict == verdict for row in rows)]
    table = new_table(
        "Ledger and truth, Days",
        ("site", "left"),
        *((verdict, "right") for verdict in used),
        ("truth m³", "right"),
        ("ledger less\ntruth m³", "right"),
    )
    for point in sorted({row.meter_point for row in rows}):
        of_point = [row for row in rows if row.meter_point == point]
        cells = [_count_cell(counts[point, verdict], verdict) for verdict in used]
        table.add_row(Text(plain(point)), *cells, *_volumes(of_point))
    table.add_section()
    totals = [_count_cell(sum(row.verdict == verdict for row in rows), verdict) for verdict in used]
    table.add_row("all", *totals, *_volumes(rows), style="bold")
    meanings = [Text(f"{verdict}: {MEANINGS[verdict]}", style="dim") for verdict in used]
    return Group(table, *meanings, "", _outcome(rows))


def _outcome(rows: Sequence[Comparison]) -> RenderableType:
    wrong = [row for row in rows if not row.agrees]
    if not wrong:
        return Text(outcome(rows), style="bold green")
    head = Text(outcome(rows), style="bold red")
    table = new_table(
        None,
        ("site", "left"),
        ("Day", "left"),
        ("status", "left"),
        ("truth m³", "right"),
        ("ledger m³", "right"),
        ("less", "right"),
    )
    for row in wrong[:ROWS_MAX]:
        values = (number(row.truth_m3), number(row.ledger_m3), difference(row.difference_m3))
        table.add_row(Text(plain(row.meter_point)), gas_day(row.gas_day), row.status, *values)
    more = [f"and {len(wrong) - ROWS_MAX:,} more"] if len(wrong) > ROWS_MAX else []
    return Group(head, table, *more)


def _volumes(rows: Sequence[Comparison]) -> tuple[str, str]:
    """Truth, and ledger less truth over the Days of which the ledger has a volume."""
    return number(sum((row.truth_m3 for row in rows), ZERO)), difference(difference_m3(rows))


def _count_cell(count: int, verdict: Verdict) -> Text:
    bad = count and verdict in ("differs", "missing")
    return Text(str(count) if count else "·", style="bold red" if bad else "" if count else "dim")


_BELOW = "below 97.5%"
_SHARE_WIDTH = len("  1,234/1,234  100.0%")


def _points_shown(summary: Summary) -> tuple[list[str], int]:
    """All sites; where they are very many, those with a Day that is not read by 11:00."""
    points = list(summary.meter_points)
    if len(points) <= GRID_ROWS_MAX:
        return points, 0
    ordinary = {Kind.BY_11, None}
    shown = [p for p in points if any(summary.kind(p, day) not in ordinary for day in summary.gas_days[:-1])]
    shown = shown or points[:1]
    return shown, len(points) - len(shown)


def _title(summary: Summary) -> Text:
    first, last = summary.gas_days[0], summary.gas_days[-1]
    as_of = instant(summary.as_of, summary.calendar.zone)
    sites = len(summary.meter_points)
    return Text.assemble(
        (f"{sites} site{'s' * (sites != 1)}, Gas Days {gas_day(first)} to {gas_day(last)}", "bold"),
        f", as of {as_of}\n",
    )


def _block(summary: Summary, points: Sequence[str], days: Sequence[date], name_width: int, last: bool) -> Iterator[Text]:
    indent = " " * (name_width + 1)
    yield Text(indent + _months(days), style="bold")
    yield Text(indent + "".join(str(d.day // 10 or " ") for d in days), style="dim")
    yield Text(indent + "".join(str(d.day % 10) for d in days) + ("  Valid by 11:00" if last else ""), style="dim")
    for point in points:
        yield _row(summary, point, days, name_width, last)
    marks = Text(_BELOW.ljust(name_width) + " ", style="dim")
    for d in days:
        marks.append("!" if not summary.share_of_day.get(d, Share()).met else " ", style="bold red")
    if any(not summary.share_of_day.get(d, Share()).met for d in days):
        yield marks


def _row(summary: Summary, point: str, days: Sequence[date], name_width: int, last: bool) -> Text:
    row = Text(shortened(plain(point), name_width).ljust(name_width) + " ")
    for d in days:
        kind = summary.kind(point, d)
        row.append(kind.glyph if kind else " ", style=STYLES[kind] if kind else "")
    share = summary.share_of_point.get(point, Share())
    if last and share.due:
        row.append(f"  {share.by_11}/{share.due}".ljust(10))
        row.append(f"{share.percent:>7}", style="" if share.met else "bold red")
    return row


def _months(days: Sequence[date]) -> str:
    """The name of each month above its first Day, where there is room for it."""
    line = ""
    for n, d in enumerate(days):
        first = n == 0 or d.month != days[n - 1].month
        if first and len(line) <= n:
            room = sum(other.month == d.month and other.year == d.year for other in days[n:])
            name = f"{month(d)} {d.year} " if room >= 9 else f"{month(d)} " if room >= 4 else ""
            line = line.ljust(n) + name
    return line.ljust(len(days))


def shortened(name: str, width: int) -> str:
    """The name with its middle left out: meter points of one owner begin alike and end apart."""
    if len(name) <= width:
        return name
    tail = width // 2
    return f"{name[: width - tail - 1]}…{name[-tail:]}"


def _legend(summary: Summary) -> Text:
    used = {summary.kind(point, day) for point in summary.meter_points for day in summary.gas_days}
    lines = Text()
    for kind in Kind:
        if kind in used:
            lines.append(kind.glyph, style=STYLES[kind])
            lines.append(f" {kind.meaning}\n")
    for day, hours in summary.clock_changes().items():
        lines.append(f"{gas_day(day)} has {hours} hours.\n", style="dim")
    lines.rstrip()
    return lines


def new_table(title: str | None, *columns: tuple[str, JustifyMethod]) -> Table:
    """A table whose numbers never break; the first column keeps some room where there is little."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, collapse_padding=True)
    table.show_edge = table.pad_edge = False
    for n, (name, justify) in enumerate(columns):
        least = None if n else FIRST_WIDTH_MIN
        table.add_column(name, justify=justify, no_wrap=justify == "right", overflow="fold", min_width=least)
    return table


def _sum_row(table: Table, label: str, total: Sum, style: str = "") -> None:
    values = (number(total.known_m3), number(total.known_kwh)) if total.days else ("–", "–")
    table.add_row(label, f"{total.days:,}", *values, total.unknown, style=style)
