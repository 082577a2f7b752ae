"""Ledger records: what each Day's volume is, how it was found, and what was reconciled.

A record has a key; a later record of the same key replaces the earlier. Volumes are m³ with three places, quantities
kWh with three places, both exact decimals (strings in JSON); instants are aware datetimes in UTC.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import msgspec

DayStatus = Literal["actual", "deemed", "assumed", "provisional"]
DeterminedStatus = Literal["restored", "apportioned", "revised"]
Key: TypeAlias = tuple[str, ...]


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="record"):
    """What all ledger records have: the Supply Meter Point they speak of."""

    meter_point: str


class Day(Record, tag="day", frozen=True, kw_only=True, gc=False):
    """A Gas Day of a Supply Meter Point (4.3, 4.4). Key: meter point, Day."""

    gas_day: date
    users: tuple[str, ...]
    equipment: str
    status: DayStatus
    start_index: int | None
    end_index: int | None
    volume_m3: Decimal | None
    quantity_kwh: Decimal | None
    closed_out: bool
    determined_status: DeterminedStatus | None
    determined_m3: Decimal | None
    determined_kwh: Decimal | None
    since: datetime | None
    valid: bool
    valid_at: datetime | None
    by_11: bool
    ratchet_day: bool
    failed: tuple[str, ...]
    ran: tuple[str, ...]

    def key(self) -> Key:
        return ("day", self.meter_point, self.gas_day.isoformat())


class Reconciliation(Record, tag="reconciliation", frozen=True, kw_only=True, gc=False):
    """Closed-out less determined, positive where the closed-out volume was too high (4.4.4(b)). Key: meter point, Day, kind."""

    gas_day: date
    kind: Literal["failed_daily_read", "dm_check", "error_revised"]
    volume_m3: Decimal
    quantity_kwh: Decimal | None
    since: datetime

    def key(self) -> Key:
        return ("reconciliation", self.meter_point, self.gas_day.isoformat(), self.kind)


class Rejected(Record, tag="rejected", frozen=True, kw_only=True, gc=False):
    """A reading (or, with `at` and `index` null, a Day's batch) that validation rejected (1.5). Key: meter point, Day, rule,
    instant of the reading, index."""

    gas_day: date
    at: datetime | None
    index: Any
    rule: str
    clause: str
    detail: str
    received_at: datetime

    def key(self) -> Key:
        at = self.at.isoformat() if self.at else ""
        return (
            "rejected",
            self.meter_point,
            self.gas_day.isoformat(),
            self.rule,
            at,
            msgspec.json.encode(self.index).decode(),
        )


class Tolerance(Record, tag="tolerance", frozen=True, kw_only=True, gc=False):
    """What a comparison of two advances found (4.8.1(d)): `a` and `b` in m³, `deviation` = a/b - 1, six places, null where b
    is 0. Key: meter point, Day, check."""

    gas_day: date
    check: Literal["tolerance_1_percent", "interval_sum", "check_read"]
    a: Decimal
    b: Decimal
    deviation: Decimal | None
    within: bool

    def key(self) -> Key:
        return ("tolerance", self.meter_point, self.gas_day.isoformat(), self.check)


AnyRecord: TypeAlias = Day | Reconciliation | Rejected | Tolerance
RECORD_TYPES: tuple[type[Record], ...] = (Day, Reconciliation, Rejected, Tolerance)


class Void(msgspec.Struct, frozen=True):
    """The record with this key no longer holds. Sent once; readers take the record away."""

    key: Key


Change: TypeAlias = AnyRecord | Void
