"""Polls as the gateway makes them: settings, map and secrets in files, a simulated meter behind a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.dlms_acse import Mechanism
from collectors.dlms_describe import described, message
from collectors.dlms_line import Tracing
from collectors.dlms_maps import DlmsMapError, dlms_map, known, server_address
from collectors.poll import Polled, make_readers, poll
from collectors.reader import Reader, Unable
from collectors.reading import PollError
from collectors.schedule import Outcome
from collectors.trace import Frame, Trace
from metering.facts import PollFailed, Readings
from simulators.dlms_server import DlmsPty, DlmsServer
from simulators.faults import ClockOffset, Corrupt, Dead, Reports
from simulators.iec62056_21_server import Make, MeterSide, PtyServer
from tests.collectors.test_dlms_poll import DAY, DAYS, HDLC_ADDRESS, KEYS, LONDON, SITE, Rig, boundaries
from tests.patience import patient

T = TypeVar("T")
INDEX = "7-0:13.2.0" if SITE.convertor else "7-0:13.0.0"
MAP = f'title = "one"\nm3_per_tick = "{SITE.m3_per_tick}"\nindex = "{INDEX}"\nreference = "7-0:3.0.0"\nclient = 1\n'
GMAC = MAP + 'authentication = "gmac"\nkeys_file = "keys"\nsystem_title = "4741544557415931"\n'


@dataclass
class Settings:
    """A meter of the configuration."""

    address: str
    map: str | None
    device: str | int = 1
    meter_point: str = "MP1"
    meter: str = "M1"
    protocol: Literal["modbus", "iec62056_21", "dlms"] = "dlms"
    interval_s: int = 3600
    timeout_s: float | None = 0.3
    baud: int | None = None
    parity: Literal["none", "even"] | None = None
    within_day: bool | None = None


def map_file(folder: Path, text: str) -> str:
    (folder / "keys").write_text(f"{KEYS.encryption.hex()}\n{KEYS.authentication.hex()}\n")
    (folder / "password").write_text("12345678\n")
    path = folder / f"map{len(list(folder.iterdir()))}.toml"
    path.write_text(text)
    return str(path)


async def polled(rig: Rig, settings: Settings, times: int = 1) -> Polled:
    server = DlmsServer(rig.side, HDLC_ADDRESS if rig.is_hdlc else None)
    settings.address = f"tcp://127.0.0.1:{await server.listen()}"
    rig.now = boundaries(DAY)[1]
    try:
        (reader,) = make_readers([settings], 1.0)
        for _ in range(times):
            async with reader.lock:
                found = await poll(settings, reader, DAY.toordinal(), DAYS, lambda: rig.now, True)
        return found
    finally:
        await server.close()


def run(rig: Rig, settings: Settings, times: int = 1) -> Polled:
    return asyncio.run(asyncio.wait_for(polled(rig, settings, times), patient(20)))


CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "wrapper": (MAP, {}, "1"),
    "hdlc": (MAP + 'link = "hdlc"\ninformation = 500\n', {"link": "hdlc"}, "1/17"),
    "password": (
        MAP + 'authentication = "password"\npassword_file = "password"\n',
        {"mechanism": Mechanism.LOW, "password": b"12345678"},
        "1",
    ),
    "GMAC": (GMAC, {"mechanism": Mechanism.GMAC, "keys": KEYS}, "1"),
    "GMAC over hdlc with a key of its own": (
        GMAC + 'link = "hdlc"\nciphering = "dedicated"\n',
        {"mechanism": Mechanism.GMAC, "keys": KEYS, "link": "hdlc"},
        "1/17",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_poll_brings_the_day(case: str, tmp_path: Path) -> None:
    """Twice: with keys the second association has to go above the first one's invocation counter."""
    text, access, device = CASES[case]
    rig = Rig(**access)
    outcome, fact, count = run(rig, Settings("", map_file(tmp_path, text), device), times=2)
    assert (outcome, count) == (Outcome.COMPLETE, 25)
    assert isinstance(fact, Readings)
    assert (fact.first_at, fact.interval_s, fact.clock_offset_s) == (boundaries(DAY)[0], 3600, 0)
    assert fact.index[0] == rig.meter.true_index_at(boundaries(DAY)[0])


EVENTS = MAP + 'events = "7-0:99.98.0"\nevent_codes = {2 = "tamper", 4 = "battery_low"}\n'


def test_the_log_of_events_says_what_happened_on_the_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, last = boundaries(DAY)
    reports = [
        Reports(from_=first + timedelta(hours=3), until=last, status="tamper"),
        Reports(from_=last, until=last + timedelta(hours=1), status="battery_low"),  # the next Day's
        Reports(from_=first, until=last, status="reed_switch"),  # of a code that the map does not name
    ]
    found = run(Rig(SITE, *reports), Settings("", map_file(tmp_path, EVENTS)))
    assert isinstance(found.fact, Readings)
    assert (found.outcome, found.fact.status) == (Outcome.COMPLETE, ("tamper",))
    found = run(Rig(SITE, *reports), Settings("", map_file(tmp_path, EVENTS.replace("99.98.0", "99.98.1"))))
    assert isinstance(found.fact, Readings)
    assert (found.outcome, found.fact.status) == (Outcome.COMPLETE, ())
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "MP1: the log of events 7-0:99.98.1 could not be read: 7-0:99.98.1 attribute 3: object undefined"
    ]


def test_frames_that_are_spoilt_are_asked_for_again(tmp_path: Path) -> None:
    rig = Rig(SITE, Corrupt(every=4, how="wrong_check"), link="hdlc")
    assert run(rig, Settings("", map_file(tmp_path, CASES["hdlc"][0]), "1/17")).outcome is Outcome.COMPLETE


def failure(found: Polled) -> tuple[str, int]:
    assert found.outcome is Outcome.SILENT
    assert isinstance(found.fact, PollFailed)
    return found.fact.reason, found.fact.attempts


def test_a_meter_that_is_silent_or_refuses_is_asked_once(tmp_path: Path) -> None:
    assert failure(run(Rig(SITE, Dead()), Settings("", map_file(tmp_path, MAP)))) == ("no answer", 1)
    wanted = Rig(mechanism=Mechanism.LOW, password=b"other")
    reason, attempts = failure(run(wanted, Settings("", map_file(tmp_path, CASES["password"][0]))))
    assert (reason.partition(" (")[0], attempts) == ("rejected for good: authentication failed", 1)


@pytest.mark.parametrize("noise", [b"\x55" * 64, b"\x7e\xa0", b"\x7e\x00" * 32], ids=["no flags", "beginnings", "flags"])
def test_a_line_that_babbles_is_a_silence(noise: bytes, tmp_path: Path) -> None:
    """Not held until the whole poll's time is up."""

    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(noise)
                await writer.drain()
                await asyncio.sleep(0.005)
        except OSError:
            writer.close()

    async def work() -> Polled:
        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = Settings(f"tcp://127.0.0.1:{port}", map_file(tmp_path, CASES["hdlc"][0]), "1/17", timeout_s=0.1)
        (reader,) = make_readers([settings], 1.0)
        async with server:
            return await poll(settings, reader, DAY.toordinal(), DAYS, lambda: boundaries(DAY)[1], True)

    reason, _ = failure(asyncio.run(asyncio.wait_for(work(), patient(20))))
    assert reason.startswith(("no answer", "Malformed")), reason


def test_nobody_there(tmp_path: Path) -> None:
    async def work() -> Polled:
        settings = Settings("tcp://127.0.0.1:1", map_file(tmp_path, MAP))
        (reader,) = make_readers([settings], 1.0)
        return await poll(settings, reader, DAY.toordinal(), DAYS, lambda: boundaries(DAY)[1], True)

    reason, attempts = failure(asyncio.run(work()))
    assert reason.startswith("no connection")
    assert attempts == 1


def test_hdlc_on_a_serial_line(tmp_path: Path) -> None:
    """A pseudo-terminal, whose other end is the meter's."""

    async def work() -> None:
        rig = Rig(link="hdlc")
        rig.now = boundaries(DAY)[1]
        pty = DlmsPty(rig.side, HDLC_ADDRESS)
        pty.start()
        settings = Settings(f"serial:{pty.path}", map_file(tmp_path, CASES["hdlc"][0]), "1/17")
        readers: list[Reader] = make_readers([settings], 1.0)
        try:
            found = await poll(settings, readers[0], DAY.toordinal(), DAYS, lambda: rig.now, True)
            assert (found.outcome, found.readings) == (Outcome.COMPLETE, 25)
        finally:
            await readers[0].close()
            pty.close()

    asyncio.run(asyncio.wait_for(work(), patient(20)))


def test_a_serial_line_that_is_opened_by_mode_e(tmp_path: Path) -> None:
    """IEC 62056-21 at 300 Bd first, then HDLC at the speed that was agreed; both times, for the line ends as it began."""

    async def work() -> None:
        rig = Rig(link="hdlc")
        rig.now = boundaries(DAY)[1]
        make = Make(hdlc=DlmsServer(rig.side, HDLC_ADDRESS).hears())
        server = PtyServer(MeterSide(rig.meter, SITE, lambda: rig.now, make=make))
        server.start()
        text = CASES["hdlc"][0] + 'opening = "mode_e"\n'
        settings = Settings(f"serial:{server.path}", map_file(tmp_path, text), "1/17", timeout_s=patient(1))
        (reader,) = make_readers([settings], 1.0)
        try:
            for _ in range(2):
                found = await poll(settings, reader, DAY.toordinal(), DAYS, lambda: rig.now, True)
                assert (found.outcome, found.readings) == (Outcome.COMPLETE, 25)
            words = [reader.describe(frame) for frame in reader.trace.frames]
            assert any("SNRM" in one for one in words)
            assert any("binary mode (HDLC)" in one for one in words)
        finally:
            await reader.close()
            server.close()

    asyncio.run(asyncio.wait_for(work(), patient(40)))


# Maps.


def test_the_maps_that_come_with_the_project_are_sound() -> None:
    assert known()
    for name in known():
        assert dlms_map(name).title


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MAP + 'unit = "m3"', "unknown field"),
        (MAP.replace("7-0:3.0.0", "3.0.0"), "reference: found '3.0.0', which is no OBIS code"),
        (MAP + 'zone = "London"', "zone: found 'London'"),
        (MAP + 'asks = "local"', "zone: missing"),
        (MAP + 'authentication = "password"', "password_file: it and"),
        (MAP + 'authentication = "gmac"', "keys_file: missing"),
        (GMAC.replace("4741", "47"), "system_title: found"),
        (MAP.replace("client = 1", "client = 128"), "client: found 128; allowed: 1 to 127"),
        (MAP + 'opening = "mode_e"', 'opening: found "mode_e" beside link = "wrapper"'),
        (MAP + 'event_codes = {cover = "tamper"}', 'event_codes: found "cover"; allowed: whole numbers'),
        (MAP + 'unconverted = "7-0:13.0.0"', "unconverted: and"),
        (MAP + "information = 5", "information: found 5"),
        (MAP.replace(f'"{SITE.m3_per_tick}"', '"0"'), "m3_per_tick: 0 is not"),
    ],
)
def test_a_map_that_cannot_be_used_says_why(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DlmsMapError) as error:
        dlms_map(map_file(tmp_path, text))
    assert words in str(error.value)


def test_secrets_that_are_none(tmp_path: Path) -> None:
    found = dlms_map(map_file(tmp_path, GMAC))
    assert found.keys() == (KEYS.encryption, KEYS.authentication)
    (tmp_path / "keys").write_text("00ff\n")
    with pytest.raises(DlmsMapError, match="two lines of 32 hexadecimal digits"):
        found.keys()
    (tmp_path / "keys").unlink()
    with pytest.raises(DlmsMapError, match="cannot be read"):
        found.keys()
    with pytest.raises(DlmsMapError, match="no DLMS map; allowed: hourly_profile"):
        dlms_map("nothing")


@pytest.mark.parametrize(
    ("device", "address"), [(1, (1, 0, 1)), ("1/17", (1, 17, 2)), ("1/17/4", (1, 17, 4)), ("300/9000/4", (300, 9000, 4))]
)
def test_server_addresses(device: str | int, address: tuple[int, int, int]) -> None:
    assert server_address(device) == address


@pytest.mark.parametrize("device", ["", "a", "1/128", "1/2/3", "1/2/4/5", "-1"])
def test_server_addresses_that_are_none(device: str) -> None:
    with pytest.raises(ValueError, match="allowed: LOGICAL"):
        server_address(device)


# What else can be done at a meter.


def at_meter(rig: Rig, settings: Settings, work: Callable[[Reader], Awaitable[T]]) -> T:
    async def whole() -> T:
        server = DlmsServer(rig.side, HDLC_ADDRESS if rig.is_hdlc else None)
        settings.address = f"tcp://127.0.0.1:{await server.listen()}"
        try:
            (reader,) = make_readers([settings], 1.0)
            async with reader.lock:
                return await work(reader)
        finally:
            await server.close()

    return asyncio.run(asyncio.wait_for(whole(), patient(20)))


@pytest.mark.parametrize("case", ["wrapper", "GMAC"])
def test_the_interval_is_set_and_read_back(case: str, tmp_path: Path) -> None:
    text, access, device = CASES[case]
    rig = Rig(**access)
    settings = Settings("", map_file(tmp_path, text), device)
    assert at_meter(rig, settings, lambda reader: reader.set_interval(360)) == 360
    assert rig.side.capture_period_s == 360
    with pytest.raises(PollError, match="other reason"):
        at_meter(rig, settings, lambda reader: reader.set_interval(7))


@pytest.mark.parametrize("zone", [None, LONDON])
@pytest.mark.parametrize("says_deviation", [True, False])
def test_the_clock_is_moved_by_a_small_step(zone: ZoneInfo | None, says_deviation: bool, tmp_path: Path) -> None:
    """In the form in which the meter says its own time, four minutes slow at first."""
    offset = ClockOffset(from_=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2027, 1, 1, tzinfo=UTC), offset_s=-240)
    rig = Rig(SITE, offset, zone=zone or ZoneInfo("UTC"), says_deviation=says_deviation)
    name = "UTC" if zone is None else zone.key
    settings = Settings("", map_file(tmp_path, MAP + f'zone = "{name}"\n'))

    def step(step_max_s: float) -> float:
        return at_meter(rig, settings, lambda reader: reader.set_clock(lambda: rig.now, step_max_s))

    assert [step(60), step(60), step(1000), step(60)] == [-180, -120, 0, 0]
    assert rig.meter.clock(rig.now) == rig.now


def test_a_map_that_lets_nothing_be_set(tmp_path: Path) -> None:
    rig, settings = Rig(), Settings("", map_file(tmp_path, MAP + "sets = []\n"))
    with pytest.raises(Unable, match="sets"):
        at_meter(rig, settings, lambda reader: reader.set_interval(360))
    with pytest.raises(Unable, match="sets"):
        at_meter(rig, settings, lambda reader: reader.set_clock(lambda: rig.now, 5))


# What went over the line.


def traced(rig: Rig, settings: Settings) -> tuple[list[Frame], list[str]]:
    async def work(reader: Reader) -> tuple[list[Frame], list[str]]:
        first, last = boundaries(DAY)
        await reader.read_day(first, last, lambda: rig.now)
        frames = reader.trace.frames
        return frames, [reader.describe(frame) for frame in frames]

    return at_meter(rig, settings, work)


@pytest.mark.parametrize("link", ["wrapper", "hdlc", "hdlc in segments"])
def test_the_password_is_not_in_the_trace(link: str, tmp_path: Path) -> None:
    text, access, _ = CASES["password"]
    kind = link.partition(" ")[0]
    octets = 16 if "segments" in link else 500
    text += f'link = "{kind}"\n' + (f"information = {octets}\n" if kind == "hdlc" else "")
    rig = Rig(link=kind, **access)
    frames, words = traced(rig, Settings("", map_file(tmp_path, text), "1/17" if kind == "hdlc" else 1))
    sent = b"".join(frame.octets for frame in frames if frame.sent)
    for at in range(6):
        assert b"12345678"[at : at + 3] not in sent
    if octets == 500:
        assert any("AARQ, asks for an association with a password (not shown)" in one for one in words)
        assert any("GET request, 0-0:1.0.0 attribute 2" in one for one in words)
        assert any("AARE, accepted" in one for one in words)


def test_a_line_that_echoes_does_not_show_the_password_either() -> None:
    """A serial line's echo, octet by octet."""
    trace, said = Trace(), b"\x60\x20............12345678...."
    hidden = Tracing(trace, b"12345678")
    hidden.sent(said, True)
    for octet in said + b"answer":
        hidden.heard(bytes([octet]))
    hidden.sent(b"next", False)
    assert [frame.octets for frame in trace.frames] == [
        said.replace(b"12345678", b"********"),
        said.replace(b"12345678", b"********") + b"answer",
        b"next",
    ]


def test_what_is_ciphered_stays_so(tmp_path: Path) -> None:
    text, access, device = CASES["GMAC"]
    _, words = traced(Rig(**access), Settings("", map_file(tmp_path, text), device))
    assert "1 to 1: GET response, ciphered with the global key" in words
    assert "1 to 1: ACTION request, ciphered with the global key" in words
    assert KEYS.encryption.hex() not in " ".join(words)


@given(st.binary(max_size=80), st.sampled_from(["hdlc", "wrapper"]), st.booleans())
def test_anything_can_be_described(octets: bytes, link: str, is_ours: bool) -> None:
    assert described(octets, link, is_ours) or not octets
    assert message(octets)
