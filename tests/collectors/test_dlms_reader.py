"""Polls as the gateway makes them: settings, map and secrets in files, a simulated meter behind a real socket."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from collectors.dlms_acse import Mechanism
from collectors.dlms_maps import DlmsMapError, dlms_map, known, server_address
from collectors.poll import Polled, make_readers, poll
from collectors.reader import Reader
from collectors.schedule import Outcome
from metering.facts import PollFailed, Readings
from simulators.dlms_server import DlmsServer
from simulators.faults import Corrupt, Dead
from tests.collectors.test_dlms_poll import DAY, DAYS, HDLC_ADDRESS, KEYS, SITE, Rig, boundaries

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
    return asyncio.run(asyncio.wait_for(polled(rig, settings, times), 20))


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
        master, slave = os.openpty()
        os.set_blocking(master, False)
        hears = DlmsServer(rig.side, HDLC_ADDRESS).hears()
        asyncio.get_running_loop().add_reader(master, lambda: os.write(master, hears(os.read(master, 4096))))
        settings = Settings(f"serial:{os.ttyname(slave)}", map_file(tmp_path, CASES["hdlc"][0]), "1/17")
        readers: list[Reader] = make_readers([settings], 1.0)
        try:
            found = await poll(settings, readers[0], DAY.toordinal(), DAYS, lambda: rig.now, True)
            assert (found.outcome, found.readings) == (Outcome.COMPLETE, 25)
        finally:
            asyncio.get_running_loop().remove_reader(master)
            await readers[0].close()
            os.close(master)
            os.close(slave)

    asyncio.run(asyncio.wait_for(work(), 20))


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
