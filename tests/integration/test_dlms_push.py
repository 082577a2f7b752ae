"""`dailyread collect` where a DLMS meter pushes, killed again and again: what was confirmed is on disk."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

from collectors.outbox import Outbox
from metering.facts import Readings
from simulators.dlms_pusher import DlmsPusher
from tests.collectors.test_dlms_poll import DAY, Rig, boundaries
from tests.patience import patient

KILLS = 3
CONFIG = """
gateway = "g1"
state_dir = "{folder}"
[kafka]
bootstrap_servers = ["127.0.0.1:1"]
[dlms_push]
listen = "127.0.0.1:{port}"
[[dlms_push.meters]]
meter_point = "MP1"
meter = "M1"
sender = "DRY"
map = "hourly_push"
"""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_what_was_confirmed_outlives_kills(tmp_path: Path) -> None:
    rig, port = Rig(), free_port()
    (tmp_path / "gateway.toml").write_text(CONFIG.format(folder=tmp_path, port=port))
    first, _ = boundaries(DAY)
    confirmed: list[int] = []

    async def push(hours: range) -> None:
        """Each hour's row, again until it is confirmed."""
        pusher = DlmsPusher(rig.side, "127.0.0.1", port)
        for hour in hours:
            at = first + timedelta(hours=hour)
            async with asyncio.timeout(patient(20)):
                while not await _pushed(pusher, at):
                    await asyncio.sleep(0.05)
            confirmed.append(hour)

    for kill in range(KILLS):
        command = [sys.executable, "-m", "dailyread", "collect", "--config", str(tmp_path / "gateway.toml")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as gateway:
            try:
                asyncio.run(push(range(kill * 8, kill * 8 + 8)))
            finally:
                gateway.send_signal(signal.SIGKILL)
    with closing(Outbox(tmp_path / "outbox.sqlite", "g1")) as outbox:
        stored = [fact for fact in (one.fact for one in outbox.pending(1000)) if isinstance(fact, Readings)]
    held = {fact.first_at or (fact.at or (None,))[0]: fact.index[0] for fact in stored if fact.gas_day == DAY}
    assert confirmed == list(range(8 * KILLS))
    for hour in confirmed:
        at = first + timedelta(hours=hour)
        assert held[at] == rig.meter.true_index_at(at)


async def _pushed(pusher: DlmsPusher, at: datetime) -> bool:
    with suppress(OSError):
        return await pusher.push(at, at, patient(2))
    return False
