"""Every query of the dashboard, run on a real InfluxDB over a ledger that the store has written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metering.gasday import GasDays
from metering.ledger import AnyRecord, Day, Reconciliation, Rejected, Tolerance, Void
from metering.messages import LedgerMessage
from storage.influx_client import Connection, InfluxClient
from storage.ledger_influx import InfluxLedgerStore
from storage.offset_index import OffsetIndex
from tests.deploy.dashboard import queries
from tests.integration.services import GivenInflux, InfluxServer

JAN_31 = date(2026, 1, 31)
QUERIES = {query.title: query.flux for query in queries()}

READ = Day(
    meter_point="?", gas_day=JAN_31, users=("U",), equipment="E", status="actual", start_index=1, end_index=2,
    volume_m3=Decimal("11.628"), quantity_kwh=Decimal("127.385"), closed_out=True, determined_status=None,
    determined_m3=None, determined_kwh=None, since=None, valid=True, valid_at=datetime(2026, 2, 1, 5, 10, tzinfo=UTC),
    by_11=True, ratchet_day=False, failed=(), ran=("interval",),
)  # fmt: skip
FAILED = msgspec.structs.replace(
    READ, gas_day=JAN_31 - timedelta(1), status="assumed", volume_m3=Decimal("9.000"), valid=False, valid_at=None, by_11=False,
    determined_status="apportioned", determined_m3=Decimal("8.500"), determined_kwh=Decimal("93.000"),
    since=datetime(2026, 2, 1, tzinfo=UTC), failed=("complete",),
)  # fmt: skip
PROVISIONAL = msgspec.structs.replace(
    READ, gas_day=JAN_31 + timedelta(1), status="provisional", volume_m3=None, quantity_kwh=None, valid=False, valid_at=None,
    by_11=False, closed_out=False,
)  # fmt: skip
RECONCILED = Reconciliation(
    meter_point="?", gas_day=FAILED.gas_day, kind="failed_daily_read", volume_m3=Decimal("0.500"), quantity_kwh=None,
    since=datetime(2026, 2, 1, tzinfo=UTC),
)  # fmt: skip
REJECTED = Rejected(
    meter_point="?", gas_day=JAN_31, at=datetime(2026, 1, 31, 6, tzinfo=UTC), index=7, rule="monotonic", clause="M4.1.2",
    detail="7 after 9", received_at=datetime(2026, 2, 1, tzinfo=UTC),
)  # fmt: skip
OUTSIDE = Tolerance(
    meter_point="?", gas_day=JAN_31, check="tolerance_1_percent", a=Decimal("97.000"), b=Decimal("100.000"),
    deviation=Decimal("-0.030000"), within=False,
)  # fmt: skip
WITHIN = msgspec.structs.replace(OUTSIDE, gas_day=FAILED.gas_day, b=Decimal("97.000"), deviation=Decimal(0), within=True)


class Shown:
    """A ledger of one meter point in the bucket, and what the dashboard's queries show of it."""

    def __init__(self, store: InfluxLedgerStore, meter_point: str) -> None:
        self.store = store
        self.meter_point = meter_point
        self.offset = 0

    def write(self, *records: AnyRecord) -> None:
        self._write([msgspec.structs.replace(record, meter_point=self.meter_point) for record in records])

    def void(self, record: AnyRecord) -> None:
        self._write([Void(msgspec.structs.replace(record, meter_point=self.meter_point).key())])

    def _write(self, changes: list[Any]) -> None:
        self.offset += 1
        self.store.write([LedgerMessage.of(change, 0, self.offset) for change in changes])

    def rows(self, title: str) -> list[dict[str, Any]]:
        """What the panel gets, with Grafana's own variables put in as Grafana does."""
        bucket = self.store.client.connection.bucket
        flux = (
            QUERIES[title]
            .replace("v.defaultBucket", f'"{bucket}"')
            .replace("v.timeRangeStart", "2026-01-01T00:00:00Z")
            .replace("v.timeRangeStop", "2026-03-01T00:00:00Z")
            .replace("${meter_point:regex}", self.meter_point)
        )
        rows = self.store.client.rows(flux)
        return [{name: row[name] for name in row if name not in ("result", "table")} for row in rows]

    def values(self, title: str) -> list[Any]:
        return [row["_value"] for row in self.rows(title)]


@pytest.fixture
def shown(influx: InfluxServer | GivenInflux, unique: str, tmp_path: Path) -> Iterator[Shown]:
    client = InfluxClient(Connection(influx.url, influx.org, influx.bucket, influx.token))
    store = InfluxLedgerStore(
        client, OffsetIndex(tmp_path / "index.sqlite"), refuse=lambda _, reason: pytest.fail(reason), gas_days=GasDays()
    )
    yield Shown(store, unique)
    store.close()


def test_volumes_and_quantities_are_those_of_the_records(shown: Shown) -> None:
    shown.write(READ, FAILED, PROVISIONAL)
    assert sorted(shown.values("Volume per Gas Day")) == [9.0, 11.628]
    assert sorted(shown.values("Quantity per Gas Day")) == [127.385, 127.385]
    assert {row["meter_point"] for row in shown.rows("Volume per Gas Day")} == {shown.meter_point}
    assert {row["_time"] for row in shown.rows("Volume per Gas Day")} == {
        datetime(2026, 1, 30, 5, tzinfo=UTC), datetime(2026, 1, 31, 5, tzinfo=UTC)
    }  # fmt: skip


def test_a_provisional_day_counts_neither_for_nor_against(shown: Shown) -> None:
    shown.write(READ, FAILED, PROVISIONAL)
    assert shown.values("Valid by 11:00") == [50.0]
    assert sorted(shown.values("Valid by 11:00, Day by Day")) == [0.0, 100.0]


def test_days_are_counted_by_status(shown: Shown) -> None:
    shown.write(READ, FAILED, PROVISIONAL)
    assert sorted((row["status"], row["_value"]) for row in shown.rows("Days by status")) == [
        ("actual", 1), ("assumed", 1), ("provisional", 1)
    ]  # fmt: skip


def test_days_that_were_not_read_are_listed(shown: Shown) -> None:
    shown.write(READ, FAILED, PROVISIONAL)
    (row,) = shown.rows("Days that were not read")
    assert row == {
        "gas_day": "2026-01-30", "meter_point": shown.meter_point, "status": "assumed", "closed_out": True,
        "determined_status": "apportioned", "failed": '["complete"]',
    }  # fmt: skip


def test_what_is_null_again_is_not_shown(shown: Shown) -> None:
    shown.write(FAILED)
    shown.write(msgspec.structs.replace(FAILED, volume_m3=None, determined_status=None))
    assert shown.values("Volume per Gas Day") == []
    (row,) = shown.rows("Days that were not read")
    assert "determined_status" not in row


def test_field_that_never_had_a_value_is_no_error(shown: Shown) -> None:
    shown.write(PROVISIONAL)
    assert shown.values("Volume per Gas Day") == shown.values("Quantity per Gas Day") == []
    shown.write(msgspec.structs.replace(FAILED, determined_status=None), RECONCILED)
    shown.write(msgspec.structs.replace(OUTSIDE, deviation=None))
    for title in ("Days that were not read", "Reconciliations", "Outside tolerance"):
        assert len(shown.rows(title)) == 1


def test_reconciliation_is_shown_in_cubic_metres_and_kilowatt_hours(shown: Shown) -> None:
    shown.write(RECONCILED, msgspec.structs.replace(RECONCILED, gas_day=JAN_31, quantity_kwh=Decimal("5.500")))
    rows = shown.rows("Reconciliations")
    assert [(row["gas_day"], row["volume_m3"], row["quantity_kwh"]) for row in rows] == [
        ("2026-01-31", 0.5, 5.5), ("2026-01-30", 0.5, None)
    ]  # fmt: skip


def test_rejections_are_counted_and_listed(shown: Shown) -> None:
    shown.write(REJECTED, msgspec.structs.replace(REJECTED, index=8), msgspec.structs.replace(REJECTED, rule="interval"))
    assert [(row["rule"], row["_value"]) for row in shown.rows("Rejected readings by rule")] == [
        ("monotonic", 2),
        ("interval", 1),
    ]
    assert {(row["gas_day"], row["clause"], row["detail"]) for row in shown.rows("Rejected readings")} == {
        ("2026-01-31", "M4.1.2", "7 after 9")
    }


def test_only_what_is_outside_tolerance_is_listed(shown: Shown) -> None:
    shown.write(OUTSIDE, WITHIN)
    (row,) = shown.rows("Outside tolerance")
    assert (row["a_m3"], row["b_m3"], row["deviation_percent"]) == (97.0, 100.0, -3.0)


def test_voids_are_not_shown(shown: Shown) -> None:
    records = (FAILED, RECONCILED, REJECTED, OUTSIDE)
    shown.write(*records)
    for record in records:
        shown.void(record)
    assert {title: shown.rows(title) for title in QUERIES if not title.startswith("variable")} == {
        title: [] for title in QUERIES if not title.startswith("variable")
    }


def test_list_of_meter_points_has_the_one_written(shown: Shown) -> None:
    shown.write(READ)
    assert shown.meter_point in shown.values("variable meter_point")
