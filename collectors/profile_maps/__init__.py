"""Profile maps: what the channels of a make of IEC 62056-21 meter are, as data.

A map is a TOML file in this folder, or a path of one's own in the configuration (`map = "/etc/dailyread/boiler-house.toml"`).
It says which codes of the load profile are the index, the unconverted index and the meter's own, what a tick of them is
worth, and how the meter keeps time.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from collectors.os_error import in_words
from metering.facts import Status


class ProfileMapError(ValueError):
    """A profile map cannot be used; names the file or the field, and what is allowed."""


class Archive(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An archive of the LIS200 series. Columns count from 1.

    `columns`: where the values of a code are; `time_column`: where a row's time is, by which rows are asked for, `rows` at a
    time. `check_column`: rows that do not say `CRC Ok` there are missing. `status_column` holds numbers of messages, of which
    `messages` says what they are. `nothing`: the error by which the equipment says that it has no rows of that time.
    """

    number: int = 3
    columns: dict[str, int]
    time_column: int = 3
    check_column: int | None = None
    status_column: int | None = None
    messages: dict[str, Status] = {}
    rows: int = 10
    nothing: str | None = None

    def __post_init__(self) -> None:
        for key in ("number", "rows"):
            if not 1 <= getattr(self, key) <= 99:
                raise ValueError(f"archive.{key}: found {getattr(self, key)}; allowed: 1 to 99")
        places = [self.time_column, self.check_column, self.status_column, *self.columns.values()]
        if wrong := [place for place in places if place is not None and not 1 <= place <= 99]:
            raise ValueError(f"archive: found the column {wrong[0]}; allowed: 1 to 99")


class ProfileMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`m3_per_tick` is of the register behind `index_code` and of the reference. `clock`: what the meter's time is.

    `log`: what a Day is read from: `profile` (`P.01`), `lis200` (an `archive`), or `readout`, what the meter reads out of
    itself: of its stored values of `stored_code` those that have their time beside them, and the present ones.
    `password_file` (relative to the map's own folder) holds the password, where the meter wants one: for P1 or P2
    (`password_level`), or written to the register `lock_code`.
    `formatted`: whether values are read and written by R5 and W5, or by R1 and W1, as LIS200 does.
    `interval_code`, in `interval_unit_s`: the register of the recording interval, where it may be set.
    `clock_code`: the register of date and time, where there is one; 0.9.2 and 0.9.1 where there is not.
    """

    title: str
    m3_per_tick: Decimal
    index_code: str = "7-0:13.0.0"
    unconverted_code: str | None = None
    unconverted_m3_per_tick: Decimal | None = None
    reference_code: str | None = "7-0:3.0.0"
    clock: Literal["utc", "local"] = "local"
    zone: str = "Europe/London"
    baud_max: Literal[300, 600, 1200, 2400, 4800, 9600, 19200] = 9600
    partial_blocks: bool = False
    password_file: str | None = None
    password_level: Literal[1, 2] = 1
    lock_code: str = ""
    wake_up: bool = False
    log: Literal["profile", "lis200", "readout"] = "profile"
    archive: Archive | None = None
    stored_code: str | None = None
    formatted: bool = True
    interval_code: str | None = None
    interval_unit_s: Literal[1, 60, 3600] = 60
    clock_code: str | None = None
    clock_may_be_set: bool = False

    def __post_init__(self) -> None:
        if self.m3_per_tick <= 0:
            raise ValueError(f"m3_per_tick: {self.m3_per_tick} is not a number above 0")
        if (self.unconverted_code is None) != (self.unconverted_m3_per_tick is None):
            raise ValueError("unconverted_code: and `unconverted_m3_per_tick` belong together")
        if self.unconverted_m3_per_tick is not None and self.unconverted_m3_per_tick <= 0:
            raise ValueError(f"unconverted_m3_per_tick: {self.unconverted_m3_per_tick} is not a number above 0")
        if (self.archive is None) == (self.log == "lis200"):
            raise ValueError('archive: belongs to `log = "lis200"`, and to that alone')
        if self.archive is not None and self.index_code not in self.archive.columns:
            raise ValueError(f"archive.columns: no column of `index_code`, {self.index_code}")
        if self.log == "lis200" and (self.formatted or self.clock_code is None):
            raise ValueError('formatted: must be false with `log = "lis200"`, and `clock_code` be given')
        if self.stored_code is not None and self.log != "readout":
            raise ValueError('stored_code: belongs to `log = "readout"`')
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"zone: found {self.zone!r}; allowed: a time zone's name, as Europe/London") from error

    def password(self) -> str | None:
        """The password in `password_file`; None where there is none. Raises ProfileMapError."""
        if self.password_file is None:
            return None
        try:
            text = Path(self.password_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise ProfileMapError(f'password_file: found "{self.password_file}", which cannot be read: {reason}') from error
        if not text or not text.isascii() or not text.isprintable() or set(text) & set("()"):
            raise ProfileMapError(
                f'password_file: found "{self.password_file}"; allowed: a file of printable ASCII characters but ( and )'
            )
        return text


@cache
def profile_map(name: str) -> ProfileMap:
    """The map of this name in this folder, or, where `name` ends in `.toml`, of that file. Raises ProfileMapError."""
    own = name.endswith(".toml")
    try:
        text = Path(name).read_text() if own else (files(__name__) / f"{name}.toml").read_text()
        found = msgspec.toml.decode(text, type=ProfileMap, strict=False)
    except OSError as error:
        if own:
            raise ProfileMapError(f'found "{name}", which cannot be read: {in_words(error)}') from error
        allowed = f"{', '.join(known())}, or the path of a .toml file"
        raise ProfileMapError(f'found "{name}", which is no profile map; allowed: {allowed}') from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ProfileMapError(f'found "{name}", which is no profile map: {error}') from error
    if own and found.password_file is not None:
        return msgspec.structs.replace(found, password_file=str(Path(name).parent / found.password_file))
    return found


def known() -> list[str]:
    """The names of the maps that come with the project."""
    return sorted(entry.name.removesuffix(".toml") for entry in files(__name__).iterdir() if entry.name.endswith(".toml"))
