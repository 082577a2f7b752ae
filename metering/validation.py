"""The validation rules that we apply (1.5): of each the one function that finds whether something fails it, and at the end the
table of them, in the order in which a ledger names them.

The functions about readings and their advances say what is wrong in a few words, empty where nothing is; those about a whole
Day say whether it fails. What they may be given to compare, and what becomes of a reading that fails, is `batch.py`,
`standing.py` and `records.py`. Instants and spans are microseconds, volumes m³ as fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from metering.facts import Readings
from metering.gasday import SECOND_US, to_datetime
from metering.meters import Meter
from metering.volumes import Register

Action = Literal["reject", "flag", "off"]


class Rule(NamedTuple):
    """A validation rule: its identifier, the clause it rests on, what it does by default, what it may be set to do, and the
    function that applies it."""

    id: str
    clause: str
    action: Action
    allowed: tuple[Action, ...]
    check: Callable[..., Any]


class Expected(NamedTuple):
    """What the readings of a meter for a Day must be: the instants that the Day may hold, from `opens_us` to `last_us`, with
    `tolerance_us` around its boundaries; `first_us` is later than `opens_us` where the point was not registered before."""

    day: int
    meter: Meter | None
    opens_us: int
    first_us: int
    last_us: int
    tolerance_us: int

    def leeway_us(self, instant_us: int) -> int:
        """How far from a fitting or removal a reading may be: as from a boundary, where it is at one."""
        start_us, end_us = self.opens_us + self.tolerance_us, self.last_us - self.tolerance_us
        return self.tolerance_us if instant_us in (start_us, end_us) else 0


def malformed(index: Any, at_us: int, rising: bool, expected: Expected) -> str:
    """An index that is no integer of the register; an instant that is not later than the one before it, or not of the Day, or
    at which the meter was not there (1.4.3)."""
    meter = expected.meter
    modulus = meter.register.modulus if meter is not None else 1
    if wrong := no_index(index, modulus):
        return wrong
    if not rising:
        return "its instant is not later than the one before it"
    if not expected.first_us <= at_us <= expected.last_us:
        if expected.opens_us <= at_us < expected.first_us:
            return "no Day for it: it lies before the registration date"
        return f"no Day for it: {date.fromordinal(expected.day)} does not hold this instant"
    if meter is not None and at_us < meter.from_us - expected.leeway_us(meter.from_us):
        return f"meter {meter.serial} was not fitted yet"
    if meter is not None and meter.to_us is not None and at_us > meter.to_us + expected.leeway_us(meter.to_us):
        return f"meter {meter.serial} was removed by then"
    return ""


def no_index(index: Any, modulus: int) -> str:
    """Part of `malformed`: an index that the register cannot show."""
    return "" if type(index) is int and 0 <= index < modulus else f"index is not an integer in 0 .. {modulus - 1}"


def from_the_future(at_us: int, received_us: int, future_s: int) -> str:
    """A reading stamped later than it was received, by more than `future_s` (1.5)."""
    if at_us <= received_us + future_s * SECOND_US:
        return ""
    return f"received at {instant(received_us)}, before the instant it is stamped with"


def clock_invalid(piece: Readings, clock_offset_s: int) -> str:
    """The equipment marks its clock invalid, or it was found further off than allowed (1.5)."""
    if "clock_invalid" in piece.status:
        return "the equipment marks its clock invalid"
    if piece.clock_offset_s is not None and abs(piece.clock_offset_s) > clock_offset_s:
        return f"the equipment's clock is {piece.clock_offset_s:g} s off; {clock_offset_s} s are allowed"
    return ""


def conflicting_reading(ticks: int, first_ticks: int, first_received_us: int) -> str:
    """Another value of the register at this instant was received before (1.5)."""
    return "" if ticks == first_ticks else f"{first_ticks} was received first, at {instant(first_received_us)}"


def boundary_mismatch(ticks: int, standing_ticks: int) -> str:
    """Another value of a boundary's instant stands (4.2.3(c))."""
    return "" if ticks == standing_ticks else f"{ticks} differs from {standing_ticks}, which stands at this instant"


def negative_advance(register: Register, start: int, end: int, span_us: int, excess_factor: Decimal) -> str:
    """The index goes down and is no roll-over: that would be possible in the time, and below half of the register (1.5)."""
    if register.verdict(start, end, span_us, excess_factor) != "negative_advance":
        return ""
    return f"down, and no roll-over of {register.digits} digits"


def excess_flow(register: Register, start: int, end: int, span_us: int, excess_factor: Decimal) -> str:
    """The index advances by more than `excess_factor` times the greatest flow gives in the time, and one tick (1.5)."""
    if register.verdict(start, end, span_us, excess_factor) != "excess_flow":
        return ""
    return f"{end - start} ticks, at most {register.limit_ticks(span_us, excess_factor)} possible"


def tolerance_1_percent(a: Fraction, b: Fraction, tick: Fraction, tolerance: Decimal) -> str:
    """The equipment's advance over the Day, a, is not that of the meter itself, b, within the tolerance or a tick
    (4.8.1(d))."""
    return _apart(a, b, tick, tolerance)


def interval_sum(a: Fraction, b: Fraction, tick: Fraction, tolerance: Decimal) -> str:
    """The intervals' own volumes, a, do not sum to the advance of the index, b, within the tolerance or a tick (4.8.1(d))."""
    return _apart(a, b, tick, tolerance)


def convertor_ratio(converted: Fraction, unconverted: Fraction, least: Decimal, most: Decimal) -> bool:
    """The converted advance is not within its band of times the unconverted one (1.5)."""
    return not Fraction(least) * unconverted <= converted <= Fraction(most) * unconverted


def unusual_volume(quantity_wh: int, usual_wh: int) -> bool:
    """The Day's quantity is more than so many times a 365th of the Annual Quantity, `usual_wh` (1.5)."""
    return quantity_wh > usual_wh


def stuck_register(moved: bool, mean_m3: Fraction | None, register: Register, stuck_ticks: int) -> bool | None:
    """The register did not move for so many Days at a point that by its Annual Quantity takes more than `stuck_ticks` of it a
    Day; None where it did not move and that mean volume is not known (1.5)."""
    if moved:
        return False
    return None if mean_m3 is None else mean_m3 > stuck_ticks * register.k


def equipment_status(pieces: Iterable[Readings]) -> bool:
    """The equipment reports tampering, its battery, its reed switch, or an open by-pass (5.1.3)."""
    return any(REPORTED.intersection(piece.status) for piece in pieces)


def _apart(a: Fraction, b: Fraction, tick: Fraction, tolerance: Decimal) -> str:
    allowed = max(Fraction(tolerance) * b, tick)
    return "" if abs(a - b) <= allowed else f"a {m3(a)} m³, b {m3(b)} m³, allowed difference {m3(allowed)} m³"


REPORTED = {"tamper", "battery_low", "reed_switch", "bypass_open"}
ALWAYS: tuple[Action, ...] = ("reject",)
ANY: tuple[Action, ...] = ("reject", "flag", "off")
NEVER_REJECT: tuple[Action, ...] = ("flag", "off")
RULES = (
    Rule("malformed", "1.4.3", "reject", ALWAYS, malformed),
    Rule("from_the_future", "1.5", "reject", ANY, from_the_future),
    Rule("clock_invalid", "1.5", "reject", ANY, clock_invalid),
    Rule("conflicting_reading", "1.5", "reject", ALWAYS, conflicting_reading),
    Rule("boundary_mismatch", "4.2.3(c)", "reject", ANY, boundary_mismatch),
    Rule("negative_advance", "1.5", "reject", ANY, negative_advance),
    Rule("excess_flow", "1.5", "reject", ANY, excess_flow),
    Rule("tolerance_1_percent", "4.8.1(d)", "reject", ANY, tolerance_1_percent),
    Rule("interval_sum", "4.8.1(d)", "reject", ANY, interval_sum),
    Rule("convertor_ratio", "1.5", "flag", NEVER_REJECT, convertor_ratio),
    Rule("unusual_volume", "1.5", "flag", NEVER_REJECT, unusual_volume),
    Rule("stuck_register", "1.5", "flag", NEVER_REJECT, stuck_register),
    Rule("equipment_status", "5.1.3", "flag", NEVER_REJECT, equipment_status),
)
RULE_IDS = tuple(rule.id for rule in RULES)
TOO_OLD = "too_old"  # no rule of validation: what lies further back than the history that is kept is not looked at
CLAUSES = {rule.id: rule.clause for rule in RULES} | {TOO_OLD: "1.5"}
BIT = {rule: 1 << n for n, rule in enumerate(RULE_IDS)}


def instant(us: int) -> str:
    """An instant as it stands in the words of a rejection."""
    return to_datetime(us).isoformat().replace("+00:00", "Z")


def m3(value: Fraction, places: int = 3) -> Decimal:
    """A fraction rounded half up in size to so many places."""
    scaled = value * 10**places
    whole = (2 * abs(scaled.numerator) + scaled.denominator) // (2 * scaled.denominator)
    return Decimal(-whole if value < 0 else whole).scaleb(-places)
