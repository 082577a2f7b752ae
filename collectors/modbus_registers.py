"""Registers to values and back, after a register map; which registers to ask for. Pure: no I/O, no clock.

The collectors decode with it and the simulators encode with it, so that the two cannot drift apart. Instants here are
whole seconds since 1970 (UTC), `*_s`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

import msgspec

from collectors.modbus_maps import WORDS, Archive, Instant, IntervalSetting, Number, RegisterMap, StatusWord, WordOrder
from metering.facts import Status
from metering.limits import FIRST_YEAR, INTEGER_MAX, INTERVAL_S_MAX, YEAR_AFTER

FORMAT = {
    "u16": "H", "u32": "I", "u64": "Q", "bcd32": "I", "bcd64": "Q", "f32": "I", "f64": "Q", "unix_u32": "I",
    "ymdhms": "6H", "bcd_ymdhms": "3H",
}  # fmt: skip
FLOATS = {"f32": (">f", 24), "f64": (">d", 53)}  # format, bits of the significand
INTERVAL_S_MIN = 60


class BadRegisters(ValueError):
    """The registers hold what this make of meter cannot say; the message has the place and the value."""


class Span(NamedTuple):
    """`length` registers from `first` on: one request."""

    first: int
    length: int


class Header(NamedTuple):
    """What a meter says of itself, and how far its archive reaches. Instants in seconds; None: the archive is empty.

    `newest`: the newest record's position; `interval_s`: how far apart records are now.
    """

    clock_s: int
    status: tuple[Status, ...]
    newest: int
    stored: int
    newest_at_s: int | None
    interval_s: int


class ArchiveRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of the archive; a count is None where the meter has no value for it."""

    at_s: int
    index: int | None
    unconverted: int | None
    own_index: int | None
    status: tuple[Status, ...]


class Words:
    """The registers of one answer, from `first` on, as the numbers that the word order makes of them.

    With the least significant word first they are kept in reverse, so that a number is always a run of big-endian bytes.
    """

    def __init__(self, first: int, registers: Sequence[int], order: WordOrder) -> None:
        self.first, self.count = first, len(registers)
        self.reversed = order == "little"
        self.data = struct.pack(f">{self.count}H", *(reversed(registers) if self.reversed else registers))

    def holds(self, address: int, words: int) -> bool:
        """Whether the words from `address` on are in the answer."""
        return self.first <= address and address + words <= self.first + self.count

    def bytes_at(self, address: int, words: int) -> bytes:
        """The words from `address` on, the most significant first."""
        offset = address - self.first
        if offset < 0 or offset + words > self.count:
            raise BadRegisters(f"register {address}: not in the answer")
        if self.reversed:
            offset = self.count - offset - words
        return self.data[2 * offset : 2 * (offset + words)]

    def unsigned(self, address: int, words: int) -> int:
        """The unsigned number in the words from `address` on."""
        return int.from_bytes(self.bytes_at(address, words), "big")


def header_spans(map_: RegisterMap, with_status: bool = True) -> list[Span]:
    """The requests for clock, status and the archive's state (and the interval, where it is in the same table), as few as the
    map allows. Without the status: nor over its register."""
    archive = map_.archive
    parts: tuple[Number | Instant | StatusWord | IntervalSetting | None, ...] = (
        map_.clock, map_.status if with_status else None, archive.newest, archive.stored, archive.newest_at,
        map_.interval if map_.table == "holding" else None,
    )  # fmt: skip
    spans = [Span(part.address, WORDS[part.type]) for part in parts if part]
    return merged(spans, map_.max_count, map_.max_gap if with_status else 0)


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


def header_of(answers: Sequence[Words], map_: RegisterMap, interval: Words | None = None) -> Header:
    """From the answers to `header_spans`, and that about the interval where it is in another table. Raises BadRegisters where
    the archive's state or an instant cannot be."""
    archive = map_.archive
    stored = _count(_holding(answers, archive.stored.address), archive.stored)
    newest = _count(_holding(answers, archive.newest.address), archive.newest) if archive.newest else 0
    if newest is None or stored is None or stored > archive.capacity:
        raise BadRegisters(f"register {archive.stored.address}: {stored} records stored, at most {archive.capacity} fit")
    if stored and archive.newest and newest >= archive.capacity:
        raise BadRegisters(f"register {archive.newest.address}: newest record at {newest} of {archive.capacity}")
    setting, interval_s = map_.interval, archive.interval_s
    if setting is not None:
        interval_s = interval_of(interval or _holding(answers, setting.address), setting)
    return Header(
        clock_s=instant_s(_holding(answers, map_.clock.address), map_.clock),
        status=_status(answers, map_.status),
        newest=newest,
        stored=stored,
        newest_at_s=instant_s(_holding(answers, archive.newest_at.address), archive.newest_at) if stored else None,
        interval_s=interval_s,
    )


def _status(answers: Sequence[Words], status: StatusWord) -> tuple[Status, ...]:
    """What the status word says; nothing where it was not read."""
    words = next((words for words in answers if words.first <= status.address < words.first + words.count), None)
    return () if words is None else Flags(status).names(words.unsigned(status.address, 1))


def interval_of(words: Words, setting: IntervalSetting) -> int:
    """The recording interval in these registers, in seconds. Raises BadRegisters where it is none."""
    interval_s = words.unsigned(setting.address, WORDS[setting.type]) * setting.unit_s
    if not INTERVAL_S_MIN <= interval_s <= INTERVAL_S_MAX:
        raise BadRegisters(f"register {setting.address}: an interval of {interval_s} s")
    return interval_s


def _holding(answers: Sequence[Words], address: int) -> Words:
    for words in answers:
        if words.first <= address < words.first + words.count:
            return words
    raise BadRegisters(f"register {address}: not in the answer")


class Flags:
    """A status word's bits as names; what was seen once is looked up."""

    def __init__(self, status: StatusWord) -> None:
        self._bits = {1 << int(bit): name for bit, name in status.bits.items()}
        self._seen: dict[int, tuple[Status, ...]] = {0: ()}

    def names(self, word: int) -> tuple[Status, ...]:
        """The names of the bits that are set, in order; bits without a name mean nothing to us."""
        found = self._seen.get(word)
        if found is None:
            found = self._seen[word] = tuple(sorted({name for bit, name in self._bits.items() if word & bit}))
        return found


class RecordDecoder:
    """Takes the records of an archive out of answers: a record is one packed structure, read from its most significant end."""

    def __init__(self, archive: Archive, order: WordOrder) -> None:
        self._archive = archive
        self._flags = Flags(archive.status) if archive.status else None
        size, end, values, packed = archive.record_registers, 0, 0, ">"
        self._place: dict[str, int] = {}  # of each part's first value in the unpacked structure
        for offset, words, name, type_ in sorted(_parts(archive, order)):
            packed += f"{2 * (offset - end)}x{FORMAT[type_]}"
            self._place[name] = values
            values, end = values + (words if type_.endswith("ymdhms") else 1), offset + words
        self._packed = struct.Struct(f"{packed}{2 * (size - end)}x")
        self._counts = [self._count_of(name) for name in ("index", "unconverted", "own_index")]

    def records(self, answers: Iterable[Words]) -> list[ArchiveRecord]:
        """The records in the answers to `record_spans`, in their order. Raises BadRegisters."""
        found: list[ArchiveRecord] = []
        for words in answers:
            records = [self._record(values, words) for values in self._packed.iter_unpack(words.data)]
            found += reversed(records) if words.reversed else records
        return found

    def _record(self, values: tuple[int, ...], words: Words) -> ArchiveRecord:
        archive, place = self._archive, self._place
        at = values[place["at"] :]
        index, unconverted, own_index = self._counts
        return ArchiveRecord(
            at[0] - archive.at.utc_offset_s
            if archive.at.type == "unix_u32"
            else _calendar_s(at[: WORDS[archive.at.type]], words, archive.at),
            index and index(values),
            unconverted and unconverted(values),
            own_index and own_index(values),
            self._flags.names(values[place["status"]]) if self._flags else (),
        )

    def _count_of(self, name: str) -> Callable[[tuple[int, ...]], int | None] | None:
        """What takes a count out of a record's values. Most are whole ticks as they stand, and not looked into further."""
        number: Number | None = getattr(self._archive, name)
        if number is None:
            return None
        place, below = self._place[name], _sound_below(number)

        def count(values: tuple[int, ...]) -> int | None:
            raw = values[place]
            return raw if raw < below else _checked(raw, number)

        return count


def _parts(archive: Archive, order: WordOrder) -> Iterator[tuple[int, int, str, str]]:
    """Where each part of a record is, in registers from its most significant end: (offset, length, name, type)."""
    for name in ("at", "index", "unconverted", "own_index", "status"):
        part = getattr(archive, name)
        if part is not None:
            words = WORDS[part.type]
            offset = part.address if order == "big" else archive.record_registers - part.address - words
            yield offset, words, name, part.type


def _sound_below(number: Number) -> int:
    """Below this every value is its own number of ticks, and allowed; 0: none is."""
    if number.ticks != 1 or number.type in FLOATS or number.type.startswith("bcd"):
        return 0
    ends = (INTEGER_MAX, number.missing, None if number.limit is None else number.limit + 1)
    return min(end for end in ends if end is not None)


def _checked(raw: int, number: Number) -> int | None:
    """Ticks, from the unsigned number in the registers."""
    if raw == number.missing:
        return None
    value: int | Fraction | None = raw
    if number.type in FLOATS:
        value = _float(raw, number)
    elif number.type.startswith("bcd"):
        value = _decimal_digits(raw, WORDS[number.type], number.address)
    if value is None:
        return None
    if number.limit is not None and value > number.limit:
        raise BadRegisters(f"register {number.address}: {value} is above {number.limit}")
    ticks = math.floor(value * number.ticks)
    exact = 1 << FLOATS[number.type][1] if number.type in FLOATS else INTEGER_MAX
    if ticks >= exact:
        raise BadRegisters(f"register {number.address}: {ticks} ticks are more than it can say exactly")
    return ticks


def _float(raw: int, number: Number) -> Fraction | None:
    """The float's value, and a last bit more: what stands for 0.3 may be a little less. None where it is no number."""
    form, bits = FLOATS[number.type]
    value = struct.unpack(form, raw.to_bytes(2 * WORDS[number.type], "big"))[0]
    if math.isnan(value):
        return None
    if value < 0 or math.isinf(value):
        raise BadRegisters(f"register {number.address}: {value}, which is no count")
    return Fraction(value) * (1 + Fraction(1, 1 << bits))


def _decimal_digits(raw: int, words: int, address: int) -> int:
    digits = f"{raw:0{4 * words}x}"
    if not digits.isdecimal():
        raise BadRegisters(f"register {address}: 0x{digits}, which is no decimal number")
    return int(digits)


def _count(words: Words, number: Number) -> int | None:
    return _checked(words.unsigned(number.address, WORDS[number.type]), number)


def instant_s(words: Words, instant: Instant) -> int:
    """The instant in these registers, in seconds since 1970. Raises BadRegisters where there is no such date."""
    count = WORDS[instant.type]
    if instant.type == "unix_u32":
        return words.unsigned(instant.address, count) - instant.utc_offset_s
    return _calendar_s(struct.unpack(f">{count}H", words.bytes_at(instant.address, count)), words, instant)


def _calendar_s(registers: Sequence[int], words: Words, instant: Instant) -> int:
    fields = [*reversed(registers)] if words.reversed else [*registers]
    if instant.type == "bcd_ymdhms":
        fields = [_decimal_digits(byte, 1, instant.address) for word in fields for byte in divmod(word, 256)]
        fields[0] += 2000
    try:
        year, month, day, hour, minute, second = fields
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise BadRegisters(f"register {instant.address}: {error}") from error
    if not FIRST_YEAR <= year < YEAR_AFTER:
        raise BadRegisters(f"register {instant.address}: the year {year}")
    return int(local.timestamp()) - instant.utc_offset_s


def instant_words(at_s: int, instant: Instant, order: WordOrder) -> list[int]:
    """The registers that say this instant."""
    if instant.type == "unix_u32":
        return number_words(at_s + instant.utc_offset_s, 2, order)
    local = datetime.fromtimestamp(at_s, UTC) + timedelta(seconds=instant.utc_offset_s)
    if instant.type == "bcd_ymdhms":
        digits = f"{local:%y%m%d%H%M%S}"
        return [int(digits[n : n + 4], 16) for n in (0, 4, 8)]
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
    if number.type in FLOATS:
        raw = int.from_bytes(struct.pack(FLOATS[number.type][0], ticks / number.ticks), "big")
    elif number.type.startswith("bcd"):
        raw = int(str(ticks // number.ticks), 16)
    else:
        raw = ticks // number.ticks
    return number_words(raw, words, order)


def flags_word(names: Iterable[str], status: StatusWord) -> int:
    """The word with the bits of these statuses."""
    wanted = set(names)
    return sum(1 << int(bit) for bit, name in status.bits.items() if name in wanted)
