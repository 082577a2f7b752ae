"""A meter read by DLMS/COSEM, as the gateway polls it: settings and map to session, session to answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from collectors.dlms_acse import Mechanism
from collectors.dlms_base import DlmsError, Refused
from collectors.dlms_client import Association, Credentials, dedicated_key
from collectors.dlms_describe import described
from collectors.dlms_hdlc import FLAG, Address
from collectors.dlms_line import Line, SerialHdlcLine, TcpLine, talk_over
from collectors.dlms_link import HdlcLink, Link, WrapperLink
from collectors.dlms_maps import DlmsMap, DlmsMapError, dlms_map, server_address
from collectors.dlms_objects import DATA, VALUE, logical_name
from collectors.dlms_poll import Session, Silence, Talk, read_day, set_clock, set_interval
from collectors.dlms_rows import DlmsMeter
from collectors.dlms_security import Ciphering, Keys
from collectors.dlms_xdlms import Member, Wanted
from collectors.iec62056_21_describe import described as described_before
from collectors.os_error import in_words
from collectors.reader import Answer, MeterSettings, Unable, Unanswered
from collectors.reading import PollError
from collectors.trace import Frame, Trace

log = logging.getLogger(__name__)
PUBLIC_CLIENT = 16
BAUD = 9600
MECHANISMS = {"none": Mechanism.NONE, "password": Mechanism.LOW, "gmac": Mechanism.GMAC}
POLL_TIMEOUT_FACTOR = 60  # of the time-out of one answer: the most that a poll may take, however much the meter says
T = TypeVar("T")


class DlmsReader:
    """One meter on a line. What a session cannot put right by asking again, asking at once again does not either, unless
    something came that was wrong. Password and keys are read from their files for each session, for they may change."""

    def __init__(self, line: Line, site: str, map_: DlmsMap, device: str | int, interval_s: int, timeout_s: float) -> None:
        self._line, self._site, self._map, self._timeout_s = line, site, map_, timeout_s
        self._server = Address(*server_address(device))
        self._meter = meter_of(map_, interval_s)
        map_.keys(), map_.password()  # ValueError, before anybody asks

    @property
    def lock(self) -> asyncio.Lock:
        """As `Reader.lock`."""
        return self._line.lock

    @property
    def trace(self) -> Trace:
        """As `Reader.trace`."""
        return self._line.trace

    def describe(self, frame: Frame) -> str:
        """As `Reader.describe`."""
        if self._map.opening == "mode_e" and bytes([FLAG]) not in frame.octets:
            return described_before(frame.octets)
        return described(frame.octets, self._map.link, frame.sent)

    async def read_day(self, start: datetime, end: datetime, now: Callable[[], datetime]) -> Answer:
        """As `Reader.read_day`."""
        readings = await self._in_session(lambda session: read_day(session, self._meter, start, end, now))
        return Answer(readings, None)

    async def set_interval(self, interval_s: int) -> int:
        """As `Reader.set_interval`."""
        self._may("interval")
        return await self._in_session(lambda session: set_interval(session, self._meter, interval_s))

    async def set_clock(self, now: Callable[[], datetime], step_max_s: float) -> float:
        """As `Reader.set_clock`."""
        self._may("clock")
        return await self._in_session(lambda session: set_clock(session, self._meter, now, step_max_s))

    def _may(self, what: Literal["interval", "clock"]) -> None:
        if what not in self._map.sets:
            raise Unable(self._site, f"the map's `sets` does not have the {what}")

    async def _in_session(self, talk: Callable[[Session], Talk[T]]) -> T:
        """What a talk brings, in a session on the line. Raises PollError."""
        try:
            async with asyncio.timeout(self._timeout_s * POLL_TIMEOUT_FACTOR):
                credentials = Credentials(MECHANISMS[self._map.authentication], self._map.password())
                ciphering = await self._ciphering()
                session = Session(self._link(self._map.client), Association(credentials, ciphering))
                await self._open()
                found = await talk_over(talk(session), self._line, self._timeout_s, session)
                for aside in session.asides:
                    log.warning("%s: %s", self._site, aside)
                return found
        except (Silence, Refused, DlmsMapError) as error:
            raise Unanswered(self._site, str(error)) from error
        except DlmsError as error:
            raise PollError(self._site, f"{type(error).__name__}: {error}") from error
        except TimeoutError as error:
            raise Unanswered(self._site, "no whole answer in time") from error
        except PollError as error:  # of the opening, which does not know whose line it is
            raise type(error)(self._site, error.cause) from error
        except OSError as error:
            raise Unanswered(self._site, f"no connection: {in_words(error)}") from error
        finally:
            await self._line.reset()

    async def close(self) -> None:
        """As `Reader.close`."""
        await self._line.reset()

    async def _ciphering(self) -> Ciphering | None:
        """With an invocation counter above all that the meter has had: anybody may ask it for the last."""
        keys = self._map.keys()
        if keys is None:
            return None
        await self._open()
        session = Session(self._link(PUBLIC_CLIENT), Association())
        last = await talk_over(_counter(session, logical_name(self._map.counter)), self._line, self._timeout_s)
        return Ciphering(
            bytes.fromhex(self._map.system_title),
            Keys(*keys),
            last + 1,
            general=self._map.general,
            dedicated=dedicated_key() if self._map.ciphering == "dedicated" else None,
        )

    async def _open(self) -> None:
        await self._line.open()
        if self._map.opening == "mode_e" and isinstance(self._line, SerialHdlcLine):
            await self._line.open_by_mode_e()

    def _link(self, client: int) -> Link:
        if self._map.link == "wrapper":
            return WrapperLink(client, self._server.upper)
        return HdlcLink(client, self._server, self._map.information)


def _counter(session: Session, name: bytes) -> Talk[int]:
    yield from session.open()
    (counter,) = yield from session.get(Wanted(Member(DATA, name, VALUE)))
    yield from session.close()
    return counter.number


def meter_of(map_: DlmsMap, interval_s: int) -> DlmsMeter:
    """What the map says of the meter's log."""
    bits = tuple((bit, status) for bit, status in enumerate(map_.status_bits) if status is not None)
    return DlmsMeter(
        m3_per_tick=map_.m3_per_tick,
        profile=logical_name(map_.profile),
        index=logical_name(map_.index),
        unconverted=None if map_.unconverted is None else logical_name(map_.unconverted),
        unconverted_m3_per_tick=map_.unconverted_m3_per_tick,
        reference=None if map_.reference is None else logical_name(map_.reference),
        status_name=None if map_.status is None else logical_name(map_.status),
        status_bits=bits,
        interval_s=interval_s,
        zone=map_.time_zone(),
        asks_local=map_.asks == "local",
        east_is_positive=map_.deviation == "east",
        by_entry=map_.selects == "entry",
        events=None if map_.events is None else logical_name(map_.events),
        event_code=logical_name(map_.event_code),
        event_codes=tuple((int(code), status) for code, status in map_.event_codes.items()),
    )


def dlms_line(meter: MeterSettings, timeout_s: float) -> Line:
    """The line of this meter's address. ValueError where it is none."""
    if meter.address.startswith("serial:"):
        return SerialHdlcLine(meter.address.removeprefix("serial:"), meter.baud or BAUD)
    url = urlsplit(meter.address)
    if url.scheme != "tcp" or url.hostname is None or url.port is None:
        raise ValueError(f'address: found "{meter.address}"; allowed with dlms: tcp://host:port, serial:/dev/NAME')
    return TcpLine(url.hostname, url.port, meter.timeout_s or timeout_s)


def dlms_reader(meter: MeterSettings, line: Line, timeout_s: float) -> DlmsReader:
    """A reader of this meter. ValueError where the settings do not fit."""
    if not meter.map:
        raise ValueError("map: missing; allowed: the name of a DLMS map, or the path of a .toml file")
    map_ = dlms_map(meter.map)
    if mistake := map_.does_not_fit(meter.address):
        raise ValueError(f"map: {mistake}")
    return DlmsReader(line, meter.meter_point, map_, meter.device, meter.interval_s, timeout_s)
