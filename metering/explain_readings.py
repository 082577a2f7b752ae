"""Which readings a Day rests on: the standing ones at its boundaries and who said them, its batch in short, and its rules.

Sources: M1.4.3, 1.5, 4.2.1, 4.2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction

from metering.explain_evidence import Evidence
from metering.explanation import Boundary, Piece, RuleFound, Source
from metering.facts import MeterFitted, MeterRemoved, Readings
from metering.gasday import to_datetime, to_us
from metering.ledger import Day, Rejected, Tolerance
from metering.validation import RULES
from metering.wire import identity


def boundary(evidence: Evidence, at: int, index: int | None) -> Boundary:
    """The start of the Day `at`, where `index` stands, with everything received that says so."""
    said = [] if index is None else [*_pieces_saying(evidence, at, index), *_meters_saying(evidence, at, index)]
    if said:
        boundary_us = evidence.days.start_us(at)
        nearest = min((abs(to_us(each.at) - boundary_us), each.at) for each in said)[1]
        said = [each for each in said if each.at == nearest]
    return Boundary(
        at=to_datetime(evidence.days.start_us(at)), index=index,
        said_by=tuple(sorted(said, key=lambda each: each.received_at)),
    )  # fmt: skip


def _pieces_saying(evidence: Evidence, boundary: int, index: int) -> Iterator[Source]:
    for day in (boundary - 1, boundary):
        rejected = evidence.rejected_of(day)
        if any(each.at is None for each in rejected):
            continue  # the whole batch
        gone = {(each.at, each.index) for each in rejected}
        pieces = evidence.pieces(day)
        for n, piece in enumerate(pieces, 1):
            for at, value in _readings(piece, evidence):
                stands = type(value) is int and value == index and (at, index) not in gone
                if stands and evidence.near_boundary(to_us(at), boundary) and evidence.withdrawn(piece) is None:
                    yield _source(piece, at, n, len(pieces))


def _readings(piece: Readings, evidence: Evidence) -> Iterator[tuple[datetime, object]]:
    """A piece's readings, an on-site one within the Day at the Day's start (1.4.3(e))."""
    day = piece.gas_day.toordinal()
    for at, index in zip(piece.instants(), piece.index, strict=True):
        within = evidence.days.start_us(day) < to_us(at) < evidence.days.end_us(day)
        if piece.source == "on_site" and within and not evidence.near_boundary(to_us(at), day + 1):
            yield to_datetime(evidence.days.start_us(day)), index
        else:
            yield at, index


def _source(piece: Readings, at: datetime, number: int, pieces: int) -> Source:
    assert piece.received_at is not None
    return Source(
        fact="readings", meter=piece.meter, at=at, received_at=piece.received_at, source=piece.source,
        batch=piece.gas_day, piece=number, pieces=pieces, gateway=piece.gateway, outbox=piece.outbox, sequence=piece.sequence,
    )  # fmt: skip


def _meters_saying(evidence: Evidence, boundary: int, index: int) -> Iterator[Source]:
    """Fittings and removals that count for the boundary and show the index."""
    for meter in evidence.meters():
        if meter.fitting.ticks == index and evidence.near_boundary(meter.from_us, boundary):
            yield _of_meter(evidence.fitting(meter), "meter_fitted")
    for fact in evidence.of(MeterRemoved):
        if fact.index == index and evidence.near_boundary(to_us(fact.at), boundary):
            yield _of_meter(fact, "meter_removed")


def _of_meter(fact: MeterFitted | MeterRemoved, kind: str) -> Source:
    assert fact.received_at is not None
    return Source(fact=kind, meter=fact.meter, at=fact.at, received_at=fact.received_at)  # type: ignore[arg-type]


def pieces(evidence: Evidence, day: int) -> Iterator[Piece]:
    """The Day's batch in short."""
    for n, piece in enumerate(evidence.pieces(day), 1):
        assert piece.received_at is not None
        given = [(at, index) for at, index in zip(piece.instants(), piece.index, strict=True) if index is not None]
        withdrawn = evidence.withdrawn(piece)
        yield Piece(
            number=n, meter=piece.meter, source=piece.source, readings=len(given), missing=len(piece.index) - len(given),
            first_at=given[0][0] if given else None, last_at=given[-1][0] if given else None,
            first_index=given[0][1] if given else None, last_index=given[-1][1] if given else None,
            status=piece.status, clock_offset_s=piece.clock_offset_s, gateway=piece.gateway, outbox=piece.outbox,
            sequence=piece.sequence, received_at=piece.received_at, copies=evidence.copies[identity(piece)] - 1,
            withdrawn_at=None if withdrawn is None else withdrawn.received_at,
        )  # fmt: skip


def rejections(evidence: Evidence, day: int) -> list[Rejected]:
    """What was rejected of the Day's batch, and of its neighbours' at the Day's boundaries."""
    found = evidence.rejected_of(day)
    for other, at in ((day - 1, day), (day + 1, day + 1)):
        found += [each for each in evidence.rejected_of(other) if each.at is None or evidence.near_boundary(to_us(each.at), at)]
    return found


def rules(evidence: Evidence, day: int, record: Day) -> Iterator[RuleFound]:
    """Every validation rule, in their order, with what it found on the Day."""
    validation = evidence.rules.of(day)
    for rule in RULES:
        yield RuleFound(
            rule=rule.id, clause=rule.clause, action="reject" if validation.rejects(rule.id) else "flag",
            ran=rule.id in record.ran, failed=rule.id in record.failed, found=tuple(_found(evidence, rule.id, day, record)),
        )  # fmt: skip


def _found(evidence: Evidence, rule: str, day: int, record: Day) -> Iterator[str]:
    for each in evidence.records_of(day):
        if isinstance(each, Tolerance) and each.check == rule:
            deviation = "" if each.deviation is None else f", deviation {each.deviation}"
            yield f"a {each.a} m³, b {each.b} m³{deviation}"
    rejected = [each for each in evidence.rejected_of(day) if each.rule == rule]
    if rejected:
        yield f"{len(rejected)} rejected" if rejected[0].at is not None else "the batch rejected"
    if rule == "equipment_status" and (said := sorted({each for piece in evidence.pieces(day) for each in piece.status})):
        yield ", ".join(said)
    registered = evidence.registered(day)
    if rule == "unusual_volume" and rule in record.ran and registered is not None:
        factor = evidence.rules.of(day).unusual_factor
        limit = Fraction(registered.annual_quantity_kwh) * Fraction(factor) / 365
        yield f"usual on readings: up to {float(limit):.3f} kWh, {factor} × Annual Quantity / 365"
