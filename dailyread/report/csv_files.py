"""Reports as CSV, for programs: UTF-8, a head with the names of the columns, LF, quotes where RFC 4180 needs them.

Gas Days are ISO dates, instants RFC 3339 in UTC, numbers exact with a point; what is null is empty; several names in one cell
stand apart by `;`. The columns are told in docs/reports.md.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from dailyread.report.statement import EquipmentMonth, UserMonth
from dailyread.report.summary import Summary, is_due
from metering.chase import Chase, Item
from metering.ledger import Day, Reconciliation

_Reconciled: TypeAlias = Mapping[tuple[str, date, str], Reconciliation]

RECONCILIATIONS = ("failed_daily_read", "dm_check", "error_revised")
DAYS = (
    "meter_point", "gas_day", "users", "equipment", "status", "closed_out", "start_index", "end_index", "volume_m3",
    "quantity_kwh", "determined_status", "determined_m3", "determined_kwh", "since",
    *(f"{kind}_{unit}" for kind in RECONCILIATIONS for unit in ("m3", "kwh")),
    "valid", "valid_at", "by_11", "ratchet_day", "failed", "rejected",
)  # fmt: skip
STATEMENT = (
    "user", "month", "as_of", "a", "b", "ratio", "required", "met", "shortfall", "shortfall_gbp", "consecutive_days",
    "consecutive_gbp", "equipment", "meter_points", "equipment_a", "equipment_b", "equipment_consecutive_days",
    "equipment_consecutive_gbp", "equipment_excluded_days", "equipment_excluded",
)  # fmt: skip
CHASE = (
    "place", "gas_day", "as_of", "equipment", "meter_points", "users", "users_short", "run", "charge_gbp", "lacking", "outlook",
    "chance", "history_days", "history_by_11", "history_missing_then", "history_recovered", "heard_at", "failed_polls",
    "reason",
)  # fmt: skip
REJECTED = ("meter_point", "gas_day", "at", "index", "rule", "clause", "detail", "received_at")


def days_csv(summary: Summary) -> str:
    """Every Day, a row each, with what was reconciled of it and how many readings or batches were rejected."""
    reconciled: _Reconciled = {(r.meter_point, r.gas_day, r.kind): r for r in summary.reconciliations}
    rejected = Counter((r.meter_point, r.gas_day) for r in summary.rejections)
    rows = (_day(summary, day, reconciled, rejected[key]) for key, day in summary.days.items())
    return as_csv(DAYS, rows)


def rejected_csv(summary: Summary) -> str:
    """Every rejected reading or batch, a row each; `index` as JSON."""
    return as_csv(REJECTED, ({name: _index(name, getattr(r, name)) for name in REJECTED} for r in summary.rejections))


def statements_csv(statements: Sequence[UserMonth], as_of: datetime) -> str:
    """An item of equipment a row; what is said of the whole month stands in each row of it."""
    return as_csv(STATEMENT, (_of_equipment(month, item, as_of) for month in statements for item in month.equipment))


def chase_csv(found: Chase, has_facts: bool) -> str:
    """An item to chase a row, most valuable first; what only facts can tell is empty where there are none."""
    return as_csv(CHASE, (_item(found, n, item, has_facts) for n, item in enumerate(found.items, start=1)))


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The table as text; each row names its columns."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(row[name]) for name in columns] for row in rows)
    return out.getvalue()


def cell(value: Any) -> str:
    """A value as it stands in a cell."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case list() | tuple():
            return ";".join(cell(each) for each in value)
        case _:
            return str(value)


def _day(summary: Summary, day: Day, reconciled: _Reconciled, rejected: int) -> dict[str, Any]:
    row = msgspec.structs.asdict(day) | {"rejected": rejected}
    if not is_due(summary.calendar, day.gas_day, summary.as_of):
        row["by_11"] = None  # nobody can say yet
    return row | dict(_reconciled(day, reconciled))


def _reconciled(day: Day, reconciled: Mapping[tuple[str, date, str], Reconciliation]) -> Iterator[tuple[str, Decimal | None]]:
    for kind in RECONCILIATIONS:
        found = reconciled.get((day.meter_point, day.gas_day, kind))
        yield f"{kind}_m3", None if found is None else found.volume_m3
        yield f"{kind}_kwh", None if found is None else found.quantity_kwh


def _of_equipment(month: UserMonth, item: EquipmentMonth, as_of: datetime) -> dict[str, Any]:
    return msgspec.structs.asdict(month.record) | {
        "as_of": as_of,
        "equipment": item.equipment,
        "meter_points": item.points,
        "equipment_a": item.a,
        "equipment_b": item.b,
        "equipment_consecutive_days": item.consecutive_days,
        "equipment_consecutive_gbp": item.gbp,
        "equipment_excluded_days": item.excluded_days,
        "equipment_excluded": [f"{reason} {first}/{last}" for reason, first, last in item.excluded],
    }


def _item(found: Chase, place: int, item: Item, has_facts: bool) -> dict[str, Any]:
    known = item.contact if has_facts else None
    return {
        "place": place,
        "gas_day": found.gas_day,
        "as_of": found.as_of,
        "equipment": item.equipment,
        "meter_points": item.points,
        "users": item.users,
        "users_short": item.short_users,
        "run": item.run,
        "charge_gbp": item.charge_gbp,
        "lacking": [day.meter_point for day in item.lacking],
        "outlook": item.history.outlook,
        "chance": f"{float(item.history.chance):.3f}",
        "history_days": item.history.days,
        "history_by_11": item.history.by_11,
        "history_missing_then": item.history.missing_then,
        "history_recovered": item.history.recovered,
        "heard_at": None if known is None else known.heard_at,
        "failed_polls": None if known is None else known.failed_polls,
        "reason": None if known is None else known.reason,
    }


def _index(name: str, value: Any) -> Any:
    return msgspec.json.encode(value).decode() if name == "index" and value is not None else value
