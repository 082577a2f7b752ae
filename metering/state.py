"""A point's state as bytes: what a stream job keeps of a Supply Meter Point between two frames.

Pruned, a point holds the Days that may still change by what usually comes: those that are open, what their substitutes and
flags rest on, and Failed Days that wait for a determination. What reaches further back goes to the fact store.
"""

from __future__ import annotations

import msgspec

from metering.batch import Batch
from metering.book import ACTUAL, OPEN, Belief, Book
from metering.facts import CalorificValue, MeterFitted, Readings, Registered
from metering.gasday import GasDays, to_datetime
from metering.ledger import Key, Rejected, Tolerance
from metering.point import WEEK, Point, received_us
from metering.rules import Rules
from metering.standing import Standing
from metering.wire import decode_fact, encode_fact

STATE_VERSION = 1


class _BookState(msgspec.Struct, array_like=True):
    pieces: list[tuple[int, bytes]]
    start: Standing | None
    rejected: list[Rejected]
    flagged: int
    closed: int
    closed_l: int | None
    deemed_wh: int | None
    belief: Belief
    shown: list[Key]
    ran: int = 0
    failed: int = 0
    tolerances: tuple[Tolerance, ...] = ()


class _State(msgspec.Struct, array_like=True):
    v: int
    meter_point: str
    now_us: int
    first_day: int | None
    last_day: int | None
    floor: int | None
    anchor: int | None
    open_days: list[int]
    closed_now: bool
    before: dict[int, Belief]
    registrations: list[Registered]
    fitted: MeterFitted | None
    values: list[CalorificValue]
    books: dict[int, msgspec.Raw]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_State).decode
_decode_book = msgspec.msgpack.Decoder(_BookState).decode


def prune(point: Point) -> None:
    """Let go of the Days that nothing usual can change any more.

    The anchor is the latest boundary with a fixed reading of which every Day before is closed out and not needed as the
    week before of an open one; a fixed reading at least a week before it, the floor, is where what is held begins.
    """
    if not point.books:
        point.floor = point.anchor = BEGINNING
        return
    settled = min([day for day, book in point.books.items() if book.closed == OPEN], default=max(point.books)) - WEEK
    fixed = sorted(day for day, book in point.books.items() if book.start is not None and book.start.fixed)
    anchor = max((day for day in fixed if day <= settled), default=None)
    floor = None if anchor is None else max((day for day in fixed if day <= anchor - WEEK), default=None)
    point.floor = BEGINNING if floor is None else floor
    point.anchor = BEGINNING if anchor is None or floor is None else anchor
    for day in [day for day in point.books if day < point.floor]:
        del point.books[day]
    point.reference.forget_values_before(point.floor)


BEGINNING = -1  # nothing was let go of yet


def encode_state(point: Point) -> bytes:
    """The bytes of a pruned point."""
    reference = point.reference
    return _encode(
        _State(
            STATE_VERSION, point.meter_point, point.now_us, point.first_day, point.last_day, point.floor, point.anchor,
            point.open_days, point.closed_now, point.before, reference.registrations, reference.fitted,
            [value for values in reference.values.values() for value in values],
            {day: msgspec.Raw(_encode(_book_state(book))) for day, book in point.books.items()},
        )
    )  # fmt: skip


def decode_state(data: bytes, rules: Rules, days: GasDays) -> Point:
    """The point of `encode_state`'s bytes. Raises ValueError where they are of another version."""
    try:
        state = _decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a state: {error}") from error
    if state.v != STATE_VERSION:
        raise ValueError(f"state version {state.v}; this program knows version {STATE_VERSION}")
    point = Point(state.meter_point, rules, days)
    point.now_us, point.first_day, point.last_day = state.now_us, state.first_day, state.last_day
    point.floor, point.anchor, point.open_days = state.floor, state.anchor, state.open_days
    point.closed_now, point.before = state.closed_now, state.before
    point.reference.registrations, point.reference.fitted = state.registrations, state.fitted
    for value in state.values:
        point.reference.values.setdefault((value.ldz, value.gas_day.toordinal()), []).append(value)
    point.books = {day: _book(_decode_book(raw)) for day, raw in state.books.items()}
    return point


def _book_state(book: Book) -> _BookState:
    judged = book.batch or Batch()
    keep = book.closed != ACTUAL and bool(book.pieces)
    return _BookState(
        [(received_us(piece), encode_fact(piece)) for piece in book.pieces] if keep else [], book.start, book.rejected,
        book.flagged, book.closed, book.closed_l, book.deemed_wh, book.belief(), sorted(book.shown),
        *((0, 0, ()) if keep else (judged.ran, judged.failed, judged.tolerances)),
    )  # fmt: skip


def _book(state: _BookState) -> Book:
    book = Book()
    for received, data in state.pieces:
        piece = decode_fact(data, to_datetime(received))
        assert isinstance(piece, Readings)
        book.pieces.append(piece)
    if not book.pieces:
        book.batch = Batch(ran=state.ran, failed=state.failed, tolerances=state.tolerances)
    book.start, book.rejected, book.flagged = state.start, state.rejected, state.flagged
    book.closed, book.closed_l, book.deemed_wh = state.closed, state.closed_l, state.deemed_wh
    book.valid, book.valid_at_us, book.by_11, book.determined, book.determined_l, book.since_us = state.belief
    book.shown = set(state.shown)
    return book
