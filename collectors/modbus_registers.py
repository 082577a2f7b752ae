"""Registers to values and back, after a register map; which registers to ask for. Pure: no I/O, no clock.

The collectors decode with it and the simulators encode with it, so that the two cannot drift apart. Instants here are
whole seconds since 1970 (UTC), `*_s`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from collectors.modbus_maps import WORDS, Archive, Instant, Number, RegisterMap, StatusWord, WordOrder
from metering.facts import Status


class BadRegisters(ValueError):
    """The registers hold what this make of meter cannot say; the message has the place and the value."""


class Span(NamedTuple):
    """`length` registers from `first` on: one request."""

    first: int
    length: int


class Header(NamedTuple):
    """What a meter says of itself, and how far its archive reaches. Instants in seconds; None: the archive is empty."""

    clock_s: int
    status: tuple[Status, ...]
    newest: int
    stored: int
    newest_at_s: int | None


class ArchiveRecord(msgspec.Struct, frozen=True):
    """One record of the archive; a count is None where the meter has no value for it."""

    at_s: int
    index: int | None
    unconverted: int | None
    own_index: int | None
    status: tuple[Status, ...]


class Words:
    """The registers of an answer, by their address."""

    def __init__(self, spans: Iterable[tuple[int, Sequence[int]]], order: WordOrder) -> None:
        self._spans = list(spans)
        self._order = order

    def unsigned(self, address: int, words: int) -> int:
        value = 0
        for word in self.at(address, words) if self._order == "big" else reversed(self.at(address, words)):
            value = value << 16 | word
        return value

    def at(self, address: int, count: int) -> Sequence[int]:
        for first, registers in self._spans:
            if first <= address and address + count <= first + len(registers):
                return registers[address - first : address - first + count]
        raise BadRegisters(f"register {address}: not in the answer")


def header_spans(map_: RegisterMap) -> list[Span]:
    """The requests for clock, status and the archive's state, as few as the map allows."""
    archive = map_.archive
    parts: tuple[Number | Instant | StatusWord, ...] = (
        map_.clock, map_.status, archive.newest, archive.stored, archive.newest_at,
    )  # fmt: skip
    return merged([Span(part.address, WORDS[part.type]) for part in parts], map_.max_count, map_.max_gap)


def merged(spans: Iterable[Span], max_count: int, max_gap: int) -> list[Span]:
    """Join spans that touch, overlap or lie at most `max_gap` registers apart, up to `max_count` registers."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined:
            last = joined[-1]
            end = max(last.first + last.length, span.first + span.length)
            if span.first - (last.first + last.length) <= max_gap and end - last.first <= max_count:
                joined[-1] = Span(last.first, end - last.first)
                continue
        joined.append(span)
    return joined


def record_spans(archive: Archive, position: int, records: int, max_count: int) -> list[Span]:
    """The requests for `records` records from `position` on, round the ring; none cuts a record in two."""
    per_request = max_count // archive.record_registers
    spans = []
    while records > 0:
        taken = min(records, per_request, archive.capacity - position)
        spans.append(Span(archive.address + position * archive.record_registers, taken * archive.record_registers))
        position = (position + taken) % archive.capacity
        records -= taken
    return spans


def header_of(words: Words, map_: RegisterMap) -> Header:
    """Raises BadRegisters where the archive's state or an instant cannot be."""
    archive = map_.archive
    newest, stored = _count(words, archive.newest, 0), _count(words, archive.stored, 0)
    if not 0 <= (stored or 0) <= archive.capacity or newest is None or stored is None:
        raise BadRegisters(f"register {archive.stored.address}: {stored} records stored, at most {archive.capacity} fit")
    if stored and newest >= archive.capacity:
        raise BadRegisters(f"register {archive.newest.address}: newest record at {newest} of {archive.capacity}")
    return Header(
        clock_s=instant_s(words, map_.clock),
        status=_flags(words, map_.status, 0),
        newest=newest,
        stored=stored,
        newest_at_s=instant_s(words, archive.newest_at) if stored else None,
    )


def records_of(words: Words, archive: Archive, spans: Iterable[Span]) -> list[ArchiveRecord]:
    """The records in the answers to `record_spans`, in their order."""
    size = archive.record_registers
    return [
        _record(words, archive, base)
        for span in spans
        for base in range(span.first, span.first + span.length, size)
    ]  # fmt: skip


def _record(words: Words, archive: Archive, base: int) -> ArchiveRecord:
    return ArchiveRecord(
        at_s=instant_s(words, archive.at, base),
        index=_count(words, archive.index, base),
        unconverted=_count(words, archive.unconverted, base) if archive.unconverted else None,
        own_index=_count(words, archive.own_index, base) if archive.own_index else None,
        status=_flags(words, archive.status, base) if archive.status else (),
    )


def _count(words: Words, number: Number, base: int) -> int | None:
    value = words.unsigned(base + number.address, WORDS[number.type])
    if value == number.missing:
        return None
    if number.limit is not None and value > number.limit:
        raise BadRegisters(f"register {base + number.address}: {value} is above {number.limit}")
    return value * number.ticks


def _flags(words: Words, status: StatusWord, base: int) -> tuple[Status, ...]:
    word = words.unsigned(base + status.address, 1)
    return tuple(sorted({name for bit, name in status.bits.items() if word >> int(bit) & 1}))


def instant_s(words: Words, instant: Instant, base: int = 0) -> int:
    """The instant in these registers, in seconds since 1970. Raises BadRegisters where there is no such date."""
    if instant.type == "unix_u32":
        return words.unsigned(base + instant.address, 2) - instant.utc_offset_s
    year, month, day, hour, minute, second = words.at(base + instant.address, 6)
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise BadRegisters(f"register {base + instant.address}: {error}") from error
    return int(local.timestamp()) - instant.utc_offset_s


def instant_words(at_s: int, instant: Instant, order: WordOrder) -> list[int]:
    """The registers that say this instant."""
    if instant.type == "unix_u32":
        return number_words(at_s + instant.utc_offset_s, 2, order)
    local = datetime.fromtimestamp(at_s, UTC) + timedelta(seconds=instant.utc_offset_s)
    return [local.year, local.month, local.day, local.hour, local.minute, local.second]


def number_words(value: int, words: int, order: WordOrder) -> list[int]:
    """The registers that say this unsigned number."""
    most_first = [value >> 16 * n & 0xFFFF for n in reversed(range(words))]
    return most_first if order == "big" else most_first[::-1]


def count_words(ticks: int | None, number: Number, order: WordOrder) -> list[int]:
    """The registers of a count of ticks; None is written as the map's `missing`."""
    words = WORDS[number.type]
    if ticks is None:
        return number_words((1 << 16 * words) - 1 if number.missing is None else number.missing, words, order)
    return number_words(ticks // number.ticks, words, order)


def flags_word(names: Iterable[str], status: StatusWord) -> int:
    """The word with the bits of these statuses."""
    wanted = set(names)
    return sum(1 << int(bit) for bit, name in status.bits.items() if name in wanted)
