"""`dailyread probe` on real sockets and pseudo-terminals: what answers is named, and what does not ends in time."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import tomllib
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collectors.modbus_maps import register_map
from collectors.probe import tries
from dailyread.cli import main
from simulators.modbus_server import ModbusPtyServer, ModbusServer
from tests.dailyread.at_a_site import AtSite, at_a_site, site
from tests.patience import patient


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtSite]:
    with at_a_site(tmp_path_factory.mktemp("site")) as served:
        yield served


def probed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, list[dict[str, Any]]]:
    """The exit code, what was printed, and the tables in it."""
    code = main(["probe", *arguments])
    text = capsys.readouterr().out
    _, _, tables = text.partition("[[meters]]")
    return code, text, tomllib.loads("[[meters]]" + tables)["meters"] if tables else []


FOUND = {
    "MOD-1": ("Modbus TCP, unit 1: a register's content", {"protocol": "modbus", "device": 1}),
    "DLM-1": ("DLMS/COSEM in wrappers: as the public client: 1 to 16: AARE, accepted", {"protocol": "dlms", "device": 1}),
    "IEC-1": (r"IEC 62056-21 sign-on, 300 Bd: identification /DRY5\@E-3", {"protocol": "iec62056_21", "baud": 300}),
}


@pytest.mark.parametrize("meter", FOUND)
def test_what_answers_is_named_with_a_table_to_start_from(here: AtSite, meter: str, capsys: pytest.CaptureFixture[str]) -> None:
    address, (said, settings) = here.addresses[meter], FOUND[meter]
    code, text, tables = probed(capsys, address, "--timeout", "0.4", "--units", "1")
    assert code == 0
    assert said in text
    assert max(map(len, text.splitlines())) <= 80
    assert tables == [{"meter_point": "?", "meter": "?", "map": "?", "address": address} | settings]


def test_every_unit_of_a_line_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with modbus_on_a_pty(2, 3) as path:
        code, text, tables = probed(capsys, f"serial:{path}", "--timeout", "0.15", "--units", "3")
    assert code == 0
    assert [(table["device"], table["baud"], table["parity"]) for table in tables] == [(2, 19200, "even"), (3, 19200, "even")]
    assert "IEC 62056-21 sign-on, 300 Bd: no answer" in text


@contextmanager
def modbus_on_a_pty(*units: int) -> Iterator[Path]:
    loop = asyncio.new_event_loop()
    meters = {unit: site("modbus_tcp", unit).build() for unit in units}
    server = ModbusPtyServer(ModbusServer(meters, register_map("hourly_log"), lambda: datetime.now(UTC)))
    loop.call_soon(server.start)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Path(server.path)
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_an_hdlc_meter_behind_a_port_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with at_a_site(tmp_path, ("dlms",), link="hdlc") as served:
        code, text, _ = probed(capsys, served.addresses["DLM-1"], "--timeout", "0.4", "--units", "1")
    assert code == 0
    assert "DLMS/COSEM in HDLC frames, device 1/17 over TCP: the link opens" in text


def test_a_line_on_which_nobody_is_ends_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    began = time.monotonic()
    code, text, tables = probed(capsys, f"serial:{os.ttyname(slave)}", "--timeout", "0.05", "--units", "1")
    assert time.monotonic() - began < patient(15)
    assert (code, tables) == (1, [])
    assert text.count("no answer") == len(tries(True, 1))
    assert text.endswith("nothing that we know answers\n")
    os.close(master)
    os.close(slave)


def test_a_port_that_says_something_else_is_no_meter(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"220 mail.example.org ESMTP / hello\r\n" + bytes(range(256)))

        threading.Thread(target=greet, daemon=True).start()
        code, _, tables = probed(capsys, f"tcp://127.0.0.1:{server.getsockname()[1]}", "--timeout", "0.2", "--units", "1")
    assert (code, tables) == (1, [])


@pytest.mark.parametrize("address", ["serial:/dev/there-is-none", "tcp://127.0.0.1:1", "serial:/etc/passwd"])
def test_a_line_that_is_not_there_is_said(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", address]) == 1
    said = {"serial:/dev/there-is-none": "No such file or directory", "serial:/etc/passwd": "it is no serial line"}
    assert capsys.readouterr().err == f"dailyread probe: {address}: {said.get(address, 'Connection refused')}\n"


def test_what_is_no_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for argument, allowed in (("--units", "a whole number from 1 to 247"), ("--timeout", "seconds, above 0 and at most 60")):
        for value in ("0", "300", "x"):
            with pytest.raises(SystemExit):
                main(["probe", "tcp://127.0.0.1:1", argument, value])
            assert f"argument {argument}: found '{value}'; allowed: {allowed}" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:502", "tcp://127.0.0.1", "serial:", "http://x:1"])
def test_what_is_no_address_is_refused(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", address]) == 2
    assert "allowed: tcp://host:port, serial:/dev/NAME" in capsys.readouterr().err
