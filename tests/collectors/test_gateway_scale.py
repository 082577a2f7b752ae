"""Many meters at a time: connections are bounded, for files are; and nobody is left out."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

import collectors.gateway
from collectors.gateway import Gateway
from collectors.outbox import Outbox
from simulators.serve import ServedGateway, ServedMeter, ServedPolling
from tests.collectors.canned_modbus import CannedModbus
from tests.collectors.test_modbus import NOW, server
from tests.patience import patient


class StandingClock:
    """It is always the same time."""

    def now(self):  # type: ignore[no-untyped-def]
        return NOW

    async def wait_until(self, _instant: object) -> None:
        await asyncio.Event().wait()


class Counting(CannedModbus):
    """Counts how many connections are open at a time."""

    open = most = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await super()._serve(reader, writer)
        finally:
            self.open -= 1


def test_so_many_connections_are_open_at_a_time_and_every_meter_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collectors.gateway, "CONNECTIONS_MAX", 5)
    counting = Counting(server().registers)

    async def main(outbox: Outbox) -> None:
        listening = await asyncio.start_server(counting._serve, "0.0.0.0", 0)  # the meters have a loopback address each
        port = listening.sockets[0].getsockname()[1]
        async with listening:
            meters = tuple(
                ServedMeter(
                    meter_point=f"P{n}", meter=f"m{n}", protocol="modbus", address=f"tcp://127.0.0.{1 + n}:{port}",
                    device=1, map="hourly_log",
                )
                for n in range(40)
            )  # fmt: skip
            settings = ServedGateway(gateway="gw", meters=meters, polling=ServedPolling(timeout_s=patient(10)))
            assert await Gateway(settings, StandingClock(), outbox).poll_once() == 0

    with closing(Outbox(tmp_path / "outbox.db", "gw")) as outbox:
        asyncio.run(main(outbox))
        assert outbox.backlog().facts == 40
    assert 1 < counting.most <= 2 * 5  # the server may see one that is being closed beside the next
