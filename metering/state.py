"""A point's state as bytes: what a stream job keeps of a Supply Meter Point between two frames.

Pruned, a point holds the Days that may still change by what usually comes: those that are open, what their substitutes and
flags rest on, and Failed Days that wait for a determination. What reaches further back goes to the fact store.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import msgspec

from metering.book import ACTUAL, Belief, Book, Reference
from metering.facts import CalorificValue, MeterFitted, Registered
from metering.gasday import GasDays, to_datetime
from metering.ledger import Key, Rejected, Tolerance
from metering.point import WEEK, Point, received_us
from metering.rules import Rules
from metering.standing import Standing

STATE_VERSION = 1
BEGINNING = -1  # nothing was let go of yet


class _BookState(msgspec.Struct, array_like=True, frozen=True):
    """A Day. What is usual comes first; what is rare is in `more`."""

    day: int
    pieces: tuple[tuple[int, bytes], ...]
    start: Standing | None
    closed: int
    closed_l: int | None
    belief: Belief
    ran: int
    failed: int
    more: _More | None = None


class _More(msgspec.Struct, array_like=True, frozen=True):
    """What few Days have."""

    deemed_wh: int | None
    rejected: list[Rejected]
    flagged: int
    tolerances: tuple[Tolerance, ...]
    shown: tuple[Key, ...]


class _ReferenceState(msgspec.Struct, array_like=True, frozen=True):
    """Registrations, the meter, and by LDZ the calorific values: Day, received, value."""

    registrations: list[Registered]
    fitted: MeterFitted | None
    values: dict[str, list[tuple[int, int, str]]]


class _State(msgspec.Struct, array_like=True, frozen=True):
    v: int
    meter_point: str
    now_us: int
    first_day: int | None
    last_day: int | None
    floor: int | None
    anchor: int | None
    open_days: list[int]
    settled: bool
    before: dict[int, Belief]
    reference: msgspec.Raw
    books: msgspec.Raw


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_State).decode
_decode_reference = msgspec.msgpack.Decoder(_ReferenceState).decode
_decode_books = msgspec.msgpack.Decoder(list[_BookState]).decode


def prune(point: Point) -> None:
    """Let go of the Days that nothing usual can change any more.

    The anchor is the latest boundary with a fixed reading of which every Day before is closed out and not needed as the
    week before of an open one; a fixed reading at least a week before it, the floor, is where what is held begins.
    """
    oldest_open = point.open_days[0] if point.open_days else None
    if point.floor is not None and point.pruned_for == oldest_open:
        return
    point.pruned_for = oldest_open
    books = point.books
    settled = (min(point.open_days) if point.open_days else max(books, default=BEGINNING)) - WEEK
    fixed = sorted(day for day, book in books.items() if day <= settled and book.start is not None and book.start.fixed)
    anchor = fixed[-1] if fixed else BEGINNING
    floor = max((day for day in fixed if day <= anchor - WEEK), default=BEGINNING)
    point.floor, point.anchor = floor, BEGINNING if floor == BEGINNING else anchor
    for day in [day for day in books if day < floor]:
        del books[day]
    point.reference.forget_values_before(floor)


def encode_state(point: Point) -> bytes:
    """The bytes of a pruned point."""
    return _encode(
        _State(
            STATE_VERSION, point.meter_point, point.now_us, point.first_day, point.last_day, point.floor, point.anchor,
            point.open_days, point.settled, point.before, msgspec.Raw(_packed_reference(point.reference)),
            msgspec.Raw(_packed_books(point.books)),
        )
    )  # fmt: skip


def decode_state(data: bytes, rules: Rules, days: GasDays) -> Point:
    """The point of `encode_state`'s bytes. Raises ValueError where they are of another version, or no state."""
    try:
        state = _decode(data)
        if state.v != STATE_VERSION:
            raise ValueError(f"state version {state.v}; this program knows version {STATE_VERSION}")
        reference, books = _decode_reference(state.reference), _decode_books(state.books)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a state: {error}") from error
    point = Point(state.meter_point, rules, days)
    point.now_us, point.first_day, point.last_day = state.now_us, state.first_day, state.last_day
    point.floor, point.anchor, point.open_days = state.floor, state.anchor, state.open_days
    point.settled, point.before = state.settled, state.before
    point.reference.registrations, point.reference.fitted = reference.registrations, reference.fitted
    for ldz, values in reference.values.items():
        for day, received, text in values:
            value = CalorificValue(
                ldz=ldz, gas_day=date.fromordinal(day), mj_per_m3=Decimal(text), received_at=to_datetime(received)
            )  # fmt: skip
            point.reference.values.setdefault((ldz, day), []).append(value)
    point.books = {book.day: _book(book) for book in books}
    return point


def _packed_reference(reference: Reference) -> bytes:
    if reference.packed is None or reference.packed[0] != reference.version:
        values: dict[str, list[tuple[int, int, str]]] = {}
        for (ldz, day), known in reference.values.items():
            values.setdefault(ldz, []).extend((day, received_us(value), str(value.mj_per_m3)) for value in known)
        packed = _encode(_ReferenceState(reference.registrations, reference.fitted, values))
        reference.packed = reference.version, packed
    return reference.packed[1]


def _packed_books(books: dict[int, Book]) -> bytes:
    """The books as a MessagePack array; of a Day that has not changed the bytes of before."""
    parts = [book.packed or _packed_book(day, book) for day, book in books.items()]
    return b"\xdd" + len(parts).to_bytes(4, "big") + b"".join(parts)


def _packed_book(day: int, book: Book) -> bytes:
    usual = not (book.rejected or book.flagged or book.tolerances or book.shown or book.deemed_wh is not None)
    more = (
        None if usual
        else _More(book.deemed_wh, book.rejected, book.flagged, book.tolerances, tuple(sorted(book.shown)))
    )  # fmt: skip
    pieces = () if book.closed == ACTUAL else tuple(book.pieces)
    packed = _encode(
        _BookState(day, pieces, book.start, book.closed, book.closed_l, book.belief(), book.ran, book.failed, more)
    )  # fmt: skip
    book.packed = packed
    return packed


def _book(state: _BookState) -> Book:
    book = Book()
    book.pieces = list(state.pieces)
    book.start, book.closed, book.closed_l = state.start, state.closed, state.closed_l
    book.valid, book.valid_at_us, book.by_11, book.determined, book.determined_l, book.since_us = state.belief
    book.ran, book.failed = state.ran, state.failed
    if state.more is not None:
        more = state.more
        book.deemed_wh, book.rejected, book.flagged = more.deemed_wh, more.rejected, more.flagged
        book.tolerances, book.shown = more.tolerances, frozenset(more.shown)
    return book
