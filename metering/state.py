"""A point's state as bytes: what a stream job keeps of a Supply Meter Point between two frames.

Pruned, a point holds the Days that may still change by what usually comes: those that are open, what their substitutes and
flags rest on, and Failed Days that wait for a determination. What reaches further back goes to the fact store.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from metering.book import ACTUAL, Belief
from metering.books import Books
from metering.gasday import GasDays
from metering.held import WEEK
from metering.point import Point
from metering.rules import Rules

STATE_VERSION = 5
PRUNE_EVERY_DAYS = 4
BEGINNING = -1  # nothing was let go of yet


class _Head(msgspec.Struct, array_like=True, frozen=True):
    v: int
    meter_point: str
    now_us: int
    first_day: int | None
    last_day: int | None
    floor: int | None
    anchor: int | None
    last_held: int
    open_days: list[int]
    settled: bool
    before: dict[int, Belief]
    bypassed: set[int]
    reaches: int
    review_due_us: int | None


class Outlook(NamedTuple):
    """What is to come at a point: when something happens by itself next (`Point.next_due_us`); the LDZs it is registered in."""

    due_us: int | None
    ldzs: frozenset[str]


_encode = msgspec.msgpack.Encoder().encode
_decode_any = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
# The head, the reference facts, and the Days by their ordinals.
_decode_parts = msgspec.msgpack.Decoder(tuple[_Head, msgspec.Raw, dict[int, bytes]]).decode
_decode_without_days = msgspec.msgpack.Decoder(tuple[_Head, msgspec.Raw, msgspec.Raw]).decode


def prune(point: Point) -> None:
    """Let go of the Days that nothing usual can change any more.

    The anchor is the latest boundary with a fixed reading of which every Day before is closed out and not needed as the
    week before of an open one; a fixed reading at least a week before it, and as far as a rule looks back, the floor, is where
    what is held begins.
    """
    oldest_open = point.open_days[0] if point.open_days else BEGINNING
    if point.floor is not None and oldest_open < point.prune_from:
        return
    point.prune_from = oldest_open + PRUNE_EVERY_DAYS
    held = sorted(point.books)
    settled = (min(point.open_days) if point.open_days else held[-1] if held else BEGINNING) - WEEK
    anchor = _fixed_up_to(point, held, settled)
    floor = _fixed_up_to(point, held, anchor - _back_days(point.rules))
    point.floor, point.anchor = floor, BEGINNING if floor == BEGINNING else anchor
    for day in held[: bisect_left(held, floor)]:
        del point.books[day]
        point.packed.pop(day, None)
        point.batches.pop(day, None)
    point.reference.forget_values_before(floor)


def _back_days(rules: Rules) -> int:
    """How many Days before the anchor a rule looks at."""
    return max(WEEK, rules.stuck_days)


def _fixed_up_to(point: Point, held: Sequence[int], last: int) -> int:
    """The latest of these Days, up to one, at whose start a reading is fixed."""
    for day in reversed(held[: bisect_right(held, last)]):
        start = point.books[day].start
        if start is not None and start.fixed:
            return day
    return BEGINNING


def encode_state(point: Point, before: bytes = b"") -> bytes:
    """The bytes of a pruned point, after others that stand before them."""
    head = _encode(
        (
            STATE_VERSION, point.meter_point, point.now_us, point.first_day, point.last_day, point.floor, point.anchor,
            point.last_held, point.open_days, point.settled, point.before, point.bypassed,
            point.review.reaches, point.review.due_us,
        )
    )  # fmt: skip
    packed, books = point.packed, point.books
    for day in point.stale:
        if (book := books.get(day)) is not None:
            if book.closed == ACTUAL and book.pieces:
                book.pieces = []  # what comes about such a Day goes to the fact store
            packed[day] = _encode(book)
    point.stale.clear()
    # Three parts, of which the second and most Days of the third are as they were before, joined as a MessagePack array.
    return b"".join((before, b"\x93", head, point.reference.packed(), _encode(packed)))


def version_of(data: bytes) -> int | None:
    """The version of a state of any version: every one begins with a list of which the first is it. None: it is no state."""
    try:
        return msgspec.msgpack.decode(_decode_any(_decode_any(data)[0])[0], type=int)
    except (ValueError, IndexError):
        return None


def decode_state(data: bytes, rules: Rules, days: GasDays) -> Point:
    """The point of `encode_state`'s bytes. Raises ValueError where they are of another version, or no state.

    Its Days are unpacked one by one, when they are first asked for.
    """
    try:
        state, reference, packed = _decode_parts(data)
        point = _without_days(state, reference, rules, days)
        point.packed = packed
    except msgspec.MsgspecError as error:
        raise _no_state(data, error) from error
    point.books = point.reference.kept = Books(packed)
    if point.floor is not None and point.floor != BEGINNING:  # as it is when each Day in turn is closed out as actual
        point.prune_from = point.floor + WEEK + _back_days(rules) + PRUNE_EVERY_DAYS
    return point


def outlook(point: Point) -> Outlook:
    """What is to come at a point."""
    return Outlook(point.next_due_us(), point.reference.ldzs)


def decode_outlook(data: bytes, rules: Rules, days: GasDays) -> Outlook:
    """What is to come at the point of `encode_state`'s bytes, without looking at its Days. Raises as `decode_state` does."""
    try:
        state, reference, _ = _decode_without_days(data)
        return outlook(_without_days(state, reference, rules, days))
    except msgspec.MsgspecError as error:
        raise _no_state(data, error) from error


def _no_state(data: bytes, error: Exception) -> ValueError:
    version = version_of(data)
    if version not in (None, STATE_VERSION):
        return ValueError(f"state version {version}; this program knows version {STATE_VERSION}")
    return ValueError(f"not a state: {error}")


def _without_days(state: _Head, packed: msgspec.Raw, rules: Rules, days: GasDays) -> Point:
    """The point of a state but for its Days."""
    if state.v != STATE_VERSION:
        raise ValueError(f"state version {state.v}; this program knows version {STATE_VERSION}")
    point = Point(state.meter_point, rules, days)
    point.now_us, point.first_day, point.last_day = state.now_us, state.first_day, state.last_day
    point.floor, point.anchor, point.last_held, point.open_days = state.floor, state.anchor, state.last_held, state.open_days
    point.settled, point.before, point.bypassed = state.settled, state.before, state.bypassed
    point.review.reaches, point.review.due_us = state.reaches, state.review_due_us
    point.reference.unpack(bytes(packed))  # msgspec's types call a Raw bytes, which it is not
    return point
