"""Performance of any facts: a naive count finds the same, at any instant, in any order, whatever copies there are."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.facts import AnyFact, Excluded, Provided, Readings, Registered
from metering.gasday import GasDays, to_us
from metering.ledger import Day, Performance
from metering.performance import performance
from metering.replay import once, replay
from metering.wire import canonical, received_us
from tests.metering.area import rules
from tests.metering.scenarios import Scenario, as_of


class Case:
    """Random facts of two or three points, which share equipment and Users as it comes."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        facts = Scenario(dice, points=dice.choice([1, 2, 3]), days=dice.choice([10, 24, 40])).facts
        self.facts = [self.registration(fact) if isinstance(fact, Registered) else fact for fact in facts]
        first = min(fact.gas_day for fact in facts if isinstance(fact, Registered))
        instants = [fact.received_at for fact in facts]
        for _ in range(dice.randint(0, 5)):
            from_ = first + timedelta(days=dice.randint(-2, 20))
            excluded = Excluded(
                meter_point=f"MP{dice.randint(0, 2)}", reason=dice.choice(["force_majeure", "no_access", "reed_switch"]),
                from_=from_, until=dice.choice([None, from_ + timedelta(days=dice.randint(0, 9))]),
                received_at=dice.choice(instants),
            )  # fmt: skip
            self.facts.append(excluded)
        for fact in [fact for fact in facts if isinstance(fact, Readings) and dice.random() < 0.8]:
            assert fact.received_at is not None
            provided = Provided(
                meter_point=fact.meter_point, user=dice.choice("AB"), gas_day=fact.gas_day, version=dice.randint(1, 2),
                received_at=fact.received_at + dice.choice([1, 600, 90_000]) * timedelta(seconds=1),
            )  # fmt: skip
            self.facts.append(provided)
        self.facts = once(self.facts)
        self.now_us = to_us(as_of(dice, self.facts))
        self.rules = rules(
            {"provided_by": dice.choice(["received", "published"]), "consecutive_days": dice.choice([1, 2, 4])},
            {"since": str(first + timedelta(days=9)), "shortfall_gbp": dice.choice([None, Decimal("3.33")])},
        )
        days = range(first.toordinal(), first.toordinal() + 40)
        self.read_errors = {
            (f"MP{dice.randint(0, 2)}", dice.choice(days)): dice.random() < 0.5 for _ in range(dice.randint(0, 6))
        }

    def registration(self, fact: Registered) -> Registered:
        dice = self.dice
        notice = fact.gas_day + timedelta(days=dice.randint(-3, 6))
        return msgspec.structs.replace(
            fact, equipment=dice.choice("EEF"), telemetry=dice.random() < 0.1, users=dice.choice([("A",), ("B", "A"), ("B",)]),
            operational_notice=dice.choice([None, notice]),
        )  # fmt: skip

    def found(self, facts: Iterable[AnyFact] | None = None, now_us: int | None = None) -> list[Performance]:
        told, at_us = list(self.facts if facts is None else facts), self.now_us if now_us is None else now_us
        return performance(told, replay(told, at_us, self.rules).values(), at_us, self.rules, self.read_errors)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_a_naive_count_finds_the_same(seed: int) -> None:
    case = Case(seed)
    found = {(each.user, each.month): each for each in case.found()}
    naive = Naive(case)
    assert found.keys() == naive.months()
    for (user, month), each in found.items():
        a, b, short_a, short_b, further, pounds = naive.count(user, month)
        assert (each.a, each.b, each.consecutive_days) == (a, b, further)
        assert each.met == (b * 1000 >= a * 975)
        assert each.shortfall == (0 if each.met else max(Decimal(0), Decimal(short_a) * Decimal("0.975") - short_b))
        assert each.consecutive_gbp == pounds.quantize(Decimal("0.01"), ROUND_HALF_UP)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_as_of_an_instant_only_what_was_known_then_counts(seed: int) -> None:
    case = Case(seed)
    for fact in case.dice.sample(case.facts, 3):
        assert fact.received_at is not None
        now_us = to_us(fact.received_at)
        known = [each for each in case.facts if each.received_at is not None and to_us(each.received_at) <= now_us]
        assert case.found(now_us=now_us) == case.found(known, now_us)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_neither_order_nor_copies_matter(seed: int) -> None:
    case = Case(seed)
    others = [*case.facts, *case.dice.sample(case.facts, len(case.facts) // 3)]
    case.dice.shuffle(others)
    assert case.found(others) == case.found()


def order(fact: AnyFact) -> tuple[int, bytes]:
    """The order of receipt."""
    return received_us(fact), canonical(fact)


class Naive:
    """The same by plain questions about all facts and Days, asked anew for every Day of the calendar."""

    def __init__(self, case: Case) -> None:
        self.case, self.calendar = case, GasDays()
        self.known = [fact for fact in case.facts if received_us(fact) <= case.now_us]
        self.registered = [fact for fact in self.known if isinstance(fact, Registered)]
        self.excluded = [fact for fact in self.known if isinstance(fact, Excluded)]
        self.published = [fact for fact in self.known if isinstance(fact, Provided)]
        ledger = replay(case.facts, case.now_us, case.rules).values()
        self.days = {(day.meter_point, day.gas_day): day for day in ledger if isinstance(day, Day)}
        self.of_day = {on: [each for each in self.days.values() if each.gas_day == on] for _, on in self.days}
        self.due = sorted({day for _, day in self.days if self.calendar.eleven_us(day.toordinal()) <= case.now_us})

    def months(self) -> set[tuple[str, str]]:
        due = set(self.due)
        return {(user, str(day)[:7]) for (_, day), each in self.days.items() if day in due for user in each.users}

    def count(self, user: str, month: str) -> tuple[int, int, int, int, int, Decimal]:
        a = b = short_a = short_b = further = 0
        pounds = Decimal(0)
        for equipment in ("E", "F"):
            run = 0
            for day in self.due:
                served = [each for each in self.of_day[day] if user in each.users and each.equipment == equipment]
                if not served:
                    run = 0
                    continue
                relevant = [each for each in served if self.relevant(each)]
                if not relevant:
                    continue
                errors = [self.case.read_errors.get((each.meter_point, day.toordinal())) for each in relevant]
                provided = [self.provided(each, user) for each in relevant]
                in_b = all(e is True or (e is None and p) for e, p in zip(errors, provided, strict=True))
                run = 0 if all(p and e is not False for e, p in zip(errors, provided, strict=True)) else run + 1
                is_further = run > self.case.rules.standard(day).consecutive_days
                if str(day)[:7] == month:
                    a, b = a + 1, b + in_b
                    if is_further:
                        further += 1
                        pounds += Decimal(75) / len({each for one in relevant for each in one.users})
                    else:
                        short_a, short_b = short_a + 1, short_b + in_b
        return a, b, short_a, short_b, further, pounds

    def registrations(self, day: Day) -> list[Registered]:
        """Those up to a Day, the latest received of each of their Days."""
        own = [fact for fact in self.registered if fact.meter_point == day.meter_point]
        latest = {fact.gas_day: fact for fact in sorted(own, key=order)}
        return [latest[since] for since in sorted(latest) if since <= day.gas_day]

    def notice(self, day: Day) -> date:
        registrations = self.registrations(day)
        for fact in reversed(registrations):
            if fact.equipment != day.equipment:
                break
            if fact.operational_notice is not None:
                return fact.operational_notice
        return registrations[0].gas_day

    def relevant(self, day: Day) -> bool:
        if self.registrations(day)[-1].telemetry:
            return False
        valid = [
            each.gas_day for each in self.days.values()
            if (each.meter_point, each.equipment) == (day.meter_point, day.equipment) and (each.valid or each.by_11)
        ]  # fmt: skip
        if not valid or day.gas_day < max(min(valid), self.notice(day)):
            return False
        return not any(self.excludes(fact, day) for fact in self.excluded)

    def excludes(self, fact: Excluded, day: Day) -> bool:
        about = (fact.meter_point, fact.reason, fact.from_)
        replaced = any(
            (each.meter_point, each.reason, each.from_) == about and order(each) > order(fact) for each in self.excluded
        )
        within = fact.from_ <= day.gas_day <= (fact.until or date.max)
        return fact.meter_point == day.meter_point and within and not replaced

    def provided(self, day: Day, user: str) -> bool:
        if not day.by_11 or self.case.rules.standard(day.gas_day).provided_by == "received":
            return day.by_11
        eleven_us = self.calendar.eleven_us(day.gas_day.toordinal())
        valid_us = None if day.valid_at is None else to_us(day.valid_at)
        first_of: dict[int, int] = {}
        for fact in self.published:
            if (fact.meter_point, fact.user, fact.gas_day) == (day.meter_point, user, day.gas_day):
                first_of[fact.version] = min(first_of.get(fact.version, 2**62), received_us(fact))
        in_time = [at for at in first_of.values() if at <= eleven_us]
        return any(valid_us is None or valid_us > eleven_us or at >= valid_us for at in in_time)
