"""An independent client, `dlms-cosem` 21.3.2, reads our simulated meter over TCP: both have the same idea of the standard."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from collectors.dlms_acse import Mechanism
from collectors.dlms_data import decode
from collectors.dlms_objects import ScalerUnit, time_of
from collectors.dlms_security import Keys
from simulators.dlms_pusher import DlmsPusher
from simulators.dlms_server import DlmsServer
from simulators.dlms_side import PROFILE
from tests.collectors.test_dlms_poll import DAY, SITE, Rig, boundaries

KEYS = Keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
PASSWORD = b"12345678"
EXPONENT = len(str(SITE.m3_per_tick).partition(".")[2])


@contextmanager
def served(rig: Rig) -> Iterator[int]:
    """The port on which the rig's meter is served, in a thread of its own: the client blocks."""
    loop, server = asyncio.new_event_loop(), DlmsServer(rig.side)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(server.listen(), loop).result(5)
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


@contextmanager
def client(rig: Rig, **how: Any) -> Iterator[Any]:
    from dlms_cosem.clients.dlms_client import DlmsClient

    with served(rig) as port:
        it = DlmsClient.with_tcp_transport("127.0.0.1", port, 1, 1, timeout=5, **how)
        it.connect()
        it.associate()
        yield it
        it.release_association()
        it.disconnect()


def protections() -> list[Any]:
    from dlms_cosem.enumerations import AuthenticationMechanism as Theirs

    low = {"mechanism": Mechanism.LOW, "password": PASSWORD}
    keys = {"encryption_key": KEYS.encryption, "authentication_key": KEYS.authentication, "client_system_title": b"GATEWAY1"}
    return [
        pytest.param({}, {}, id="none"),
        pytest.param(low, {"authentication_method": Theirs.LLS, "password": PASSWORD}, id="password"),
        pytest.param(
            {"mechanism": Mechanism.GMAC, "keys": KEYS, "general": True},
            {"authentication_method": Theirs.HLS_GMAC, "client_initial_invocation_counter": 1, **keys},
            id="GMAC",
        ),
    ]


@pytest.mark.parametrize(("ours", "theirs"), protections())
@pytest.mark.parametrize("message_octets_max", [200, 60000])
def test_an_independent_client_reads_clock_register_and_profile(
    ours: dict[str, Any], theirs: dict[str, Any], message_octets_max: int
) -> None:
    from dlms_cosem.cosem import CosemAttribute, Obis
    from dlms_cosem.cosem.selective_access import CaptureObject, RangeDescriptor
    from dlms_cosem.enumerations import CosemInterface

    rig = Rig(message_octets_max=message_octets_max, **ours)
    first, last = boundaries(DAY)

    def attribute(interface: Any, name: bytes, number: int) -> Any:
        return CosemAttribute(interface, Obis(*name), number)

    with client(rig, **theirs) as it:
        clock = attribute(CosemInterface.CLOCK, bytes([0, 0, 1, 0, 0, 255]), 2)
        get: Callable[..., bytes] = it.get
        assert time_of(decode(bytes(get(clock)))).instants() == (rig.now,)
        index = decode(bytes(get(attribute(CosemInterface.REGISTER, rig.known.index, 2)))).number
        assert ScalerUnit(-EXPONENT, 13).value(index) == (rig.meter.row_now(rig.now).index * SITE.m3_per_tick)
        range_ = RangeDescriptor(CaptureObject(clock, 0), first, last)
        rows = decode(bytes(get(attribute(CosemInterface.PROFILE_GENERIC, PROFILE, 2), access_descriptor=range_))).items
        assert [time_of(row.items[0]).instants()[0] for row in rows] == [first + n * timedelta(hours=1) for n in range(25)]


def test_it_reads_rows_by_entry_with_its_own_parser_and_sets_the_interval() -> None:
    """21.3.2 leaves the encoding of a selection by entry to its user, so that is put together of its types here."""
    from dlms_cosem.cosem import CosemAttribute, Obis
    from dlms_cosem.cosem.selective_access import EntryDescriptor
    from dlms_cosem.dlms_data import DoubleLongUnsignedData, UnsignedLongData
    from dlms_cosem.enumerations import CosemInterface
    from dlms_cosem.parsers import ProfileGenericBufferParser

    class Entries(EntryDescriptor):  # type: ignore[misc]
        def to_bytes(self) -> bytes:
            rows = DoubleLongUnsignedData(self.from_entry).to_bytes() + DoubleLongUnsignedData(self.to_entry).to_bytes()
            columns = (
                UnsignedLongData(self.from_selected_value).to_bytes() + UnsignedLongData(self.to_selected_value).to_bytes()
            )
            return b"\x02\x02\x04" + rows + columns

    rig = Rig(takes_range=False)
    profile = [CosemAttribute(CosemInterface.PROFILE_GENERIC, Obis(*PROFILE), number) for number in range(9)]
    first_row = rig.meter.log(rig.now - rig.meter.log_for, rig.now, rig.now)[9]
    with client(rig) as it:
        octets = bytes(it.get(profile[2], access_descriptor=Entries(10, 12)))
        columns = [CosemAttribute(CosemInterface.CLOCK, Obis(0, 0, 1, 0, 0, 255), 2)]
        columns += [CosemAttribute(CosemInterface.REGISTER, Obis(0, 0, 0, 0, 0, 255), 2)] * (4 if SITE.convertor else 3)
        rows = ProfileGenericBufferParser(columns, 60).parse_bytes(octets)
        assert len(rows) == 3
        assert rows[0][2].value == first_row.index * SITE.m3_per_tick * 10**EXPONENT
        it.set(profile[4], DoubleLongUnsignedData(900).to_bytes())
        assert decode(bytes(it.get(profile[4]))).number == 900
    assert rig.side.capture_period_s == 900


def test_it_decodes_what_the_simulated_meter_pushes() -> None:
    from dlms_cosem.a_xdr import AXdrDecoder, EncodingConf, Sequence
    from dlms_cosem.protocol.xdlms.data_notification import DataNotification

    rig = Rig()
    first, last = boundaries(DAY)
    found = DataNotification.from_bytes(DlmsPusher(rig.side, "127.0.0.1", 1).notification(first, last))
    name, _, rows = AXdrDecoder(EncodingConf(attributes=[Sequence(attribute_name="data")])).decode(found.body)["data"]
    assert (found.long_invoke_id_and_priority.long_invoke_id, found.long_invoke_id_and_priority.confirmed) == (1, True)
    assert bytes(name) == b"DRY"
    assert [row[2] for row in rows] == [
        row.index * SITE.m3_per_tick * 10**EXPONENT for row in rig.meter.log(first, last, rig.now)
    ]
