"""Ledger records: what each Day's volume is, how it was found, and what was reconciled.

A record has a key; a later record of the same key replaces the earlier. Volumes are m³ with three places, quantities
kWh with three places, both exact decimals (strings in JSON); instants are aware datetimes in UTC.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

DayStatus = Literal["actual", "deemed", "assumed", "provisional"]
DeterminedStatus = Literal["restored", "apportioned", "revised"]
ReadErrorState = Literal[
    "refused", "notice", "inspection_overdue", "inspected", "accepted", "rejected", "final", "expert", "agreed"
]
Key: TypeAlias = tuple[str, ...]


@lru_cache(maxsize=4096)
def iso(day: date) -> str:
    """A Day as it stands in a key: of all points' records the same few Days, and each several times."""
    return day.isoformat()


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
        return ("day", self.meter_point, iso(self.gas_day))


class Reconciliation(Record, tag="reconciliation", frozen=True, kw_only=True, gc=False):
    """Closed-out less determined, positive where the closed-out volume was too high (4.4.4(b)). Key: meter point, Day, kind."""

    gas_day: date
    kind: Literal["failed_daily_read", "dm_check", "error_revised"]
    volume_m3: Decimal
    quantity_kwh: Decimal | None
    since: datetime

    def key(self) -> Key:
        return ("reconciliation", self.meter_point, iso(self.gas_day), self.kind)


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
            iso(self.gas_day),
            self.rule,
            at,
            msgspec.json.encode(self.index).decode(),
        )


class Tolerance(Record, tag="tolerance", frozen=True, kw_only=True, gc=False, rename={"from_": "from"}):
    """What a comparison of two advances found (4.8.1(d)): `a` and `b` in m³, `deviation` = a/b - 1, six places, null where b
    is 0. It is about a Gas Day; a check read's about the Days from `from` up to its own, `until`. Key: meter point, Day, check.
    """

    gas_day: date | UnsetType = UNSET
    from_: date | UnsetType = UNSET
    until: date | UnsetType = UNSET
    check: Literal["tolerance_1_percent", "interval_sum", "check_read"]
    a: Decimal
    b: Decimal
    deviation: Decimal | None
    within: bool

    def __post_init__(self) -> None:
        of_a_day, of_a_period = self.gas_day is not UNSET, self.until is not UNSET
        if of_a_day == of_a_period or of_a_period != (self.from_ is not UNSET):
            raise ValueError("gas_day: give either `gas_day` or `from` and `until`, one of the two")

    @property
    def day(self) -> date:
        """The Gas Day under which the record is kept."""
        day = self.until if self.gas_day is UNSET else self.gas_day
        assert isinstance(day, date)
        return day

    def key(self) -> Key:
        return ("tolerance", self.meter_point, iso(self.day), self.check)


class CheckReadFound(Record, tag="check_read", frozen=True, kw_only=True, gc=False, rename={"from_": "from"}):
    """A DM Check Read of the Day, its period beginning with the Day `from` (4.7). `difference_kwh` = previous - check;
    `reconciled` where it was large enough to be shared out. Key: meter point, Day."""

    gas_day: date
    from_: date
    check_m3: Decimal
    check_kwh: Decimal
    previous_kwh: Decimal
    difference_kwh: Decimal
    reconciled: bool

    def key(self) -> Key:
        return ("check_read", self.meter_point, iso(self.gas_day))


class ReadError(Record, tag="read_error", frozen=True, kw_only=True, gc=False):
    """How a User's Daily Read Error Notice about a Day stands (4.8): `due` is when the next step is to be taken,
    `volume_m3` what the Day's metered consumption is taken to be, `refused` the clause by which the notice was refused.
    Key: meter point, Day, user."""

    gas_day: date
    user: str
    state: ReadErrorState
    due: datetime | None
    volume_m3: Decimal | None
    inspection_cost: Literal["user", "transporter"] | None
    expert_cost: Literal["user", "transporter"] | None
    refused: str | None

    def key(self) -> Key:
        return ("read_error", self.meter_point, iso(self.gas_day), self.user)


class Performance(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="record", tag="performance"):
    """What was achieved for a User in a month (M5). `a` and `b` as of 5.2.1; `consecutive_days` are the failing Days after the
    fourth in a row (5.2.3). Key: user, month."""

    user: str
    month: str
    a: int
    b: int
    ratio: Decimal | None
    required: Decimal
    met: bool
    shortfall: Decimal
    shortfall_gbp: Decimal | None
    consecutive_days: int
    consecutive_gbp: Decimal

    def key(self) -> Key:
        return ("performance", self.user, self.month)


AnyRecord: TypeAlias = Day | Reconciliation | Rejected | Tolerance | CheckReadFound | ReadError
RECORD_TYPES: tuple[type[Record], ...] = (Day, Reconciliation, Rejected, Tolerance, CheckReadFound, ReadError)


def day_of(record: AnyRecord) -> date:
    """The Gas Day under which a record is kept."""
    return record.day if isinstance(record, Tolerance) else record.gas_day


class Void(msgspec.Struct, frozen=True):
    """The record with this key no longer holds. Sent once; readers take the record away."""

    key: Key


Change: TypeAlias = AnyRecord | Void
