"""One meter in a gateway's configuration, and everything that can be wrong with it before it is asked.

The maps are looked up and read here, so that `dailyread check` finds what polling would stumble over; no client library
is loaded for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import urlsplit

from msgspec import Meta

from collectors.dlms_maps import dlms_map, server_address
from collectors.modbus_maps import register_map
from collectors.profile_maps import profile_map
from dailyread.settings import NameOrFile, Table
from metering.limits import Name

TCP = "tcp://host:port (1 to 65535)"
Seconds = Annotated[float, Meta(gt=0)]
Mistakes = Iterator[tuple[str, str]]
_DEVICE_ADDRESS = re.compile(r"[A-Za-z0-9 ]{0,32}")


class MeterConfig(Table, frozen=True, kw_only=True):
    """One meter: where it is and how it speaks.

    `address` is `tcp://host:port` or `serial:/dev/ttyUSB0`; behind a converter `tcp://` too, or `rtu+tcp://` (Modbus RTU) or
    `rfc2217://` (IEC 62056-21). What shares an address is asked one after the other. `device` is the Modbus unit (0 to 255),
    the IEC 62056-21 device address (empty: any), or the DLMS server (`1`, `1/17`). `map` names a register map (Modbus), a
    profile map or a DLMS map, or is the path of a file of one's own. One item of equipment with several meters (M4.1.4) has a
    table for each meter: the same address and device, and for each a map of its own, which says where its registers or
    channels are.
    """

    meter_point: Name
    meter: Name
    protocol: Literal["modbus", "iec62056_21", "dlms"]
    address: Annotated[str, Meta(min_length=1)]
    device: str | int = ""
    map: NameOrFile | None = None
    interval_s: Annotated[int, Meta(ge=360, le=86_400, description="M4.1.3: 6 minutes or more")] = 3600
    timeout_s: Seconds | None = None
    baud: Literal[300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200] | None = None
    parity: Literal["none", "even"] | None = None
    within_day: bool | None = None

    def mistakes(self) -> Mistakes:
        if self.protocol == "modbus":
            yield from _modbus_mistakes(self)
        elif self.protocol == "dlms":
            yield from _dlms_mistakes(self)
        else:
            yield from _iec_mistakes(self)


class PushingMeterConfig(Table, frozen=True, kw_only=True):
    """One DLMS meter that pushes. `sender`: its logical device name, or its system title where its map has keys; `host`: the
    only address that it pushes from. It may be among `meters` too, and is polled for what it did not push then."""

    meter_point: Name
    meter: Name
    sender: Annotated[str, Meta(min_length=1, max_length=64)]
    map: NameOrFile
    host: str | None = None

    def mistakes(self) -> Mistakes:
        try:
            found = dlms_map(self.map)
            found.keys()
        except ValueError as error:
            yield "map", str(error)
            return
        if found.push is None:
            yield "map", f'found "{self.map}", without a table `push`; allowed: one that says what a notification holds'
            return
        try:
            found.push_name(self.sender)
        except ValueError as error:
            yield "sender", str(error)


class Named(Protocol):
    """What has the names of a meter."""

    @property
    def meter_point(self) -> str: ...
    @property
    def meter(self) -> str: ...


def together(meters: Sequence[MeterConfig], others: Sequence[Named] = ()) -> Mistakes:
    """What is wrong with meters beside each other, and beside `others`, which are not asked: names that must be one's own,
    and one line's settings."""
    for field, what in (("meter_point", "of the meter point"), ("meter", "with the serial number")):
        for name, those in _more_than_once([str(getattr(meter, field)) for meter in (*meters, *others)]):
            yield _tables(those, len(meters)), f'two meters {what} "{name}"; allowed: one each'
    ends = [(meter.address, str(meter.device), meter.map or "") for meter in meters]
    for (address, device, map_), those in _more_than_once(ends):
        what = f'at "{address}" with the device "{device}" and the map "{map_}"'
        yield _tables(those, len(meters)), f"two meters {what}; allowed: one each"
    yield from _of_one_line(meters, "parity", lambda meter: meter.parity or "even")
    yield from _of_one_line(meters, "protocol", lambda meter: meter.protocol)
    yield from _of_one_line(
        [None if meter.protocol == "iec62056_21" else meter for meter in meters], "baud", lambda meter: meter.baud
    )
    yield from _of_one_line(
        [meter if meter.protocol == "modbus" else None for meter in meters], "timeout_s", lambda meter: meter.timeout_s
    )


def told(meter: MeterConfig) -> str:
    """A meter that is rightly configured, in two lines, so that they fit a terminal."""
    device = f", device {json.dumps(meter.device)}" if meter.device != "" else ""
    line = f", {meter.baud} Bd" if meter.baud else ""
    parity = f", {meter.parity.replace('none', 'no')} parity" if meter.parity else ""
    where = f"{meter.protocol} at {meter.address}{device}{line}{parity}"
    return f"{meter.meter_point}  {meter.meter}  {where}\n    every {meter.interval_s} s, map {meter.map}: {_map_title(meter)}"


def _map_title(meter: MeterConfig) -> str:
    name = meter.map or ""
    if meter.protocol == "modbus":
        return register_map(name).title
    return dlms_map(name).title if meter.protocol == "dlms" else profile_map(name).title


def is_line(address: str) -> bool:
    """Whether the text is `tcp://host:port` or `serial:/dev/NAME`."""
    if address.startswith("serial:"):
        return len(address) > len("serial:")
    try:
        url = urlsplit(address)
        return url.scheme == "tcp" and bool(url.hostname) and bool(url.port) and url.path == ""
    except ValueError:
        return False


def _modbus_mistakes(meter: MeterConfig) -> Mistakes:
    is_serial = meter.address.startswith("serial:")
    if not is_line(meter.address.removeprefix("rtu+")):
        allowed = f"{TCP}, rtu+tcp://host:port, serial:/dev/NAME"
        yield "address", f'found "{meter.address}"; allowed with modbus: {allowed}'
    units = range(1, 248) if is_serial or meter.address.startswith("rtu+") else range(256)
    if not (isinstance(meter.device, int) and meter.device in units):
        allowed = f"the Modbus unit, a whole number from {units[0]} to {units[-1]}"
        yield "device", f"found {json.dumps(meter.device)}; allowed: {allowed}"
    for field in () if is_serial else ("baud", "parity"):
        if getattr(meter, field) is not None:
            yield field, "given, but there is no serial line; allowed: with serial:/dev/NAME only"
    if not meter.map:
        yield "map", "missing; allowed: the name of a register map, or the path of a .toml file"
        return
    try:
        allowed = register_map(meter.map).other_intervals(meter.interval_s)
    except ValueError as error:
        yield "map", str(error)
        return
    if allowed:
        yield "interval_s", f'found {meter.interval_s}; allowed with the map "{meter.map}": {allowed}'


def _iec_mistakes(meter: MeterConfig) -> Mistakes:
    if not is_line(meter.address.replace("rfc2217:", "tcp:", 1)):
        allowed = f"serial:/dev/NAME, {TCP}, rfc2217://host:port"
        yield "address", f'found "{meter.address}"; allowed with iec62056_21: {allowed}'
    if not _DEVICE_ADDRESS.fullmatch(str(meter.device)):
        allowed = "an IEC 62056-21 device address, up to 32 letters, digits and spaces"
        yield "device", f"found {json.dumps(meter.device)}; allowed: {allowed}"
    if not meter.map:
        yield "map", "missing; allowed: the name of a profile map, or the path of a .toml file"
        return
    try:
        profile_map(meter.map).password()
    except ValueError as error:
        yield "map", str(error)


def _dlms_mistakes(meter: MeterConfig) -> Mistakes:
    if not is_line(meter.address):
        yield "address", f'found "{meter.address}"; allowed with dlms: {TCP}, serial:/dev/NAME'
    if meter.parity == "even":
        yield "parity", 'found "even"; allowed with dlms: "none", or left out'
    try:
        server_address(meter.device)
    except ValueError as error:
        yield "device", str(error)
    if not meter.map:
        yield "map", "missing; allowed: the name of a DLMS map, or the path of a .toml file"
        return
    try:
        found = dlms_map(meter.map)
        found.password()
        found.keys()
    except ValueError as error:
        yield "map", str(error)
        return
    if mistake := found.does_not_fit(meter.address):
        yield "map", mistake


def _of_one_line(meters: Sequence[MeterConfig | None], field: str, of: Callable[[MeterConfig], object]) -> Mistakes:
    """Where two meters of one address differ in what the line can be once only."""
    first: dict[str, tuple[int, MeterConfig]] = {}
    for number, meter in enumerate(meters):
        if meter is None:
            continue
        before, other = first.setdefault(meter.address, (number, meter))
        if of(other) != of(meter):
            yield _tables([before, number], len(meters)), f'different `{field}` at "{meter.address}"; allowed: one for a line'
            return


def _more_than_once(values: Sequence[Any]) -> list[tuple[Any, list[int]]]:
    """Values that are there more than once, with the positions."""
    where: dict[Any, list[int]] = {}
    for number, value in enumerate(values):
        where.setdefault(value, []).append(number)
    return [(value, numbers) for value, numbers in where.items() if len(numbers) > 1]


def _tables(numbers: Sequence[int], polled: int) -> str:
    """The tables `[[meters]]` at these positions; those of meters that push stand behind the `polled` ones, without a name."""
    return " and ".join(f"meters[{number + 1}]" for number in numbers if number < polled) or "meters"
