"""From a meter's settings and its profile map to what is read: each way that a map can choose."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from collectors.iec62056_21_reader import IecReader, iec_line, iec_reader
from collectors.profile_maps import ProfileMapError, known, profile_map
from collectors.reader import Unanswered
from collectors.serial_port import SerialLine, TcpSerialLine
from collectors.trace import Frame
from simulators.iec62056_21_server import ConverterServer, Make, MeterSide, PtyServer
from tests.collectors.iec62056_21_rig import DAY, SITES, boundaries, run
from tests.patience import patient

SITE = SITES["harbour-offices"]
LIS200 = """
title = "a convertor of the LIS200 series"
m3_per_tick = "{tick}"
index_code = "7-0:13.2.0"
unconverted_code = "7-0:13.0.0"
unconverted_m3_per_tick = "{unconverted}"
clock = "{clock}"
log = "lis200"
formatted = false
clock_code = "1:400.0"
lock_code = "4:171.0"

[archive]
columns = {{ "7-0:13.2.0" = 5, "7-0:13.0.0" = 7 }}
check_column = 18
status_column = 12
messages = {{ "9" = "battery_low", "11" = "clock_invalid" }}
nothing = "#0104"
"""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A meter of a gateway's configuration."""

    address: str
    map: str | None = None
    meter_point: str = "MP1"
    meter: str = "M-1"
    protocol: Literal["modbus", "iec62056_21", "dlms"] = "iec62056_21"
    device: str | int = ""
    interval_s: int = 3600
    timeout_s: float | None = None
    baud: int | None = None
    parity: Literal["none", "even"] | None = None


def reader(settings: Settings, timeout_s: float = 2.0) -> IecReader:
    return iec_reader(settings, iec_line(settings), timeout_s)


def a_map(folder: Path, text: str) -> str:
    convertor = SITE.convertor
    assert convertor is not None
    clock, unconverted = SITE.meter_time, convertor.unconverted_m3_per_tick
    if SITE.password is not None:
        (folder / "password").write_text(SITE.password)
        text = f'password_file = "password"\n{text}'
    path = folder / "own.toml"
    path.write_text(text.format(tick=SITE.m3_per_tick, unconverted=unconverted, clock=clock))
    return str(path)


@pytest.mark.parametrize("over", ["serial", "tcp"])
def test_a_meter_of_the_lis200_series(over: str, tmp_path: Path) -> None:
    async def work() -> None:
        meter, (first, last) = SITE.build(), boundaries(DAY)
        now = last + timedelta(minutes=10)
        side = MeterSide(meter, SITE, lambda: now, make=Make(lis200=True))
        converter, pty = ConverterServer(side), PtyServer(side, link=tmp_path / "line")
        pty.start()
        port = await converter.listen()
        address = f"tcp://127.0.0.1:{port}" if over == "tcp" else f"serial:{pty.path}"
        it = reader(Settings(address=address, map=a_map(tmp_path, LIS200), device=SITE.device_address), patient(1))
        async with it.lock:
            answer = await it.read_day(first, last, lambda: now)
        assert answer.readings.index == tuple(meter.true_index_at(instant) for instant in answer.readings.at)
        assert answer.readings.unconverted is not None
        assert "3:V.0: " not in str(answer)
        said = [it.describe(frame) for frame in it.trace.frames if frame.sent]
        assert said[-1] == "break"
        assert any(line.startswith("R3: reads in blocks 3:V.0 (3;2026-10-05,0") for line in said)
        await it.close()
        pty.close()
        await converter.close()

    run(work)


def test_the_speed_of_a_converter_is_kept_to_where_it_is_told() -> None:
    for baud, baud_max in ((None, 9600), (2400, 2400)):
        it = reader(Settings(address="tcp://10.0.0.1:4001", map="hourly_profile", baud=baud))
        assert (it.meter.baud, it.meter.baud_max) == (baud or 300, baud_max)
        assert isinstance(it.line, TcpSerialLine)
    it = reader(Settings(address="serial:/dev/ttyUSB0", map="hourly_profile", baud=2400))
    assert (it.meter.baud, it.meter.baud_max) == (2400, 9600)
    assert isinstance(it.line, SerialLine)
    assert it.lock is it.line.lock
    assert it.trace is it.line.trace


def test_a_line_that_nobody_is_on_is_unanswered(tmp_path: Path) -> None:
    async def work() -> None:
        it = reader(Settings(address=f"serial:{tmp_path}/nothing", map="hourly_profile"))
        first, last = boundaries(DAY)
        with pytest.raises(Unanswered, match="No such file"):
            await it.read_day(first, last, lambda: last)

    run(work)


@pytest.mark.parametrize("address", ["tcp://10.0.0.1", "udp://10.0.0.1:1", "/dev/ttyUSB0"])
def test_an_address_that_is_none_says_what_is_allowed(address: str) -> None:
    with pytest.raises(ValueError, match="allowed with iec62056_21: serial:/dev/NAME, tcp://host:port, rfc2217://host:port"):
        iec_line(Settings(address=address))


def test_a_map_is_needed() -> None:
    with pytest.raises(ValueError, match="map: missing"):
        reader(Settings(address="serial:/dev/x"))


@pytest.mark.parametrize("name", known())
def test_the_maps_that_come_along_can_be_used(name: str) -> None:
    it = reader(Settings(address="serial:/dev/x", map=name))
    assert it.meter.m3_per_tick > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({'log = "lis200"\n': ""}, 'archive: belongs to `log = "lis200"`'),
        ({"formatted = false\n": ""}, 'formatted: must be false with `log = "lis200"`'),
        ({'clock_code = "1:400.0"\n': ""}, "`clock_code` be given"),
        ({"check_column = 18": "check_column = 0"}, "archive: found the column 0; allowed: 1 to 99"),
        ({"check_column = 18": "rows = 100"}, "archive.rows: found 100; allowed: 1 to 99"),
        ({'columns = {{ "7-0:13.2.0" = 5, ': "columns = {{ "}, "archive.columns: no column of `index_code`"),
        ({'log = "lis200"\n': 'log = "lis200"\nstored_code = "7-0:13.26.0"\n'}, 'stored_code: belongs to `log = "readout"`'),
        ({'"battery_low"': '"flat"'}, "Invalid enum value 'flat'"),
        ({"[archive]": "interval_unit_s = 7\n[archive]"}, "Invalid enum value 7"),
    ],
)
def test_what_is_wrong_with_a_map_is_said(change: dict[str, str], said: str, tmp_path: Path) -> None:
    text = LIS200
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(ProfileMapError, match=said):
        profile_map(a_map(tmp_path, text))


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"/?!\r\n", "sign-on to whichever meter hears it"),
        (b"/?120808!\r\n", "sign-on to 120808"),
        (bytes(66), "wake-up: 66 NUL"),
        (b"/DRY5\\@DRE-10\r\n", r"identification: DRY, \@DRE-10, mode C, up to 9600 Bd"),
        (b"/DRY5\\2DRE-10\r\n", r"identification: DRY, \2DRE-10, mode C, up to 9600 Bd, HDLC too (mode E)"),
        (b"/DRYCX\r\n", "identification: DRY, X, mode B, up to 2400 Bd"),
        (b"/DRYxX\r\n", "identification: DRY, X, mode A, 300 Bd"),
        (b"\x06051\r\n", "option select: programming mode at 9600 Bd"),
        (b"\x06252\r\n", "option select: binary mode (HDLC) at 9600 Bd, protocol 2"),
        (b"\x01P0\x02(M-1010)\x03\x00", "programming mode is open, operand (M-1010)"),
        (b"\x01P1\x02(12345678)\x03i", "P1: password"),
        (b"\x01P1\x02(********)\x03*", "P1: password"),
        (b"\x01W1\x024:171.0(****)\x03*", "W1: password into 4:171.0"),
        (b"\x06", "ACK: accepted, or go on"),
        (b"\x15", "NAK: not understood, say it again"),
        (b"\x01R5\x020.9.1()\x03_", "R5: reads 0.9.1"),
        (b"\x01R5\x020.9.1()\x03^", "R5: reads 0.9.1, WRONG CHECK CHARACTER"),
        (b"\x02(ER02)\x03\x17", "data: (ER02)"),
        (b"\x02(ER02)\x03", "data: (ER02), cut short"),
        (b"\x01B0\x03q", "break"),
        (b"\xff\x00\xfe", "3 octets that are no message"),
        (b"", "nothing"),
        (b"\x06\x01B0\x03q", "ACK: accepted, or go on; break"),
    ],
)
def test_what_messages_mean(octets: bytes, words: str) -> None:
    it = reader(Settings(address="serial:/dev/x", map="hourly_profile"))
    assert it.describe(Frame(boundaries(DAY)[0], True, octets)) == words


def test_settings_of_a_map_reach_the_meter(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"wake_up": "true", "password_level": 2, "interval_unit_s": 1, "clock_may_be_set": "true"}
    text = LIS200.replace("[archive]", "".join(f"{key} = {value}\n" for key, value in fields.items()) + "[archive]")
    meter = reader(Settings(address="serial:/dev/x", map=a_map(tmp_path, text))).meter
    assert (meter.wake_up, meter.password_level, meter.interval_unit_s, meter.clock_may_be_set) == (True, 2, 1, True)
    assert (meter.log, meter.formatted, meter.clock_code, meter.lock_code) == ("lis200", False, "1:400.0", "4:171.0")
