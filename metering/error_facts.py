"""What the facts about a meter point's Daily Read Errors have to do with each other (4.8.2, 4.8.4, 4.8.7, 4.8.9): which notices
count, which inspection speaks of which Day, from when on an agreement holds.

Instants are microseconds, Days ordinals, volumes litres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from metering.business_days import BusinessDays
from metering.error_notice import Statement, to_litres
from metering.facts import (
    AdjustmentAgreed,
    AnyFact,
    EquipmentFault,
    EstimateAccepted,
    ExpertDetermination,
    Inspection,
    ReadErrorNotice,
    RejectionNotice,
)
from metering.gasday import GasDays, to_us
from metering.wire import canonical

NOTICE_DAYS = 5  # Days after that of provision, until the end of which a notice may be given (4.8.2)
FOREVER_US = 2**62
NEVER = -1  # before all Days
INSPECTION_DAYS = 3  # Business Days after the notice (4.8.3(a))

ErrorFact: TypeAlias = (
    ReadErrorNotice | Inspection | EstimateAccepted | RejectionNotice | ExpertDetermination | AdjustmentAgreed
)
ORDER: tuple[type[ErrorFact | EquipmentFault], ...] = (  # of what was received at one instant
    EquipmentFault, ReadErrorNotice, Inspection, EstimateAccepted, RejectionNotice, ExpertDetermination, AdjustmentAgreed,
)  # fmt: skip


class DayView(NamedTuple):
    """What is known now of a Day at which the User is registered.

    `litres` is the volume by the Daily Meter Readings, whatever took its place: None while the Day is not Valid, unless it
    was closed out as actual. `failed_day`: it was closed out as assumed or deemed. `close_out_us` is its Exit Close-Out.
    `provided_us`: when its readings were provided to the User, None where they were not.
    """

    litres: int | None
    failed_day: bool
    close_out_us: int
    provided_us: int | None


View: TypeAlias = Callable[[int, str], DayView | None]


class Visit(NamedTuple):
    """An inspection: when its statement was received, the Day it is about, and the Day on which it was made."""

    us: int
    fact: Inspection
    day: int
    on: int


class Given(NamedTuple):
    """A notice that was not refused when it was given, and until when it stood."""

    us: int
    notice: ReadErrorNotice
    until_us: int


class Agreement(NamedTuple):
    """What transporter and User agreed of a Day: since when it holds, litres, the first Daily Read Error Day, its User."""

    us: int
    litres: int
    first: int
    user: str


def _once_in_order(facts: Iterable[AnyFact], now_us: int) -> Iterator[tuple[int, ErrorFact | EquipmentFault]]:
    """The facts about errors received by then, each once, at its earliest receipt, in the order in which they count."""
    first: dict[bytes, tuple[int, ErrorFact | EquipmentFault]] = {}
    for fact in facts:
        if isinstance(fact, ORDER) and fact.received_at is not None:
            us, key = to_us(fact.received_at), canonical(fact)
            if us <= now_us and (key not in first or us < first[key][0]):
                first[key] = us, fact
    for _, entry in sorted(first.items(), key=lambda item: (item[1][0], ORDER.index(type(item[1][1])), item[0])):
        yield entry


def ordinal(fact: ErrorFact) -> int:
    """The Day (an ordinal) that a fact is about."""
    return fact.gas_day.toordinal()


RANK = {kind: place for place, kind in enumerate((*ORDER, Agreement))}


class ErrorFacts:
    """A point's facts about Daily Read Errors, each once and in order, and what the Days' notices have to do with each other.
    All is asked as of an instant, `us`: what was received by then."""

    def __init__(self, facts: Iterable[AnyFact], view: View, now_us: int, days: GasDays, business: BusinessDays) -> None:
        self.view, self.now_us, self.days, self._business = view, now_us, days, business
        received = list(_once_in_order(facts, now_us))
        self.received = [(us, fact) for us, fact in received if not isinstance(fact, EquipmentFault)]
        self._faults = [(us, fact) for us, fact in received if isinstance(fact, EquipmentFault) and fact.part == "capture"]
        self._visits = [self._visit(us, fact) for us, fact in self.received if isinstance(fact, Inspection)]
        self._given = list(self._not_refused())
        self.notices = [(us, notice) for us, notice, until_us in self._given if until_us == FOREVER_US]
        self._about: dict[int, list[tuple[int, ErrorFact]]] = {}
        for us, fact in self.received:
            self._about.setdefault(ordinal(fact), []).append((us, fact))
        self._given_of: dict[int, list[Given]] = {}
        for given in self._given:
            self._given_of.setdefault(ordinal(given.notice), []).append(given)
        self._may_speak: dict[int, list[Visit]] = {}

    def _visit(self, us: int, fact: Inspection) -> Visit:
        return Visit(us, fact, ordinal(fact), self.days.day_of(to_us(fact.at)))

    def _not_refused(self) -> Iterator[Given]:
        for us, fact in self.received:
            until_us = self._stands_until(us, fact) if isinstance(fact, ReadErrorNotice) else None
            if isinstance(fact, ReadErrorNotice) and until_us is not None:
                yield Given(us, fact, until_us)

    def days_of_interest(self) -> list[int]:
        """The Days of which notice was given or an adjustment agreed."""
        return sorted({ordinal(fact) for _, fact in self.received if isinstance(fact, (ReadErrorNotice, AdjustmentAgreed))})

    def _stands_until(self, us: int, notice: ReadErrorNotice) -> int | None:
        """None where the notice is refused at once (4.8.2); one given of what turns out to be a Failed Daily Read Day stood
        until that was closed out, and what rested on it by then stays."""
        seen = self.view(ordinal(notice), notice.user)
        if seen is None or us < self.days.start_us(ordinal(notice)):
            return None
        if seen.provided_us is not None and us > self.days.end_us(self.days.day_of(seen.provided_us) + NOTICE_DAYS):
            return None
        if not seen.failed_day:
            return FOREVER_US
        return seen.close_out_us if us <= seen.close_out_us else None

    def refused(self) -> list[tuple[int, str]]:
        """The Days and Users whose notices were all refused."""
        taken = {(ordinal(notice), notice.user) for _, notice in self.notices}
        given = {(ordinal(fact), fact.user) for _, fact in self.received if isinstance(fact, ReadErrorNotice)}
        return sorted(given - taken)

    def events(self, day: int) -> list[tuple[int, ErrorFact | Agreement]]:
        """What matters to a Day, in order: what is about it, and inspections that may serve it."""
        events: list[tuple[int, ErrorFact | Agreement]] = [(visit.us, visit.fact) for visit in self._speaking(day)]
        for us, fact in self._about[day]:
            if isinstance(fact, AdjustmentAgreed):
                agreed = self._agreement(us, fact)
                events += [(agreed.us, agreed)] if agreed is not None else []
            elif not isinstance(fact, (Inspection, ReadErrorNotice)):
                events.append((us, fact))
        events += [(given.us, given.notice) for given in self._given_of.get(day, ()) if given.until_us == FOREVER_US]
        return sorted(events, key=lambda event: (event[0], RANK[type(event[1])]))

    def _speaking(self, day: int) -> list[Visit]:
        """The inspections that may be the transporter's statement about a Day."""
        if day not in self._may_speak:
            self._may_speak[day] = [
                visit for visit in self._visits if visit.day == day or (visit.day < day and (visit.on >= day or self._faults))
            ]
        return self._may_speak[day]

    def end_of_business_day(self, us: int, count: int) -> int:
        """The end of the `count`-th Business Day after the Day that holds the instant."""
        return self.days.end_us(self._business.after(self.days.day_of(us), count))

    def inspection_due_us(self, us: int, notice: ReadErrorNotice) -> int:
        """When an inspection is due for a notice; one that is due already serves subsequent Days too (4.8.7)."""
        in_order = self._last_in_order(ordinal(notice), us)
        waiting = [
            earlier_us
            for earlier_us, earlier in self._before(ordinal(notice), notice.user, us)
            if ordinal(earlier) > in_order and self.statement(ordinal(earlier), earlier.user, us) is None
        ]
        return self.end_of_business_day(min([us, *waiting]), INSPECTION_DAYS)

    def statement(self, day: int, user: str, us: int) -> Statement | None:
        """The transporter's statement about a Day: the latest for this very Day, else for an earlier one of which the User
        gave notice, where that inspection serves this Day too (4.8.7)."""
        by_then = [visit for visit in self._speaking(day) if visit.us <= us]
        own = [visit for visit in by_then if visit.day == day and visit.us >= self._given_of[day][0].us]
        serving = own or [visit for visit in by_then if visit.day < day and self._serves(day, user, visit, us)]
        return self._statement(day, serving[-1]) if serving else None

    def _before(self, day: int, user: str, us: int) -> list[tuple[int, ReadErrorNotice]]:
        """The User's notices of earlier Days that stood then."""
        return [(given_us, one) for given_us, one in self._standing(us) if one.user == user and ordinal(one) < day]

    def _standing(self, us: int) -> list[tuple[int, ReadErrorNotice]]:
        return [(given.us, given.notice) for given in self._given if given.us <= us <= given.until_us]

    def _serves(self, day: int, user: str, visit: Visit, us: int) -> bool:
        """Whether an inspection for an earlier Day was on this Day or later, or found a fault that is known to last."""
        if not any(visit.day == ordinal(notice) for _, notice in self._before(day, user, visit.us)):
            return False
        if visit.on >= day:
            return True
        fault = None if visit.fact.equipment_works else self._fault_found(visit.fact, us)
        return fault is not None and (fault.until is None or to_us(fault.until) > self.days.start_us(day))

    def _fault_found(self, inspection: Inspection, us: int) -> EquipmentFault | None:
        """The fault of the capturing part that lasted at the inspection; of several the first."""
        at = inspection.at
        found = [one for one in self._faults_by(us) if one.from_ <= at and (one.until is None or at <= one.until)]
        return min(found, key=lambda fault: fault.from_, default=None)

    def _last_in_order(self, day: int, us: int) -> int:
        """The last Day before this on which the equipment was known to work: found so by an inspection, or repaired."""
        found = [visit.on for visit in self._visits if visit.us <= us and visit.fact.equipment_works]
        found += [self.days.day_of(to_us(fault.until)) for fault in self._faults_by(us) if fault.until is not None]
        return max((one for one in found if one < day), default=NEVER)

    def _faults_by(self, us: int) -> Iterable[EquipmentFault]:
        """Faults of the part that captures the index; of one `from` the latest received counts."""
        return {fault.from_: fault for at, fault in self._faults if at <= us}.values()

    def _statement(self, day: int, visit: Visit) -> Statement:
        estimate = visit.fact.volume_estimate_m3
        if visit.fact.equipment_works:
            return Statement(visit.us, visit.fact, True, None)
        if visit.day == day and estimate is not None:
            return Statement(visit.us, visit.fact, False, to_litres(estimate))
        return Statement(visit.us, visit.fact, self._before_the_fault(day, visit), None)

    def _before_the_fault(self, day: int, visit: Visit) -> bool:
        """Whether the Day ended before the fault began: where that is not known, half-way between the last inspection and
        this (4.8.4)."""
        fault = self._fault_found(visit.fact, visit.us)
        if fault is not None:
            return day < self.days.day_of(to_us(fault.from_))
        earlier = [to_us(one.fact.at) for one in self._visits if one.us <= visit.us and one.on < visit.on]
        return bool(earlier) and day < self.days.day_of((max(earlier) + to_us(visit.fact.at)) // 2)

    def has_own_visit(self, day: int, inspection: Inspection) -> bool:
        """Whether the inspection was made for this Day's notices, and not for an earlier Day's."""
        noticed = {ordinal(notice) for _, notice in self.notices}
        same = [visit.day for visit in self._visits if visit.fact.at == inspection.at and visit.day in noticed]
        return ordinal(inspection) == day and day == min(same)

    def repaired(self, since_us: int, day: int) -> bool:
        """Whether after the instant, up to the Day, the equipment was known to work."""
        found = [to_us(visit.fact.at) for visit in self._visits if visit.fact.equipment_works]
        found += [to_us(fault.until) for fault in self._faults_by(self.now_us) if fault.until is not None]
        return any(since_us < us and self.days.day_of(us) <= day for us in found)

    def _agreement(self, us: int, fact: AdjustmentAgreed) -> Agreement | None:
        """What was agreed of a Day, from when on the notice of its error, or of one on an earlier Day, is there as well."""
        day = ordinal(fact)
        for from_us in [us, *(given.us for given in self._given if given.us > us)]:
            in_order = self._last_in_order(day, from_us)
            errors = [
                (ordinal(notice), notice.user) for _, notice in self._standing(from_us) if in_order < ordinal(notice) <= day
            ]
            if errors:
                return Agreement(from_us, to_litres(fact.volume_m3), *min(errors))
        return None
