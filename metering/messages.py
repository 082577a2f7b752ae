"""Messages that the stream job writes: records on the `ledger` topic, and dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from metering.ledger import AnyRecord, Change, Key, Void
from metering.wire import FrameError

LETTER_PAYLOAD_MAX = 500_000
PLACES_A_LETTER = 5000


class LedgerMessage(msgspec.Struct, array_like=True, frozen=True):
    """A value on the `ledger` topic: a record, or the key of one that no longer holds, and the frame it rests on.

    For one key the message with the greatest `offset` stands, whatever the order in which messages come.
    """

    partition: int
    offset: int
    record: AnyRecord | None = None
    void: Key | None = None

    @classmethod
    def of(cls, change: Change, partition: int, offset: int) -> LedgerMessage:
        """The message of a record or a void."""
        return cls(partition, offset, None, change.key) if isinstance(change, Void) else cls(partition, offset, change)

    @property
    def key(self) -> Key:
        """The record's key."""
        return self.void if self.void is not None else self.record.key() if self.record is not None else ()


class Place(NamedTuple):
    """Facts of one frame that follow one another: the first's number in it and the last's; null, null for the whole frame."""

    offset: int
    first: int | None
    last: int | None


def places_of(stood: Iterable[tuple[int, int | None]]) -> Iterator[Place]:
    """Places of facts by their frame's offset and their number in it; of facts that follow one another, one."""
    place: Place | None = None
    for offset, number in stood:
        if place is not None and place.last is not None and (offset, number) == (place.offset, place.last + 1):
            place = place._replace(last=number)
            continue
        if place is not None:
            yield place
        place = Place(offset, number, number)
    if place is not None:
        yield place


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What could not be used, where it stood, and why. `number` is the fact's place in the frame, null for a whole frame.

    A letter with `places` stands for all that is there, from `offset` on, and has no payload: there were too many for a letter
    each. One with `redriven` says that what stood there was put back.
    """

    topic: str
    partition: int
    offset: int
    number: int | None
    reason: str
    payload: bytes
    places: tuple[Place, ...] = ()
    redriven: bool = False


_decode_ledger = msgspec.msgpack.Decoder(LedgerMessage).decode
_decode_letter = msgspec.json.Decoder(DeadLetter).decode
_encode = msgspec.msgpack.Encoder().encode


def encode_change(change: Change, partition: int, offset: int) -> tuple[bytes, bytes]:
    """Key and value of the `ledger` message for a record or a void, resting on that offset of that `facts` partition."""
    if isinstance(change, Void):
        return encode_key(change.key), _encode(LedgerMessage(partition, offset, None, change.key))
    # The bytes of a LedgerMessage, without making one.
    return "\x1f".join(change.key()).encode(), _encode((partition, offset, change, None))


def decode_change(value: bytes) -> LedgerMessage:
    """The `ledger` message of these bytes; FrameError where they are none."""
    try:
        return _decode_ledger(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"not a ledger message: {error}") from error


def encode_key(key: Key) -> bytes:
    """A record's key as bytes."""
    return "\x1f".join(key).encode()


def decode_dead_letter(value: bytes) -> DeadLetter:
    """The dead letter of these bytes; FrameError where they are none."""
    try:
        return _decode_letter(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"not a dead letter: {error}") from error


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """A dead letter as JSON, for people; the payload in base64, and cut where it would not fit a message."""
    if len(letter.payload) > LETTER_PAYLOAD_MAX:
        reason = f"{letter.reason} (the payload of {len(letter.payload)} bytes is cut)"
        letter = msgspec.structs.replace(letter, reason=reason, payload=letter.payload[:LETTER_PAYLOAD_MAX])
    return msgspec.json.encode(letter)
