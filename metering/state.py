"""A point's state as bytes: what a stream job keeps of a Supply Meter Point between two frames.

Pruned, a point holds the Days that may still change by what usually comes: those that are open, what their substitutes and
flags rest on, and Failed Days that wait for a determination. What reaches further back goes to the fact store.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import msgspec

from metering.batch import Judged
from metering.book import ACTUAL, Belief, Book, Reference
from metering.facts import BypassUsed, CalorificValue, EquipmentFault, MeterFitted, MeterRemoved, Registered
from metering.gasday import GasDays, to_datetime
from metering.held import WEEK
from metering.ledger import Key, Rejected, Tolerance
from metering.point import Point, received_us
from metering.rules import Rules
from metering.standing import Standing

STATE_VERSION = 2
PRUNE_EVERY_DAYS = 4
BEGINNING = -1  # nothing was let go of yet


class _Value(msgspec.Struct, array_like=True, frozen=True):
    """A calorific value of the Day's LDZ."""

    received_us: int
    mj_per_m3: str


class _BookState(msgspec.Struct, array_like=True, frozen=True):
    """A Day. What is usual comes first; what is rare is in `more`. `start` is the standing reading's instant and index;
    that it is fixed follows from the Days on both sides, but where one of them lost a reading that was withdrawn."""

    day: int
    pieces: tuple[tuple[int, bytes], ...]
    start: tuple[int, ...] | None
    closed: int
    closed_l: int | None
    belief: Belief
    ran: int
    failed: int
    values: tuple[_Value, ...] = ()
    more: _More | None = None


class _More(msgspec.Struct, array_like=True, frozen=True):
    """What few Days have."""

    deemed_wh: int | None
    rejected: list[Rejected]
    flagged: int
    tolerances: tuple[Tolerance, ...]
    shown: tuple[Key, ...]
    bypass_l: int
    read_l: int | None
    places: tuple[tuple[str, int, Standing], ...]  # of which meter, at which place, what stands
    withdrawn: tuple[bytes, ...]


class _ReferenceState(msgspec.Struct, array_like=True, frozen=True):
    registrations: list[Registered]
    fitted: list[MeterFitted]
    removed: list[MeterRemoved]
    bypasses: list[BypassUsed]
    faults: list[EquipmentFault]


class _Head(msgspec.Struct, array_like=True, frozen=True):
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
    bypassed: set[int]
    reaches: int
    review_due_us: int | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[_Head, _ReferenceState, list[_BookState]]).decode


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
    books = point.books
    settled = (min(point.open_days) if point.open_days else max(books, default=BEGINNING)) - WEEK
    fixed = sorted(day for day, book in books.items() if day <= settled and book.start is not None and book.start.fixed)
    anchor = fixed[-1] if fixed else BEGINNING
    floor = max((day for day in fixed if day <= anchor - max(WEEK, point.rules.stuck_days)), default=BEGINNING)
    point.floor, point.anchor = floor, BEGINNING if floor == BEGINNING else anchor
    for day in [day for day in books if day < floor]:
        del books[day]
    point.reference.forget_values_before(floor)


def encode_state(point: Point) -> bytes:
    """The bytes of a pruned point."""
    reference = point.reference
    if reference.packed is None:
        reference.packed = _encode(
            (reference.registrations, reference.fitted, reference.removed, reference.bypasses, reference.faults)
        )
    head = _encode(
        (
            STATE_VERSION, point.meter_point, point.now_us, point.first_day, point.last_day, point.floor, point.anchor,
            point.open_days, point.settled, point.before, point.bypassed,
            point.review.reaches, point.review.due_us,
        )
    )  # fmt: skip
    parts = [book.packed or _packed_book(day, book, point) for day, book in point.books.items()]
    # The three parts, and of a Day that has not changed the bytes of before, joined as MessagePack arrays.
    return b"".join((b"\x93", head, reference.packed, b"\xdd", len(parts).to_bytes(4, "big"), *parts))


def decode_state(data: bytes, rules: Rules, days: GasDays) -> Point:
    """The point of `encode_state`'s bytes. Raises ValueError where they are of another version, or no state."""
    try:
        state, reference, books = _decode(data)
        if state.v != STATE_VERSION:
            raise ValueError(f"state version {state.v}; this program knows version {STATE_VERSION}")
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a state: {error}") from error
    point = Point(state.meter_point, rules, days)
    point.now_us, point.first_day, point.last_day = state.now_us, state.first_day, state.last_day
    point.floor, point.anchor, point.open_days = state.floor, state.anchor, state.open_days
    point.settled, point.before, point.bypassed = state.settled, state.before, state.bypassed
    point.review.reaches, point.review.due_us = state.reaches, state.review_due_us
    held = point.reference
    if reference.registrations:
        held.registered = reference.registrations[0].gas_day.toordinal()
    held.registrations, held.fitted, held.removed = reference.registrations, reference.fitted, reference.removed
    held.bypasses, held.faults = reference.bypasses, reference.faults
    held.follow_meters()
    actual = {book.day for book in books if book.closed == ACTUAL}
    for book in books:
        fixed = book.day in actual or book.day - 1 in actual or book.day == state.floor
        point.books[book.day] = _book(book, fixed)
        _keep_values(point.reference, book)
    return point


def _packed_book(day: int, book: Book, point: Point) -> bytes:
    """The bytes of `_BookState`."""
    more = None
    if book.rejected or book.flagged or book.tolerances or book.shown or book.deemed_wh is not None or _rare(book):
        places = tuple((*key, standing) for key, standing in book.places.items())
        more = _More(
            book.deemed_wh, book.rejected, book.flagged, book.tolerances, tuple(sorted(book.shown)), book.bypass_l, book.read_l,
            places, tuple(sorted(book.withdrawn)),
        )  # fmt: skip
    pieces = book.pieces if book.closed != ACTUAL else ()
    known = point.reference.values_of(day)
    values = [(received_us(value), str(value.mj_per_m3)) for value in known] if known else ()
    start: tuple[int, ...] | None = None
    if book.start is not None:
        before = point.books.get(day - 1)
        follows = book.closed == ACTUAL or day == point.floor or (before is not None and before.closed == ACTUAL)
        start = book.start[:2] if book.start.fixed == follows else (*book.start[:2], int(book.start.fixed))
    packed = book.packed = _encode(
        (day, pieces, start, book.closed, book.closed_l, book.belief(), book.ran, book.failed, values, more)
    )  # fmt: skip
    return packed


def _rare(book: Book) -> bool:
    return bool(book.bypass_l or book.places or book.withdrawn) or book.read_l is not None


def _keep_values(reference: Reference, book: _BookState) -> None:
    registered = reference.of(book.day)
    if registered is not None and book.values:
        reference.values[registered.ldz, book.day] = [
            CalorificValue(
                ldz=registered.ldz, gas_day=date.fromordinal(book.day), mj_per_m3=Decimal(value.mj_per_m3),
                received_at=to_datetime(value.received_us),
            )
            for value in book.values
        ]  # fmt: skip


def _book(state: _BookState, fixed: bool) -> Book:
    book = Book()
    book.pieces = list(state.pieces)
    if state.start is not None:
        at_us, ticks, *rare = state.start
        book.start = Standing(at_us, ticks, bool(rare[0]) if rare else fixed)
    book.closed, book.closed_l = state.closed, state.closed_l
    book.valid, book.valid_at_us, book.by_11, book.determined, book.determined_l, book.since_us = state.belief
    book.ran, book.failed = state.ran, state.failed
    if state.more is not None:
        more = state.more
        book.deemed_wh, book.rejected, book.flagged = more.deemed_wh, more.rejected, more.flagged
        book.tolerances, book.shown = more.tolerances, frozenset(more.shown)
        book.bypass_l, book.read_l, book.withdrawn = more.bypass_l, more.read_l, frozenset(more.withdrawn)
        book.places = {(meter, place): standing for meter, place, standing in more.places}
    if not book.pieces:  # of a Day closed out as actual they were left behind
        book.batch = Judged({}, (), book.ran, book.failed, book.tolerances)
    return book
