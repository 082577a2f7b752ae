"""What would change a Day's record from here on, or fixes it: deadlines, readings that are missing, calorific values.

Sources: M1.4.4(b), 4.2.6, 4.4.1, 4.4.2, 4.4.5, 4.8.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from metering.explain_evidence import Evidence
from metering.explain_volume import MILLI
from metering.explanation import Determination, Origin, Prospect, ProspectKind, Quantity, Run
from metering.gasday import to_datetime
from metering.ledger import Day, ReadError


def prospects(
    evidence: Evidence, day: int, record: Day, chain: tuple[Origin, ...], determined: Determination | None, values: Quantity
) -> Iterator[Prospect]:
    """What would change the Day, what is nearest in time first."""
    if not record.closed_out:
        yield from _while_open(evidence, day, record)
    elif determined is None or determined.run is None:  # read, or revised by a Daily Read Error
        yield _prospect("fixed", "4.4.1")
    else:
        yield from _after_failure(evidence, day, record, determined.run)
    yield from _calorific_values(record, chain, values)
    for found in evidence.records_of(day):
        if isinstance(found, ReadError) and found.due is not None:
            yield _prospect("read_error", "4.8", found.due, user=found.user)


def _prospect(kind: ProspectKind, clause: str, *instants: datetime, **more: object) -> Prospect:
    return Prospect(kind=kind, clause=clause, instants=instants, **more)  # type: ignore[arg-type]


def _while_open(evidence: Evidence, day: int, record: Day) -> Iterator[Prospect]:
    end_us = evidence.days.end_us(day)
    if evidence.as_of_us < end_us:
        yield _prospect("day_ends", "4.2.1", to_datetime(end_us))
    yield _prospect("close_out", "4.4.1", to_datetime(evidence.close_out_us(day)))
    if record.valid and (instead := evidence.substitutes.get(day)) is not None:
        yield _prospect("substitution", instead.clause, volume_m3=instead.litres * MILLI)
    if missing := _missing(evidence, day, record):
        yield _prospect("valid_with", "4.3", *missing)
    elif not record.valid:
        yield _prospect("boundary_rejected", "4.2.3")


def _missing(evidence: Evidence, day: int, record: Day) -> list[datetime]:
    """The boundaries of the Day at which no reading stands."""
    sides = ((day, record.start_index), (day + 1, record.end_index))
    return [to_datetime(evidence.days.start_us(boundary)) for boundary, index in sides if index is None]


def _after_failure(evidence: Evidence, day: int, record: Day, run: Run) -> Iterator[Prospect]:
    missing = _missing(evidence, day, record)
    if record.determined_status == "restored" or (missing == [] and record.determined_status == "revised"):
        yield _prospect("fixed", "4.4.5(a)")
        return
    if record.determined_status is None:
        yield from _undetermined(evidence, run)
    if evidence.capture_failed(day) or evidence.capture_failed(day + 1):
        yield _prospect("capture_fault", "4.4.5(b)")
    elif missing:
        yield _prospect("restored_with", "4.4.5(a)", *missing)
    if record.determined_status == "apportioned" and run.first != run.last:
        yield _prospect("inside_run", "4.4.5(b)")


def _undetermined(evidence: Evidence, run: Run) -> Iterator[Prospect]:
    """Why a run is not shared out yet."""
    first, last = run.first.toordinal(), run.last.toordinal()
    records = [record for day in range(first, last + 1) if (record := evidence.day(day)) is not None]
    if records[0].start_index is None:
        yield _prospect("run_start", "4.4.5(b)", to_datetime(evidence.days.start_us(first)))
    if records[-1].end_index is None:
        yield _prospect("run_end", "4.4.5(b)")
    elif waiting := [record.gas_day for record in records if not record.closed_out]:
        at_us = max(evidence.close_out_us(each.toordinal()) for each in waiting)
        yield _prospect("run_closed_out", "4.4.5(b)", to_datetime(at_us), gas_day=waiting[-1])
    for record in records:
        if record.closed_out and record.volume_m3 is None:
            yield _prospect("volume_unknown", "4.2.6", gas_day=record.gas_day)


def _calorific_values(record: Day, chain: tuple[Origin, ...], values: Quantity) -> Iterator[Prospect]:
    deemed = record.status == "deemed" or (record.status == "provisional" and chain[0].clause == "4.2.6")
    if values.mj_per_m3 is None:
        yield _prospect("calorific_value", "1.4.4(b)", gas_day=record.gas_day, ldz=values.ldz)
    elif not deemed or record.determined_kwh is not None:
        yield _prospect("later_calorific_value", "1.4.4(b)", gas_day=record.gas_day, ldz=values.ldz)
    if len(chain) > 1 and chain[-1].volume_m3 is None:
        yield _prospect("volume_unknown", "4.2.6", gas_day=chain[-1].gas_day)
