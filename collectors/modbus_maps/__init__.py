"""Register maps: what stands where in a make of meter, as data.

A map is a TOML file in this folder (or a path of one's own in the configuration). It says in which registers the clock, the
status word and the archive of past records are, in which word order, how one archive record is laid out, and where interval
and clock are set. A new make is a new file, no code. Addresses are those on the wire, counted from 0. See `modbus.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from collectors.os_error import in_words
from metering.facts import Status
from metering.limits import Digits

Address = Annotated[int, Meta(ge=0, le=65535)]
Table = Literal["holding", "input"]
WordOrder = Literal["big", "little"]
WriteFunction = Literal[6, 16]
NumberType = Literal["u16", "u32", "u64", "bcd32", "bcd64", "f32", "f64"]
InstantType = Literal["unix_u32", "ymdhms", "bcd_ymdhms"]
WORDS: dict[str, int] = {
    "u16": 1, "u32": 2, "u64": 4, "bcd32": 2, "bcd64": 4, "f32": 2, "f64": 4, "unix_u32": 2, "ymdhms": 6, "bcd_ymdhms": 3,
}  # fmt: skip


class MapError(ValueError):
    """A register map cannot be used; names the file or the field, and what is allowed."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Number(_Part, frozen=True, kw_only=True):
    """A number that is not negative; `address` counts from the record's first register inside an archive.

    `ticks` is how many ticks of the register one count is worth; `missing` is the count that stands for "no value" (as an
    unsigned number, whatever the type; a float that is none stands for it too); a count above `limit` is no answer of this
    meter. A float is cut down to whole ticks.
    """

    address: Address
    type: NumberType
    ticks: Annotated[int, Meta(ge=1)] = 1
    missing: int | None = None
    limit: int | None = None


class Instant(_Part, frozen=True, kw_only=True):
    """A date and time: seconds since 1970 (UTC); six registers year (four digits), month, day, hour, minute, second; or the
    same in three registers, two decimal digits a byte, with a year of two digits (20xx).

    `utc_offset_s` is that of the meter's clock, which runs without summer time.
    """

    address: Address
    type: InstantType
    utc_offset_s: Annotated[int, Meta(ge=-86400, le=86400)] = 0


class StatusWord(_Part, frozen=True, kw_only=True):
    """A word of flags: bit number (as a string, 0 the lowest) to the name of the status it reports."""

    address: Address
    bits: dict[str, Status]
    type: Literal["u16"] = "u16"

    def __post_init__(self) -> None:
        for bit in self.bits:
            if not (bit.isascii() and bit.isdecimal() and int(bit) < 16):
                raise ValueError(f"bits: found {bit!r}; allowed: the number of a bit, 0 to 15")


class Window(_Part, frozen=True, kw_only=True):
    """An archive that shows a page at a time: the position of the first record wanted is written to `select` (a holding
    register), and `records` records from there on are then at the archive's address. `shows`: the register, right before the
    archive's address, that says which position that is, so that a page which is not there yet is not taken for it.
    """

    select: Address
    shows: Address
    records: Annotated[int, Meta(ge=1)]
    function: WriteFunction = 16


class IntervalSetting(_Part, frozen=True, kw_only=True):
    """The holding registers in which the equipment has its recording interval, in units of `unit_s` seconds (M4.1.3)."""

    address: Address
    type: Literal["u16", "u32"] = "u16"
    unit_s: Annotated[int, Meta(ge=1)] = 1
    min_s: Annotated[int, Meta(ge=1)]
    max_s: Annotated[int, Meta(ge=1)]
    function: WriteFunction = 16

    def __post_init__(self) -> None:
        if self.function == 6 and self.type != "u16":
            raise ValueError("interval: function 6 writes one register; allowed with u32: 16")


class ClockSetting(Instant, frozen=True, kw_only=True):
    """The holding registers to which the time is written, all in one request."""


class Archive(_Part, frozen=True, kw_only=True):
    """Records, each `record_registers` long, from `address` on, `capacity` of them.

    `order`: a `ring`, in which `newest` holds the position (from 0) of the youngest record; or `newest_first`, in which that
    is always the first, and all move on by one. `stored`: how many there are; `newest_at`: the youngest one's instant.
    `interval_s`: how far apart they are, where the map has no register for it.
    `at`, `index`, `unconverted`, `own_index` (the meter's own) and `status` are places in a record. `own_digits` and
    `own_m3_per_tick` are those of the meter's own index, where they differ from the register's.
    """

    address: Address
    capacity: Annotated[int, Meta(ge=1)]
    record_registers: Annotated[int, Meta(ge=1, le=125)]
    interval_s: Annotated[int, Meta(ge=60)] = 3600
    order: Literal["ring", "newest_first"] = "ring"
    window: Window | None = None
    newest: Number | None = None
    stored: Number
    newest_at: Instant
    at: Instant
    index: Number
    unconverted: Number | None = None
    own_index: Number | None = None
    own_digits: Digits | None = None
    own_m3_per_tick: Decimal | None = None
    status: StatusWord | None = None

    def __post_init__(self) -> None:
        shown = self.window.records if self.window else self.capacity
        if self.address + shown * self.record_registers > 65536:
            raise ValueError("archive: its records end after register 65535")
        if self.window and self.window.shows != self.address - 1:
            raise ValueError(f"archive: window.shows is {self.window.shows}; allowed: {self.address - 1}, before its address")
        if (self.newest is None) != (self.order == "newest_first"):
            raise ValueError('archive: `newest` is for order = "ring", which needs it')
        end = 0
        for address, words, name in sorted(self._parts()):
            if address < end:
                raise ValueError(f"archive: {name} and another part of a record share register {address}")
            end = address + words
            if end > self.record_registers:
                raise ValueError(f"archive: {name} is beyond the record's {self.record_registers} registers")

    def _parts(self) -> Iterator[tuple[int, int, str]]:
        for name in ("at", "index", "unconverted", "own_index", "status"):
            part = getattr(self, name)
            if part is not None:
                yield part.address, WORDS[part.type], name


class RegisterMap(_Part, frozen=True, kw_only=True):
    """One make of meter. `max_count` registers at most in a request; a gap of up to `max_gap` registers is read with.

    `pause_s`: how long the line must be silent before a question. `interval` and `set_clock`: where these are set from afar;
    without them they are not.
    """

    title: str
    table: Table = "holding"
    word_order: WordOrder = "big"
    max_count: Annotated[int, Meta(ge=1, le=125)] = 125
    max_gap: Annotated[int, Meta(ge=0)] = 8
    pause_s: Annotated[float, Meta(ge=0, le=10)] = 0.0
    clock: Instant
    status: StatusWord
    interval: IntervalSetting | None = None
    set_clock: ClockSetting | None = None
    archive: Archive

    def other_intervals(self, interval_s: int) -> str:
        """Empty where readings every `interval_s` can be had of this meter; else which can."""
        if self.interval is None:
            return f"multiples of {self.archive.interval_s}" if interval_s % self.archive.interval_s else ""
        if interval_s % self.interval.unit_s or interval_s < self.interval.min_s:
            return f"multiples of {self.interval.unit_s} from {self.interval.min_s} on"
        return ""

    def __post_init__(self) -> None:
        if self.archive.record_registers > self.max_count:
            raise ValueError(f"max_count: a record has {self.archive.record_registers} registers, more than {self.max_count}")
        window = self.archive.window
        if window and 1 + window.records * self.archive.record_registers > self.max_count:
            raise ValueError(f"max_count: a page of the archive has more than {self.max_count} registers")


@cache
def register_map(name: str) -> RegisterMap:
    """The map of this name in this folder, or, where `name` ends in `.toml`, of that file. Raises MapError."""
    try:
        text = Path(name).read_text() if name.endswith(".toml") else (files(__name__) / f"{name}.toml").read_text()
    except OSError as error:
        if name.endswith(".toml"):
            raise MapError(f'found "{name}", which cannot be read: {in_words(error)}') from error
        allowed = f"{', '.join(known())}, or the path of a .toml file"
        raise MapError(f'found "{name}", which is no register map; allowed: {allowed}') from error
    except UnicodeDecodeError as error:
        raise MapError(f'found "{name}", which is not UTF-8 text; allowed: a TOML file') from error
    try:
        return msgspec.toml.decode(text, type=RegisterMap)
    except (msgspec.DecodeError, ValueError) as error:
        raise MapError(f'found "{name}", which is no register map: {error}') from error


def known() -> list[str]:
    """The names of the maps that come with the project."""
    return sorted(entry.name.removesuffix(".toml") for entry in files(__name__).iterdir() if entry.name.endswith(".toml"))
