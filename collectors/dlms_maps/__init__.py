"""DLMS maps: which objects of a make of DLMS/COSEM meter are what, over which link it is read, and how it wants to be asked.

A map is a TOML file in this folder, or a path of one's own in the configuration (`map = "/etc/dailyread/boiler-house.toml"`).
Secrets are in files of their own beside the map: `password_file` one line, `keys_file` two of 32 hexadecimal digits, the global
encryption key and the authentication key.
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from collectors.dlms_objects import SCALE_MAX, logical_name
from collectors.os_error import in_words
from metering.facts import Status

KEY_DIGITS = 32
TITLE_DIGITS = 16
SENDER, CLOCK_CODE = "0-0:42.0.0", "0-0:1.0.0"  # the logical device name; the clock


class DlmsMapError(ValueError):
    """A DLMS map cannot be used; names the file or the field, and what is allowed."""


class PushLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a notification of this make holds: `objects`, by their OBIS codes, in order; an empty one is passed over.

    `columns`: of the profile, where it is among the objects, in order. A number is 10 to the power of `scaler` m³ (of
    `unconverted_scaler`, in that register); null: a tick. `period_s`: from one row to the next, where a row
    leaves out its time.
    """

    objects: tuple[str, ...]
    columns: tuple[str, ...] = ()
    scaler: int | None = None
    unconverted_scaler: int | None = None
    period_s: int = 3600

    def __post_init__(self) -> None:
        for field in ("objects", "columns"):
            for code in filter(None, getattr(self, field)):
                _check_code(f"push.{field}", code)
        for field in ("scaler", "unconverted_scaler"):
            if abs(getattr(self, field) or 0) > SCALE_MAX:
                raise ValueError(f"push.{field}: found {getattr(self, field)}; allowed: {-SCALE_MAX} to {SCALE_MAX}")
        if not 0 < self.period_s <= 86_400:
            raise ValueError(f"push.period_s: found {self.period_s}; allowed: 1 to 86400")


class DlmsMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`m3_per_tick` is of the register `index` and of the `reference`. Objects are OBIS codes like 7-0:13.2.0.

    `zone`: of a meter whose times do not say their deviation from UTC, or that wants to be asked in local time. `deviation`
    `east`: it counts minutes east of UTC, against the standard. `status_bits`: names of the bits of the object `status`, from
    bit 0. `events`: the log of events, with a column `event_code`, whose numbers `event_codes` names.
    `system_title`: ours, 16 hexadecimal digits. `counter`: where anybody may read the invocation counter.
    `information`: octets in an HDLC frame; null: the default of 128. `sets`: what may be set remotely.
    `selects`: how rows of the profile are asked for. `opening` `mode_e`: a serial line on which IEC 62056-21 is spoken first.
    """

    title: str
    m3_per_tick: Decimal
    index: str
    profile: str = "7-0:99.99.2"
    unconverted: str | None = None
    unconverted_m3_per_tick: Decimal | None = None
    reference: str | None = None
    status: str | None = None
    status_bits: tuple[Status | None, ...] = ()
    events: str | None = None
    event_code: str = "0-0:96.11.0"
    event_codes: dict[str, Status] = {}
    zone: str | None = None
    asks: Literal["utc", "local"] = "utc"
    selects: Literal["range", "entry"] = "range"
    deviation: Literal["standard", "east"] = "standard"
    link: Literal["wrapper", "hdlc"] = "wrapper"
    information: int | None = None
    opening: Literal["hdlc", "mode_e"] = "hdlc"
    sets: tuple[Literal["interval", "clock"], ...] = ("interval", "clock")
    client: int = 16
    authentication: Literal["none", "password", "gmac"] = "none"
    password_file: str | None = None
    keys_file: str | None = None
    system_title: str = ""
    counter: str = "0-0:43.1.0"
    ciphering: Literal["global", "dedicated"] = "global"
    general: bool = False
    push: PushLayout | None = None

    def __post_init__(self) -> None:
        for field in ("index", "profile", "unconverted", "reference", "status", "events", "event_code", "counter"):
            if (code := getattr(self, field)) is not None:
                _check_code(field, code)
        for field in ("m3_per_tick", "unconverted_m3_per_tick"):
            if (tick := getattr(self, field)) is not None and tick <= 0:
                raise ValueError(f"{field}: {tick} is not a number above 0")
        if (self.unconverted is None) != (self.unconverted_m3_per_tick is None):
            raise ValueError("unconverted: and `unconverted_m3_per_tick` belong together")
        if self.zone is None and self.asks == "local":
            raise ValueError('zone: missing; allowed with asks = "local": a time zone\'s name, as Europe/London')
        if wrong := [code for code in self.event_codes if not (code.isascii() and code.isdigit())]:
            raise ValueError(f'event_codes: found "{wrong[0]}"; allowed: whole numbers')
        self.time_zone()
        self._check_link()
        if self.push is not None:
            self._check_push(self.push)

    def _check_push(self, push: PushLayout) -> None:
        if self.keys_file is None and SENDER not in push.objects:
            raise ValueError(f"push.objects: without {SENDER}; without keys_file, that is how a sender is known")
        has_profile = self.profile in push.objects
        rows = push.columns if has_profile else push.objects
        for code in (self.index, CLOCK_CODE) if has_profile else (self.index,):
            if code not in rows:
                raise ValueError(f"push.{'columns' if has_profile else 'objects'}: without {code}; nothing could be read of it")

    def _check_link(self) -> None:
        if self.opening == "mode_e" and self.link == "wrapper":
            raise ValueError('opening: found "mode_e" beside link = "wrapper"; allowed: with link = "hdlc"')
        if not 1 <= self.client <= 127:
            raise ValueError(f"client: found {self.client}; allowed: 1 to 127")
        if self.information is not None and not 16 <= self.information <= 2000:
            raise ValueError(f"information: found {self.information}; allowed: 16 to 2000 octets")
        if (self.authentication == "password") != (self.password_file is not None):
            raise ValueError('password_file: it and authentication = "password" belong together')
        if self.authentication == "gmac" and self.keys_file is None:
            raise ValueError('keys_file: missing; authentication = "gmac" needs keys')
        title = _hexadecimal(self.system_title)
        if self.keys_file is not None and (title is None or len(self.system_title) != TITLE_DIGITS):
            raise ValueError(
                f"system_title: found {self.system_title!r}; allowed with keys_file: {TITLE_DIGITS} hexadecimal digits"
            )

    def does_not_fit(self, address: str) -> str:
        """Why a meter of this map cannot be at this address; empty where it can."""
        if self.link == "wrapper" and address.startswith("serial:"):
            return 'its link is "wrapper", and the address a serial line; allowed there: link = "hdlc"'
        if self.opening == "mode_e" and not address.startswith("serial:"):
            return 'its opening is "mode_e", and the address no serial line; allowed there: opening = "hdlc"'
        return ""

    def push_name(self, sender: str) -> bytes:
        """As what a meter that pushes is known: by its system title where there are keys, else by its logical device name.
        ValueError where `sender` cannot be that, or the map does not say what a notification holds."""
        if self.push is None:
            raise ValueError("it has no table `push`, which says what a notification holds")
        if self.keys_file is None:
            return sender.encode()
        title = _hexadecimal(sender)
        if title is None or len(sender) != TITLE_DIGITS:
            raise ValueError(f'found "{sender}"; allowed with keys: its system title, {TITLE_DIGITS} hexadecimal digits')
        return title

    def time_zone(self) -> ZoneInfo | None:
        """The zone; None where the map names none."""
        try:
            return None if self.zone is None else ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"zone: found {self.zone!r}; allowed: a time zone's name, as Europe/London") from error

    def password(self) -> bytes:
        """What is in `password_file`; nothing where there is none. Raises DlmsMapError."""
        return b"" if self.password_file is None else _secret("password_file", self.password_file).encode("utf-8")

    def keys(self) -> tuple[bytes, bytes] | None:
        """The global encryption key and the authentication key; None where there are none. Raises DlmsMapError."""
        if self.keys_file is None:
            return None
        keys = [_hexadecimal(line) for line in _secret("keys_file", self.keys_file).split()]
        if len(keys) != 2 or any(key is None or len(key) * 2 != KEY_DIGITS for key in keys):
            allowed = f"two lines of {KEY_DIGITS} hexadecimal digits: encryption key, authentication key"
            raise DlmsMapError(f'keys_file: found "{self.keys_file}"; allowed: {allowed}')
        return keys[0] or b"", keys[1] or b""


def _check_code(field: str, code: str) -> None:
    try:
        logical_name(code)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error


def _hexadecimal(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _secret(field: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise DlmsMapError(f'{field}: found "{path}", which cannot be read: {reason}') from error


@cache
def dlms_map(name: str) -> DlmsMap:
    """The map of this name in this folder, or, where `name` ends in `.toml`, of that file. Raises DlmsMapError."""
    own = name.endswith(".toml")
    try:
        text = Path(name).read_text("utf-8") if own else (files(__name__) / f"{name}.toml").read_text("utf-8")
        found = msgspec.toml.decode(text, type=DlmsMap, strict=False)
    except OSError as error:
        if own:
            raise DlmsMapError(f'found "{name}", which cannot be read: {in_words(error)}') from error
        allowed = f"{', '.join(known())}, or the path of a .toml file"
        raise DlmsMapError(f'found "{name}", which is no DLMS map; allowed: {allowed}') from error
    except (msgspec.DecodeError, ValueError) as error:
        raise DlmsMapError(f'found "{name}", which is no DLMS map: {error}') from error
    folder = Path(name).parent
    secrets = {field: getattr(found, field) for field in ("password_file", "keys_file") if own and getattr(found, field)}
    return msgspec.structs.replace(found, **{field: str(folder / file) for field, file in secrets.items()})


def known() -> list[str]:
    """The names of the maps that come with the project."""
    return sorted(entry.name.removesuffix(".toml") for entry in files(__name__).iterdir() if entry.name.endswith(".toml"))


def server_address(device: str | int) -> tuple[int, int, int]:
    """Upper and lower part of the meter's address, and its octets, from `1`, `1/17` or `1/17/4`. ValueError."""
    allowed = "LOGICAL, LOGICAL/PHYSICAL, or LOGICAL/PHYSICAL/4 where the address has four octets"
    parts = str(device).split("/")
    if not 1 <= len(parts) <= 3 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise ValueError(f"found {json.dumps(device)}; allowed: {allowed}")
    numbers = [int(part) for part in parts]
    if len(numbers) == 1:
        return numbers[0], 0, 1
    size = numbers[2] if len(numbers) == 3 else 2
    limit = 0x3FFF if size == 4 else 0x7F
    if size not in (2, 4) or max(numbers[:2]) > limit:
        raise ValueError(f"found {json.dumps(device)}; allowed: {allowed}")
    return numbers[0], numbers[1], size
