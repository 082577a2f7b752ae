"""The performance statement for a terminal: the sums of each User's month, and what each item of equipment did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from rich.console import Group, RenderableType
from rich.text import Text

from dailyread.report.statement import Mark, UserMonth, exact, exact_share, mark_of, reason_of
from dailyread.report.tables import new_table, shortened
from dailyread.report.wording import gas_day, instant, month, plain, pounds, some
from metering.gasday import GasDays

STYLES = {Mark.BY_11: "green", Mark.FAILED: "bold black on yellow", Mark.FURTHER: "bold white on red", Mark.EXCLUDED: "cyan"}
NAME_WIDTH_MAX = 24
POINTS_MAX = 3


def statements(months: Sequence[UserMonth], as_of: datetime, calendar: GasDays) -> RenderableType:
    """All statements; before them, where there are several, a table with a row each."""
    parts = [_overview(months), ""] if len(months) > 1 else []
    for each in months:
        parts += [*_statement(each, as_of, calendar), ""]
    return Group(*parts[:-1])


def _overview(months: Sequence[UserMonth]) -> RenderableType:
    shown = new_table(
        "Performance by User",
        ("User", "left"), ("month", "left"), ("A", "right"), ("B", "right"), ("share", "right"), ("standard", "left"),
        ("shortfall", "right"), ("further Days", "right"), ("£ (5.2.3)", "right"),
    )  # fmt: skip
    for each in months:
        r = each.record
        met = Text("met") if r.met else Text("not met", style="bold red")
        sums = (f"{r.a:,}", f"{r.b:,}", exact_share(r.b, r.a), met, exact(r.shortfall))
        shown.add_row(Text(plain(r.user)), r.month, *sums, str(r.consecutive_days), pounds(r.consecutive_gbp))
    return shown


def _statement(of: UserMonth, as_of: datetime, calendar: GasDays) -> Iterator[RenderableType]:
    yield Text.assemble((title(of), "bold"), f", as of {instant(as_of, calendar.zone)}")
    for name, value, bad in figures(of):
        yield Text.assemble(f"  {name:<42}", (value, "bold red" if bad else "bold"))
    yield ""
    yield _grid(of)
    yield ""
    yield _equipment(of)
    if any(item.excluded for item in of.equipment):
        yield ""
        yield _excluded(of)
    if of.further:
        yield ""
        yield _further(of)


def title(of: UserMonth) -> str:
    """Whose statement of which month it is, and how much of the month is due."""
    last = of.gas_days[-1]
    return f"{plain(of.record.user)}, {month(last)} {last.year}, Gas Days {gas_day(of.gas_days[0])} to {gas_day(last)}"


def figures(of: UserMonth) -> list[tuple[str, str, bool]]:
    """The sums in words: name, value, whether it is bad."""
    r = of.record
    required = f"{exact(r.required * 100)}%"
    shortfall = exact(r.shortfall) if r.shortfall else "none"
    money = "no rate is set, so no money is shown" if r.shortfall_gbp is None else f"£{pounds(r.shortfall_gbp)}"
    return [
        ("Required: Days of equipment, A (5.2.1)", f"{r.a:,}", False),
        ("Provided: Valid by 11:00, B (5.2.1)", f"{r.b:,}", False),
        (f"Share, against {required}", f"{exact_share(r.b, r.a)}, {'met' if r.met else 'not met'}", not r.met),
        ("Shortfall (5.2.2)", f"{shortfall}; {money}", bool(r.shortfall)),
        ("Further failing Days (5.2.3)", f"{r.consecutive_days:,}; £{pounds(r.consecutive_gbp)}", r.consecutive_days > 0),
    ]


def _grid(of: UserMonth) -> RenderableType:
    """Equipment down, Gas Days across, one character a Day."""
    width = min(NAME_WIDTH_MAX, max(len(item.equipment) for item in of.equipment))
    indent = " " * (width + 1)
    lines = [
        Text(indent + "".join(str(day.day // 10 or " ") for day in of.gas_days), style="dim"),
        Text(indent + "".join(str(day.day % 10) for day in of.gas_days), style="dim"),
    ]
    used: set[Mark] = set()
    for item in of.equipment:
        line = Text(shortened(plain(item.equipment), width).ljust(width) + " ")
        for day in of.gas_days:
            found = item.lines.get(day)
            if found is None:
                line.append(" ")
                continue
            used.add(mark := mark_of(found))
            line.append(mark.glyph, style=STYLES[mark])
        lines.append(line)
    lines.append(Text(""))
    lines += [Text.assemble((mark.glyph, STYLES[mark]), f" {mark.meaning}") for mark in Mark if mark in used]
    return Text("\n").join(lines)


def _equipment(of: UserMonth) -> RenderableType:
    shown = new_table(
        "By equipment",
        ("equipment", "left"), ("meter points", "left"), ("A", "right"), ("B", "right"), ("share", "right"),
        ("further Days", "right"), ("£", "right"), ("left out", "right"),
    )  # fmt: skip
    for item in of.equipment:
        money = pounds(item.gbp) if item.consecutive_days else ""
        counts = (str(item.a), str(item.b), exact_share(item.b, item.a), str(item.consecutive_days or ""), money)
        shown.add_row(
            Text(plain(item.equipment)), Text(plain(some(item.points, POINTS_MAX))), *counts, str(item.excluded_days or "")
        )
    return shown


def _excluded(of: UserMonth) -> RenderableType:
    shown = new_table(
        "Left out", ("equipment", "left"), ("reason", "left"), ("from", "left"), ("to", "left"), ("Days", "right")
    )
    for item in of.equipment:
        for reason, first, last in item.excluded:
            days = str((last - first).days + 1)
            shown.add_row(Text(plain(item.equipment)), reason_of(reason), gas_day(first), gas_day(last), days)
    return shown


def _further(of: UserMonth) -> RenderableType:
    shown = new_table(
        "Further failing Days (5.2.3)",
        ("Gas Day", "left"), ("equipment", "left"), ("in a row", "right"), ("missing", "left"), ("shared by", "right"),
        ("£", "right"),
    )  # fmt: skip
    for line in of.further:
        part = pounds(line.charge_gbp / Decimal(line.sharing))
        missing = Text(plain(some(line.missing, POINTS_MAX)))
        shown.add_row(gas_day(line.gas_day), Text(plain(line.equipment)), str(line.run), missing, str(line.sharing), part)
    return shown
