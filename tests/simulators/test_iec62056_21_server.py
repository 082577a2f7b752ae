"""The simulator of IEC 62056-21 meters: the golden table from its side, and an independent client on a real pty."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iec62056_21.client import Iec6205621Client

from collectors.iec62056_21_messages import Said
from simulators.faults import AnyFault, Corrupt, Silence
from simulators.iec62056_21_server import Make, MeterSide, PtyServer
from simulators.sites import load_sites
from tests.collectors.iec62056_21_golden import GOLDEN, LIS200, MODE_B, MODE_E, Step

NOW = datetime(2026, 10, 25, 1, 30, 15, tzinfo=UTC)
(SITE,) = [msgspec.structs.replace(site, faults=()) for site in load_sites().sites if site.name == "junction-mill"]


def side(*faults: AnyFault, address: str = "", password: str | None = SITE.password) -> MeterSide:
    site = msgspec.structs.replace(SITE, faults=faults, device_address=address, password=password)
    return MeterSide(site.build(), site, lambda: NOW)


def test_golden_from_the_meters_side() -> None:
    meter = side()
    answered = meter.hears(GOLDEN[0].data)
    for step in GOLDEN[1:]:
        if answered:
            assert answered == step.data
            answered = b""
        else:
            answered = meter.hears(step.data)
    assert not answered


@pytest.mark.parametrize(
    ("table", "make"),
    [
        (MODE_B, Make(mode="B", speed="C")),
        (MODE_E, Make(hdlc=lambda data: b"")),
        (LIS200, Make(lis200=True)),
    ],
)
def test_golden_of_other_kinds_of_meter(table: tuple[Step, ...], make: Make) -> None:
    meter, answered = MeterSide(SITE.build(), SITE, lambda: NOW, make=make), b""
    for step in table:
        if isinstance(step.event, get_args(Said)):
            assert not answered
            answered = meter.hears(step.data) + meter.goes_on()
        else:
            assert answered.startswith(step.data)
            answered = answered[len(step.data) :]
    assert not answered


@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([step.data for step in GOLDEN])), max_size=20))
@settings(max_examples=200, deadline=None)
def test_it_bears_any_bytes(data: list[bytes]) -> None:
    meter = side()
    for piece in data:
        meter.hears(piece)
    meter.hears(b"\x03\x03")
    assert meter.hears(GOLDEN[0].data) == GOLDEN[1].data


def test_a_device_address_is_heeded_without_its_leading_zeros() -> None:
    meter = side(address="00120808")
    assert meter.hears(b"/?120808!\r\n").startswith(b"/DRY5")
    assert meter.hears(b"/?!\r\n").startswith(b"/DRY5")
    assert meter.hears(b"/?120809!\r\n") == b""


def test_a_command_with_a_wrong_check_character_is_not_obeyed() -> None:
    meter = side()
    meter.hears(b"/?!\r\n\x06051\r\n")
    assert meter.hears(GOLDEN[6].data[:-1] + b"!") == b"\x15"
    assert meter.hears(GOLDEN[6].data) == b"\x06"


def test_nothing_is_read_without_the_password() -> None:
    meter = side()
    meter.hears(b"/?!\r\n\x06051\r\n")
    assert b"(ER03)" in meter.hears(GOLDEN[8].data)


def test_every_second_frame_is_spoiled_and_said_again_when_asked() -> None:
    meter = side(Corrupt(every=2))
    meter.hears(GOLDEN[0].data)
    meter.hears(GOLDEN[2].data)
    spoiled = meter.hears(GOLDEN[4].data)
    assert spoiled[:-1] == GOLDEN[5].data[:-1]
    assert spoiled != GOLDEN[5].data
    assert meter.hears(b"\x15") == GOLDEN[5].data


def test_a_silent_meter_says_nothing() -> None:
    meter = side(Silence(from_=NOW, until=datetime(2026, 10, 26, tzinfo=UTC)))
    assert meter.hears(GOLDEN[0].data) == b""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The path of a pty on which the meter is served, by a loop in another thread, for a client that blocks.

    Without a password: that client cannot send one.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = PtyServer(side(password=None), link=tmp_path / "line", parity=False)
    loop.call_soon_threadsafe(server.start)
    yield server.path
    closed = threading.Event()
    loop.call_soon_threadsafe(lambda: (server.close(), closed.set(), loop.stop()))
    assert closed.wait(5)
    thread.join()
    loop.close()


def test_an_independent_client_reads_it(served: str) -> None:
    client = Iec6205621Client.with_serial_transport(served)
    client.transport.timeout = 5
    client.connect()
    challenge = client.access_programming_mode()
    assert (challenge.command, challenge.command_type) == ("P", 0)
    assert challenge.data_set.value == "M-1010"
    clock = client.read_single_value("0.9.1")
    index = client.read_single_value("7-0:13.0.0")
    client.send_break()
    client.disconnect()
    assert (clock.address, clock.value) == ("0.9.1", "2013015")
    assert (index.address, index.value, index.unit) == ("7-0:13.0.0", "0423434.7", "m3")


def test_an_independent_client_reads_it_out(served: str) -> None:
    client = Iec6205621Client.with_serial_transport(served)
    client.transport.timeout = 5
    client.connect()
    readout = client.standard_readout()
    client.disconnect()
    assert [(line.address, line.value) for line in readout.data][3:] == [
        ("7-0:13.0.0", "0423434.7"),
        ("7-0:3.0.0", "0423434.7"),
    ]
