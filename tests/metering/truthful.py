"""Random facts that are all true, for the tests of conservation: readings are missing, late, in pieces, withdrawn and read
again; meters are exchanged and that is told late; equipment breaks; gas goes by the by-pass. No index is a wrong one."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import msgspec

from metering.facts import (
    BypassUsed,
    CalorificValue,
    EquipmentFault,
    MeterFitted,
    MeterRemoved,
    Readings,
    Registered,
    Withdrawn,
)
from tests.metering.scenarios import HOUR, Life, Scenario


class Truthful(Scenario):
    """A point registered and fitted at the start of its first Day, long known, with all calorific values."""

    def _point(self, name: str) -> None:
        dice = self.dice
        self.name = name
        self._use()
        self.lives = self._true_lives()
        long_before = self.start(self.first - 30)
        registered = Registered(
            meter_point=name, gas_day=date.fromordinal(self.first), users=("A",), ldz="EA", equipment="E",
            annual_quantity_kwh=Decimal(dice.choice([0, 36_500])), received_at=long_before,
        )  # fmt: skip
        self.facts.append(registered)
        for before, after in pairwise([None, *self.lives]):
            assert after is not None
            told = long_before if before is None else self._told_late(after.since)
            if after.until is not None and any(
                low <= after.since and after.until <= high for low, high in pairwise(self.bounds)
            ):
                told = min(told, self.instant(after.until) + HOUR)  # told later it is not missed: its Day is closed out without
            self.facts.append(self._true_fitting(after, told))
            if before is not None and before.until is not None:
                at, index = self.instant(before.until), self.shows(before, before.until) % 10**before.digits
                told = self._told_late(before.until)
                self.facts.append(MeterRemoved(meter_point=name, meter=before.meter, at=at, index=index, received_at=told))
        for n in range(self.days):
            for life in self.lives:
                if dice.random() < 0.6:
                    self._true_day(n, life)
        for n in dice.sample(range(self.days), dice.choice([0, 1, 2])):
            self._withdrawn(n)
        for _ in range(dice.choice([0, 0, 1, 2])):
            self._broken()
        for n in dice.sample(range(self.days), dice.choice([0, 0, 1, 3])):
            self._used_bypass(n)

    def _true_lives(self) -> list[Life]:
        """Up to three meters, each for an hour or more, without roll-overs that are no whole litres."""
        dice, hours = self.dice, self.bounds[-1]
        ends = sorted(
            {dice.choice([dice.randrange(1, hours), dice.choice(self.bounds[1:-1])]) for _ in range(dice.choice([0, 1, 1, 2]))}
        )
        lives: list[Life] = []
        since = 0
        for n, end in enumerate([*ends, None]):
            if end is not None and end <= since:
                continue
            digits = dice.choice([6, 8, 10])
            shown = dice.choice([0, 17, 10**digits - self.step * 4 - 1]) % 10**digits
            lives.append(Life("MNO"[n], since, end, shown, digits, dice.choice(["0.1", "1", "0.01", "0.0005"])))
            since = (end or 0) + dice.choice([0, 0, 0, 1, 5, 30])
        return lives

    def _true_fitting(self, life: Life, told: datetime) -> MeterFitted:
        fitted = self._fitted(life, self.instant(life.since), self.start(self.first))
        return msgspec.structs.replace(
            fitted, conversion_factor=None, q_max_m3_per_h=fitted.q_max_m3_per_h * 48, received_at=told
        )  # fmt: skip

    def _told_late(self, hour: int) -> datetime:
        return self.instant(hour) + timedelta(hours=self.dice.choice([1, 1, 1, 0, 48, 24 * 5.5, 24 * 8, 24 * 20]))

    def _true_day(self, n: int, life: Life) -> None:
        """Readings of a Day, as far as the meter was there: of all hours, of the first and the last, or of some."""
        dice = self.dice
        hours = self._hours(n, life)
        if not hours:
            return
        if dice.random() < 0.5:
            hours = sorted({hours[0], hours[-1]})
        elif dice.random() < 0.3:
            hours = sorted(dice.sample(hours, dice.randint(1, len(hours))))
        late = timedelta(hours=dice.choice([1, 1, 1, 1, 7, 24 * 5, 24 * 5 + 23.9, 24 * 8, 24 * 20]))
        self.facts.append(self._true_piece(n, life, hours, late))

    def _hours(self, n: int, life: Life) -> list[int]:
        within = range(self.bounds[n], self.bounds[n + 1] + 1)
        return [hour for hour in within if life.since <= hour and (life.until is None or hour <= life.until)]

    def _true_piece(self, n: int, life: Life, hours: list[int], late: timedelta) -> Readings:
        return Readings(
            meter_point=self.name, meter=life.meter, gas_day=date.fromordinal(self.first + n),
            at=tuple(self.instant(hour) for hour in hours),
            index=tuple(self.shows(life, hour) % 10**life.digits for hour in hours),
            received_at=self.start(self.first + n + 1) + late,
        )  # fmt: skip

    def _withdrawn(self, n: int) -> None:
        """A meter's Day is withdrawn, and perhaps read again: a half-hour of it too, so that it is no copy."""
        dice, life = self.dice, self.dice.choice(self.lives)
        late = timedelta(hours=dice.choice([3, 24 * 5, 24 * 6, 24 * 9, 24 * 15]))
        withdrawn = Withdrawn(
            meter_point=self.name, meter=life.meter, gas_day=date.fromordinal(self.first + n), reason="doubtful", by="operator",
            received_at=self.start(self.first + n + 1) + late,
        )  # fmt: skip
        self.facts.append(withdrawn)
        hours = self._hours(n, life)
        if hours and dice.random() < 0.6:
            again = self._true_piece(n, life, hours, late + dice.choice([1, 24, 24 * 7]) * HOUR)
            self.facts.append(msgspec.structs.replace(again, status=("battery_low",)))

    def _broken(self) -> None:
        dice = self.dice
        begin = dice.choice([dice.randrange(self.bounds[-1]), dice.choice(self.bounds)])
        lasts = dice.choice([None, 1, 24, 30, 24 * 4])
        fault = EquipmentFault(
            meter_point=self.name, part=dice.choice(["capture", "capture", "comms"]), from_=self.instant(begin),
            until=None if lasts is None else self.instant(begin + lasts), received_at=self.instant(begin) + HOUR,
        )  # fmt: skip
        self.facts.append(fault)

    def _used_bypass(self, n: int) -> None:
        dice = self.dice
        begin = self.bounds[n]
        used = BypassUsed(
            meter_point=self.name, at=self.instant(begin), until=self.instant(begin + dice.choice([0, 2, 24, 50])),
            estimated_m3=Decimal(dice.choice(["0.0005", "3.25", "1000"])),
            received_at=self.instant(begin) + dice.choice([1, 48, 24 * 6, 24 * 9]) * HOUR,
        )  # fmt: skip
        self.facts.append(used)

    def _calorific_values(self) -> None:
        for n in range(self.days):
            value = CalorificValue(
                ldz="EA", gas_day=date.fromordinal(self.first + n), mj_per_m3=Decimal("39.5"),
                received_at=self.start(self.first - 30),
            )  # fmt: skip
            self.facts.append(value)

    def _stray(self) -> Readings:
        """No stray reading, but what the first meter showed at first."""
        return self._true_piece(0, self.lives[0], [0], HOUR)
