"""What answers on a line nobody knows: the questions of each protocol that change nothing, and what an answer says.

Pure but for the ports, which ask. All of it is bounded: each question has its time, and the questions are few. None writes, and
each is what such a meter hears every day: for a register's content, to sign on, to open a link, to associate as anybody may.
"""

from __future__ import annotations

import os
import socket
import stat
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal, NamedTuple, Protocol

import serial
from pymodbus.framer import FramerRTU

from collectors.dlms_acse import AARE
from collectors.dlms_describe import described
from collectors.dlms_hdlc import DISC, DM, FLAG, POLL, SNRM, UA, Address, check_sequence
from collectors.dlms_maps import server_address
from collectors.modbus_frames import LineError, Question, Refused
from collectors.serial_port import ADD_EVEN_PARITY

PUBLIC_CLIENT, SERVER = 16, 1
LINK = {UA: "the link opens", DM: "there is a link layer, which does not open"}
# An association request of the lowest security, by logical names (IEC 62056-5-3, and the Green Book's example).
AARQ = bytes.fromhex("601da109060760857405080101be10040e01000000065f1f0400007e1fffff")
HDLC_DEVICES = ("1", "1/17")  # a logical device alone, or behind a physical one, with the address that is the commonest
ANSWER_OCTETS, CHARACTER_BITS = 60, 10
IEC_BAUDS = (300, 9600, 2400, 19200)
HDLC_BAUDS = (9600, 19200, 2400)
MODBUS_BAUDS = (19200, 9600)
Answered = Callable[[bytes], str | None]


class Try(NamedTuple):
    """One question. `answered` says what an answer means, and None while none is there. `settings` are those of a `[[meters]]`
    table, in which `map` is left to a person, and `prefix` stands before its address. `farewell` goes out after an answer."""

    what: str
    octets: bytes
    answered: Answered
    settings: dict[str, Any]
    baud: int = 0
    parity: Literal["N", "E"] = "N"
    farewell: bytes = b""
    prefix: str = ""


class Port(Protocol):
    """Where questions go."""

    def ask(self, one: Try, timeout_s: float) -> str | None:
        """What the answer says; None where none comes in time. OSError."""


class TcpPort:
    """A TCP address, with a connection for each question, so that no late answer meets another."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port

    def ask(self, one: Try, timeout_s: float) -> str | None:
        """As `Port.ask`."""
        with socket.create_connection(self._address, timeout_s) as connection:

            def read(left_s: float) -> bytes:
                connection.settimeout(left_s)
                with suppress(TimeoutError):
                    return connection.recv(4096) or _closed()
                return b""

            try:
                connection.sendall(one.octets)
                said = _heard(one, read, timeout_s)
                if said is not None:
                    connection.sendall(one.farewell)
            except ConnectionError:  # it hangs up on what it does not know
                return None
            return said


class SerialPort:
    """A serial line, opened for each question at its speed."""

    def __init__(self, path: str) -> None:
        self._path = path

    def ask(self, one: Try, timeout_s: float) -> str | None:
        """As `Port.ask`."""
        if os.path.exists(self._path) and not stat.S_ISCHR(os.stat(self._path).st_mode):
            raise OSError("it is no serial line")
        try:
            return self._ask(one, timeout_s)
        except termios.error as error:  # which pyserial lets through
            raise OSError(f"the line cannot be set up: {error.args[-1]}") from error

    def _ask(self, one: Try, timeout_s: float) -> str | None:
        with serial.Serial(self._path, one.baud, parity=_parity(self._path, one.parity), exclusive=True) as port:

            def read(left_s: float) -> bytes:
                port.timeout = left_s
                octets: bytes = port.read(1)
                return octets + bytes(port.read(port.in_waiting)) if octets else b""

            port.reset_input_buffer()
            port.write(one.octets)
            port.flush()
            said = _heard(one, read, timeout_s + ANSWER_OCTETS * CHARACTER_BITS / one.baud)
            if said is not None:
                port.write(one.farewell)
                port.flush()
            return said


def tries(is_serial: bool, units: int) -> list[Try]:
    """What is tried at a TCP address, or on a serial line, with the Modbus units from 1 to `units`."""
    if not is_serial:
        return [*_modbus_tcp(units), _dlms_wrapper(), *_dlms_hdlc(), _iec_sign_on(), *_modbus_rtu(units, {})]
    found = [_iec_sign_on({"baud": baud}, baud) for baud in IEC_BAUDS]
    for baud in HDLC_BAUDS:
        found += _dlms_hdlc({"baud": baud}, baud)
    for baud in MODBUS_BAUDS:
        found += _modbus_rtu(units, {"baud": baud, "parity": "even"}, baud, "E")
        found += _modbus_rtu(units, {"baud": baud, "parity": "none"}, baud, "N")
    return found


def _modbus_tcp(units: int) -> Iterator[Try]:
    for unit in range(1, units + 1):
        body = bytes((unit, 3, 0, 0, 0, 1))
        octets = unit.to_bytes(2, "big") + bytes((0, 0, 0, len(body))) + body
        question = Question("tcp", unit, 3, 0, 1, unit, octets)
        yield Try(f"Modbus TCP, unit {unit}", octets, _modbus(question), {"protocol": "modbus", "device": unit})


def _modbus_rtu(units: int, line: dict[str, Any], baud: int = 0, parity: Literal["N", "E"] = "N") -> Iterator[Try]:
    for unit in range(1, units + 1):
        body = bytes((unit, 3, 0, 0, 0, 1))
        octets = body + FramerRTU.compute_CRC(body).to_bytes(2, "big")
        question = Question("rtu", unit, 3, 0, 1, 0, octets)
        what = f"Modbus RTU, unit {unit}" + (f", {baud} Bd {line['parity']} parity" if baud else " over TCP")
        settings = {"protocol": "modbus", "device": unit} | line
        yield Try(what, octets, _modbus(question), settings, baud, parity, prefix="" if baud else "rtu+")


def _modbus(question: Question) -> Answered:
    def answered(octets: bytes) -> str | None:
        try:
            return "a register's content" if question.answer_in(octets) else None
        except Refused as error:
            return None if any(f"answer {code} " in str(error) for code in (10, 11)) else str(error)
        except LineError:
            return None

    return answered


def _dlms_wrapper() -> Try:
    octets = b"".join(number.to_bytes(2, "big") for number in (1, PUBLIC_CLIENT, SERVER, len(AARQ))) + AARQ

    def answered(answer: bytes) -> str | None:
        whole = len(answer) >= 9 and answer[:2] == b"\0\1" and len(answer) >= 8 + int.from_bytes(answer[6:8], "big")
        return f"as the public client: {described(answer, 'wrapper')}" if whole and answer[8] == AARE else None

    return Try("DLMS/COSEM in wrappers", octets, answered, {"protocol": "dlms", "device": SERVER})


def _dlms_hdlc(line: dict[str, Any] | None = None, baud: int = 0) -> Iterator[Try]:
    for device in HDLC_DEVICES:
        server, client = Address(*server_address(device)).encode(), Address(PUBLIC_CLIENT).encode()
        what = f"DLMS/COSEM in HDLC frames, device {device}" + (f", {baud} Bd" if baud else " over TCP")
        settings = {"protocol": "dlms", "device": int(device) if device.isdigit() else device} | (line or {})
        opens, closes = (_hdlc(server + client + bytes((control | POLL,))) for control in (SNRM, DISC))
        yield Try(what, opens, _link_of(client + server), settings, baud, farewell=closes)


def _link_of(addresses: bytes) -> Answered:
    def answered(answer: bytes) -> str | None:
        for start in (at for at, octet in enumerate(answer[:-2]) if octet == FLAG):
            frame = answer[start + 1 : start + 1 + ((answer[start + 1] & 7) << 8 | answer[start + 2])]
            head, kind = frame[2 : 2 + len(addresses)], frame[2 + len(addresses) : 3 + len(addresses)]
            if head == addresses and check_sequence(frame[:-2]) == frame[-2:]:
                return LINK.get(kind[0] & ~POLL)
        return None

    return answered


def _hdlc(body: bytes) -> bytes:
    """A frame of addresses and control octet, without information."""
    head = bytes((0xA0, 4 + len(body))) + body
    return bytes((FLAG,)) + head + check_sequence(head) + bytes((FLAG,))


def _iec_sign_on(line: dict[str, Any] | None = None, baud: int = 0) -> Try:
    def answered(octets: bytes) -> str | None:
        text = bytes(octet & 0x7F for octet in octets)
        start = text.find(b"/", text.find(b"/?!\r\n") + 1)  # behind an echo
        end = text.find(b"\r\n", start)
        if start < 0 or end < start + 5 or not text[start + 1 : start + 4].isalpha():
            return None
        return f"identification {text[start:end].decode('ascii')}"

    what = "IEC 62056-21 sign-on" + (f", {baud} Bd" if baud else " over TCP")
    settings = {"protocol": "iec62056_21"} | (line or {})
    return Try(what, b"/?!\r\n".translate(ADD_EVEN_PARITY), answered, settings, baud)


def _heard(one: Try, read: Callable[[float], bytes], timeout_s: float) -> str | None:
    heard, until = b"", time.monotonic() + timeout_s
    while (left_s := until - time.monotonic()) > 0 and len(heard) < 4096:
        heard += read(left_s)
        if heard and (said := one.answered(heard)) is not None:
            return said
    return None


def _closed() -> bytes:
    raise ConnectionResetError("closed")


def _parity(path: str, parity: Literal["N", "E"]) -> str:
    """As it is asked for, but on a pseudo-terminal, which has none."""
    return "N" if os.path.realpath(path).startswith("/dev/pts/") else parity
