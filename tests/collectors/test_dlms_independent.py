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
from simulators.dlms_server import DlmsServer
from simulators.dlms_side import PROFILE
from tests.collectors.test_dlms_poll import DAY, SITE, Rig, boundaries

KEYS = Keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
PASSWORD = b"12345678"


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
        assert ScalerUnit(-len(str(SITE.m3_per_tick).partition(".")[2]), 13).value(index) == (
            rig.meter.row_now(rig.now).index * SITE.m3_per_tick
        )
        range_ = RangeDescriptor(CaptureObject(clock, 0), first, last)
        rows = decode(bytes(get(attribute(CosemInterface.PROFILE_GENERIC, PROFILE, 2), access_descriptor=range_))).items
        assert [time_of(row.items[0]).instants()[0] for row in rows] == [first + n * timedelta(hours=1) for n in range(25)]
