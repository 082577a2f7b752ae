"""What an explanation of a Gas Day says: the types that `explain.py` fills, and that `dailyread explain --json` prints.

Volumes are m³ and quantities kWh with three places, both exact; instants are aware datetimes in UTC. Every figure that the
ledger has is the ledger's own: it stands in a record. Beside it stand the steps that lead to it; where they do not lead to
exactly that figure, `accounted` is false.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Literal

import msgspec

from metering.facts import AnyFact, BypassUsed, CalorificValue, MeterFitted, Provided, Registered
from metering.ledger import AnyRecord, Day, DayStatus, DeterminedStatus, Rejected

ProspectKind = Literal[
    "day_ends", "close_out", "valid_with", "restored_with", "run_start", "run_end", "run_closed_out", "inside_run",
    "volume_unknown", "boundary_rejected", "capture_fault", "calorific_value", "later_calorific_value", "read_error", "fixed",
    "substitution",
]  # fmt: skip


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an explanation."""


class Times(Part, frozen=True, kw_only=True):
    """The instants that bound the Day, and those by which something must be (4.2.1, 5.2.1, 4.4.1)."""

    starts: datetime
    ends: datetime
    by_11: datetime
    close_out: datetime


class Source(Part, frozen=True, kw_only=True):
    """Who said a boundary's index: a piece of a Day's batch, or a meter's fitting or removal. `piece` is its number among
    the batch's `pieces` in the order of receipt; null for a fitting or removal, as what belongs to a gateway."""

    fact: Literal["readings", "meter_fitted", "meter_removed"]
    meter: str
    at: datetime
    received_at: datetime
    source: Literal["dre", "on_site"] | None = None
    batch: date | None = None
    piece: int | None = None
    pieces: int | None = None
    gateway: str | None = None
    outbox: str | None = None
    sequence: int | None = None


class Boundary(Part, frozen=True, kw_only=True):
    """A boundary of the Day: the standing index (null: none stands), and who said so, the first received first."""

    at: datetime
    index: int | None
    said_by: tuple[Source, ...]


class Piece(Part, frozen=True, kw_only=True):
    """A piece of the Day's batch in short. `copies` is how often the same came again; `withdrawn_at` when it was taken back."""

    number: int
    meter: str
    source: Literal["dre", "on_site"]
    readings: int
    missing: int
    first_at: datetime | None
    last_at: datetime | None
    first_index: object
    last_index: object
    status: tuple[str, ...]
    clock_offset_s: float | None
    gateway: str | None
    outbox: str | None
    sequence: int | None
    received_at: datetime
    copies: int
    withdrawn_at: datetime | None


class RuleFound(Part, frozen=True, kw_only=True):
    """A validation rule on this Day: what it does, whether it ran and failed, and the values that it found."""

    rule: str
    clause: str
    action: Literal["reject", "flag"]
    ran: bool
    failed: bool
    found: tuple[str, ...]


class Advance(Part, frozen=True, kw_only=True):
    """One meter's advance between two indexes: volume = R(end × k) - R(start × k), with the end unwrapped by 10^digits where
    the register rolled over (1.4.4; the rules page, section 3). `at` and `until` are when the two indexes were so."""

    meter: str
    at: datetime
    until: datetime
    start_index: int
    end_index: int
    rolled_over: bool
    digits: int
    m3_per_tick: Decimal
    conversion_factor: Decimal | None
    start_m3: Decimal
    end_m3: Decimal
    volume_m3: Decimal


class Origin(Part, frozen=True, kw_only=True):
    """How a Day's closed-out volume, or its present one, was found: by what `status` says, and the `clause` of it.

    `actual`: the sum of `advances`, and of what went by the by-pass. `deemed`: the Annual Quantity / 365, and the volume by
    `calorific_value`. `assumed`, and `provisional` after the deemed week: what `rests_on` has, a week before. By 4.8.8 or 4.8.9
    `substituted_m3` took the place of the sum of `advances`.
    """

    gas_day: date
    status: DayStatus
    clause: str
    closed_out: bool
    volume_m3: Decimal | None
    quantity_kwh: Decimal | None
    advances: tuple[Advance, ...] = ()
    bypass: tuple[BypassUsed, ...] = ()
    annual_quantity_kwh: Decimal | None = None
    calorific_value: CalorificValue | None = None
    rests_on: date | None = None
    substituted_m3: Decimal | None = None
    accounted: bool


class Share(Part, frozen=True, kw_only=True):
    """One Day's share of a run: its weight is its closed-out volume; `exact_m3` is before rounding to the litre."""

    gas_day: date
    status: DayStatus
    weight_m3: Decimal | None
    exact_m3: Decimal | None
    determined_m3: Decimal | None


class Run(Part, frozen=True, kw_only=True):
    """The Failed Days between two standing boundary readings, and the volume between these; null where one is missing."""

    first: date
    last: date
    start: Boundary
    end: Boundary
    advances: tuple[Advance, ...]
    volume_m3: Decimal | None
    shares: tuple[Share, ...]


class Determination(Part, frozen=True, kw_only=True):
    """How a Failed Day was determined later (4.4.5); with `status` null, the run that it waits in."""

    status: DeterminedStatus | None
    clause: str
    run: Run | None
    accounted: bool


class Quantity(Part, frozen=True, kw_only=True):
    """What turns volumes into quantities (1.4.4(b)): the Day's calorific values as received; the last one counts."""

    ldz: str | None
    calorific_values: tuple[CalorificValue, ...]
    mj_per_m3: Decimal | None


class Deadline(Part, frozen=True, kw_only=True):
    """What happened by itself: a Day began, or its Exit Close-Out came (4.4.1)."""

    kind: Literal["begins", "close_out"]
    gas_day: date


class RecordChange(Part, frozen=True, kw_only=True):
    """A record of the Day before and after an instant; null where there was none, or is none any more."""

    before: AnyRecord | None
    after: AnyRecord | None


class Moment(Part, frozen=True, kw_only=True):
    """An instant of the Day's history: what was received or fell due, and the records of the Day that changed by it."""

    at: datetime
    facts: tuple[AnyFact, ...]
    deadlines: tuple[Deadline, ...]
    changes: tuple[RecordChange, ...]


class Prospect(Part, frozen=True, kw_only=True):
    """Something that would change the Day's record, or that fixes it.

    `instants` are those of the readings that are missing, or of the deadline; `clause` is the clause by which; `volume_m3` is
    what would take the place of the readings.
    """

    kind: ProspectKind
    clause: str
    instants: tuple[datetime, ...] = ()
    gas_day: date | None = None
    ldz: str | None = None
    user: str | None = None
    volume_m3: Decimal | None = None


class Explanation(Part, frozen=True, kw_only=True):
    """A Gas Day of a Supply Meter Point as of an instant: its record, where every figure in it comes from, what it was before,
    and what would change it. `records` are the Day's other records; `facts` all that was received about the Day,
    `run_facts` about the other Days of its run."""

    meter_point: str
    gas_day: date
    as_of: datetime
    times: Times
    day: Day
    registered: Registered | None
    meters: tuple[MeterFitted, ...]
    start: Boundary
    end: Boundary
    pieces: tuple[Piece, ...]
    rejected: tuple[Rejected, ...]
    rules: tuple[RuleFound, ...]
    origins: tuple[Origin, ...]
    determination: Determination | None
    quantity: Quantity
    records: tuple[AnyRecord, ...]
    history: tuple[Moment, ...]
    prospects: tuple[Prospect, ...]
    provided: tuple[Provided, ...]
    facts: tuple[AnyFact, ...]
    run_facts: tuple[AnyFact, ...]
