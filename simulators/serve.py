"""Serves simulated sites on real sockets and pseudo-terminals, and says what a gateway needs to know to poll them.

Also what people would enter while the sites run: `feed` gives the reference facts, and ticks, at their virtual instants.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from collectors.dlms_acse import Mechanism
from collectors.dlms_hdlc import Address
from collectors.modbus_maps import register_map
from metering.facts import AnyFact, Tick
from metering.gasday import GasDays, to_datetime
from simulators.clock import Participant, SteppedClock
from simulators.dlms_server import DlmsServer
from simulators.dlms_side import DlmsAccess, DlmsSide
from simulators.iec62056_21_server import MeterSide, PtyServer
from simulators.meter import SimulatedMeter
from simulators.modbus_server import ModbusPtyServer, ModbusServer
from simulators.sites import LOCAL, Site, Sites

REGISTER_MAP = "hourly_log"
HDLC_ADDRESS = Address(1, 17, 2)
DLMS_DEVICE = {"wrapper": "1", "hdlc": "1/17"}
DLMS_CLIENT = 1  # the public client may read the clock, and little else
AFTER_ELEVEN = timedelta(hours=1)


class Clock(Protocol):
    """One who takes part in virtual time (`simulators.clock.Participant`), or any other clock."""

    def now(self) -> datetime: ...
    async def wait_until(self, instant: datetime) -> None: ...


class ServedMeter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a gateway polls a served meter: one `[[meters]]` table of its configuration."""

    meter_point: str
    meter: str
    protocol: Literal["modbus", "iec62056_21", "dlms"]
    address: str
    device: str | int = ""
    map: str | None = None
    interval_s: int = 3600
    timeout_s: float | None = None
    baud: int | None = None
    parity: Literal["none", "even"] | None = None
    within_day: bool | None = None


class ServedPolling(msgspec.Struct, frozen=True, kw_only=True):
    """When a gateway polls in virtual time: few retries, because each costs real time; time-outs are real."""

    timeout_s: float = 1.0
    retry_first_s: float = 3600.0
    retry_max_s: float = 10800.0
    backfill_days: int = 40
    within_day_s: float = 0


class ServedClocks(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway does about the clocks of served meters: nothing, but say when they are far off."""

    set: bool = False
    step_max_s: float = 20.0
    alarm_s: float = 60.0


class ServedGateway(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a gateway that polls all that is served."""

    gateway: str
    meters: tuple[ServedMeter, ...]
    polling: ServedPolling = ServedPolling()
    meter_clocks: ServedClocks = ServedClocks()

    def toml(self) -> str:
        """As tables of a gateway's configuration file."""
        polling = "[polling]\n" + _lines(msgspec.to_builtins(self.polling))
        clocks = "[meter_clocks]\n" + _lines(msgspec.to_builtins(self.meter_clocks))
        return "\n".join([polling, clocks, *("[[meters]]\n" + _lines(msgspec.to_builtins(meter)) for meter in self.meters)])


class Service:
    """Sites that are being served, until `close`. `meters` hold the truth, by site name; `settings` say how each is polled."""

    def __init__(self, now: Callable[[], datetime], folder: Path | None = None, days: GasDays | None = None) -> None:
        self.meters: dict[str, SimulatedMeter] = {}
        self.settings: list[ServedMeter] = []
        self._now, self._days = now, days
        self._open = AsyncExitStack()
        self._folder = folder or Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="dailyread-sites-")))

    def gateway(self, name: str = "gateway-1") -> ServedGateway:
        """The settings of a gateway that polls all of them."""
        return ServedGateway(gateway=name, meters=tuple(self.settings))

    async def add(self, site: Site) -> None:
        """Serve one more site."""
        meter = self.meters[site.name] = site.build(self._days)
        starts = {
            "modbus_tcp": self._modbus, "modbus_rtu": self._modbus_rtu, "iec62056_21": self._iec62056_21, "dlms": self._dlms
        }  # fmt: skip
        self.settings.append(await starts[site.protocol](site, meter))

    async def close(self) -> None:
        """Stop serving."""
        await self._open.aclose()

    async def _modbus(self, site: Site, meter: SimulatedMeter) -> ServedMeter:
        server = ModbusServer({site.unit: meter}, register_map(REGISTER_MAP), self._now)
        address = await self._listen(site, server)
        return _served(site, "modbus", address, device=site.unit, map=REGISTER_MAP)

    async def _modbus_rtu(self, site: Site, meter: SimulatedMeter) -> ServedMeter:
        meters = ModbusServer({site.unit: meter}, register_map(REGISTER_MAP), self._now)
        server = ModbusPtyServer(meters, Path(site.address) if site.address else None)
        server.start()
        self._open.callback(server.close)
        served = _served(site, "modbus", f"serial:{server.path}", device=site.unit, map=REGISTER_MAP)
        return msgspec.structs.replace(served, parity="none")  # a pseudo-terminal has none

    async def _dlms(self, site: Site, meter: SimulatedMeter) -> ServedMeter:
        mechanism = Mechanism.NONE if site.password is None else Mechanism.LOW
        access = DlmsAccess(
            mechanism=mechanism, password=(site.password or "").encode(), zone=LOCAL if site.meter_time == "local" else None
        )
        side = DlmsSide(meter, access, self._now, site.equipment)
        address = await self._listen(site, DlmsServer(side, HDLC_ADDRESS if site.link == "hdlc" else None))
        return _served(site, "dlms", address, device=DLMS_DEVICE[site.link], map=str(self._dlms_map(site)))

    async def _listen(self, site: Site, server: ModbusServer | DlmsServer) -> str:
        host, _, port = site.address.rpartition(":")
        host = host or "127.0.0.1"
        listening = await server.listen(host, int(port or 0))
        self._open.push_async_callback(server.close)
        return f"tcp://{host}:{listening}"

    async def _iec62056_21(self, site: Site, meter: SimulatedMeter) -> ServedMeter:
        server = PtyServer(MeterSide(meter, site, self._now), Path(site.address) if site.address else None)
        server.start()
        self._open.callback(server.close)
        map_ = str(self._profile_map(site))
        return _served(site, "iec62056_21", f"serial:{server.path}", device=site.device_address, map=map_)

    def _profile_map(self, site: Site) -> Path:
        """The profile map of this site's equipment, as a file."""
        fields = {"title": site.name, "m3_per_tick": str(site.m3_per_tick), "clock": site.meter_time}
        if site.convertor is not None:
            fields["index_code"], fields["unconverted_code"] = "7-0:13.2.0", "7-0:13.0.0"
            fields["unconverted_m3_per_tick"] = str(site.convertor.unconverted_m3_per_tick)
        return self._map(site, fields)

    def _dlms_map(self, site: Site) -> Path:
        """The DLMS map of this site's equipment, as a file."""
        fields = {"title": site.name, "m3_per_tick": str(site.m3_per_tick), "index": "7-0:13.0.0", "reference": "7-0:3.0.0"}
        if site.convertor is not None:
            fields["index"], fields["unconverted"] = "7-0:13.2.0", "7-0:13.0.0"
            fields["unconverted_m3_per_tick"] = str(site.convertor.unconverted_m3_per_tick)
        if site.meter_time == "local":
            fields["zone"] = LOCAL.key
        if site.password is not None:
            fields["authentication"] = "password"
        return self._map(site, {**fields, "link": site.link, "client": DLMS_CLIENT})

    def _map(self, site: Site, fields: dict[str, Any]) -> Path:
        if site.password is not None:
            password = self._folder / f"{site.name}.password"
            password.touch(0o600)
            password.write_text(site.password)
            fields["password_file"] = password.name
        path = self._folder / f"{site.name}.toml"
        path.write_text(_lines(fields))
        return path


def _served(
    site: Site, protocol: Literal["modbus", "iec62056_21", "dlms"], address: str, device: str | int, map: str
) -> ServedMeter:
    return ServedMeter(
        meter_point=site.meter_point, meter=site.meter, protocol=protocol, address=address, device=device, map=map
    )


async def serve(
    sites: Sequence[Site], now: Callable[[], datetime], folder: Path | None = None, days: GasDays | None = None
) -> Service:
    """Serve these sites, until `Service.close`. `folder` takes the profile maps of IEC 62056-21 meters."""
    service = Service(now, folder, days)
    try:
        for site in sites:
            await service.add(site)
    except BaseException:
        await service.close()
        raise
    return service


def ends_at(sites: Sites, days: GasDays) -> datetime:
    """When a run of these sites ends: when the last Day's readings no longer count as in time, and an hour more."""
    return to_datetime(days.eleven_us(sites.gas_days()[-1].toordinal())) + AFTER_ELEVEN


def entered_facts(sites: Sites, days: GasDays) -> Iterator[list[AnyFact]]:
    """The reference facts of the sites, and a tick at the start of each Day, at each 11:00 and at the end: those of one
    instant together, in the order of their `received_at`."""
    end = ends_at(sites, days)
    boundaries = [day.toordinal() for day in sites.gas_days()]
    instants = {to_datetime(of(day)) for day in boundaries for of in (days.start_us, days.end_us, days.eleven_us)} | {end}
    facts: list[AnyFact] = [fact for fact in sites.reference_facts() if (fact.received_at or end) <= end]
    facts += [Tick(received_at=instant, now=instant) for instant in instants]
    facts.sort(key=_received_at)
    for _, together in groupby(facts, _received_at):
        yield list(together)


async def feed(
    sites: Sites, clock: Clock, give: Callable[[list[AnyFact], datetime], Awaitable[None]], days: GasDays | None = None
) -> None:
    """Give the facts that are entered, each time with the instant at which they are received, until the end of the run."""
    for facts in entered_facts(sites, days or GasDays()):
        received_at = _received_at(facts[0])
        await clock.wait_until(received_at)
        await give(facts, received_at)


async def all_others_wait(clock: SteppedClock, me: Participant) -> None:
    """Return when everybody else who takes part has done what was to do at this instant."""
    while True:
        await asyncio.sleep(0.02)
        if set(clock.working()) <= {me.name}:
            return


def _received_at(fact: AnyFact) -> datetime:
    assert fact.received_at is not None
    return fact.received_at


def _lines(fields: dict[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items() if value is not None)
