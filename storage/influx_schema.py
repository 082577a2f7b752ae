"""The ledger's measurements in InfluxDB: tags, fields and their types, all in this one table. README.md explains it.

A field's type is fixed here for good: InfluxDB refuses a field whose type changes. Numbers are integers in the units that
the field's name ends in, so that nothing is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from metering.ledger import CheckReadFound, Day, ReadError, Reconciliation, Record, Rejected, Tolerance


class Kind(Enum):
    """How a value is written: its InfluxDB type and what it counts."""

    BOOLEAN = "boolean"
    COUNT = "integer: ticks of a register"
    LITRES = "integer: litres, thousandths of a m³"
    WATT_HOURS = "integer: watt-hours, thousandths of a kWh"
    MILLIONTHS = "integer: millionths"
    INSTANT = "integer: microseconds since 1970-01-01T00:00:00Z"
    DAY = "string: a Gas Day, 2026-01-31"
    TEXT = r"string; line breaks and backslashes as \n, \r and \\"
    JSON = "string: JSON"


@dataclass(frozen=True)
class Field:
    """One field: the record's attribute, its name in InfluxDB, what it is, and whether the attribute can be null or absent."""

    attribute: str
    name: str
    kind: Kind
    nullable: bool = False


@dataclass(frozen=True)
class Measurement:
    """One kind of record. Tags after `meter_point` are further parts of the record's key, by attribute."""

    record: type[Record]
    tags: tuple[str, ...]
    fields: tuple[Field, ...]


# In every measurement, beside its own fields.
VOID = "void"  # boolean: the record no longer holds; whatever else stands at its point is not to be read
NULLS = "nulls"  # string: the fields that are null, as ",name,name,"; "," for none. Their own values are not to be read
PARTITION, OFFSET = "facts_partition", "facts_offset"  # integers: the frame of facts on which the record rests
READING = "reading"  # tag of `rejected` alone: a digest of the reading's instant and index, which are in fields

MEASUREMENTS: dict[str, Measurement] = {
    "day": Measurement(
        Day,
        (),
        (
            Field("gas_day", "gas_day", Kind.DAY),
            Field("users", "users", Kind.JSON),
            Field("equipment", "equipment", Kind.TEXT),
            Field("status", "status", Kind.TEXT),
            Field("start_index", "start_index", Kind.COUNT, nullable=True),
            Field("end_index", "end_index", Kind.COUNT, nullable=True),
            Field("volume_m3", "volume_litres", Kind.LITRES, nullable=True),
            Field("quantity_kwh", "quantity_wh", Kind.WATT_HOURS, nullable=True),
            Field("closed_out", "closed_out", Kind.BOOLEAN),
            Field("determined_status", "determined_status", Kind.TEXT, nullable=True),
            Field("determined_m3", "determined_litres", Kind.LITRES, nullable=True),
            Field("determined_kwh", "determined_wh", Kind.WATT_HOURS, nullable=True),
            Field("since", "since_us", Kind.INSTANT, nullable=True),
            Field("valid", "valid", Kind.BOOLEAN),
            Field("valid_at", "valid_at_us", Kind.INSTANT, nullable=True),
            Field("by_11", "by_11", Kind.BOOLEAN),
            Field("ratchet_day", "ratchet_day", Kind.BOOLEAN),
            Field("failed", "failed", Kind.JSON),
            Field("ran", "ran", Kind.JSON),
        ),
    ),
    "reconciliation": Measurement(
        Reconciliation,
        ("kind",),
        (
            Field("gas_day", "gas_day", Kind.DAY),
            Field("volume_m3", "volume_litres", Kind.LITRES),
            Field("quantity_kwh", "quantity_wh", Kind.WATT_HOURS, nullable=True),
            Field("since", "since_us", Kind.INSTANT),
        ),
    ),
    "rejected": Measurement(
        Rejected,
        ("rule",),
        (
            Field("gas_day", "gas_day", Kind.DAY),
            Field("at", "at_us", Kind.INSTANT, nullable=True),
            Field("index", "index", Kind.JSON),
            Field("clause", "clause", Kind.TEXT),
            Field("detail", "detail", Kind.TEXT),
            Field("received_at", "received_at_us", Kind.INSTANT),
        ),
    ),
    "tolerance": Measurement(
        Tolerance,
        ("check",),
        (
            Field("gas_day", "gas_day", Kind.DAY, nullable=True),
            Field("from_", "from", Kind.DAY, nullable=True),
            Field("until", "until", Kind.DAY, nullable=True),
            Field("a", "a_litres", Kind.LITRES),
            Field("b", "b_litres", Kind.LITRES),
            Field("deviation", "deviation_millionths", Kind.MILLIONTHS, nullable=True),
            Field("within", "within", Kind.BOOLEAN),
        ),
    ),
    "check_read": Measurement(
        CheckReadFound,
        (),
        (
            Field("gas_day", "gas_day", Kind.DAY),
            Field("from_", "from", Kind.DAY),
            Field("check_m3", "check_litres", Kind.LITRES),
            Field("check_kwh", "check_wh", Kind.WATT_HOURS),
            Field("previous_kwh", "previous_wh", Kind.WATT_HOURS),
            Field("difference_kwh", "difference_wh", Kind.WATT_HOURS),
            Field("reconciled", "reconciled", Kind.BOOLEAN),
        ),
    ),
    "read_error": Measurement(
        ReadError,
        ("user",),
        (
            Field("gas_day", "gas_day", Kind.DAY),
            Field("state", "state", Kind.TEXT),
            Field("due", "due_us", Kind.INSTANT, nullable=True),
            Field("volume_m3", "volume_litres", Kind.LITRES, nullable=True),
            Field("inspection_cost", "inspection_cost", Kind.TEXT, nullable=True),
            Field("expert_cost", "expert_cost", Kind.TEXT, nullable=True),
            Field("refused", "refused", Kind.TEXT, nullable=True),
        ),
    ),
}
