"""What the engine holds of one Gas Day, and of a Supply Meter Point's reference facts. Nothing here decides.

Volumes are in litres, quantities in watt-hours, instants in microseconds, Gas Days ordinals.
"""

from __future__ import annotations

from decimal import Decimal

from metering.batch import Batch, Reading, Setting, judge
from metering.facts import CalorificValue, MeterFitted, Readings, Registered
from metering.gasday import GasDays, to_datetime, to_us
from metering.ledger import Key, Rejected, Tolerance
from metering.rules import Rules
from metering.standing import Standing
from metering.volumes import Register
from metering.wire import canonical, decode_fact

OPEN, ACTUAL, DEEMED, ASSUMED = range(4)
NOT_DETERMINED, RESTORED, APPORTIONED = range(3)
DEEMED_DAYS = 7  # the registration date and the six Days after it (4.2.6)

Belief = tuple[bool, int | None, bool, int, int | None, int | None]


class Book:
    """One Gas Day: its batch, the standing reading of its start, how it was closed out, what was determined later.

    `pieces` are the batch's facts as they came: when each was received, and its packed bytes. `batch` is what was judged
    of them, if it has been; `ran`, `failed` and `tolerances` outlive it. `packed` keeps the state's bytes of a Day that has not
    changed.
    """

    __slots__ = (
        "batch", "by_11", "closed", "closed_l", "deemed_wh", "determined", "determined_l", "failed", "flagged", "packed",
        "pieces", "ran", "rejected", "shown", "since_us", "start", "tolerances", "valid", "valid_at_us",
    )  # fmt: skip

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.batch: Batch | None = None
        self.ran = 0
        self.failed = 0
        self.tolerances: tuple[Tolerance, ...] = ()
        self.start: Standing | None = None
        self.rejected: list[Rejected] = []
        self.flagged = 0
        self.closed = OPEN
        self.closed_l: int | None = None
        self.deemed_wh: int | None = None
        self.valid = False
        self.valid_at_us: int | None = None
        self.by_11 = False
        self.determined = NOT_DETERMINED
        self.determined_l: int | None = None
        self.since_us: int | None = None
        self.shown: frozenset[Key] = frozenset()  # the records of the Day that were given out, but for the `day` record
        self.packed: bytes | None = None

    def belief(self) -> Belief:
        """What is believed of the Day: remembered once an instant, so that `since` and `valid_at` are right."""
        return (self.valid, self.valid_at_us, self.by_11, self.determined, self.determined_l, self.since_us)

    def judged(self, day: int, setting: Setting) -> Batch:
        """The batch, judged if it has not been."""
        if self.batch is None:
            self.batch = judge(day, sorted(self.readings(), key=order), setting)
            self.ran, self.failed, self.tolerances = self.batch.ran, self.batch.failed, self.batch.tolerances
        return self.batch

    def readings(self) -> list[Readings]:
        """The pieces as facts."""
        facts = (decode_fact(packed, to_datetime(received_us)) for received_us, packed in self.pieces)
        return [fact for fact in facts if isinstance(fact, Readings)]

    @property
    def failed_day(self) -> bool:
        """A Failed Daily Read Day: closed out, and not as actual (4.4.2)."""
        return self.closed >= DEEMED


class Reference:
    """The reference facts of a point as far as they were received: registrations, the meter, calorific values.

    `packed` keeps the state's bytes of the registrations and the meter.
    """

    def __init__(self, meter_point: str, rules: Rules, days: GasDays) -> None:
        self.meter_point, self.rules, self.days = meter_point, rules, days
        self.registrations: list[Registered] = []
        self.fitted: MeterFitted | None = None
        self.values: dict[tuple[str, int], list[CalorificValue]] = {}
        self.packed: bytes | None = None
        self._of_day: dict[int, Registered | None] = {}
        self._close_out_us: dict[int, int] = {}
        self._setting: Setting | None = None

    def take(self, fact: Registered | MeterFitted | CalorificValue) -> bool:
        """Add a fact, in the order of receipt; whether it changes anything."""
        if isinstance(fact, CalorificValue):
            return self._take_value(fact)
        if isinstance(fact, Registered):
            self.registrations.append(fact)
            self.registrations.sort(key=lambda each: (each.gas_day, *order(each)))
        else:
            self.fitted = self._first_meter(fact)
        self.packed = None
        self._of_day.clear()
        self._close_out_us.clear()
        self._setting = None
        return True

    def _take_value(self, fact: CalorificValue) -> bool:
        known = self.values.setdefault((fact.ldz, fact.gas_day.toordinal()), [])
        if any(each.mj_per_m3 == fact.mj_per_m3 for each in known):
            return False  # a copy counts at the earliest receipt
        known.append(fact)
        if len(known) > 1:
            known.sort(key=order)
        return True

    def _first_meter(self, fact: MeterFitted) -> MeterFitted:
        """The meter fitted first; of the same meter and instant the latest received counts."""
        held = self.fitted
        if held is None or (held.meter, held.at) == (fact.meter, fact.at):
            return fact
        return min(held, fact, key=lambda each: (each.at, order(each)))

    def forget_values_before(self, day: int) -> None:
        """Let go of the calorific values of earlier Days."""
        self.values = {key: values for key, values in self.values.items() if key[1] >= day}

    def values_of(self, day: int) -> list[CalorificValue]:
        """The calorific values of the Day's LDZ, in the order of receipt."""
        registered = self.of(day)
        return self.values.get((registered.ldz, day), []) if registered is not None else []

    @property
    def registered(self) -> int | None:
        """The registration date: the smallest Gas Day that was registered."""
        return self.registrations[0].gas_day.toordinal() if self.registrations else None

    def of(self, day: int) -> Registered | None:
        """Users, LDZ, Annual Quantity and equipment on a Day."""
        if day not in self._of_day:
            found = [each for each in self.registrations if each.gas_day.toordinal() <= day]
            self._of_day[day] = found[-1] if found else None
        return self._of_day[day]

    def close_out_us(self, day: int) -> int:
        """When the Day is closed out: its Exit Close-Out, or that of the Day in which we came to know of it, the later."""
        known = self._close_out_us.get(day)
        if known is None:
            known_us = min(
                to_us(each.received_at)
                for each in self.registrations
                if each.gas_day.toordinal() <= day and each.received_at is not None
            )
            days = self.days
            known = max(days.exit_close_out_us(day), days.exit_close_out_us(days.day_of(known_us)))
            self._close_out_us[day] = known
        return known

    def calorific_value(self, day: int) -> Decimal | None:
        """The calorific value of the Day's LDZ, MJ/m³, as last received; None where none was."""
        known = self.values_of(day)
        return known[-1].mj_per_m3 if known else None

    @property
    def setting(self) -> Setting:
        """What the batches are judged by."""
        if self._setting is None:
            fitted = self.fitted
            self._setting = Setting(
                self.meter_point, None if fitted is None else fitted.meter, self.fitted_us,
                None if fitted is None else Register(fitted), self.registered, self.rules, self.days,
            )  # fmt: skip
        return self._setting

    @property
    def fitted_day(self) -> int | None:
        """The Day at whose start the meter counts as fitted (1.4.3(e))."""
        return None if self.fitted is None else self.days.day_of(to_us(self.fitted.at))

    @property
    def fitted_us(self) -> int:
        """The instant from which the meter counts as fitted; 0 where none is."""
        day = self.fitted_day
        return 0 if day is None else self.days.start_us(day)

    def fitting(self) -> Reading | None:
        """The index at the fitting, as a reading at the start of its Day."""
        fitted = self.fitted
        if fitted is None or fitted.received_at is None:
            return None
        return Reading(self.fitted_us, fitted.index, to_us(fitted.received_at))

    def in_deemed_week(self, day: int) -> bool:
        """Whether the Day is the registration date or one of the six Days after it (4.2.6)."""
        registered = self.registered
        return registered is not None and registered <= day < registered + DEEMED_DAYS


def order(fact: Registered | MeterFitted | CalorificValue | Readings) -> tuple[int, bytes]:
    """The order of facts: by receipt, then by canonical encoding."""
    return (0 if fact.received_at is None else to_us(fact.received_at), canonical(fact))
