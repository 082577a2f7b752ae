"""`dailyread probe`: what answers at an address or on a serial line."""

from __future__ import annotations

import argparse
import sys
from urllib.parse import urlsplit

from collectors.dlms_maps import known as dlms_maps
from collectors.modbus_maps import known as modbus_maps
from collectors.os_error import in_words
from collectors.probe import Port, SerialPort, TcpPort, Try, tries
from collectors.profile_maps import known as profile_maps
from dailyread.meters import is_line
from dailyread.report.wording import plain

HELP = """Find out what answers at tcp://host:port or on serial:/dev/NAME: asks by each protocol in turn, and stops at the
first that is answered. Nothing is written to a meter; each question is one that such a meter hears every day, and each has
its time, so that all of it ends in less than a minute. Nothing else may use a serial line meanwhile: stop the gateway
first. Prints what was tried and what answered, and a `[[meters]]` table to start from.
Exit 0: something answers; 1: nothing does, or the line cannot be opened; 2: that is no address."""

MAPS = {"modbus": modbus_maps, "iec62056_21": profile_maps, "dlms": dlms_maps}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("address", metavar="ADDRESS", help="tcp://host:port or serial:/dev/NAME")
    parser.add_argument("--units", metavar="N", type=_units, default=3, help="ask the Modbus units 1 to N (default: 3)")
    parser.add_argument("--timeout", metavar="S", type=_seconds, default=1.5, help="seconds for each answer (default: 1.5)")


def run(args: argparse.Namespace) -> int:
    """Probe the address; returns the exit code."""
    if not is_line(args.address):
        more = " (a converter is asked at tcp://, by RTU frames too)" if args.address.startswith(("rtu+", "rfc2217")) else ""
        print(f'ADDRESS: found "{args.address}"; allowed: tcp://host:port, serial:/dev/NAME{more}', file=sys.stderr)
        return 2
    port, is_serial = _port(args.address)
    asked = tries(is_serial, args.units)
    print(f"{args.address}: {len(asked)} questions at most, {args.timeout:g} s each")
    try:
        found = _ask(port, asked, args.timeout)
    except OSError as error:
        print(f"dailyread probe: {args.address}: {in_words(error)}", file=sys.stderr)
        return 1
    if not found:
        print("nothing that we know answers")
        return 1
    for one in found:
        print("\n" + "\n".join(_table(args.address, one)))
    return 0


def _units(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 247):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a whole number from 1 to 247")
    return int(text)


def _seconds(text: str) -> float:
    try:
        if 0 < (seconds := float(text)) <= 60:
            return seconds
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"found {text!r}; allowed: seconds, above 0 and at most 60")


def _port(address: str) -> tuple[Port, bool]:
    if address.startswith("serial:"):
        return SerialPort(address.removeprefix("serial:")), True
    url = urlsplit(address)
    return TcpPort(url.hostname or "", url.port or 0), False


def _ask(port: Port, asked: list[Try], timeout_s: float) -> list[Try]:
    """What is answered, by the first protocol that is, at its speed: each device that is."""
    found: list[Try] = []
    for one in asked:
        if found and _way(one) != _way(found[0]):
            break
        said = port.ask(one, timeout_s)
        print(f"{one.what}: {plain(said) if said else 'no answer'}", flush=True)
        if said:
            found.append(one)
    return found


def _way(one: Try) -> tuple[str, int, str]:
    return one.what.partition(",")[0], one.baud, one.parity


def _table(address: str, one: Try) -> list[str]:
    """A table of the configuration, with what a person has to say."""
    lines = [
        "[[meters]]",
        'meter_point = "?"   # the Supply Meter Point',
        'meter = "?"         # the serial number on the plate',
    ]
    settings = {"address": one.prefix + address} | one.settings
    lines += [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in settings.items()]
    maps = MAPS[settings["protocol"]]()
    lines.append('map = "?"           # for this make of meter, one of:')
    lines += [f"#   {name}" for name in maps]
    lines.append(
        "#   or a .toml file of your own" + ("" if settings["protocol"] == "modbus" else ", which names a password, too")
    )
    return lines
