"""Daily Read Errors (4.8): what becomes of Users' Daily Read Error Notices, from the facts about them alone.

`read_errors` goes through the facts of one meter point in the order of their receipt. What was received at an instant counts
before what happens by itself at that instant: an inspection is overdue, a statement is final, a Day is closed out. So what
it says as of an instant rests on what was received by then, and on nothing else than `DayView` of the Days' readings.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from metering.error_facts import Agreement, DayView, ErrorFact, ErrorFacts, View
from metering.error_notice import WAITING, Course, to_litres
from metering.facts import AnyFact, EstimateAccepted, ExpertDetermination, Inspection, ReadErrorNotice, RejectionNotice
from metering.gasday import GasDays, to_datetime
from metering.ledger import ReadError
from metering.rules import Rules

__all__ = ["DayView", "Deemed", "Effects", "Instead", "View", "read_errors"]

REJECTION_DAYS = 5  # Business Days after the transporter's statement (4.8.3(d))
ADJUSTED_DAYS = 6  # Days after the first Daily Read Error Day that count as Valid where they were adjusted (4.8.12(b))


class Instead(NamedTuple):
    """Litres that take the place of those by the readings, the instant since when, and the clause."""

    litres: int
    since_us: int
    clause: str


class Deemed(NamedTuple):
    """Whether a Day's readings count as Valid for paragraph 5, whatever they are otherwise, and the clause. By 4.8.12(b)
    they count so for 5.2.1 and 5.2.2 only."""

    valid: bool
    clause: str


class Effects(NamedTuple):
    """What follows from the notices: a record for each User and Day; what is used of a Day at its Exit Close-Out in place of
    the readings (`substitutes`), or else after it (`revised`, the Error Revised Quantity); whose readings are Valid or are
    not by 4.8.12; and the next instant at which any of this may change by itself."""

    records: list[ReadError]
    substitutes: dict[int, Instead]
    revised: dict[int, Instead]
    valid: dict[int, Deemed]
    next_due_us: int | None


def read_errors(meter_point: str, facts: Iterable[AnyFact], view: View, now_us: int, days: GasDays, rules: Rules) -> Effects:
    """What follows, as of `now_us`, from all facts about a meter point's Daily Read Errors received by then, in any order;
    facts of other kinds, and copies, do no harm. `view` tells of a Day (an ordinal) and User what is known as of `now_us`;
    None where the Day has not begun or the User is not registered there."""
    known = ErrorFacts(facts, view, now_us, days, rules.business_days())
    told = [day for one in known.days_of_interest() if (day := _day(known, one)) is not None]
    faults = [us for day in told for us in day.faults()]
    deemed = {day.day: day.deemed(faults) for day in told}
    revised = {day.day: day.revised() for day in told}
    return Effects(
        records=[record for day in told for record in day.records(meter_point)] + _refusals(meter_point, known),
        substitutes={day.day: day.substitute for day in told if day.substitute is not None},
        revised={day: instead for day, instead in revised.items() if instead is not None},
        valid={day: one for day, one in deemed.items() if one is not None},
        next_due_us=min((us for day in told for us in day.next_due_us()), default=None),
    )


def _refusals(meter_point: str, known: ErrorFacts) -> list[ReadError]:
    """The records of those all of whose notices about a Day were refused."""
    return [
        ReadError(
            meter_point=meter_point, user=user, gas_day=date.fromordinal(day), state="refused", due=None, volume_m3=None,
            inspection_cost=None, expert_cost=None, refused="4.8.2",
        )
        for day, user in known.refused()
    ]  # fmt: skip


def _day(known: ErrorFacts, day: int) -> _Day | None:
    """How the notices and agreements about a Day stand; None where there are none that count."""
    events = known.events(day)
    users = [event.user for _, event in events if isinstance(event, (ReadErrorNotice, Agreement))]
    seen = known.view(day, users[0]) if users else None
    return None if seen is None or seen.failed_day else _Day(known, day, seen, events)


class _Day:
    """A Day of which notice was given or an adjustment agreed: its Users' notices, and what is used of it."""

    def __init__(self, known: ErrorFacts, day: int, seen: DayView, events: list[tuple[int, ErrorFact | Agreement]]) -> None:
        self.known, self.day, self.seen = known, day, seen
        self.courses: dict[str, Course] = {}
        self.expert: ExpertDetermination | None = None
        self.agreed: Agreement | None = None
        self.substitute: Instead | None = None
        self.closed = False
        for us, event in events:
            if us > seen.close_out_us:
                self._close_out()
            self._lapse(us - 1)
            self._take(us, event)
        if known.now_us >= seen.close_out_us:
            self._close_out()
        self._lapse(known.now_us)
        if not self.closed:
            self.substitute = self._substitute()

    def _close_out(self) -> None:
        """What is known at the Exit Close-Out decides whether anything takes the place of the readings."""
        if not self.closed:
            self.substitute, self.closed = self._substitute(), True

    def _lapse(self, us: int) -> None:
        for course in self.courses.values():
            course.lapse(us)

    def _take(self, us: int, event: ErrorFact | Agreement) -> None:
        match event:
            case ReadErrorNotice():
                self._notice(us, event)
            case Inspection():
                for course in self.courses.values():
                    self._state(us, course)
            case Agreement():
                self._agree(event)
            case ExpertDetermination():
                self.expert = event
                for course in self.courses.values():
                    course.hear(event, us)
            case EstimateAccepted() if event.user in self.courses:
                self.courses[event.user].accept(us)
            case RejectionNotice() if event.user in self.courses:
                self.courses[event.user].reject(us)
                if self.expert is not None:
                    self.courses[event.user].hear(self.expert, us)

    def _notice(self, us: int, notice: ReadErrorNotice) -> None:
        """The User's first notice; a later one corrects its estimate until the transporter has taken account of it."""
        course, litres = self.courses.get(notice.user), to_litres(notice.volume_estimate_m3)
        if course is None:
            course = Course(notice.user, litres, due_us=self.known.inspection_due_us(us, notice))
            self.courses[notice.user] = course
            self._state(us, course)
        elif course.state in WAITING:
            course.user_l = litres

    def _state(self, us: int, course: Course) -> None:
        statement = self.known.statement(self.day, course.user, us)
        if statement is not None and (course.statement is None or course.statement.inspection is not statement.inspection):
            course.state_what_was_found(statement, self.known.end_of_business_day(us, REJECTION_DAYS))

    def _agree(self, agreed: Agreement) -> None:
        """Where a value was substituted at the Exit Close-Out, it stays (4.8.10)."""
        if self.substitute is None:
            self.agreed = agreed
            for course in self.courses.values():
                course.agree(agreed.litres, agreed.us)

    def _substitute(self) -> Instead | None:
        """What is used in place of the readings, by agreement (4.8.8(b), 4.8.9), or as all who gave notice have accepted the
        transporter's estimate (4.8.8(a))."""
        if self.seen.litres is None:
            return None
        if self.agreed is not None:
            return Instead(self.agreed.litres, self.agreed.us, "4.8.8(b)" if self.agreed.first == self.day else "4.8.9")
        if any(course.state != "accepted" for course in self.courses.values()):
            return None
        return self._by(list(self.courses.values()), "4.8.8(a)")

    def revised(self) -> Instead | None:
        """The Error Revised Quantity's volume (4.8.10)."""
        if not self.closed or self.substitute is not None:
            return None
        by_experts = [course for course in self.courses.values() if course.state == "expert"]
        settled = [course for course in self.courses.values() if course.state in ("accepted", "final")]
        found = self._by(by_experts or settled, "4.8.10")
        if self.agreed is not None:
            found = Instead(self.agreed.litres, self.agreed.us, "4.8.10")
        return found and found._replace(since_us=max(found.since_us, self.seen.close_out_us))

    @staticmethod
    def _by(courses: list[Course], clause: str) -> Instead | None:
        """The estimate of the latest statement among notices that are settled, since when the first of them was."""
        found = [
            (course.stated_us, -course.settled_us, litres) for course in courses if (litres := course.estimate_l) is not None
        ]
        if not found:
            return None
        _, settled_us, litres = max(found)
        return Instead(litres, -settled_us, clause)

    def deemed(self, faults: list[int]) -> Deemed | None:
        """Whether the readings are Valid by 4.8.12; `faults` is when experts made known that the equipment did not work."""
        if self.substitute is not None and self.agreed is not None and 0 < self.day - self.agreed.first <= ADJUSTED_DAYS:
            return Deemed(True, "4.8.12(b)")
        if any(course.faulty_by_transporter for course in self.courses.values()):
            return Deemed(False, "4.8.12(a)(i)")
        if self.courses and self.agreed is not None and self.agreed.litres != self.seen.litres:
            return Deemed(False, "4.8.12(a)(ii)")
        if self.courses and any(
            self.known.days.day_of(us) <= self.day and not self.known.repaired(us, self.day) for us in faults
        ):
            return Deemed(False, "4.8.12(c)(ii)")
        return None

    def faults(self) -> list[int]:
        """When experts made known that the equipment did not work, where the transporter said it did."""
        return [course.fault_us for course in self.courses.values() if course.fault_us is not None]

    def records(self, meter_point: str) -> list[ReadError]:
        return [self._record(meter_point, course) for course in self.courses.values()]

    def _record(self, meter_point: str, course: Course) -> ReadError:
        readings = self.seen.litres
        own = course.statement is not None and self.known.has_own_visit(self.day, course.statement.inspection)
        volume = course.volume_l(readings)
        return ReadError(
            meter_point=meter_point, user=course.user, gas_day=date.fromordinal(self.day), state=course.state,
            due=None if course.due_us is None else to_datetime(course.due_us),
            volume_m3=None if volume is None else Decimal(volume).scaleb(-3),
            inspection_cost=course.inspection_cost(readings) if own else None, expert_cost=course.expert_cost(readings),
            refused=None,
        )  # fmt: skip

    def next_due_us(self) -> list[int]:
        """When this may change by itself."""
        dues = [course.due_us for course in self.courses.values()] + [self.seen.close_out_us]
        return [us for us in dues if us is not None and us > self.known.now_us]
