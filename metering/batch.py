"""What one Gas Day's batch holds: which of its readings are admissible by themselves, and what its own checks find.

A batch is all `readings` facts of a meter for a Day. Here each reading meets the rules that look at it alone (`malformed`,
`too_old`, `from_the_future`, `clock_invalid`, `conflicting_reading`), and the batch its own comparisons; the rules that compare
readings with those of other Days are in `standing.py`, those about a whole Day in `records.py`. Source: M1.4.3, 1.5,
4.8.1(d); the rules page, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from metering.chain import Admit, Node, standing
from metering.facts import Readings
from metering.gasday import SECOND_US, GasDays, to_datetime, to_us
from metering.ledger import Rejected, Tolerance
from metering.meters import Meter
from metering.rules import Rules
from metering.validation import (
    BIT,
    CLAUSES,
    TOO_OLD,
    Expected,
    clock_invalid,
    conflicting_reading,
    convertor_ratio,
    equipment_status,
    from_the_future,
    interval_sum,
    m3,
    malformed,
    tolerance_1_percent,
)
from metering.volumes import Register, Verdict

Check = Literal["tolerance_1_percent", "interval_sum"]
READING_RULES = (
    BIT["malformed"] | BIT["from_the_future"] | BIT["clock_invalid"] | BIT["conflicting_reading"]
    | BIT["boundary_mismatch"] | BIT["negative_advance"] | BIT["excess_flow"] | BIT["equipment_status"]
)  # fmt: skip


class Reading(NamedTuple):
    """One admissible reading: an index at an instant, when it was received, and the unconverted index beside it."""

    at_us: int
    ticks: int
    received_us: int
    unconverted: int | None = None


class Setting(NamedTuple):
    """What a batch is judged by: the meter (None: none is known), and the registration date."""

    meter_point: str
    meter: Meter | None
    registered: int | None
    rules: Rules
    days: GasDays

    @property
    def register(self) -> Register | None:
        """The meter's register."""
        return None if self.meter is None else self.meter.register


class Batch(NamedTuple):
    """A Day's batch as judged. `start` and `end` are its own candidates for the Day's boundaries, `others` the readings that
    are for neither, in the order of their instants. `ran` and `failed` are bit sets of rules."""

    start: tuple[Reading, ...] = ()
    end: tuple[Reading, ...] = ()
    others: tuple[Reading, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    boundary_rejected: bool = False
    refused: bool = False
    ran: int = 0
    failed: int = 0
    tolerances: tuple[Tolerance, ...] = ()

    def readings(self) -> tuple[Reading, ...]:
        """All readings that stand by themselves, no two of one instant."""
        return (*self.start, *self.others, *self.end)

    @property
    def spoiled(self) -> bool:
        """Whether one of the batch's own boundary readings was rejected, alone or with the whole batch."""
        return self.boundary_rejected or (self.refused and bool(self.start or self.end))


class Judged(NamedTuple):
    """A Day's batch as judged: of each meter, by its number; what was rejected of meters that are not known; and for the Day
    as a whole which rules ran and failed, and the comparisons."""

    of: Mapping[int, Batch]
    rejected: tuple[Rejected, ...] = ()
    ran: int = 0
    failed: int = 0
    tolerances: tuple[Tolerance, ...] = ()

    @property
    def spoiled(self) -> bool:
        """Whether a boundary reading of the Day's own batch was rejected, alone or with the whole batch."""
        return any(batch.spoiled for batch in self.of.values())


def judge_day(day: int, pieces: Sequence[Readings], settings: Sequence[Setting]) -> Judged:
    """Judge the pieces of one Day, in the order in which they were received, each by the setting of its meter.

    Pieces of a meter that is not known are rejected and are no part of the Day's batch.
    """
    batches: dict[int, Batch] = {}
    for setting in settings:
        own = [piece for piece in pieces if setting.meter is not None and piece.meter == setting.meter.serial]
        if own and setting.meter is not None:
            batches[setting.meter.number] = judge(day, own, setting)
    known = {setting.meter.serial for setting in settings if setting.meter is not None}
    foreign = [piece for piece in pieces if piece.meter not in known]
    rejected = judge(day, foreign, settings[0]).rejected if foreign else ()
    tolerances: dict[str, Tolerance] = {}
    ran = failed = 0
    for batch in batches.values():
        ran, failed = ran | batch.ran, failed | batch.failed
        for tolerance in batch.tolerances:  # one record a Day and check: of two meters' that which is not within
            if tolerance.check not in tolerances or not tolerance.within:
                tolerances[tolerance.check] = tolerance
    return Judged(batches, rejected, ran, failed, tuple(tolerances.values()))


def judge(day: int, pieces: Sequence[Readings], setting: Setting) -> Batch:
    """Judge the pieces of one meter's batch of a Day, in the order in which they were received."""
    sorter = _Sorter(day, setting)
    for piece in pieces:
        sorter.take(piece)
    batch = sorter.batch()
    if setting.meter is None or all(piece.meter != setting.meter.serial for piece in pieces):
        return batch
    failed, ran, validation = batch.failed, batch.ran, setting.rules.of(day)
    if validation.runs("equipment_status") and equipment_status(pieces):
        failed |= BIT["equipment_status"]
    tolerances, found = _compare(day, pieces, batch, setting)
    ran |= found.ran
    return batch._replace(
        ran=ran, failed=failed | found.failed, tolerances=tolerances, refused=bool(found.rejected),
        rejected=(*batch.rejected, *found.rejected),
    )  # fmt: skip


def node_of(reading: Reading, day: int) -> Node:
    """A reading of the Day's batch as a node of a chain."""
    return Node(reading.at_us, reading.ticks, reading.received_us, day, day)


def admission(setting: Setting) -> Admit:
    """The test of an advance between two readings, under the rules of the Day that judges the later one."""
    register, rules = setting.register, setting.rules

    def admit(before: Node, after: Node) -> Verdict:
        assert register is not None
        validation = rules.of(after.judged)
        verdict = register.verdict(before.ticks, after.ticks, after.at_us - before.at_us, validation.excess_factor)
        return verdict if verdict and validation.rejects(verdict) else ""

    return admit


class _Sorter:
    """Sorts the readings of a Day's pieces into those that stand by themselves and those that do not."""

    def __init__(self, day: int, setting: Setting) -> None:
        self.day, self.setting = day, setting
        self.validation = setting.rules.of(day)
        tolerance_us = setting.rules.boundary_s * SECOND_US
        self.start_us, self.end_us = setting.days.start_us(day), setting.days.end_us(day)
        self.tolerance_us = tolerance_us
        first_us = self.start_us - tolerance_us
        if setting.registered is not None:
            first_us = max(first_us, setting.days.start_us(setting.registered) - tolerance_us)
        meter = setting.meter
        self.expected = Expected(day, meter, self.start_us - tolerance_us, first_us, self.end_us + tolerance_us, tolerance_us)
        self.boundaries = [us for us in (self.start_us, self.end_us) if meter is None or meter.reads(us)]
        self.pool: dict[int, Reading] = {}
        self.rejected: dict[tuple[str, int, str], Rejected] = {}
        self.boundary_rejected = False
        self.ran = self.failed = 0

    def take(self, piece: Readings) -> None:
        received_us = to_us(piece.received_at) if piece.received_at is not None else 0
        refusal = self._refusal(piece, received_us)
        clock = ("clock_invalid", clock_invalid(piece, self.validation.clock_offset_s))
        own = self.setting.meter is not None and piece.meter == self.setting.meter.serial
        if own:
            self.ran |= self.validation.running(READING_RULES)
        latest: int | None = None
        for n, at in enumerate(piece.instants()):
            index = piece.index[n]
            at_us = to_us(at)
            rising = latest is None or at_us > latest
            latest = at_us if latest is None or rising else latest
            if index is None:
                continue
            reasons = [refusal or self._alone(at_us, index, rising, received_us), clock]
            if piece.source == "on_site":
                at_us = self._as_on_site(at_us)
            if not any(self._reject(*reason, at_us, index, received_us, own) for reason in reasons if reason[1]):
                self._keep(Reading(at_us, index, received_us, self._unconverted(piece, n)))

    def _as_on_site(self, at_us: int) -> int:
        """The instant at which an On-site Meter Read within the Day counts as obtained: the Day's start (1.4.3(e))."""
        within = self.start_us + self.tolerance_us < at_us < self.end_us - self.tolerance_us
        return self.start_us if within else at_us

    def _refusal(self, piece: Readings, received_us: int) -> tuple[str, str] | None:
        """Why no reading of the piece can be used, but for its own fault."""
        setting = self.setting
        if setting.registered is None:
            return "malformed", "the meter point is not registered: no Day for it"
        if setting.meter is None:
            return "malformed", f"no meter is fitted; the readings name {piece.meter}"
        if piece.meter != setting.meter.serial:
            return "malformed", f"meter {piece.meter} is not known here; {setting.meter.serial} is fitted"
        if self.day < setting.days.day_of(received_us) - setting.rules.history_days:
            return TOO_OLD, f"more than {setting.rules.history_days} Days before it was received"
        return None

    def _alone(self, at_us: int, index: Any, rising: bool, received_us: int) -> tuple[str, str]:
        if wrong := malformed(index, at_us, rising, self.expected):
            return "malformed", wrong
        return "from_the_future", from_the_future(at_us, received_us, self.validation.future_s)

    def _unconverted(self, piece: Readings, n: int) -> int | None:
        """The unconverted index beside a reading; None where there is none that can be."""
        value, register = None if piece.unconverted is None else piece.unconverted[n], self.setting.register
        if register is None or register.unconverted is None or type(value) is not int:
            return None
        return value if 0 <= value < 10 ** register.unconverted[0] else None

    def _keep(self, reading: Reading) -> None:
        held = self.pool.get(reading.at_us)
        if held is None:
            self.pool[reading.at_us] = reading
        elif held.ticks == reading.ticks:
            if held.unconverted is None:  # it comes with a later piece
                self.pool[reading.at_us] = held._replace(unconverted=reading.unconverted)
        else:
            first, second = sorted((held, reading), key=lambda each: (each.received_us, each.ticks))
            self.pool[reading.at_us] = first
            detail = conflicting_reading(second.ticks, first.ticks, first.received_us)
            self._reject("conflicting_reading", detail, second.at_us, second.ticks, second.received_us, True)

    def _reject(self, rule: str, detail: str, at_us: int, index: Any, received_us: int, own: bool) -> bool:
        """Whether the reading is rejected; a rule that only flags leaves it."""
        if not self.validation.runs(rule):
            return False
        if own and rule != TOO_OLD:
            self.failed |= BIT[rule]
        if rule != TOO_OLD and not self.validation.rejects(rule):
            return False
        key = (rule, at_us, repr(index))
        if key not in self.rejected:
            self.rejected[key] = rejected(self.setting.meter_point, self.day, rule, detail, at_us, index, received_us)
        if own and any(abs(at_us - boundary_us) <= self.tolerance_us for boundary_us in self.boundaries):
            self.boundary_rejected = True
        return True

    def batch(self) -> Batch:
        readings = [self.pool[at_us] for at_us in sorted(self.pool)]
        start = tuple(each for each in readings if abs(each.at_us - self.start_us) <= self.tolerance_us)
        end = tuple(each for each in readings if abs(each.at_us - self.end_us) <= self.tolerance_us)
        others = tuple(each for each in readings if each not in start and each not in end)
        return Batch(
            start, end, others, tuple(self.rejected.values()), self.boundary_rejected, False, self.ran, self.failed
        )  # fmt: skip


Measured = tuple[Fraction, Fraction, Fraction, int]
Apart = Callable[[Fraction, Fraction, Fraction, Decimal], str]


class _Found(NamedTuple):
    ran: int = 0
    failed: int = 0
    rejected: tuple[Rejected, ...] = ()


def nearest(readings: Sequence[Reading], boundary_us: int) -> Reading | None:
    """The reading nearest to a boundary of the Day; of two as near, the earlier."""
    return min(readings, key=lambda each: (abs(each.at_us - boundary_us), each.at_us), default=None)


def _compare(day: int, pieces: Sequence[Readings], batch: Batch, setting: Setting) -> tuple[tuple[Tolerance, ...], _Found]:
    """The checks of a batch against its meter's own index, its intervals' own volumes, and its unconverted register."""
    register, validation = setting.register, setting.rules.of(day)
    assert register is not None
    start = nearest(batch.start, setting.days.start_us(day))
    end = nearest(batch.end, setting.days.end_us(day))
    ran = failed = 0
    tolerances: list[Tolerance] = []
    refusals: list[Rejected] = []
    checks: tuple[tuple[Check, Apart, Measured | None], ...] = (
        ("tolerance_1_percent", tolerance_1_percent, _reference(pieces, register, start, end)),
        ("interval_sum", interval_sum, _intervals(day, pieces, batch, setting)),
    )
    for check, apart, measured in checks:
        if measured is None or not validation.runs(check):
            continue
        a, b, tick, received_us = measured
        detail = apart(a, b, tick, validation.tolerance)
        ran |= BIT[check]
        tolerances.append(_tolerance(setting.meter_point, day, check, a, b, not detail))
        if detail:
            failed |= BIT[check]
            if validation.rejects(check):
                refusals.append(rejected(setting.meter_point, day, check, detail, None, None, received_us))
    ratio = _convertor(pieces, register, start, end)
    if ratio is not None and validation.runs("convertor_ratio"):
        ran |= BIT["convertor_ratio"]
        if convertor_ratio(*ratio, validation.convertor_ratio_min, validation.convertor_ratio_max):
            failed |= BIT["convertor_ratio"]
    return tuple(tolerances), _Found(ran, failed, tuple(refusals))


def _reference(pieces: Sequence[Readings], register: Register, start: Reading | None, end: Reading | None) -> Measured | None:
    """The equipment's advance over the Day, the meter's own, the tick of the coarser register, all in m³."""
    for piece in pieces:
        reference = piece.reference_index
        if reference is None or start is None or end is None:
            continue
        tick = register.m3_per_tick if reference.m3_per_tick is None else Fraction(reference.m3_per_tick)
        modulus = 10 ** (register.digits if reference.digits is None else reference.digits)
        a = _unwrapped(start.ticks, end.ticks, register.modulus) * register.m3_per_tick
        b = _unwrapped(reference.start, reference.end, modulus) * tick
        return a, b, max(tick, register.m3_per_tick), _received_us(piece)
    return None


def _intervals(day: int, pieces: Sequence[Readings], batch: Batch, setting: Setting) -> Measured | None:
    """The sum of the intervals' own volumes, and the index advance over the same intervals. Of an interval both readings must
    be admissible, by themselves and to the others of the batch; an interval that came twice counts once."""
    register = setting.register
    if register is None or all(piece.interval_m3 is None for piece in pieces):
        return None
    chain = standing([node_of(reading, day) for reading in batch.readings()], admission(setting))
    sound = {node.at_us: node.ticks for node in chain}
    a, ticks, received_us = Fraction(0), 0, None
    seen: set[tuple[int, int]] = set()
    for piece in pieces:
        readings = [
            (to_us(at), type(index) is int and sound.get(to_us(at)) == index)
            for at, index in zip(piece.instants(), piece.index, strict=True)
        ]
        for volume, ((start_us, first), (end_us, last)) in zip(piece.interval_m3 or (), pairwise(readings), strict=False):
            if volume is None or not (first and last) or (start_us, end_us) in seen:
                continue
            seen.add((start_us, end_us))
            a += Fraction(volume)
            ticks += _unwrapped(sound[start_us], sound[end_us], register.modulus)
            received_us = _received_us(piece) if received_us is None else received_us
    if received_us is None:
        return None
    return a, ticks * register.m3_per_tick, register.m3_per_tick, received_us


def _convertor(
    pieces: Sequence[Readings], register: Register, start: Reading | None, end: Reading | None
) -> tuple[Fraction, Fraction] | None:
    """The converted and the unconverted advance over the Day, in m³; None where there is nothing to compare."""
    unconverted = register.unconverted
    if unconverted is None or start is None or end is None or start.unconverted is None or end.unconverted is None:
        return None
    digits, tick = unconverted
    below = _unwrapped(start.unconverted, end.unconverted, 10**digits) * tick
    above = _unwrapped(start.ticks, end.ticks, register.modulus) * register.m3_per_tick
    return (above, below) if above or below else None


def rejected(meter_point: str, day: int, rule: str, detail: str, at_us: int | None, index: Any, received_us: int) -> Rejected:
    """The record of a reading, or with `at_us` None of a batch, that a rule rejected."""
    return Rejected(
        meter_point=meter_point, gas_day=date.fromordinal(day), at=None if at_us is None else to_datetime(at_us),
        index=index, rule=rule, clause=CLAUSES[rule], detail=detail, received_at=to_datetime(received_us),
    )  # fmt: skip


def _tolerance(meter_point: str, day: int, check: Check, a: Fraction, b: Fraction, within: bool) -> Tolerance:
    deviation = None if b == 0 else m3(a / b - 1, 6)
    return Tolerance(
        meter_point=meter_point, gas_day=date.fromordinal(day), check=check,
        a=m3(a), b=m3(b), deviation=deviation, within=within,
    )  # fmt: skip


def _unwrapped(start: int, end: int, modulus: int) -> int:
    return end - start if end >= start else end - start + modulus


def _received_us(piece: Readings) -> int:
    return 0 if piece.received_at is None else to_us(piece.received_at)
