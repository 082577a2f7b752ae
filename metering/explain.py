"""Why a Gas Day's number is what it is, and who knew what when: from a point's facts and an instant to an Explanation.

The engine is asked, not repeated: the record, what it was before, and what was rejected are its own. Beside them stand the
steps that lead to them, found in the same facts. The parts are made in `explain_*.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from metering.explain_evidence import Evidence
from metering.explain_history import drive, history, is_about
from metering.explain_outlook import prospects
from metering.explain_readings import boundary, pieces, rejections, rules
from metering.explain_volume import determination, origins, quantity
from metering.explanation import Determination, Explanation, Times
from metering.facts import AnyFact, Provided, meter_point_of
from metering.gasday import to_datetime
from metering.ledger import AnyRecord, CheckReadFound, Day, Rejected
from metering.rules import Rules


class Unexplained(LookupError):
    """The ledger has no such meter point or Day; the message says so, and what it has."""


def explain(meter_point: str, gas_day: date, facts: Iterable[AnyFact], as_of_us: int, settings: Rules) -> Explanation:
    """Explain a Day of a meter point by the facts received by an instant. Raises Unexplained where there is no such Day."""
    evidence, day = Evidence(meter_point, facts, as_of_us, settings), gas_day.toordinal()
    steps = drive(evidence, day)
    record = evidence.day(day)
    if record is None:
        raise Unexplained(_no_such_day(evidence, gas_day))
    chain, determined, values = tuple(origins(evidence, day)), determination(evidence, day), quantity(evidence, day)
    about = [fact for fact in evidence.facts if is_about(fact, day, evidence)]
    return Explanation(
        meter_point=meter_point, gas_day=gas_day, as_of=to_datetime(as_of_us), times=_times(evidence, day), day=record,
        registered=evidence.registered(day),
        meters=tuple(evidence.fitting(meter) for meter in evidence.meters_of(day, day + 1)),
        start=boundary(evidence, day, record.start_index), end=boundary(evidence, day + 1, record.end_index),
        pieces=tuple(pieces(evidence, day)), rejected=tuple(rejections(evidence, day)),
        rules=tuple(rules(evidence, day, record)), origins=chain, determination=determined, quantity=values,
        records=tuple(_beside(evidence, day)),
        history=tuple(history(evidence, day, steps, None if determined is None else determined.run, chain[0].bypass)),
        prospects=tuple(prospects(evidence, day, record, chain, determined, values)),
        provided=tuple(fact for fact in about if isinstance(fact, Provided)), facts=tuple(about),
        run_facts=tuple(_of_the_run(evidence, day, determined)),
    )  # fmt: skip


def _times(evidence: Evidence, day: int) -> Times:
    days = evidence.days
    return Times(
        starts=to_datetime(days.start_us(day)), ends=to_datetime(days.end_us(day)), by_11=to_datetime(days.eleven_us(day)),
        close_out=to_datetime(evidence.close_out_us(day)),
    )  # fmt: skip


def _beside(evidence: Evidence, day: int) -> list[AnyRecord]:
    """The Day's other records, and the check reads in whose period it lies."""
    own: list[AnyRecord] = [each for each in evidence.records_of(day) if not isinstance(each, (Day, Rejected))]
    check_reads = [each for each in evidence.ledger.values() if isinstance(each, CheckReadFound)]
    return own + [each for each in check_reads if each.from_.toordinal() <= day < each.gas_day.toordinal()]


def _of_the_run(evidence: Evidence, day: int, determined: Determination | None) -> list[AnyFact]:
    """What was received about the other Days of the Day's run, and not about the Day."""
    if determined is None or determined.run is None:
        return []
    others = [n for n in range(determined.run.first.toordinal(), determined.run.last.toordinal() + 1) if n != day]
    return [
        fact
        for fact in evidence.facts
        if not is_about(fact, day, evidence) and any(is_about(fact, other, evidence) for other in others)
    ]


def _no_such_day(evidence: Evidence, gas_day: date) -> str:
    """Why there is nothing to explain."""
    point, as_of = evidence.meter_point, f"{to_datetime(evidence.as_of_us):%Y-%m-%dT%H:%M:%SZ}"
    if not _is_known(evidence):
        return f"nothing was received about the meter point {point} by {as_of}"
    days = sorted(record.gas_day for record in evidence.ledger.values() if isinstance(record, Day))
    if not days:
        return f"the meter point {point} is not registered as of {as_of}, or not yet: it has no Gas Days"
    return f"the ledger of {point} as of {as_of} has the Gas Days {days[0]} to {days[-1]}; {gas_day} is none of them"


def _is_known(evidence: Evidence) -> bool:
    """Whether anything was received about the point itself."""
    return any(meter_point_of(fact) is not None for fact in evidence.facts)
