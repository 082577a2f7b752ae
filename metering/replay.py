"""The ledger from facts: in the order of their receipt, or as a stream job meets them, in any order and more than once."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

from metering.facts import AnyFact, CalorificValue, Readings, Registered, meter_point_of
from metering.gasday import GasDays, to_us
from metering.held import BEGINNING_US, NeedsHistory
from metering.ledger import AnyRecord, Change, Key, Void
from metering.point import Point
from metering.rules import Rules
from metering.state import decode_state, encode_state, prune
from metering.wire import identity, received_us

Ledger = dict[Key, AnyRecord]


class FactsByPoint:
    """Facts sorted by what they concern: a meter point, or an LDZ."""

    def __init__(self, facts: Iterable[AnyFact] = ()) -> None:
        self.of_point: defaultdict[str, list[AnyFact]] = defaultdict(list)
        self.of_ldz: defaultdict[str, list[CalorificValue]] = defaultdict(list)
        for fact in facts:
            self.add(fact)

    def add(self, fact: AnyFact) -> None:
        """Keep one more fact."""
        if isinstance(fact, CalorificValue):
            self.of_ldz[fact.ldz].append(fact)
        elif (point := meter_point_of(fact)) is not None:
            self.of_point[point].append(fact)

    def concerning(self, meter_point: str) -> list[AnyFact]:
        """The facts that a point's ledger rests on: its own, and the calorific values of its LDZs."""
        own = self.of_point[meter_point]
        ldzs = {fact.ldz for fact in own if isinstance(fact, Registered)}
        return [*own, *(value for ldz in sorted(ldzs) for value in self.of_ldz[ldz])]


def latest_us(facts: Iterable[AnyFact]) -> int | None:
    """The latest instant that the facts speak of as now; None where there are no facts."""
    return max((received_us(fact) for fact in facts), default=None)


def once(facts: Iterable[AnyFact]) -> list[AnyFact]:
    """Each fact once, at the earliest instant at which a copy of it was received."""
    told = [(_likeness(fact), fact) for fact in facts]
    alike = Counter(likeness for likeness, _ in told)
    first: dict[Hashable, AnyFact] = {}
    for likeness, fact in told:
        key = likeness if alike[likeness] == 1 else identity(fact)
        if key not in first or received_us(fact) < received_us(first[key]):
            first[key] = fact
    return list(first.values())


def _likeness(fact: AnyFact) -> Hashable:
    """What copies have in common, and few others: it saves most facts their identity, which takes longer to find."""
    if isinstance(fact, Readings) and fact.index:
        first_at = fact.first_at if fact.at is None else fact.at[0]
        return fact.meter_point, fact.gas_day, first_at and to_us(first_at)
    if isinstance(fact, CalorificValue):
        return fact.ldz, fact.gas_day
    return type(fact)


def point_ledger(meter_point: str, facts: Iterable[AnyFact], now_us: int, rules: Rules, days: GasDays) -> tuple[Point, Ledger]:
    """A point made from all its facts, and its ledger as of that instant. Facts received later are left out."""
    point = Point(meter_point, rules, days)
    changes = point.apply(fact for fact in once(facts) if received_us(fact) <= now_us)
    ledger = fold({}, changes)
    return point, fold(ledger, point.advance(now_us))


def fold(ledger: Ledger, changes: Iterable[Change]) -> Ledger:
    """The ledger with these changes made."""
    for change in changes:
        if isinstance(change, Void):
            ledger.pop(change.key, None)
        else:
            ledger[change.key()] = change
    return ledger


def replay(facts: Sequence[AnyFact], as_of_us: int, rules: Rules) -> Ledger:
    """The ledger of these facts as of an instant."""
    days = rules.calendar()
    known = FactsByPoint(facts)
    ledger: Ledger = {}
    for meter_point in sorted(known.of_point):
        ledger |= point_ledger(meter_point, known.concerning(meter_point), as_of_us, rules, days)[1]
    return ledger


def shuffled(facts: Sequence[AnyFact], as_of_us: int, rules: Rules, seed: int) -> Ledger:
    """The same ledger by the way of a stream job: the facts in a random order, some twice, in lists of random length, with
    the state kept as bytes between them."""
    dice = random.Random(seed)
    facts = [fact for fact in facts if received_us(fact) <= as_of_us]
    late = [*facts, *dice.sample(facts, len(facts) // 5)]
    if dice.random() < 0.5:
        late.sort(key=lambda fact: received_us(fact) + dice.randrange(3 * 86_400_000_000))  # a few days late, as lines are
    else:
        dice.shuffle(late)
    desk = Desk(rules)
    ledger: Ledger = {}
    while late:
        size = dice.randint(1, max(1, len(facts) // 8))
        fold(ledger, desk.take(late[:size]))
        del late[:size]
    return fold(ledger, desk.advance(as_of_us))


class Desk:
    """The incremental form with its facts in memory: what `stream/` does with a broker, a fact store and a state table."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.days = rules, rules.calendar()
        self.facts = FactsByPoint()
        self.states: dict[str, bytes] = {}

    def take(self, facts: Iterable[AnyFact]) -> list[Change]:
        """Facts in any order; the records that changed."""
        before, news = self._copy(), FactsByPoint(facts)
        changes: list[Change] = []
        for fact in [*(f for own in news.of_point.values() for f in own), *(v for own in news.of_ldz.values() for v in own)]:
            self.facts.add(fact)
        values = [value for own in news.of_ldz.values() for value in own]
        for meter_point in sorted({*news.of_point, *(self.states if values else ())}):
            changes += self._take(meter_point, [*news.of_point[meter_point], *values], before)
        return changes

    def advance(self, now_us: int) -> list[Change]:
        """It is that late."""
        changes: list[Change] = []
        for meter_point in sorted(self.states):
            point = decode_state(self.states[meter_point], self.rules, self.days)
            was_us = point.now_us
            try:
                changes += point.advance(now_us)
            except NeedsHistory:
                own = self.facts.concerning(meter_point)
                point, different = rebuilt(meter_point, own, was_us, own, self.rules, self.days)
                changes += [*different, *point.advance(now_us)]
            self._keep(meter_point, point)
        return changes

    def _take(self, meter_point: str, news: Sequence[AnyFact], before: FactsByPoint) -> list[Change]:
        state = self.states.get(meter_point)
        try:
            if state is None:
                raise NeedsHistory
            point = decode_state(state, self.rules, self.days)
            changes = point.apply(news)
        except NeedsHistory:
            was_us = None if state is None else decode_state(state, self.rules, self.days).now_us
            point, changes = rebuilt(
                meter_point, before.concerning(meter_point), was_us, self.facts.concerning(meter_point), self.rules, self.days
            )  # fmt: skip
        self._keep(meter_point, point)
        return changes

    def _keep(self, meter_point: str, point: Point) -> None:
        prune(point)
        self.states[meter_point] = encode_state(point)

    def _copy(self) -> FactsByPoint:
        copy = FactsByPoint()
        copy.of_point.update({key: [*own] for key, own in self.facts.of_point.items()})
        copy.of_ldz.update({key: [*own] for key, own in self.facts.of_ldz.items()})
        return copy


def rebuilt(
    meter_point: str, before: Iterable[AnyFact], was_us: int | None, after: Sequence[AnyFact], rules: Rules, days: GasDays
) -> tuple[Point, list[Change]]:
    """A point made anew after facts that reached behind its state, and what of its ledger is different now.

    `before` are the facts on which the state rested, `was_us` the instant at which it stood; `after` are all facts.
    """
    now_us = max(was_us or BEGINNING_US, latest_us(after) or BEGINNING_US)
    old: Ledger = {} if was_us is None else point_ledger(meter_point, before, was_us, rules, days)[1]
    point, new = point_ledger(meter_point, after, now_us, rules, days)
    return point, difference(old, new)


def difference(old: Ledger, new: Ledger) -> list[Change]:
    """What makes the new ledger of the old: the records that are not the same, and a void for each that holds no longer."""
    changes: list[Change] = [record for key, record in new.items() if old.get(key) != record]
    return [*changes, *(Void(key) for key in old if key not in new)]
