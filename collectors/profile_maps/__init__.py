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

import msgspec


class ProfileMapError(ValueError):
    """A profile map cannot be used; names the file or the field, and what is allowed."""


class ProfileMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`m3_per_tick` is of the register behind `index_code` and of the reference. `clock`: what the meter's time is.

    `password_file` (relative to the map's own folder) holds the password, where the meter wants one.
    """

    title: str
    m3_per_tick: Decimal
    index_code: str = "7-0:13.0.0"
    unconverted_code: str | None = None
    unconverted_m3_per_tick: Decimal | None = None
    reference_code: str | None = "7-0:3.0.0"
    clock: Literal["utc", "local"] = "local"
    zone: str = "Europe/London"
    baud_max: int = 9600
    partial_blocks: bool = False
    password_file: str | None = None

    def __post_init__(self) -> None:
        if self.m3_per_tick <= 0:
            raise ValueError(f"m3_per_tick: {self.m3_per_tick} is not a number above 0")
        if (self.unconverted_code is None) != (self.unconverted_m3_per_tick is None):
            raise ValueError("unconverted_code: and `unconverted_m3_per_tick` belong together")


@cache
def profile_map(name: str) -> ProfileMap:
    """The map of this name in this folder, or, where `name` ends in `.toml`, of that file. Raises ProfileMapError."""
    own = name.endswith(".toml")
    try:
        text = Path(name).read_text() if own else (files(__name__) / f"{name}.toml").read_text()
        found = msgspec.toml.decode(text, type=ProfileMap, strict=False)
    except OSError as error:
        raise ProfileMapError(
            f"map: no profile map {name!r}; known are {', '.join(known())}, or a path to a .toml file"
        ) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ProfileMapError(f"map {name!r}: {error}") from error
    if own and found.password_file is not None:
        return msgspec.structs.replace(found, password_file=str(Path(name).parent / found.password_file))
    return found


def known() -> list[str]:
    """The names of the maps that come with the project."""
    return sorted(entry.name.removesuffix(".toml") for entry in files(__name__).iterdir() if entry.name.endswith(".toml"))
