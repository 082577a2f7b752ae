"""Days and rejections as CSV: every value exact, and again what it was; unknown is empty, never zero."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from dailyread.report.csv_files import DAYS, REJECTED, as_csv, cell, days_csv, rejected_csv
from dailyread.report.point_tables import point_tables
from dailyread.report.summary import Summary, summarise
from dailyread.report.tables import console
from metering.ledger import AnyRecord, CheckReadFound, ReadError, Reconciliation
from tests.dailyread.ledgers import AS_OF, FIRST, only, records

SUMMARY = summarise(records(), AS_OF)
CHECK_READ = CheckReadFound(
    meter_point="SMP-11", gas_day=FIRST + timedelta(days=3), from_=FIRST, check_m3=Decimal("100.000"),
    check_kwh=Decimal("1000.000"), previous_kwh=Decimal("101001.000"), difference_kwh=Decimal("100001.000"), reconciled=True,
)  # fmt: skip
READ_ERROR = ReadError(
    meter_point="SMP-11", user="SHIPPER-A", gas_day=FIRST, state="inspection_overdue", due=AS_OF, volume_m3=None,
    inspection_cost="transporter", expert_cost=None, refused=None,
)  # fmt: skip


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (Decimal("0.000"), "0.000"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-12345678901234.567"), "-12345678901234.567"),
        (FIRST, "2025-09-26"),
        (datetime(2025, 10, 26, 1, 30, tzinfo=timezone(timedelta(hours=1))), "2025-10-26T00:30:00Z"),
        (datetime(2025, 10, 26, 1, 30, 0, 250, tzinfo=UTC), "2025-10-26T01:30:00.000250Z"),
        (("a", "b"), "a;b"),
        ((), ""),
        (7, "7"),
    ],
)
def test_cells(value: Any, text: str) -> None:
    assert cell(value) == text


def test_quotes_where_they_are_needed() -> None:
    assert as_csv(("a", "b"), [{"a": 'say "x", y', "b": "two\nlines"}]) == 'a,b\n"say ""x"", y","two\nlines"\n'


def test_every_day_is_a_row_and_every_value_is_there_again() -> None:
    rows = table(days_csv(SUMMARY))
    assert list(rows[0]) == list(DAYS)
    assert len(rows) == len(SUMMARY.days)
    for row, day in zip(rows, SUMMARY.days.values(), strict=True):
        assert (row["meter_point"], row["gas_day"], row["status"]) == (day.meter_point, day.gas_day.isoformat(), day.status)
        for name in ("volume_m3", "quantity_kwh", "determined_m3", "determined_kwh"):
            value = getattr(day, name)
            assert row[name] == ("" if value is None else str(value))
    volumes = sum(Decimal(row["volume_m3"]) for row in rows if row["volume_m3"])
    assert volumes == SUMMARY.total.volume_m3


def test_reconciliations_stand_beside_their_day_by_kind() -> None:
    rows = {(row["meter_point"], row["gas_day"]): row for row in table(days_csv(SUMMARY))}
    for r in SUMMARY.reconciliations:
        row = rows[r.meter_point, r.gas_day.isoformat()]
        assert row[f"{r.kind}_m3"] == str(r.volume_m3)
        assert row[f"{r.kind}_kwh"] == ("" if r.quantity_kwh is None else str(r.quantity_kwh))
    kinds = ("failed_daily_read", "dm_check", "error_revised")
    assert sum(bool(row[f"{kind}_m3"]) for row in rows.values() for kind in kinds) == len(SUMMARY.reconciliations)


def test_by_11_is_empty_before_11() -> None:
    rows = table(days_csv(SUMMARY))
    assert {row["by_11"] for row in rows if row["gas_day"] == "2025-11-04"} == {""}
    assert {row["by_11"] for row in rows if row["gas_day"] == "2025-11-03"} == {"true", "false"}


def test_rejections() -> None:
    rows = table(rejected_csv(SUMMARY))
    assert list(rows[0]) == list(REJECTED)
    assert len(rows) == len(SUMMARY.rejections)
    batch = next(row for row in rows if row["meter_point"] == "SMP-06")
    assert (batch["at"], batch["index"], batch["rule"]) == ("", "", "tolerance_1_percent")
    assert [row["index"] for row in rows if row["meter_point"] == "SMP-02"] == ["99871"]
    counted = {(row["meter_point"], row["gas_day"]): row["rejected"] for row in table(days_csv(SUMMARY))}
    assert counted["SMP-09", "2025-10-14"] == "8"


def shown(summary: Summary, point: str) -> str:
    out = io.StringIO()
    to = console(out)
    to.width = 120
    to.print(point_tables(summary, point))
    return out.getvalue()


def of_point(point: str, *more: AnyRecord) -> str:
    return shown(summarise([*records(), *more], AS_OF), point)


def test_a_points_days_in_detail() -> None:
    text = of_point("SMP-03")
    days = [line for line in text.splitlines() if "apportioned" in line]
    of = [d for d in SUMMARY.days.values() if d.meter_point == "SMP-03" and d.determined_status]
    assert [line.split()[8] for line in days] == [f"{d.determined_m3:,}" for d in of]
    assert len(days) == 4
    assert all("  no" in line for line in days)
    assert text.count("failed daily read") == sum(
        isinstance(r, Reconciliation) and r.meter_point == "SMP-03" for r in SUMMARY.reconciliations
    )
    assert "Rejected" not in text


def test_a_point_shows_check_reads_read_errors_and_rejections_where_it_has_them() -> None:
    text = of_point("SMP-11", CHECK_READ, READ_ERROR)
    check = next(line.split() for line in text.splitlines() if "+100,001.000" in line)
    assert check[4:] == ["Fri", "26", "Sep", "2025", "1,000.000", "101,001.000", "+100,001.000", "yes"]
    assert "inspection overdue  4 Nov 2025 12:00 GMT" in text
    assert "malformed (M1.4.3)" in text
    assert "\x1b" not in text
    assert "DM Check Reads" not in of_point("SMP-11")


def test_days_that_are_open_say_so() -> None:
    summary = summarise([only("SMP-11", 36), only("SMP-11", 39)], AS_OF)
    lines = shown(summary, "SMP-11").splitlines()
    assert any("actual, open" in line and line.rstrip().endswith("yes") for line in lines)
    assert any("provisional" in line and line.rstrip().endswith("–") for line in lines)
