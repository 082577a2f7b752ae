"""What a Day's records were, and since when: the engine driven from one instant to the next, and what changed at each.

At every instant something was received, or something fell due by itself. What changed then is the engine's own word; which of
the facts of that instant are named beside it is decided here (`is_about`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from itertools import groupby
from typing import NamedTuple

from metering.explain_evidence import Evidence
from metering.explanation import Deadline, Moment, RecordChange, Run
from metering.facts import (
    Alarm,
    AnyFact,
    BypassUsed,
    CalorificValue,
    CheckRead,
    EquipmentFault,
    Excluded,
    IntervalSet,
    MeterErrorAdjusted,
    MeterFitted,
    MeterRemoved,
    Readings,
    Registered,
)
from metering.gasday import to_datetime, to_us
from metering.ledger import Change, CheckReadFound, Day, Key, Void
from metering.point import Point
from metering.replay import Ledger, fold
from metering.review import effects_of
from metering.wire import received_us


class Step(NamedTuple):
    """An instant: all that was received at it, what fell due, and the records of one Day that changed."""

    at_us: int
    facts: tuple[AnyFact, ...]
    deadlines: tuple[Deadline, ...]
    changes: tuple[RecordChange, ...]


def drive(evidence: Evidence, day: int) -> list[Step]:
    """Let the engine take the facts; what changed of a Day. Leaves the ledger as of `as_of` in the evidence, and what takes
    the place of readings."""
    recorder = _Recorder(evidence, day)
    point = Point(evidence.meter_point, evidence.rules, evidence.days)
    for at_us, group in groupby(evidence.facts, received_us):
        recorder.pass_due(point, at_us - 1)
        facts = list(group)
        recorder.note(at_us, facts, point.apply(facts))
    recorder.pass_due(point, evidence.as_of_us)
    recorder.note(evidence.as_of_us, [], point.advance(evidence.as_of_us))
    evidence.substitutes = effects_of(point).substitutes
    return recorder.steps


def history(
    evidence: Evidence, day: int, steps: Sequence[Step], run: Run | None, bypass: Sequence[BypassUsed]
) -> Iterator[Moment]:
    """The steps that changed the Day, and those at which something about it was received, or what bounds its run, or the
    by-passes that are part of its volume."""
    bounds = () if run is None else (run.first.toordinal(), run.last.toordinal() + 1)
    for step in steps:
        about = tuple(
            fact
            for fact in step.facts
            if is_about(fact, day, evidence) or fact in bypass or any(_reads(fact, each, evidence) for each in bounds)
        )
        if step.changes or about:
            by_itself = any(each.gas_day.toordinal() == day for each in step.deadlines)
            facts = about or (() if by_itself else step.facts)
            yield Moment(at=to_datetime(step.at_us), facts=facts, deadlines=step.deadlines, changes=step.changes)


class _Recorder:
    """Folds changes into the evidence's ledger, and notes what becomes of one Day."""

    def __init__(self, evidence: Evidence, day: int) -> None:
        self.evidence, self.day, self.text = evidence, day, date.fromordinal(day).isoformat()
        self.steps: list[Step] = []

    def pass_due(self, point: Point, until_us: int) -> None:
        """Let what is due by itself happen up to an instant, that included, one instant after the other."""
        while (due := point.next_due_us()) is not None and due <= until_us:
            self.note(due, [], point.advance(due))

    def note(self, at_us: int, facts: list[AnyFact], changes: list[Change]) -> None:
        """Keep what was received at an instant, and what became of the Day."""
        ledger = self.evidence.ledger
        own = dict.fromkeys(key for change in changes if (key := _key(change))[2] == self.text)
        before = {key: ledger.get(key) for key in own}
        deadlines = self._deadlines(at_us, changes, ledger)
        fold(ledger, changes)
        changed = [RecordChange(before=was, after=ledger.get(key)) for key, was in before.items() if was != ledger.get(key)]
        if facts or changed:
            self.steps.append(Step(at_us, tuple(facts), tuple(deadlines) if changed else (), tuple(changed)))

    def _deadlines(self, at_us: int, changes: Iterable[Change], ledger: Ledger) -> list[Deadline]:
        """What fell due: the Day's own beginning or close-out, else the close-outs of other Days."""
        begun, closed = [], []
        for change in changes:
            if isinstance(change, Day):
                was = ledger.get(change.key())
                if was is None and at_us == self.evidence.days.start_us(change.gas_day.toordinal()):
                    begun.append(Deadline(kind="begins", gas_day=change.gas_day))
                if change.closed_out and not (isinstance(was, Day) and was.closed_out):
                    self.evidence.closed_out[change.gas_day.toordinal()] = change
                    closed.append(Deadline(kind="close_out", gas_day=change.gas_day))
        return [each for each in [*begun, *closed] if each.gas_day.toordinal() == self.day] or closed


def _key(change: Change) -> Key:
    return change.key if isinstance(change, Void) else change.key()


def is_about(fact: AnyFact, day: int, evidence: Evidence) -> bool:
    """Whether a fact speaks of the Day: by its Gas Day, its instants, or as what is in force then."""
    match fact:
        case Readings():
            return _of_batch(fact, day, evidence)
        case Registered():
            return fact == evidence.registered(day)
        case CalorificValue():
            registered = evidence.registered(day)
            return fact.gas_day.toordinal() == day and registered is not None and fact.ldz == registered.ldz
        case MeterFitted():
            return any(fact == evidence.fitting(meter) for meter in evidence.meters_of(day, day + 1))
        case Excluded():
            return fact.from_.toordinal() <= day and (fact.until is None or day <= fact.until.toordinal())
        case BypassUsed():
            return _meets(fact.at, fact.until, day, evidence)
        case EquipmentFault():
            return _meets(fact.from_, fact.until, day, evidence)
        case CheckRead() | MeterErrorAdjusted():
            return _meets(fact.at, fact.at, day, evidence) or _in_period(fact.at, day, evidence)
        case MeterRemoved() | Alarm():
            return _meets(fact.at, fact.at, day, evidence)
        case IntervalSet():
            return evidence.days.day_of(received_us(fact)) == day
        case _:
            gas_day = getattr(fact, "gas_day", None)
            return gas_day is not None and bool(gas_day.toordinal() == day)


def _of_batch(fact: Readings, day: int, evidence: Evidence) -> bool:
    """Whether readings are of the Day's batch, or of a neighbour's and at one of the Day's boundaries."""
    own = fact.gas_day.toordinal()
    return own == day or (abs(own - day) == 1 and _reads(fact, max(own, day), evidence))


def _reads(fact: AnyFact, boundary: int, evidence: Evidence) -> bool:
    """Whether there are readings near the start of a Day."""
    if not isinstance(fact, Readings) or not boundary - 1 <= fact.gas_day.toordinal() <= boundary:
        return False
    return any(
        index is not None and evidence.near_boundary(to_us(at), boundary)
        for at, index in zip(fact.instants(), fact.index, strict=True)
    )


def _in_period(at: datetime, day: int, evidence: Evidence) -> bool:
    """Whether the Day lies in the period that ends with the check read of an instant (4.7.3)."""
    end = date.fromordinal(evidence.days.day_of(to_us(at)))
    found = evidence.ledger.get(("check_read", evidence.meter_point, end.isoformat()))
    return isinstance(found, CheckReadFound) and found.from_.toordinal() <= day < end.toordinal()


def _meets(first: datetime, last: datetime | None, day: int, evidence: Evidence) -> bool:
    """Whether a time, both its ends included, has some of the Day in it."""
    return to_us(first) <= evidence.days.end_us(day) and (last is None or to_us(last) >= evidence.days.start_us(day))
