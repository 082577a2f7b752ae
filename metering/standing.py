"""The standing readings of a meter at the boundaries of Gas Days, at its fitting and its removal, and what becomes of the
others (the rules page, section 4).

A boundary has offers: the readings nearest to it of the two Days' batches; a meter's index at its fitting or removal is one of
that place. Which offers stand is `chain.py`'s matter; this file prepares them and names the rejections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from metering.batch import Batch, Reading, Setting, admission, node_of, rejected
from metering.chain import Node, standing
from metering.gasday import GasDays, to_datetime
from metering.ledger import Rejected
from metering.meters import Meter
from metering.validation import boundary_mismatch, excess_flow, instant, negative_advance, no_index

NO_BATCH = Batch()


class Standing(NamedTuple):
    """The standing reading of a place; `fixed` once a Day was closed out as actual on it."""

    at_us: int
    ticks: int
    fixed: bool = False


class Place(NamedTuple):
    """Where a reading of a meter can stand: a boundary of Days, or the meter's fitting or removal within one. `judged` is the
    Day that ends there, or holds it: its rules judge the advance up to there."""

    at_us: int
    judged: int


class Offer(NamedTuple):
    """A reading offered for a place, by the batch of a Day; or the index that was told with a fitting or removal on it."""

    reading: Reading
    day: int
    told: bool = False


def boundary(day: int, days: GasDays) -> Place:
    """The place at which the Day begins."""
    return Place(days.start_us(day), day - 1)


def inside(meter: Meter, day: int, days: GasDays) -> list[Place]:
    """The meter's fitting and removal within a Day, where they are at no boundary."""
    start_us, end_us = days.start_us(day), days.start_us(day + 1)
    instants = [index.at_us for index in (meter.fitting, meter.removal) if index is not None]
    return [Place(at_us, day) for at_us in instants if start_us < at_us < end_us]


def told(meter: Meter, place: Place, days: GasDays) -> list[Offer]:
    """The meter's index at its fitting or removal, where that is at this place."""
    fitting, removal = meter.fitting, meter.removal
    found = []
    if fitting.at_us == place.at_us:
        found.append(Offer(Reading(*fitting), days.day_of(fitting.at_us), True))
    if removal is not None and removal.at_us == place.at_us:
        found.append(Offer(Reading(*removal), place.judged, True))
    return found


def offers(place: Place, before: Batch, after: Batch, indexes: Sequence[Offer], held: Standing | None) -> list[Offer]:
    """The offers for a boundary, from the batches of the Days before and after it: of all admissible readings near it those of
    the nearest instant (tie: the earlier), or of the instant of the fixed reading `held`."""
    found = [] if before.refused else [Offer(reading, place.judged) for reading in before.end]
    if not after.refused:
        found += [Offer(reading, place.judged + 1) for reading in after.start]
    found += indexes
    if held is not None:
        return [offer for offer in found if offer.reading.at_us == held.at_us]
    if len(found) > 1:
        nearest = min((abs(offer.reading.at_us - place.at_us), offer.reading.at_us) for offer in found)
        found = [offer for offer in found if offer.reading.at_us == nearest[1]]
    return found


class Stood(NamedTuple):
    """What stands at each place, and by Day the rejections of readings that do not; `spoiled` are the Days of whose own batch
    a reading was rejected."""

    standing: dict[Place, Standing]
    rejected: dict[int, list[Rejected]]
    flagged: dict[int, list[Rejected]]
    spoiled: set[int]


def stand(
    offered: Mapping[Place, Sequence[Offer]], fixed: Mapping[Place, Standing], before: Standing | None, setting: Setting
) -> Stood:
    """Find what stands at these places of a meter: consecutive ones from a fixed one (or the first) to another (or the last).

    `before` is the nearest standing reading before the first place: a rejection may name it.
    """
    result = Stood({}, {}, {}, set())
    nodes: dict[tuple[Place, int, int], Node] = {}
    readings: dict[tuple[Place, int, int], list[Offer]] = {}
    for place in sorted(offered):
        held = fixed.get(place)
        if held is not None:
            nodes[place, held.at_us, held.ticks] = Node(held.at_us, held.ticks, 0, place.judged + 1, place.judged, 1, True)
        for offer in offered[place]:
            reading = offer.reading
            if offer.told and setting.register is not None and no_index(reading.ticks, setting.register.modulus):
                detail = no_index(reading.ticks, setting.register.modulus)
                result.rejected.setdefault(offer.day, []).append(_rejected(reading, offer.day, "malformed", detail, setting))
                continue
            key = (place, reading.at_us, reading.ticks)
            readings.setdefault(key, []).append(offer)
            if held is None or reading.ticks != held.ticks:
                nodes[key] = _joined(nodes.get(key), offer, place)
    chain = standing(list(nodes.values()), admission(setting))
    stands = set(chain)
    for record in flags(chain, setting):
        result.flagged.setdefault(record.gas_day.toordinal(), []).append(record)
    if before is not None:
        chain = [Node(before.at_us, before.ticks, 0, 0, 0), *chain]
    for key, node in nodes.items():
        if node in stands:
            result.standing[key[0]] = Standing(node.at_us, node.ticks, node.fixed)
            continue
        rule, detail = conflict(node, chain, setting)
        for offer in readings[key]:
            validation = setting.rules.of(offer.day)
            if not validation.runs(rule):
                continue
            only_flagged = rule == "boundary_mismatch" and not validation.rejects(rule)
            to = result.flagged if only_flagged else result.rejected
            to.setdefault(offer.day, []).append(_rejected(offer.reading, offer.day, rule, detail, setting))
            if not only_flagged and not offer.told:
                result.spoiled.add(offer.day)
    return result


class Within(NamedTuple):
    """The readings within a Day that are rejected, and those that stand though a rule flags them."""

    rejected: list[Rejected]
    flagged: list[Rejected]


def intervals(day: int, batch: Batch, held: Iterable[Standing], gone: Iterable[Rejected], setting: Setting) -> Within:
    """The readings of a meter within a Day that are inadmissible against their neighbours: each is rejected alone. `held` are
    its standing readings at the Day's places."""
    if batch.refused or setting.register is None:
        return Within([], [])
    skip = {(record.at, record.index) for record in gone}
    anchors = [Node(each.at_us, each.ticks, 0, day, day, 1, True) for each in held]
    taken = {anchor.at_us for anchor in anchors}
    own = {
        reading.at_us: reading
        for reading in batch.readings()
        if reading.at_us not in taken and (to_datetime(reading.at_us), reading.ticks) not in skip
    }
    nodes = [node_of(reading, day) for reading in own.values()]
    chain = standing([*anchors, *nodes], admission(setting))
    found = []
    for node in sorted(set(nodes).difference(chain)):
        rule, detail = conflict(node, chain, setting)
        found.append(_rejected(own[node.at_us], day, rule, detail, setting))
    return Within(found, flags(chain, setting) if nodes else [])


def flags(chain: Sequence[Node], setting: Setting) -> list[Rejected]:
    """The advances between readings that stand which fail a rule that only flags, as if each had been rejected: of the Day
    that judges it."""
    if not setting.rules.flags_advances:
        return []
    found = []
    for before, after in pairwise(chain):
        conflicting = _conflict(before, after, setting)
        if conflicting is not None and not setting.rules.of(after.judged).rejects(conflicting[0]):
            reading = Reading(after.at_us, after.ticks, after.received_us)
            found.append(_rejected(reading, after.judged, *conflicting, setting))
    return found


def conflict(node: Node, chain: Sequence[Node], setting: Setting) -> tuple[str, str]:
    """The rule by which a reading does not stand, and the values that show it: its conflict with the nearest standing reading
    before it, else of its instant, else after it."""
    before = max((each for each in chain if each.at_us < node.at_us), key=lambda each: each.at_us, default=None)
    if before is not None and (found := _refusal(before, node, setting)):
        return found
    for each in chain:
        if each.at_us == node.at_us:
            return "boundary_mismatch", boundary_mismatch(node.ticks, each.ticks)
    after = min((each for each in chain if each.at_us > node.at_us), key=lambda each: each.at_us, default=None)
    if after is not None and (found := _refusal(node, after, setting)):
        return found
    return "boundary_mismatch", "other readings of this boundary stand"


def _joined(node: Node | None, offer: Offer, place: Place) -> Node:
    reading = offer.reading
    if node is None:
        return Node(reading.at_us, reading.ticks, reading.received_us, offer.day, place.judged)
    first = min((node.received_us, node.day), (reading.received_us, offer.day))
    return node._replace(received_us=first[0], day=first[1], weight=node.weight + 1)


def _refusal(before: Node, after: Node, setting: Setting) -> tuple[str, str] | None:
    """The rule that rejects the advance between two readings, if one does."""
    found = _conflict(before, after, setting)
    return found if found is not None and setting.rules.of(after.judged).rejects(found[0]) else None


def _conflict(before: Node, after: Node, setting: Setting) -> tuple[str, str] | None:
    """The rule that the advance between two readings fails, if one does."""
    register, validation = setting.register, setting.rules.of(after.judged)
    assert register is not None
    between = f"from {before.ticks} at {instant(before.at_us)} to {after.ticks} at {instant(after.at_us)}"
    for rule, check in (("negative_advance", negative_advance), ("excess_flow", excess_flow)):
        if not validation.runs(rule):
            continue
        wrong = check(register, before.ticks, after.ticks, after.at_us - before.at_us, validation.excess_factor)
        if wrong:
            return rule, f"{between}: {wrong}"
    return None


def _rejected(reading: Reading, day: int, rule: str, detail: str, setting: Setting) -> Rejected:
    return rejected(setting.meter_point, day, rule, detail, reading.at_us, reading.ticks, reading.received_us)
