"""Sessions with simulated meters: the Day's readings are the meter's, over either link and with any protection, and what goes
wrong on the way is put right or is a failed poll with its cause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.dlms_acse import Mechanism
from collectors.dlms_base import LocalError, Malformed, NotAuthentic, Refused, RemoteError
from collectors.dlms_client import Associate, Association, Credentials, dedicated_key
from collectors.dlms_data import Data, Kind, long_unsigned
from collectors.dlms_hdlc import Address
from collectors.dlms_line import TcpLine, talk_over
from collectors.dlms_link import HdlcLink, WrapperLink, wrapped
from collectors.dlms_objects import CAPTURE_PERIOD, CLOCK_TIME, PROFILE, by_entry, logical_name
from collectors.dlms_poll import Session, Silence, Talk, read_day
from collectors.dlms_rows import DlmsMeter
from collectors.dlms_security import Ciphering, Keys
from collectors.dlms_xdlms import Member, Wanted
from collectors.reading import DayReadings
from metering.facts import ReferenceIndex
from metering.gasday import GasDays, to_datetime
from simulators.dlms_server import DlmsServer
from simulators.dlms_side import COUNTER, PUBLIC_CLIENT, DlmsAccess, DlmsSide
from simulators.faults import AnyFault, ClockOffset, Corrupt, Dead, NotLogged
from simulators.sites import Site, load_sites

DAYS = GasDays()
DAY, LONG_DAY = date(2026, 10, 5), date(2026, 10, 24)
SITES = {site.name: msgspec.structs.replace(site, faults=()) for site in load_sites().sites}
SITE = SITES["junction-mill"]
LONDON = ZoneInfo("Europe/London")
KEYS = Keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
CLIENT, TITLE = 1, b"GATEWAY1"
HDLC_ADDRESS = Address(1, 17, 2)
T = TypeVar("T")


def boundaries(day: date) -> tuple[datetime, datetime]:
    return to_datetime(DAYS.start_us(day.toordinal())), to_datetime(DAYS.end_us(day.toordinal()))


class Rig:
    """A meter of a site, and what a collector knows of it. `now` is ten minutes after the Day that is read."""

    def __init__(self, site: Site = SITE, *faults: AnyFault, link: str = "wrapper", **access: Any) -> None:
        self.meter = msgspec.structs.replace(site, faults=faults).build()
        self.access = DlmsAccess(**access)
        self.now = boundaries(DAY)[1] + timedelta(minutes=10)
        self.side = DlmsSide(self.meter, self.access, lambda: self.now)
        self.is_hdlc = link == "hdlc"
        self.counter = 1
        self.known = DlmsMeter(
            m3_per_tick=site.m3_per_tick,
            profile=logical_name("7-0:99.99.2"),
            index=logical_name("7-0:13.2.0" if site.convertor else "7-0:13.0.0"),
            unconverted=logical_name("7-0:13.0.0") if site.convertor else None,
            unconverted_m3_per_tick=site.convertor.unconverted_m3_per_tick if site.convertor else None,
            reference=logical_name("7-0:3.0.0"),
            status_name=logical_name("0-0:96.10.1"),
            status_bits=((0, "clock_invalid"),),
            zone=self.access.zone,
        )

    def server(self) -> Callable[[bytes], bytes]:
        return DlmsServer(self.side, HDLC_ADDRESS if self.is_hdlc else None).hears()

    def session(self, client: int = CLIENT, dedicated: bool = False, general: bool = False, **other: Any) -> Session:
        access = DlmsAccess() if client == PUBLIC_CLIENT else self.access
        ciphering = None
        if access.keys is not None:
            key = dedicated_key() if dedicated else None
            ciphering = Ciphering(TITLE, other.get("keys", access.keys), self.counter, dedicated=key, general=general)
            self.counter += 1000
        credentials = Credentials(access.mechanism, other.get("password", access.password))
        link = HdlcLink(client, HDLC_ADDRESS, other.get("information")) if self.is_hdlc else WrapperLink(client, 1)
        return Session(link, Association(credentials, ciphering))

    def read(self, day: date = DAY, spoil: Callable[[int, bytes], bytes] = lambda _n, data: data, **how: Any) -> DayReadings:
        first, last = boundaries(day)
        self.now = last + timedelta(minutes=10)
        return run(read_day(self.session(**how), self.known, first, last, lambda: self.now), self.server(), spoil)

    def truth(self, readings: DayReadings) -> tuple[int, ...]:
        return tuple(self.meter.true_index_at(instant) for instant in readings.at)


def run(talk: Talk[T], hears: Callable[[bytes], bytes], spoil: Callable[[int, bytes], bytes] = lambda _n, data: data) -> T:
    """The talk against a meter's end, with no line between; what comes from the meter goes through `spoil`, with its number."""
    try:
        writing = next(talk)
        for n in range(5000):
            writing = talk.send(spoil(n, hears(writing) if writing else b""))
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it does not come to an end")


PROTECTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "password": {"mechanism": Mechanism.LOW, "password": b"12345678"},
    "GMAC": {"mechanism": Mechanism.GMAC, "keys": KEYS},
    "password, ciphered": {"mechanism": Mechanism.LOW, "password": b"12345678", "keys": KEYS},
}


@pytest.mark.parametrize("link", ["wrapper", "hdlc"])
@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize("message_octets_max", [128, 65000])
def test_a_days_readings_are_the_meters(link: str, protection: str, message_octets_max: int) -> None:
    rig = Rig(link=link, message_octets_max=message_octets_max, **PROTECTIONS[protection])
    readings = rig.read()
    first, last = boundaries(DAY)
    assert readings.at == tuple(first + n * timedelta(hours=1) for n in range(25))
    assert readings.at[-1] == last
    assert readings.index == rig.truth(readings)
    assert readings.reference_index == ReferenceIndex(start=readings.index[0], end=readings.index[-1])  # type: ignore[arg-type]
    assert (readings.clock_offset_s, readings.status, readings.complete) == (0, (), True)


@pytest.mark.parametrize("name", ["junction-mill", "harbour-offices", "lock-infirmary"])
@pytest.mark.parametrize("says_deviation", [True, False])
@pytest.mark.parametrize("zone", [None, LONDON])
def test_the_day_in_which_the_clock_goes_back(name: str, says_deviation: bool, zone: ZoneInfo | None) -> None:
    """With and without convertor, in UTC and in local time, which the meter's clock shows twice between one and two."""
    rig = Rig(SITES[name], zone=zone or ZoneInfo("UTC"), says_deviation=says_deviation)
    readings = rig.read(LONG_DAY)
    first, last = boundaries(LONG_DAY)
    assert len(readings.at) == 26
    assert readings.index == rig.truth(readings)
    rows = rig.meter.log(first, last, rig.now)
    assert readings.unconverted == (tuple(row.unconverted for row in rows) if SITES[name].convertor else None)


@pytest.mark.parametrize("how", [{"dedicated": True}, {"general": True}, {"dedicated": True, "general": True}])
def test_dedicated_keys_and_general_ciphering(how: dict[str, Any]) -> None:
    rig = Rig(**PROTECTIONS["GMAC"], message_octets_max=200, general=how.get("general", False))
    readings = rig.read(**how)
    assert readings.index == rig.truth(readings)


@pytest.mark.parametrize("information", [None, 16, 64, 500, 2000])
def test_frames_of_any_size(information: int | None) -> None:
    rig = Rig(link="hdlc")
    assert rig.read(information=information).index == rig.truth(rig.read())


@pytest.mark.parametrize("loss", ["lost", "flipped", "cut", "doubled", "noise before"])
@pytest.mark.parametrize("protection", ["none", "GMAC"])
def test_a_spoilt_frame_costs_a_repetition_and_no_reading(loss: str, protection: str) -> None:
    """Each of the first frames of a session in turn."""

    def spoiled(data: bytes) -> bytes:
        return {
            "lost": b"",
            "flipped": data[:9] + bytes([data[9] ^ 0x10]) + data[10:] if len(data) > 9 else b"",
            "cut": data[: len(data) // 2],
            "doubled": data * 2,
            "noise before": b"\x00\x7e\xff\x7e\xa0" + data,
        }[loss]

    for at in range(14):
        rig = Rig(link="hdlc", **PROTECTIONS[protection])
        readings = rig.read(spoil=lambda n, data, at=at: spoiled(data) if n == at else data)  # type: ignore[misc]
        assert readings.index == rig.truth(readings), at


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_a_line_does_the_readings_are_the_truth_or_there_are_none(draw: st.DataObject) -> None:
    def spoil(_n: int, data: bytes) -> bytes:
        match draw.draw(st.integers(0, 24)):
            case 0:
                return b""
            case 1:
                return draw.draw(st.binary(max_size=30))
            case 2 if data:
                at = draw.draw(st.integers(0, len(data) - 1))
                return data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255))]) + data[at + 1 :]
            case 3:
                return data[: draw.draw(st.integers(0, len(data)))]
        return data

    rig = Rig(link="hdlc")
    try:
        readings = rig.read(spoil=spoil)
    except RemoteError:
        return
    assert readings.index == rig.truth(readings)


def test_a_meter_that_is_silent_or_always_noisy_is_a_failed_poll() -> None:
    for link in ("wrapper", "hdlc"):
        with pytest.raises(Silence, match="no answer"):
            Rig(SITE, Dead(), link=link).read()
    with pytest.raises(Silence, match="WrongCheck"):
        Rig(link="hdlc").read(spoil=lambda _n, data: data[:-2] + b"\x00\x7e" if data else b"")
    with pytest.raises(Silence):
        Rig(link="hdlc").read(spoil=lambda _n, _data: b"\x7e\x00" * 50)


def test_what_goes_wrong_at_the_end_spoils_no_reading() -> None:
    rig = Rig(link="hdlc")
    session = rig.session()
    first, last = boundaries(DAY)
    released: list[bool] = []
    hear = rig.server()

    def hears(data: bytes) -> bytes:
        released.append(bool(released and released[-1]) or b"\x62\x03\x80\x01\x00" in data)
        return b"\x7e\x00garbage" if released[-1] else hear(data)

    assert run(read_day(session, rig.known, first, last, lambda: rig.now), hears).complete
    assert released[-1]


def test_missing_rows_are_missing_readings_and_an_empty_log_is_an_answer() -> None:
    rig = Rig(SITE, NotLogged(first_day=DAY, last_day=DAY))
    readings = rig.read()
    assert readings.index[1:-1] == (None,) * 23
    assert readings.has_boundaries
    before = Rig().read(date(2020, 1, 1))
    assert set(before.index) == {None}


def test_the_clocks_offset_and_a_meter_of_other_ticks() -> None:
    offset = ClockOffset(from_=datetime(2026, 10, 5, 12, tzinfo=UTC), until=datetime(2026, 11, 1, tzinfo=UTC), offset_s=-240)
    assert Rig(SITE, offset).read().clock_offset_s == -240
    rig = Rig()
    rig.known = DlmsMeter(m3_per_tick=SITE.m3_per_tick * 7, profile=rig.known.profile, index=rig.known.index)
    with pytest.raises(Malformed, match="whole ticks"):
        rig.read()
    rig.known = DlmsMeter(m3_per_tick=SITE.m3_per_tick, profile=rig.known.profile, index=logical_name("7-0:12.0.0"))
    with pytest.raises(Malformed, match=r"no column 7-0:12\.0\.0"):
        rig.read()


@pytest.mark.parametrize(("newest_first", "link"), [(True, "hdlc"), (False, "wrapper")])
def test_a_meter_that_is_asked_by_entry(newest_first: bool, link: str) -> None:
    """In whichever order its log is, with gaps in it, and for Days on which it has nothing."""
    gap = NotLogged(first_day=date(2026, 10, 10), last_day=date(2026, 10, 14))
    rig = Rig(SITE, gap, link=link, takes_range=False, newest_first=newest_first)
    with pytest.raises(Refused, match="scope of access violated"):
        rig.read()
    rig.known = replace(rig.known, by_entry=True)
    rig.now = boundaries(LONG_DAY)[1] + timedelta(hours=30)

    def read(day: date) -> DayReadings:
        return run(read_day(rig.session(), rig.known, *boundaries(day), lambda: rig.now), rig.server())

    for day in (LONG_DAY, date(2026, 10, 22), date(2026, 10, 15), DAY):
        readings = read(day)
        assert readings.complete
        assert readings.index == rig.truth(readings)
    assert read(date(2026, 10, 12)).index == (None,) * 25
    assert read(date(2020, 1, 1)).index == (None,) * 25
    assert read(date(2026, 11, 20)).index == (None,) * 25


# Who may.


def test_a_wrong_password_and_wrong_keys() -> None:
    with pytest.raises(Refused, match="authentication failed"):
        Rig(**PROTECTIONS["password"]).read(password=b"87654321")
    for keys in (Keys(KEYS.encryption, bytes(16)), Keys(bytes(16), KEYS.authentication)):
        with pytest.raises(RemoteError):
            Rig(**PROTECTIONS["GMAC"]).read(keys=keys)


def test_a_meter_that_cannot_prove_itself_is_not_read() -> None:
    with pytest.raises(NotAuthentic):
        Rig(**PROTECTIONS["GMAC"], knows_us=False).read()


def test_an_invocation_counter_that_was_used_is_refused_and_the_public_client_can_ask_for_it() -> None:
    rig = Rig(**PROTECTIONS["GMAC"])
    rig.read()
    rig.counter = 1
    with pytest.raises(Refused, match="deciphering error"):
        rig.read()

    def ask(session: Session) -> Talk[int]:
        yield from session.open()
        (counter,) = yield from session.get(Wanted(Member(1, COUNTER, 2)))
        yield from session.close()
        return counter.number

    rig.counter = run(ask(rig.session(client=PUBLIC_CLIENT)), rig.server()) + 1
    assert rig.counter > 1
    assert rig.read().complete


def test_the_public_client_may_not_read_the_log() -> None:
    with pytest.raises(Refused, match="read-write denied"):
        Rig(**PROTECTIONS["password"]).read(client=PUBLIC_CLIENT)


def test_gmac_needs_keys_and_questions_their_turn() -> None:
    with pytest.raises(LocalError):
        Association(Credentials(Mechanism.GMAC))
    association = Association()
    association.send(Associate())
    with pytest.raises(LocalError, match="in state ASKED"):
        association.send(Associate())


# Other services.


def opened(rig: Rig, talk: Callable[[Session], Talk[T]]) -> T:
    session = rig.session()

    def whole() -> Talk[T]:
        yield from session.open()
        return (yield from talk(session))

    return run(whole(), rig.server())


@pytest.mark.parametrize("message_octets_max", [128, 65000])
@pytest.mark.parametrize("protection", ["none", "GMAC"])
def test_several_attributes_in_one_request(message_octets_max: int, protection: str) -> None:
    rig = Rig(message_octets_max=message_octets_max, **PROTECTIONS[protection])
    columns, period, clock = opened(
        rig,
        lambda session: session.get(
            Wanted(Member(PROFILE, rig.known.profile, 3)), Wanted(Member(PROFILE, rig.known.profile, 4)), Wanted(CLOCK_TIME)
        ),
    )
    assert (len(columns.items), period.number, len(clock.octets)) == (5 if SITE.convertor else 4, 3600, 12)


def test_rows_by_entry() -> None:
    rig = Rig()
    member = Member(PROFILE, rig.known.profile, 2)
    (some,) = opened(rig, lambda session: session.get(Wanted(member, by_entry(2, 3))))
    (all_,) = opened(rig, lambda session: session.get(Wanted(member)))
    assert some.items == all_.items[1:3]
    assert len(all_.items) > 24


def test_the_capture_period_is_set_and_read_back() -> None:
    rig = Rig(**PROTECTIONS["GMAC"])
    member = Member(PROFILE, rig.known.profile, CAPTURE_PERIOD)

    def talk(session: Session) -> Talk[int]:
        yield from session.set(member, Data(Kind.DOUBLE_LONG_UNSIGNED, 360))
        (period,) = yield from session.get(Wanted(member))
        return period.number

    assert opened(rig, talk) == 360
    with pytest.raises(Refused, match="other reason"):
        opened(rig, lambda session: session.set(member, long_unsigned(7)))
    with pytest.raises(Refused, match="object undefined"):
        opened(rig, lambda session: session.get(Wanted(Member(3, logical_name("7-0:99.0.0"), 2))))


def test_a_late_answer_over_the_wrapper_is_passed_over() -> None:
    """An answer with another invoke-id comes first, as after a question that was given up."""
    rig = Rig()
    late = wrapped(1, CLIENT, bytes.fromhex("c401cf00120001"))
    readings = rig.read(spoil=lambda n, data: late + data if n > 0 else data)
    assert readings.index == rig.truth(readings)


# Over real sockets.


@pytest.mark.parametrize("hdlc", [None, HDLC_ADDRESS])
@pytest.mark.parametrize("faults", [(), (Corrupt(every=5, how="wrong_check"),)])
def test_over_tcp(hdlc: Address | None, faults: tuple[AnyFault, ...]) -> None:
    async def work() -> None:
        rig = Rig(SITE, *faults, link="hdlc" if hdlc else "wrapper", **PROTECTIONS["GMAC"])
        server = DlmsServer(rig.side, hdlc)
        line = TcpLine("127.0.0.1", await server.listen(), 2)
        first, last = boundaries(DAY)
        try:
            await line.open()
            talk = read_day(rig.session(), rig.known, first, last, lambda: rig.now)
            if faults and hdlc is None:
                with pytest.raises(RemoteError):
                    await talk_over(talk, line, 0.2)
            else:
                readings = await talk_over(talk, line, 0.2)
                assert readings.index == rig.truth(readings)
        finally:
            await line.reset()
            await server.close()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_a_refused_connection_and_one_that_is_closed_are_os_errors() -> None:
    async def work() -> None:
        rig = Rig()
        server = DlmsServer(rig.side)
        line = TcpLine("127.0.0.1", await server.listen(), 2)
        await line.open()
        await line.write(b"HTTP/1.1")
        with pytest.raises(OSError, match="closed"):
            await line.read(2)
        await server.close()
        with pytest.raises(OSError):  # noqa: PT011 - the system's own words
            await line.open()

    asyncio.run(asyncio.wait_for(work(), 20))
