"""Random facts of some weeks or months at one or two meter points, with every trouble that the rules speak of, for property
tests: meters are exchanged, told late and wrongly; readings fail, come late, twice, in pieces, and are withdrawn."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from metering.facts import (
    AdjustmentAgreed,
    AnyFact,
    BypassUsed,
    CalorificValue,
    CheckRead,
    EquipmentFault,
    EstimateAccepted,
    ExpertDetermination,
    Inspection,
    MeterErrorAdjusted,
    MeterFitted,
    MeterRemoved,
    PollFailed,
    Provided,
    ReadErrorNotice,
    Readings,
    ReferenceIndex,
    Registered,
    RejectionNotice,
    Tick,
    Withdrawn,
)
from metering.gasday import GasDays, to_datetime
from metering.rules import Rules, Validation
from metering.validation import RULES, Action

DAYS = GasDays()
FIRST_DAYS = (date(2026, 1, 28), date(2026, 3, 20), date(2026, 10, 15), date(2015, 9, 20), date(2024, 2, 20))
HOUR = timedelta(hours=1)


class Life(NamedTuple):
    """A meter in its time, in hours since the first Day's start: what it shows at first, and its register."""

    meter: str
    since: int
    until: int | None
    shown: int
    digits: int
    tick: str


class Scenario:
    """Facts of `days` Gas Days from `first` on, made by the dice given."""

    def __init__(self, dice: random.Random, points: int = 1, days: int = 24) -> None:
        self.dice, self.days = dice, days
        self.first = dice.choice(FIRST_DAYS).toordinal()
        self.facts: list[AnyFact] = []
        for n in range(points):
            self._point(f"MP{n}")
        self._calorific_values()
        for _ in range(dice.choice([0, 0, 0, 1, 2])):
            self.facts.append(self._stray())
        for _ in range(dice.randint(0, 4)):
            self.facts.append(self._tick())

    def start(self, day: int) -> datetime:
        return to_datetime(DAYS.start_us(day))

    def instant(self, hour: int) -> datetime:
        return self.start(self.first) + hour * HOUR

    def _point(self, name: str) -> None:
        dice = self.dice
        self.name = name
        self._register(name)
        self._use()
        self.lives = self._lives()
        self._first_fitting(self.lives[0])
        for before, after in pairwise(self.lives):
            self._exchange(before, after)
        silent = set()
        for _ in range(dice.randint(0, 3)):
            begin = dice.randrange(self.days)
            silent |= set(range(begin, begin + dice.choice([1, 1, 2, 5, 9])))
        for n in range(self.days):
            if n not in silent:
                for life in self.lives:
                    self._day(n, life)
        for _ in range(dice.choice([0, 0, 1, 2])):
            self._bypass()
        for _ in range(dice.choice([0, 0, 1, 3])):
            self._withdraw()
        for _ in range(dice.choice([0, 0, 1, 2])):
            self._fault()
        for _ in range(dice.choice([0, 0, 0, 1, 3])):
            self._check()
        for _ in range(dice.choice([0, 0, 0, 1, 2])):
            self._read_error(dice.randrange(self.days))

    # --- meters -----------------------------------------------------------------------------------------------------

    def _use(self) -> None:
        """What is used, in ticks of whatever meter is there: so much by each hour since the first Day's start."""
        dice = self.dice
        self.step = dice.choice([0, 3, 40, 150])
        self.bounds, self.used = [0], [0]
        for n in range(self.days):
            begin, used = self.start(self.first + n), self.used[-1]
            hours, advance = round((self.start(self.first + n + 1) - begin) / HOUR), dice.randint(0, 2 * self.step)
            self.used += [used + advance * k // hours for k in range(1, hours + 1)]
            self.bounds.append(self.bounds[-1] + hours)

    def _lives(self) -> list[Life]:
        """The meters of the point, one after the other."""
        dice, hours = self.dice, self.bounds[-1]
        ends = sorted(
            dice.choice([dice.randrange(hours), dice.choice(self.bounds)]) for _ in range(dice.choice([0, 0, 1, 1, 2]))
        )
        lives: list[Life] = []
        since = 0
        for n, end in enumerate([*ends, None]):
            digits = dice.choice([4, 5, 8, 10])
            index = dice.choice([0, 17, 10**digits - self.step * 4 - 1]) % 10**digits
            serial = lives[-1].meter if lives and dice.random() < 0.15 else "MNO"[n]
            tick = dice.choice(["0.1", "1", "0.01", "2.8316846592"])
            until = None if end is None else max(end, since)
            lives.append(Life(serial, since, until, index, digits, tick))
            since = min(hours, (until or 0) + dice.choice([0, 0, 0, 1, 5, 30]))
        return lives

    def shows(self, life: Life, hour: int) -> int:
        """The meter's index at an hour of its time, not wrapped; before its fitting what it shows at that."""
        return life.shown + max(0, self.used[min(hour, len(self.used) - 1)] - self.used[life.since])

    def _first_fitting(self, life: Life) -> None:
        dice, step = self.dice, self.step
        fitted = self._fitted(life, self.start(self.first) + dice.choice([0, 0, 0, 7, -49, 48]) * HOUR, self._reference_time())
        if dice.random() < 0.95:
            self.facts.append(fitted)
        if dice.random() < 0.1:
            wrong = (life.shown + step) % 10**life.digits
            self.facts.append(msgspec.structs.replace(fitted, index=wrong, received_at=self._some_time()))

    def _fitted(self, life: Life, at: datetime, received: datetime) -> MeterFitted:
        dice, tick = self.dice, Decimal(life.tick)
        return MeterFitted(
            meter_point=self.name, meter=life.meter, at=at, index=life.shown, digits=life.digits, m3_per_tick=tick,
            conversion_factor=dice.choice([None, Decimal("1.02264")]), received_at=received,
            q_max_m3_per_h=Decimal(max(1, self.step * 2)) * tick / 24,
            unconverted_digits=dice.choice([None, 5]), unconverted_m3_per_tick=tick,
        )  # fmt: skip

    def _exchange(self, before: Life, after: Life) -> None:
        """A removal and a fitting, told in time, late, wrongly, twice, or not at all."""
        dice = self.dice
        assert before.until is not None
        off = timedelta(seconds=dice.choice([0, 0, 0, 0, 0, 20, -20, 90]))
        removed = MeterRemoved(
            meter_point=self.name, meter=before.meter, at=self.instant(before.until) + off,
            index=self.shows(before, before.until) % 10**before.digits, received_at=self._told(before.until),
        )  # fmt: skip
        fitted = self._fitted(after, self.instant(after.since) + off, self._told(after.since))
        if dice.random() < 0.9:
            self.facts.append(removed)
        if dice.random() < 0.9:
            self.facts.append(fitted)
        if dice.random() < 0.2:  # corrected, or wrong
            wrong = removed.index + dice.choice([1, self.step, 10**before.digits // 3])
            self.facts.append(msgspec.structs.replace(removed, index=wrong, received_at=self._told(before.until)))
        if dice.random() < 0.1:
            wrong = (fitted.index + dice.choice([1, self.step])) % 10**after.digits
            self.facts.append(msgspec.structs.replace(fitted, index=wrong, received_at=self._told(after.since)))
        if dice.random() < 0.1:  # at another instant as well
            moved = removed.at + dice.choice([-30, -2, 1, 40, 90]) * HOUR
            self.facts.append(msgspec.structs.replace(removed, at=moved, received_at=self._told(before.until)))
        if dice.random() < 0.1:
            moved = fitted.at + dice.choice([-30, -2, 1, 40]) * HOUR
            self.facts.append(msgspec.structs.replace(fitted, at=moved, received_at=self._told(after.since)))
        if dice.random() < 0.05:
            self.facts.append(msgspec.structs.replace(removed, meter="X", received_at=self._some_time()))

    def _told(self, hour: int) -> datetime:
        return self.instant(hour) + timedelta(hours=self.dice.choice([1, 1, 1, 0, 48, 24 * 5.5, 24 * 8, 24 * 20, -24 * 2]))

    def _register(self, name: str) -> None:
        dice = self.dice
        for n in range(dice.choice([1, 1, 1, 2, 3])):
            since = self.first + (0 if n == 0 else dice.randint(-3, self.days))
            self.facts.append(
                Registered(
                    meter_point=name, gas_day=date.fromordinal(since), users=("A", "B")[: dice.randint(1, 2)],
                    ldz=dice.choice(["EA", "EA", "SW"]), annual_quantity_kwh=Decimal(dice.choice([0, 1000, 36_500, 400_000])),
                    equipment="E", received_at=self._reference_time() if n == 0 else self._some_time(),
                )
            )  # fmt: skip

    # --- readings ---------------------------------------------------------------------------------------------------

    def _day(self, n: int, life: Life) -> None:
        """One Day's batch of a meter, whole or in pieces, right or wrong in some way."""
        dice, day, name, modulus = self.dice, self.first + n, self.name, 10**life.digits
        begin, end = self.start(day), self.start(day + 1)
        within = range(self.bounds[n], self.bounds[n + 1] + 1)
        hours = [hour for hour in within if life.since <= hour and (life.until is None or hour <= life.until)]
        if len(hours) < len(within) and hours and dice.random() < 0.05:
            hours = [*within]  # also of the time when it was not there
        if not hours:
            return
        if len(hours) > 2 and dice.random() < 0.5:
            hours = [hours[0], hours[-1]]
        at = [self.instant(hour) for hour in hours]
        truth = [self.shows(life, hour) for hour in hours]
        index: list[object] = [value % modulus for value in truth]
        if dice.random() < 0.1:
            at = [each + timedelta(seconds=dice.choice([-61, -60, -20, 15, 60, 61])) for each in at]
        if dice.random() < 0.12:
            k = dice.choice([0, -1, len(index) // 2])
            index[k] = dice.choice([None, "x", -1, modulus, 1.5, True, 0, modulus - 1, (truth[0] + 1) % modulus, 10**30])
        extra: dict[str, object] = {}
        if dice.random() < 0.15:
            own = (truth[-1] - truth[0]) * dice.choice([100, 100, 103, 97]) // 100
            extra["reference_index"] = ReferenceIndex(start=5, end=5 + own)
        if len(index) > 1 and dice.random() < 0.1:
            share = Decimal(truth[-1] - truth[0]) / (len(index) - 1) * dice.choice([1, 1, 2])
            extra["interval_m3"] = tuple(dice.choice([share, share, None]) for _ in index[1:])
        if dice.random() < 0.1:
            extra["status"] = (dice.choice(["tamper", "clock_invalid", "battery_low"]),)
        if dice.random() < 0.1:
            extra["clock_offset_s"] = dice.choice([3.0, -300.0, 301.5, 600.0])
        if dice.random() < 0.05:
            extra["source"] = "on_site"
        if dice.random() < 0.2:
            extra["unconverted"] = tuple(dice.choice([k * 10 % 10**5, None]) for k in range(len(index)))
        late = dice.choice([0.2, 0.2, 0.2, 1, 5.9, 7, 30, 24 * 5, 24 * 5 + 23.9, 24 * 8, 24 * 20])
        received = end + timedelta(hours=late)
        if dice.random() < 0.05:
            received = begin + timedelta(hours=dice.randint(0, 20))
        cut = dice.randint(1, len(index) - 1) if len(index) > 2 and dice.random() < 0.3 else len(index)
        whole = Readings(
            meter_point=name, meter=life.meter if dice.random() < 0.97 else "X", gas_day=date.fromordinal(day), at=tuple(at),
            index=tuple(index), received_at=received, **extra,  # type: ignore[arg-type]
        )  # fmt: skip
        if cut < len(index) and dice.random() < 0.3:  # one by one, received at once
            for k in range(len(index)):
                self.facts.append(self._piece(whole, k, k + 1, received))
        elif cut < len(index):
            self.facts.append(self._piece(whole, 0, cut + 1, received))
            self.facts.append(self._piece(whole, cut, len(index), received + timedelta(hours=dice.choice([0, 0, 3, 60]))))
        else:
            self.facts.append(whole)
        if dice.random() < 0.08:
            other = tuple((value + dice.choice([0, 1, 3]) if type(value) is int else value) for value in whole.index)
            again = received + timedelta(hours=dice.choice([0, 2, 24 * 6]))
            self.facts.append(msgspec.structs.replace(whole, index=other, received_at=again))
        if dice.random() < 0.1:
            self.facts.append(msgspec.structs.replace(whole, sequence=dice.randint(1, 9), received_at=self._some_time()))
        if dice.random() < 0.05:
            failed = PollFailed(
                meter_point=name, meter=life.meter, gas_day=date.fromordinal(day), reason="silent", attempts=1,
                received_at=received,
            )  # fmt: skip
            self.facts.append(failed)

    def _piece(self, whole: Readings, first: int, last: int, received: datetime) -> Readings:
        assert whole.at is not None
        cut = slice(first, last)
        return msgspec.structs.replace(
            whole, at=whole.at[cut], index=whole.index[cut], received_at=received,
            unconverted=None if whole.unconverted is None else whole.unconverted[cut],
            interval_m3=None if whole.interval_m3 is None else whole.interval_m3[first : last - 1],
        )  # fmt: skip

    # --- what people tell beside meters and readings -----------------------------------------------------------------

    def _bypass(self) -> None:
        dice = self.dice
        begin = dice.randrange(self.bounds[-1])
        used = BypassUsed(
            meter_point=self.name, at=self.instant(begin), estimated_m3=Decimal(dice.choice(["0", "0.0005", "3.25", "1000"])),
            until=self.instant(begin + dice.choice([0, 2, 24, 50])), received_at=self._told(begin),
        )  # fmt: skip
        self.facts.append(used)
        if dice.random() < 0.3:
            until = used.until + dice.choice([0, 0, 24]) * HOUR
            again = msgspec.structs.replace(used, estimated_m3=Decimal("7.5"), until=until, received_at=self._told(begin))
            self.facts.append(again)

    def _withdraw(self) -> None:
        """A meter's Day is withdrawn, and mostly read again, at once or later."""
        dice, n = self.dice, self.dice.randrange(self.days)
        life = dice.choice(self.lives)
        received = self.start(self.first + n + 1) + timedelta(hours=dice.choice([0.2, 1, 3, 24 * 5, 24 * 6, 24 * 9, 24 * 15]))
        withdrawn = Withdrawn(
            meter_point=self.name, meter=life.meter, gas_day=date.fromordinal(self.first + n), reason="wrong", by="operator",
            received_at=received,
        )  # fmt: skip
        self.facts.append(withdrawn)
        if dice.random() < 0.7:
            hours = (self.bounds[n], self.bounds[n] + 1, self.bounds[n + 1])
            wrong = dice.choice([0, 0, 0, 1, self.step])
            again = Readings(
                meter_point=self.name, meter=life.meter, gas_day=withdrawn.gas_day, at=tuple(map(self.instant, hours)),
                index=tuple((self.shows(life, hour) + wrong) % 10**life.digits for hour in hours),
                received_at=received + timedelta(hours=dice.choice([0, 0, 1, 24, 24 * 7])),
            )  # fmt: skip
            self.facts.append(again)

    def _check(self) -> None:
        """A check read, or an adjusted index, of a meter at some hour."""
        dice, life = self.dice, self.dice.choice(self.lives)
        hour = dice.randrange(life.since, self.bounds[-1] + 1)
        index = (self.shows(life, hour) + dice.choice([0, 0, 1, self.step, 999])) % 10**life.digits
        kind = dice.choice([CheckRead, CheckRead, MeterErrorAdjusted])
        told: dict[str, Any] = {"meter_point": self.name, "meter": life.meter, "at": self.instant(hour), "index": index}
        if kind is CheckRead:
            told["equipment_index"] = dice.choice([None, index, index + 2])
        self.facts.append(kind(**told, received_at=self._told(hour)))

    def _read_error(self, n: int) -> None:
        """A User's notice about a Day, and some of what may follow, mostly in its order."""
        dice, day, estimate = self.dice, date.fromordinal(self.first + n), Decimal(self.dice.choice(["0", "12.5", "900"]))
        about: dict[str, Any] = {"meter_point": self.name, "gas_day": day}
        received = self.start(self.first + n + 1) + dice.choice([1, 9, 30, 24 * 4, 24 * 8]) * HOUR
        user = dice.choice("AB")
        works, estimates = dice.random() < 0.4, {"volume_estimate_m3": Decimal(dice.choice(["7", "80.25"]))}
        steps: list[AnyFact] = [
            Provided(**about, user=user, version=1),
            ReadErrorNotice(**about, user=user, volume_estimate_m3=estimate),
            Inspection(
                **about, at=received, equipment_works=works, reed_switch_works=True, meter_works=dice.random() < 0.8,
                **(estimates if dice.random() < 0.8 else {}),
            ),
            EstimateAccepted(**about, user=user) if dice.random() < 0.5 else RejectionNotice(**about, user=user),
            ExpertDetermination(**about, equipment_works=dice.random() < 0.4, volume_m3=Decimal("33.001")),
            AdjustmentAgreed(meter_point=self.name, gas_day=day + timedelta(dice.randint(0, 7)), volume_m3=Decimal("5")),
        ]  # fmt: skip
        for step in steps:
            if dice.random() < 0.75:
                self.facts.append(msgspec.structs.replace(step, received_at=received))
            received += dice.choice([0, 1, 24, 24 * 3, 24 * 9]) * HOUR

    def _fault(self) -> None:
        dice = self.dice
        begin = dice.choice([dice.randrange(self.bounds[-1]), dice.choice(self.bounds)])
        fault = EquipmentFault(
            meter_point=self.name, part=dice.choice(["capture", "capture", "comms"]), from_=self.instant(begin),
            until=self._until(begin), received_at=self._told(begin),
        )  # fmt: skip
        self.facts.append(fault)
        if dice.random() < 0.3:
            self.facts.append(msgspec.structs.replace(fault, until=self._until(begin), received_at=self._told(begin)))

    def _until(self, hour: int) -> datetime | None:
        lasts = self.dice.choice([None, 0, 1, 24, 30, 24 * 4])
        return None if lasts is None else self.instant(hour + lasts)

    def _stray(self) -> Readings:
        """Readings of a Day far off, or just before the registration."""
        dice = self.dice
        day = self.first + dice.choice([-1, -1, -2, -400, -3000, self.days + 3, 300, 20_000])
        at = (self.start(day), self.start(day + 1))
        received = dice.choice([self._some_time(), at[1] + HOUR, self.start(self.first - 1)])
        index = dice.choice([(0, 0), (17, 17), (9, 8), (500, 600)])
        return Readings(
            meter_point="MP0", meter="M", gas_day=date.fromordinal(day), at=at, index=index,
            received_at=min(max(received, self.start(self.first - 500)), self.start(self.first + self.days + 40)),
        )  # fmt: skip

    def _calorific_values(self) -> None:
        dice = self.dice
        gaps = dice.choice([0, 0.2, 1.01])
        for n in range(self.days):
            for ldz in ("EA", "SW"):
                for _ in range(dice.choice([1, 1, 1, 2])):
                    if dice.random() < gaps:
                        continue
                    day = self.first + n
                    received = self.start(day + 1) + timedelta(hours=dice.choice([8, 8, 8, 0, 24 * 5, 24 * 12, -24 * 30]))
                    value = CalorificValue(
                        ldz=ldz, gas_day=date.fromordinal(day), mj_per_m3=Decimal(dice.choice(["39.5", "39.1234", "40"])),
                        received_at=received,
                    )  # fmt: skip
                    self.facts.append(value)

    def _reference_time(self) -> datetime:
        early = self.start(self.first) - timedelta(days=3)
        return early if self.dice.random() < 0.7 else self._some_time()

    def _some_time(self) -> datetime:
        whole = self.start(self.first) + timedelta(days=self.dice.randint(-2, self.days + 8))
        return whole + self.dice.choice([timedelta(0), timedelta(0), timedelta(hours=6), timedelta(seconds=37)])

    def _tick(self) -> Tick:
        now = self._some_time()
        return Tick(now=now, received_at=now)


def some_rules(dice: random.Random, facts: list[AnyFact]) -> Rules:
    """The default rules, or others from some Gas Day on."""
    if dice.random() < 0.5:
        return Rules()
    since = dice.choice([fact.received_at for fact in facts if fact.received_at is not None]).date()
    entries = [Validation(), _some_validation(dice, since)]
    if dice.random() < 0.3:
        entries.append(_some_validation(dice, since + timedelta(days=dice.randint(1, 9))))
    return Rules(
        validation=tuple(entries), close_out_days=dice.choice([5, 5, 2, 0, 9]), boundary_s=dice.choice([60, 60, 20, 900])
    )


def _some_validation(dice: random.Random, since: date) -> Validation:
    action: dict[str, Action] = {rule.id: dice.choice(rule.allowed) for rule in RULES if dice.random() < 0.4}
    return Validation(
        since=since, action=action, future_s=dice.choice([60, 0, 7200]), clock_offset_s=dice.choice([300, 2]),
        excess_factor=Decimal(dice.choice(["1.01", "0.4", "3"])), tolerance=Decimal(dice.choice(["0.01", "0.05"])),
        stuck_days=dice.choice([7, 1, 3, 16]), check_read_threshold_kwh=Decimal(dice.choice([100_000, 0, 50])),
    )  # fmt: skip


def as_of(dice: random.Random, facts: list[AnyFact]) -> datetime:
    """An instant to look from: at, just before, or after something."""
    some = dice.choice(facts).received_at
    assert some is not None
    latest = max(fact.received_at for fact in facts if fact.received_at is not None)
    return dice.choice(
        [latest, latest + timedelta(days=9), some, some - timedelta(microseconds=1), datetime(2030, 1, 1, tzinfo=UTC)][:4]
    )
