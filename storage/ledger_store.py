"""The ledger's store: for every key the record that stands, written from the `ledger` topic and read back by key.

A message says on which frame of facts it rests. For one key the greatest offset stands, whatever the order in which
messages come, so that a worker which was paused and wakes up late changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Protocol

from metering.ledger import AnyRecord, Key
from metering.messages import LedgerMessage

KEY_LENGTHS = {"day": 3, "reconciliation": 4, "rejected": 6, "tolerance": 4, "check_read": 3, "read_error": 4}


class BadMessage(ValueError):
    """The message is no record and no void of a record that we know."""


class LedgerStore(Protocol):
    """What all ledger stores do. A store has one caller at a time."""

    def write(self, messages: Sequence[LedgerMessage]) -> None:
        """Takes the messages in. Per key the greatest offset stands; at an equal offset the later message replaces.

        A void takes the record away. Durable when it returns; where it raises, the same messages may be written again.
        Raises BadMessage, before anything is written, where one of them has no key that we know.
        """

    def records(
        self, meter_point: str | None = None, first_day: date | None = None, last_day: date | None = None
    ) -> Iterator[AnyRecord]:
        """The records that stand, sorted by key, of that meter point, of Gas Days `first_day` to `last_day` inclusive."""

    def close(self) -> None:
        """Closes the store; to be called once."""


def check(message: LedgerMessage) -> None:
    """Raises BadMessage unless the message is either a record or the void of a key of ours."""
    if (message.record is None) == (message.void is None):
        raise BadMessage("neither a record nor a void, or both")
    key = message.key
    if not key or len(key) != KEY_LENGTHS.get(key[0]):
        raise BadMessage(f"void of {key!r}, which is no key of a record")
    if not _is_day(key[2]):
        raise BadMessage(f"void of {key!r}, whose Gas Day is no date")


def latest(messages: Iterable[LedgerMessage]) -> dict[Key, LedgerMessage]:
    """Of each key the message that stands among these; BadMessage where one has no key that we know."""
    standing: dict[Key, LedgerMessage] = {}
    for message in messages:
        check(message)
        _take(standing, message)
    return standing


def _take(standing: dict[Key, LedgerMessage], message: LedgerMessage) -> None:
    key = message.key
    before = standing.get(key)
    if before is None or message.offset >= before.offset:
        standing[key] = message


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


class MemoryLedgerStore:
    """The ledger in memory, for runs that end with the process."""

    def __init__(self) -> None:
        self._standing: dict[Key, LedgerMessage] = {}

    def write(self, messages: Sequence[LedgerMessage]) -> None:
        for message in latest(messages).values():
            _take(self._standing, message)

    def records(
        self, meter_point: str | None = None, first_day: date | None = None, last_day: date | None = None
    ) -> Iterator[AnyRecord]:
        first, last = (first_day or date.min).isoformat(), (last_day or date.max).isoformat()
        for key in sorted(self._standing):
            record = self._standing[key].record
            if record is not None and meter_point in (None, key[1]) and first <= key[2] <= last:
                yield record

    def close(self) -> None:
        self._standing.clear()
