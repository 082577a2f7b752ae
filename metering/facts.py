"""Facts: what somebody told us, with the instant at which we received it.

One Struct per kind of fact. They are the JSON Lines form that people and other tools read and write, and, without
`received_at`, what travels in a frame (`wire.py`). A fact is never changed; a correction is another fact.

Instants are aware datetimes; Gas Days are dates; volumes (m³), calorific values (MJ/m³), quantities (kWh) and factors are
exact decimals, written as strings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from metering.limits import (
    INTEGER_MAX,
    INTERVAL_S_MAX,
    SPAN_S_MAX,
    Count,
    Digits,
    Instant,
    Name,
    check_gas_day,
    check_instant,
    check_not_negative,
    check_number,
    check_order,
    check_positive,
    fits,
)

Status = Literal["clock_invalid", "tamper", "battery_low", "reed_switch", "bypass_open"]


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="fact", omit_defaults=True):
    """What all facts have. `received_at` is set where the fact is appended to the log, never by its sender."""

    received_at: Instant | None = None


class CalorificValue(Fact, tag="calorific_value", frozen=True, kw_only=True):
    """The calorific value of an LDZ on a Gas Day (1.4.4(b)); the latest received counts."""

    ldz: Name
    gas_day: date
    mj_per_m3: Decimal

    def __post_init__(self) -> None:
        check_gas_day(self.gas_day)
        check_positive("mj_per_m3", self.mj_per_m3)


class Registered(Fact, tag="registered", frozen=True, kw_only=True):
    """From `gas_day` on, these Users, this LDZ, this Annual Quantity (kWh) and this Daily Read Equipment."""

    meter_point: Name
    gas_day: date
    users: Annotated[tuple[Name, ...], Meta(min_length=1)]
    ldz: Name
    annual_quantity_kwh: Decimal
    equipment: Name
    telemetry: bool = False
    operational_notice: date | None = None

    def __post_init__(self) -> None:
        check_gas_day(self.gas_day)
        check_not_negative("annual_quantity_kwh", self.annual_quantity_kwh)
        if len(set(self.users)) < len(self.users):
            raise ValueError(f"users: found {', '.join(self.users)}; allowed: each User once")


class MeterFitted(Fact, tag="meter_fitted", frozen=True, kw_only=True):
    """A meter (with its convertor) was fitted at `at`, showing `index`; what its register is.

    `m3_per_tick` is of the register in `index` (the converted one where there is a convertor). `conversion_factor` is
    null with a convertor. `q_max_m3_per_h` is at the register's own conditions.
    """

    meter_point: Name
    meter: Name
    at: Instant
    index: Count
    digits: Digits
    m3_per_tick: Decimal
    conversion_factor: Decimal | None = None
    q_max_m3_per_h: Decimal
    unconverted_digits: Digits | None = None
    unconverted_m3_per_tick: Decimal | None = None

    def __post_init__(self) -> None:
        check_instant("at", self.at)
        check_positive("m3_per_tick", self.m3_per_tick)
        check_positive("q_max_m3_per_h", self.q_max_m3_per_h)
        if self.conversion_factor is not None:
            check_positive("conversion_factor", self.conversion_factor)
        if self.unconverted_m3_per_tick is not None:
            check_positive("unconverted_m3_per_tick", self.unconverted_m3_per_tick)
        if self.index >= 10**self.digits:
            raise ValueError(f"index: {self.index} has more than {self.digits} digits")


class ReferenceIndex(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The meter's own index at the start and the end of the Day; `digits` and `m3_per_tick` as the register's unless given."""

    start: Count
    end: Count
    digits: Digits | None = None
    m3_per_tick: Decimal | None = None

    def __post_init__(self) -> None:
        if self.m3_per_tick is not None:
            check_positive("m3_per_tick", self.m3_per_tick)


class Readings(Fact, tag="readings", frozen=True, kw_only=True):
    """Meter Readings of one meter and Gas Day, all of them or a piece (1.4.3, 4.2.1).

    The instants are `at`, or `first_at` and every `interval_s` seconds. `index` holds one entry an instant: a count of
    ticks, null for a reading that is missing; what else stands there is kept, and rejected by validation (`malformed`).
    """

    meter_point: Name
    meter: Name
    gas_day: date
    at: tuple[Instant, ...] | None = None
    first_at: Instant | None = None
    interval_s: Annotated[int, Meta(ge=1, le=INTERVAL_S_MAX)] | None = None
    index: tuple[Any, ...]
    unconverted: tuple[Any, ...] | None = None
    reference_index: ReferenceIndex | None = None
    interval_m3: tuple[Decimal | None, ...] | None = None
    status: tuple[Status, ...] = ()
    clock_offset_s: float | None = None
    gateway: Name | None = None
    outbox: Name | None = None
    sequence: Count | None = None
    source: Literal["dre", "on_site"] = "dre"

    def __post_init__(self) -> None:
        check_gas_day(self.gas_day)
        self._check_columns()
        self._check_values()

    def _check_columns(self) -> None:
        if (self.at is None) == (self.first_at is None):
            raise ValueError("at: give either `at` or `first_at` with `interval_s`, one of the two")
        if self.first_at is not None and self.interval_s is None and len(self.index) > 1:
            raise ValueError("interval_s: missing beside `first_at`")
        if self.at is not None and (self.interval_s is not None or len(self.at) != len(self.index)):
            raise ValueError(f"at: {len(self.at)} instants for {len(self.index)} entries of `index`, and no `interval_s`")
        if self.unconverted is not None and len(self.unconverted) != len(self.index):
            raise ValueError(f"unconverted: {len(self.unconverted)} entries for {len(self.index)} of `index`")
        if self.interval_m3 is not None and len(self.interval_m3) != max(0, len(self.index) - 1):
            raise ValueError(f"interval_m3: {len(self.interval_m3)} entries; one fewer than `index` has ({len(self.index)})")

    def _check_values(self) -> None:
        for at in self.at or ():
            check_instant("at", at)
        if self.first_at is not None:
            check_instant("first_at", self.first_at)
            if (self.interval_s or 0) * (len(self.index) - 1) > SPAN_S_MAX:
                raise ValueError(f"interval_s: {len(self.index)} readings every {self.interval_s} s reach past the year 2199")
        for volume in self.interval_m3 or ():
            if volume is not None:
                check_number("interval_m3", volume)
        if self.clock_offset_s is not None and not math.isfinite(self.clock_offset_s):
            raise ValueError(f"clock_offset_s: {self.clock_offset_s} is not a number")
        for field in ("index", "unconverted"):
            values = getattr(self, field)
            if values is not None and not all(type(value) is int and -INTEGER_MAX < value < INTEGER_MAX for value in values):
                fitting = tuple(value if fits(value) else str(value) for value in values)
                msgspec.structs.force_setattr(self, field, fitting)  # no register is so long

    def instants(self) -> Iterator[datetime]:
        """The instants of the readings, one for each entry of `index`, as sent."""
        if self.at is not None:
            yield from self.at
        elif self.first_at is not None:
            step = timedelta(seconds=self.interval_s or 0)
            for n in range(len(self.index)):
                yield self.first_at + n * step


class IndexTold(Fact, frozen=True, kw_only=True):
    """What a meter showed at an instant, as a person read it."""

    meter_point: Name
    meter: Name
    at: Instant
    index: Count

    def __post_init__(self) -> None:
        check_instant("at", self.at)


class MeterRemoved(IndexTold, tag="meter_removed", frozen=True, kw_only=True):
    """A meter was removed at `at`, showing `index` (3.9.1(b)); of one meter and instant the latest received counts."""


class CheckRead(IndexTold, tag="check_read", frozen=True, kw_only=True):
    """A DM Check Read (4.7): the index on the meter, and what the equipment shows beside it, where that was noted."""

    equipment_index: Count | None = None


class MeterErrorAdjusted(IndexTold, tag="meter_error_adjusted", frozen=True, kw_only=True):
    """The index that the meter would show had it not read erroneously (1.10.1(b)): a check read with that index."""


class BypassUsed(Fact, tag="bypass_used", frozen=True, kw_only=True):
    """Gas went by the meter's by-pass from `at` to `until`: how much, by estimate (2.4.4(c)); of one `at` the latest counts."""

    meter_point: Name
    at: Instant
    until: Instant
    estimated_m3: Decimal

    def __post_init__(self) -> None:
        check_instant("at", self.at)
        check_instant("until", self.until)
        check_order("until", self.at, self.until)
        check_not_negative("estimated_m3", self.estimated_m3)


class EquipmentFault(Fact, tag="equipment_fault", frozen=True, kw_only=True):
    """Equipment did not work from `from` to `until` (null while it lasts): what captures the index, or what transmits it
    (4.4.5). Of one part and `from` the latest received counts."""

    meter_point: Name
    part: Literal["capture", "comms"]
    from_: Instant = msgspec.field(name="from")
    until: Instant | None = None

    def __post_init__(self) -> None:
        check_instant("from", self.from_)
        if self.until is not None:
            check_instant("until", self.until)
            check_order("until", self.from_, self.until)


class OfDay(Fact, frozen=True, kw_only=True):
    """What is about one Gas Day of a Supply Meter Point."""

    meter_point: Name
    gas_day: date

    def __post_init__(self) -> None:
        check_gas_day(self.gas_day)


class Inspection(OfDay, tag="inspection", frozen=True, kw_only=True):
    """What the transporter states after inspecting equipment for the notices about `gas_day` (4.8.3(b)); `at` is when it
    inspected. `volume_estimate_m3` is its estimate of that Day's metered consumption."""

    at: Instant
    equipment_works: bool
    reed_switch_works: bool
    meter_works: bool
    volume_estimate_m3: Decimal | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_instant("at", self.at)
        if self.volume_estimate_m3 is not None:
            check_not_negative("volume_estimate_m3", self.volume_estimate_m3)


class ReadErrorNotice(OfDay, tag="read_error_notice", frozen=True, kw_only=True):
    """A User's Daily Read Error Notice about a Day, with the User Volume Estimate (4.8.2)."""

    user: Name
    volume_estimate_m3: Decimal

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("volume_estimate_m3", self.volume_estimate_m3)


class EstimateAccepted(OfDay, tag="estimate_accepted", frozen=True, kw_only=True):
    """The User accepts the transporter's statement about a Day (4.8.8)."""

    user: Name


class RejectionNotice(OfDay, tag="rejection_notice", frozen=True, kw_only=True):
    """The User does not accept the transporter's statement about a Day (4.8.3(d))."""

    user: Name


class ExpertDetermination(OfDay, tag="expert_determination", frozen=True, kw_only=True):
    """What the expert determined of a Day (4.8.6)."""

    equipment_works: bool
    volume_m3: Decimal

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("volume_m3", self.volume_m3)


class AdjustmentAgreed(OfDay, tag="adjustment_agreed", frozen=True, kw_only=True):
    """Transporter and User agree on the volume of a Day after a Daily Read Error Day (4.8.9)."""

    volume_m3: Decimal

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("volume_m3", self.volume_m3)


class Withdrawn(OfDay, tag="withdrawn", frozen=True, kw_only=True):
    """An operator takes back what was received so far of a meter's readings for a Day: who, and why."""

    meter: Name
    reason: str
    by: Name


class Excluded(Fact, tag="excluded", frozen=True, kw_only=True):
    """Days, both included, on which the point is no Performance Relevant Supply Meter, or not to be counted as failed
    (5.1.1(d), 5.1.2, 5.1.3); `until` null while it lasts. Of one reason and `from` the latest received counts."""

    meter_point: Name
    reason: Literal["force_majeure", "no_access", "reed_switch"]
    from_: date = msgspec.field(name="from")
    until: date | None = None

    def __post_init__(self) -> None:
        check_gas_day(self.from_, "from")
        if self.until is not None:
            check_gas_day(self.until, "until")
            if self.until < self.from_:
                raise ValueError(f"until: {self.until} is before `from`, {self.from_}")


class Provided(OfDay, tag="provided", frozen=True, kw_only=True):
    """The Day's readings were published to a User (4.5): at `received_at`, for the `version`-th time."""

    user: Name
    version: Annotated[int, Meta(ge=1, lt=INTEGER_MAX)]


class IntervalSet(Fact, tag="interval_set", frozen=True, kw_only=True):
    """The interval of the equipment's readings was set (4.1.3), and whether it confirmed it; it changes no Day."""

    meter_point: Name
    interval_s: Annotated[int, Meta(ge=1, le=INTERVAL_S_MAX)]
    confirmed: bool


class Alarm(Fact, tag="alarm", frozen=True, kw_only=True):
    """What the equipment reports beside readings; kept for the analyst, it changes no Day."""

    meter_point: Name
    meter: Name
    at: Instant
    kind: Literal["tamper", "battery_low", "reed_switch", "bypass_open", "other"]
    detail: str = ""

    def __post_init__(self) -> None:
        check_instant("at", self.at)


class PollFailed(Fact, tag="poll_failed", frozen=True, kw_only=True):
    """The gateway asked a meter and got no usable answer; kept for the analyst, it changes no Day."""

    meter_point: Name
    meter: Name
    gas_day: date
    reason: str
    attempts: Annotated[int, Meta(ge=1, lt=INTEGER_MAX)]


class GivenUp(Fact, tag="given_up", frozen=True, kw_only=True):
    """Readings that an outbox at its cap had to drop: how many of this Day so far. It changes no Day."""

    meter_point: Name
    meter: Name
    gas_day: date
    readings: Count
    reason: str


class GatewayStatus(Fact, tag="gateway_status", frozen=True, kw_only=True):
    """How a gateway is: what it has not yet sent, and whether its clock is synchronised; how many readings its outbox gave
    up at its cap, and how many corrupt files of it stand aside."""

    gateway: Name
    backlog: Count
    oldest_unsent_at: Instant | None = None
    clock_synchronised: bool
    version: str
    given_up: Count = 0
    files_set_aside: Count = 0


class Tick(Fact, tag="tick", frozen=True, kw_only=True):
    """Nothing happened, but it is this late: `now`, not after `received_at`."""

    now: Instant

    def __post_init__(self) -> None:
        if self.received_at is not None and self.now > self.received_at:
            raise ValueError(f"now: {self.now.isoformat()} is after received_at, {self.received_at.isoformat()}")


PointFact: TypeAlias = (
    Registered | MeterFitted | MeterRemoved | Readings | CheckRead | MeterErrorAdjusted | BypassUsed | EquipmentFault
    | Inspection | ReadErrorNotice | EstimateAccepted | RejectionNotice | ExpertDetermination | AdjustmentAgreed
    | Withdrawn | Excluded | Provided | IntervalSet | Alarm | GivenUp | PollFailed
)  # fmt: skip
AnyFact: TypeAlias = CalorificValue | PointFact | GatewayStatus | Tick
FACT_TYPES: tuple[type[Fact], ...] = (
    CalorificValue, Registered, MeterFitted, MeterRemoved, Readings, CheckRead, MeterErrorAdjusted, BypassUsed,
    EquipmentFault, Inspection, ReadErrorNotice, EstimateAccepted, RejectionNotice, ExpertDetermination, AdjustmentAgreed,
    Withdrawn, Excluded, Provided, IntervalSet, Alarm, GivenUp, PollFailed, GatewayStatus, Tick,
)  # fmt: skip


def meter_point_of(fact: object) -> str | None:
    """The Supply Meter Point that a fact (packed or not) is about; None for what concerns many or none."""
    return getattr(fact, "meter_point", None)
