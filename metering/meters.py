"""The meters of a Supply Meter Point, one after the other, each with the time for which it was in place (3.9.1(b)).

One meter is in place at a time: from its fitting until its removal, or until the next one is fitted. The first counts as
fitted at the start of its Day (1.4.3(e)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar

from metering.facts import MeterFitted, MeterRemoved
from metering.gasday import GasDays, to_us
from metering.volumes import Register, register_of

Order = Callable[[MeterFitted | MeterRemoved], tuple[int, bytes]]
F = TypeVar("F", MeterFitted, MeterRemoved)


class Index(NamedTuple):
    """The index of a meter at its fitting or removal, and when we were told."""

    at_us: int
    ticks: int
    received_us: int


class Meter(NamedTuple):
    """A meter in place from `from_us` to `to_us` (None: still). `removal` is None where its last index is not known; `number`
    counts the point's meters from 0."""

    number: int
    serial: str
    fitted_us: int
    from_us: int
    to_us: int | None
    fitting: Index
    removal: Index | None
    register: Register

    @property
    def stay(self) -> tuple[str, int]:
        """What tells this time of the meter at the point from another: a meter may come back."""
        return self.serial, self.fitted_us

    def at(self, instant_us: int) -> bool:
        """Whether it is the meter from this instant on."""
        return self.from_us <= instant_us and (self.to_us is None or instant_us < self.to_us)

    def up_to(self, instant_us: int) -> bool:
        """Whether it is the meter until this instant."""
        return self.from_us < instant_us and (self.to_us is None or instant_us <= self.to_us)

    def reads(self, boundary_us: int) -> bool:
        """Whether it can be read at a boundary of Days."""
        return self.from_us <= boundary_us and (self.to_us is None or boundary_us <= self.to_us)


def in_turn(fitted: Sequence[MeterFitted], removed: Sequence[MeterRemoved], days: GasDays, order: Order) -> tuple[Meter, ...]:
    """The point's meters in the order of their fitting. `order` is that of receipt.

    Of one meter and instant the latest received fact counts. A second fitting of the meter that is in place is none; of two
    meters fitted at one instant the first received counts. Of several removals of one meter in its time the latest received
    counts.
    """
    if len(fitted) == 1 and not removed:  # most points, always
        return (_meter(0, fitted[0], None, None, days),)
    removals = _in_order(_latest(removed, order), order)
    kept: list[MeterFitted] = []
    for fact in _in_order(_latest(fitted, order), lambda each: (each.at, order(each))):
        if kept and (kept[-1].at == fact.at or (kept[-1].meter == fact.meter and not _removal(kept[-1], fact, removals))):
            continue
        kept.append(fact)
    return tuple(
        _meter(n, fact, after, _removal(fact, after, removals), days)
        for n, (fact, after) in enumerate(zip_longest(kept, kept[1:]))
    )


def _latest(facts: Iterable[F], order: Order) -> list[F]:
    """Of the facts about one meter and instant the one received last."""
    latest: dict[tuple[str, datetime], F] = {}
    for fact in _in_order(facts, order):
        latest[fact.meter, fact.at] = fact
    return list(latest.values())


def _in_order(facts: Iterable[F], order: Callable[[F], Any]) -> list[F]:
    """The facts sorted; a single one, as most points have, without asking for its order, which takes long."""
    found = list(facts)
    return found if len(found) < 2 else sorted(found, key=order)


def _removal(fitted: MeterFitted, after: MeterFitted | None, removals: Sequence[MeterRemoved]) -> MeterRemoved | None:
    """The meter's removal before the next one is fitted, if we were told of one."""
    own = [
        each
        for each in removals
        if each.meter == fitted.meter and fitted.at <= each.at and (after is None or each.at <= after.at)
    ]
    return own[-1] if own else None


def _meter(number: int, fitted: MeterFitted, after: MeterFitted | None, removed: MeterRemoved | None, days: GasDays) -> Meter:
    fitted_us = to_us(fitted.at)
    from_us = fitted_us if number else days.start_us(days.day_of(fitted_us))
    fitting = Index(from_us, fitted.index, _received_us(fitted))
    removal = None if removed is None else Index(to_us(removed.at), removed.index, _received_us(removed))
    ended_us = removal.at_us if removal is not None else None if after is None else to_us(after.at)
    return Meter(number, fitted.meter, fitted_us, from_us, ended_us, fitting, removal, register_of(fitted))


def _received_us(fact: MeterFitted | MeterRemoved) -> int:
    return 0 if fact.received_at is None else to_us(fact.received_at)
