"""A meter point in detail, for a terminal: every Day, what was reconciled, rejected, checked on site and disputed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dailyread.report.summary import Summary, is_due
from dailyread.report.tables import new_table
from dailyread.report.wording import difference, gas_day, instant, number, plain
from metering.ledger import Day


def point_tables(summary: Summary, point: str) -> RenderableType:
    """All that the ledger has of a meter point, as tables; those that would be empty are left out."""
    return Group(*(part for each in _tables(summary, point) if each.row_count for part in ("", each)))


def _tables(summary: Summary, point: str) -> Iterator[Table]:
    yield _days(summary, point)
    yield _reconciliations(summary, point)
    yield _check_reads(summary, point)
    yield _read_errors(summary, point)
    yield _rejections(summary, point)


def _days(summary: Summary, point: str) -> Table:
    shown = new_table(
        f"{plain(point)}: Days",
        ("Gas Day", "left"),
        ("closed out as", "left"),
        ("m³", "right"),
        ("kWh", "right"),
        ("determined", "left"),
        ("m³", "right"),
        ("by 11:00", "left"),
        ("rules failed", "left"),
    )
    for day in summary.days.values():
        if day.meter_point == point:
            shown.add_row(*_day(summary, day))
    return shown


def _day(summary: Summary, day: Day) -> list[str | Text]:
    due = is_due(summary.calendar, day.gas_day, summary.as_of)
    by_11 = Text("–", style="dim") if not due else Text("yes") if day.by_11 else Text("no", style="bold red")
    status = day.status if day.closed_out or day.status == "provisional" else f"{day.status}, open"
    determined = (day.determined_status, number(day.determined_m3)) if day.determined_status else ("", "")
    failed = plain(", ".join(day.failed))
    return [
        Text(gas_day(day.gas_day)), status, number(day.volume_m3), number(day.quantity_kwh), *determined, by_11, Text(failed)
    ]  # fmt: skip


def _reconciliations(summary: Summary, point: str) -> Table:
    shown = new_table(
        "Reconciliations: positive where too much was taken (4.4.4(b), 4.7.4(b), 4.8.10)",
        ("Gas Day", "left"), ("kind", "left"), ("m³", "right"), ("kWh", "right"), ("since", "left"),
    )  # fmt: skip
    for r in summary.reconciliations:
        if r.meter_point == point:
            since = instant(r.since, summary.calendar.zone)
            kind = r.kind.replace("_", " ")
            shown.add_row(gas_day(r.gas_day), kind, difference(r.volume_m3), difference(r.quantity_kwh), since)
    return shown


def _check_reads(summary: Summary, point: str) -> Table:
    shown = new_table(
        "DM Check Reads (4.7)",
        ("Gas Day", "left"), ("from", "left"), ("check kWh", "right"), ("metered before kWh", "right"),
        ("difference kWh", "right"), ("reconciled", "left"),
    )  # fmt: skip
    for r in summary.check_reads:
        if r.meter_point == point:
            values = (number(r.check_kwh), number(r.previous_kwh), difference(r.difference_kwh))
            shown.add_row(gas_day(r.gas_day), gas_day(r.from_), *values, "yes" if r.reconciled else "no")
    return shown


def _read_errors(summary: Summary, point: str) -> Table:
    shown = new_table(
        "Daily Read Errors (4.8)",
        ("Gas Day", "left"), ("User", "left"), ("state", "left"), ("due", "left"), ("m³", "right"),
        ("inspection paid by", "left"), ("expert paid by", "left"), ("refused by", "left"),
    )  # fmt: skip
    for r in summary.read_errors:
        if r.meter_point == point:
            due = "" if r.due is None else instant(r.due, summary.calendar.zone)
            volume = "" if r.volume_m3 is None else number(r.volume_m3)
            costs = (r.inspection_cost or "", r.expert_cost or "", r.refused or "")
            shown.add_row(gas_day(r.gas_day), Text(plain(r.user)), r.state.replace("_", " "), due, volume, *costs)
    return shown


def _rejections(summary: Summary, point: str) -> Table:
    shown = new_table(
        "Rejected readings and batches",
        ("Gas Day", "left"), ("reading of", "left"), ("index", "right"), ("rule", "left"), ("detail", "left"),
    )  # fmt: skip
    for r in summary.rejections:
        if r.meter_point == point:
            at = "the Day's batch" if r.at is None else instant(r.at, summary.calendar.zone)
            index = "" if r.index is None else msgspec.json.encode(r.index).decode()
            rule = f"{plain(r.rule)} ({plain(r.clause)})"
            shown.add_row(gas_day(r.gas_day), at, Text(plain(index[:40])), Text(rule), Text(plain(r.detail)))
    return shown
