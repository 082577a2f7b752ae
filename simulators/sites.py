"""Simulated sites as TOML: what stands there, and what goes wrong; their meters, and the facts that people would enter.

`demo_sites.toml` beside this file is the demo's. The facts are the registrations, the meters fitted and the calorific
values, each with the instant at which it is received.
"""

from __future__ import annotations

import re
import tomllib
import zlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from metering.facts import AnyFact, CalorificValue, MeterFitted, Registered
from metering.gasday import GasDays, to_datetime
from metering.limits import Digits, Name
from simulators.consumption import MICRO, PROFILES, Consumption
from simulators.faults import AnyFault, Instant
from simulators.meter import Register, SimulatedMeter

DEMO_SITES = Path(__file__).with_name("demo_sites.toml")
TYPICAL_MJ_PER_M3 = Decimal("39.2")
MJ_PER_KWH = Decimal("3.6")
CALORIFIC_VALUE_KNOWN_AT = time(13)
LOCAL = ZoneInfo("Europe/London")
DAYS_MAX = 3660
_SAID = re.compile(r"[^()/!\x00-\x1f\x7f-\U0010ffff]{1,40}")
_DEVICE_ADDRESS = re.compile(r"[A-Za-z0-9 ]{0,32}")
_TCP_ADDRESS = re.compile(r"(\S+:[0-9]{1,5})?")


class SitesError(ValueError):
    """A file of sites that cannot be used; says file, key, and what is wrong."""


class Convertor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The unconverted register beside the converted one; `ratio_percent`: converted over unconverted volume, about."""

    unconverted_digits: Digits
    unconverted_m3_per_tick: Decimal
    unconverted_start_index: int = 0
    ratio_percent: Annotated[int, Meta(ge=60, le=9000)] = 200

    def register(self) -> Register:
        """The unconverted register."""
        return Register(self.unconverted_digits, self.unconverted_m3_per_tick, self.unconverted_start_index)


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One meter point with its meter and Daily Read Equipment. `conversion_factor` is null exactly where there is a convertor.

    `address` is where it is served: `HOST:PORT`, or the path of the link to its pty; empty: wherever there is room. `link`:
    how DLMS/COSEM goes over TCP, in wrappers or in HDLC frames.
    """

    name: Name
    protocol: Literal["modbus_tcp", "modbus_rtu", "iec62056_21", "dlms"]
    meter_point: Name
    meter: Name
    equipment: Name
    users: Annotated[tuple[Name, ...], Meta(min_length=1)]
    ldz: Name
    registered: date
    annual_quantity_kwh: Decimal
    profile: Literal["office", "hospital", "factory", "bakery", "process"]
    seed: int
    fitted_at: Instant
    digits: Digits
    m3_per_tick: Decimal
    start_index: Annotated[int, Meta(ge=0)]
    q_max_m3_per_h: Decimal
    conversion_factor: Decimal | None = None
    convertor: Convertor | None = None
    log_days: Annotated[int, Meta(ge=1)] = 60
    drift_ppm: int = 0
    address: str = ""
    unit: Annotated[int, Meta(ge=1, le=247)] = 1
    device_address: str = ""
    password: str | None = None
    meter_time: Literal["utc", "local"] = "utc"
    link: Literal["wrapper", "hdlc"] = "wrapper"
    about: str = ""
    faults: tuple[AnyFault, ...] = ()

    def __post_init__(self) -> None:
        if (self.conversion_factor is None) != (self.convertor is not None):
            raise ValueError("conversion_factor: give it, or a convertor, one of the two")
        if "/" in self.name or self.name.startswith("."):
            raise ValueError(f"name: found {self.name!r}; allowed: what can be a file's name")
        if self.protocol == "iec62056_21":
            self._check_what_is_said()
        elif self.protocol != "modbus_rtu" and not _TCP_ADDRESS.fullmatch(self.address):
            raise ValueError(f"address: found {self.address!r}; allowed with {self.protocol}: HOST:PORT, or empty")

    def _check_what_is_said(self) -> None:
        """What the meter says of itself, and what it is called by, stands in messages of 7-bit characters."""
        for key in ("meter", "equipment"):
            if not _SAID.fullmatch(getattr(self, key)):
                allowed = "up to 40 printable ASCII characters, but none of ( ) / !"
                raise ValueError(f"{key}: found {getattr(self, key)!r}; allowed with iec62056_21: {allowed}")
        if self.password is not None and not _SAID.fullmatch(self.password):
            raise ValueError("password: not shown; allowed: up to 40 printable ASCII characters, but none of ( ) / !")
        if not _DEVICE_ADDRESS.fullmatch(self.device_address):
            raise ValueError(f"device_address: found {self.device_address!r}; allowed: up to 32 letters, digits and spaces")

    def build(self, days: GasDays | None = None) -> SimulatedMeter:
        """Its meter, as new."""
        convertor = self.convertor
        return SimulatedMeter(
            name=self.name,
            consumption=Consumption(
                PROFILES[self.profile],
                self._annual_um3(),
                self.seed,
                self.fitted_at,
                convertor.ratio_percent if convertor else 100,
            ),
            register=Register(self.digits, self.m3_per_tick, self.start_index),
            factor=self.conversion_factor or Decimal(1),
            unconverted=convertor.register() if convertor else None,
            fitted_at=self.fitted_at,
            faults=self.faults,
            days=days,
            log_days=self.log_days,
            drift_ppm=self.drift_ppm,
        )

    def facts(self, received_at: datetime) -> tuple[Registered, MeterFitted]:
        """What is told of it before its first Day."""
        convertor = self.convertor
        registered = Registered(
            received_at=received_at,
            meter_point=self.meter_point,
            gas_day=self.registered,
            users=self.users,
            ldz=self.ldz,
            annual_quantity_kwh=self.annual_quantity_kwh,
            equipment=self.equipment,
        )
        fitted = MeterFitted(
            received_at=received_at,
            meter_point=self.meter_point,
            meter=self.meter,
            at=self.fitted_at,
            index=self.start_index,
            digits=self.digits,
            m3_per_tick=self.m3_per_tick,
            conversion_factor=self.conversion_factor,
            q_max_m3_per_h=self.q_max_m3_per_h,
            unconverted_digits=convertor.unconverted_digits if convertor else None,
            unconverted_m3_per_tick=convertor.unconverted_m3_per_tick if convertor else None,
        )
        return registered, fitted

    def _annual_um3(self) -> int:
        """What the register counts in a year that uses the Annual Quantity at the typical calorific value."""
        m3 = self.annual_quantity_kwh * MJ_PER_KWH / TYPICAL_MJ_PER_M3 / (self.conversion_factor or 1)
        return int(m3 * MICRO)


class Sites(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of sites: `days` Gas Days from `first_day`; the mean calorific value of each LDZ in MJ/m³."""

    first_day: date
    days: Annotated[int, Meta(ge=1, le=DAYS_MAX)]
    ldz: dict[str, Decimal]
    sites: Annotated[tuple[Site, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        for key in ("name", "meter_point", "meter", "equipment"):
            values = [getattr(site, key) for site in self.sites]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"sites: {key} {twice[0]!r} is given more than once")
        unknown = sorted({site.ldz for site in self.sites} - set(self.ldz))
        if unknown:
            raise ValueError(f"ldz: no calorific value for {unknown[0]!r}; there are: {', '.join(sorted(self.ldz))}")

    def gas_days(self) -> list[date]:
        """The Gas Days, in order."""
        return [self.first_day + timedelta(days=n) for n in range(self.days)]

    def starts_at(self, days: GasDays | None = None) -> datetime:
        """The start of the first Gas Day."""
        return to_datetime((days or GasDays()).start_us(self.first_day.toordinal()))

    def reference_facts(self) -> list[AnyFact]:
        """Registrations, meters and calorific values, in the order in which they are received.

        The sites are told of a day before the first Gas Day; a Day's calorific value at 13:00 local time on the next.
        """
        told_at = self.starts_at() - timedelta(days=1)
        facts: list[AnyFact] = [fact for site in self.sites for fact in site.facts(told_at)]
        return facts + list(self._calorific_values())

    def _calorific_values(self) -> Iterator[CalorificValue]:
        for day in self.gas_days():
            known_at = datetime.combine(day + timedelta(days=1), CALORIFIC_VALUE_KNOWN_AT, LOCAL).astimezone(UTC)
            for ldz, mean in sorted(self.ldz.items()):
                value = mean + Decimal(zlib.crc32(f"{ldz} {day}".encode()) % 9 - 4) / 10
                yield CalorificValue(received_at=known_at, ldz=ldz, gas_day=day, mj_per_m3=value)


def load_sites(path: Path = DEMO_SITES, days: int | None = None) -> Sites:
    """Read a file of sites, with another number of `days` where it is given; SitesError says what is wrong, and where."""
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        if days is not None:
            document["days"] = days
        return msgspec.convert(document, Sites)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SitesError(f"{path}: {error}") from error
