"""One item of equipment with several meters (M4.1.4): one address, one device, and for each meter a map of its own."""

from __future__ import annotations

import asyncio
import re
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collectors.clock import SystemClock
from collectors.gateway import Gateway
from collectors.modbus_maps import register_map
from collectors.outbox import Outbox
from dailyread.cli import main
from dailyread.config import GatewayConfig, load_config
from metering.facts import Readings
from metering.gasday import GasDays, to_us
from tests.collectors.canned_modbus import CannedModbus, archive_registers

SECOND = 20_000  # where the second meter's registers begin
MAP = Path(__file__).parents[2] / "collectors" / "modbus_maps" / "hourly_log.toml"
CONFIG = """gateway = "g"
state_dir = "state"
[kafka]
bootstrap_servers = ["127.0.0.1:1"]
[[meters]]
meter_point = "MP-1"
meter = "M-1"
protocol = "modbus"
address = "tcp://127.0.0.1:{port}"
device = 7
map = "hourly_log"
[[meters]]
meter_point = "MP-2"
meter = "M-2"
protocol = "modbus"
address = "tcp://127.0.0.1:{port}"
device = 7
map = "{second}"
"""
DAYS = GasDays()
HOUR_S = 3600


def second_map(folder: Path) -> Path:
    """The map of the first meter with all places moved, but those within a record."""
    own = ("at =", "index =", "unconverted =", "own_index =", "status =")
    lines = [
        line if line.startswith(own) else re.sub(r"address = (\d+)", lambda at: f"address = {int(at[1]) + SECOND}", line)
        for line in MAP.read_text().splitlines()
    ]
    (folder / "second.toml").write_text("\n".join(lines))
    return folder / "second.toml"


@pytest.mark.clause("4.1.4")
def test_each_meter_of_one_device_is_read_by_its_own_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    day = DAYS.day_of(to_us(now)) - 1
    start_s, end_s = DAYS.start_us(day) // 1_000_000, DAYS.end_us(day) // 1_000_000
    registers: dict[int, int] = {}
    for base, map_ in ((10_000, register_map("hourly_log")), (77_000, register_map(str(second_map(tmp_path))))):
        rows = [(at_s, base + at_s // HOUR_S) for at_s in range(start_s - 5 * HOUR_S, end_s + 1, HOUR_S)]
        registers |= archive_registers(map_, int(now.timestamp()), rows, 100)
    path = tmp_path / "gateway.toml"

    async def main_() -> None:
        async with CannedModbus(registers).serving() as server:
            path.write_text(CONFIG.format(port=server.port, second="second.toml"))
            config = load_config(GatewayConfig, path)
            with closing(Outbox(tmp_path / "outbox", "g")) as outbox:
                assert await Gateway(config, SystemClock(), outbox).poll_once() == 0
                found = {fact.fact.meter: fact.fact for fact in outbox.pending(10) if isinstance(fact.fact, Readings)}
        for meter, point, base in (("M-1", "MP-1", 10_000), ("M-2", "MP-2", 77_000)):
            expected = tuple(base + at_s // HOUR_S for at_s in range(start_s, end_s + 1, HOUR_S))
            assert (found[meter].meter_point, found[meter].index) == (point, expected)

    asyncio.run(main_())
    assert main(["check", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "MP-1  M-1  modbus at tcp://127.0.0.1:" in shown
    path.write_text(CONFIG.format(port=1, second="hourly_log"))
    assert main(["check", str(path)]) == 2
    assert 'with the device "7" and the map "hourly_log"; allowed: one each' in capsys.readouterr().err
