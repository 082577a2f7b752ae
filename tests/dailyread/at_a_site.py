"""A site to try commands at: a meter of each protocol on real sockets and a pseudo-terminal, and a gateway's configuration."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from simulators.meter import SimulatedMeter
from simulators.serve import Service, serve
from simulators.sites import Convertor, Site
from tests.patience import patient

ROOT = Path(__file__).parents[2]
PASSWORDS = {"dlms": "s3cret-dlms", "iec62056_21": "s3cretIEC"}
METERS = {"modbus_tcp": "MOD-1", "dlms": "DLM-1", "iec62056_21": "IEC-1"}
KAFKA = '[kafka]\nbootstrap_servers = ["127.0.0.1:1"]\n'  # nobody is there
T = TypeVar("T")


def site(protocol: Any, number: int, **more: Any) -> Site:
    """A site with a meter of 0.1 m³ a tick that was fitted 30 days ago."""
    fitted_at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=30)
    return Site(
        name=f"site-{number}", protocol=protocol, meter_point=f"MP-{number}", meter=METERS[protocol], equipment=f"E-{number}",
        users=("Alder",), ldz="NW", registered=fitted_at.date(), annual_quantity_kwh=Decimal(20_000_000), profile="process",
        seed=number, fitted_at=fitted_at, digits=8, m3_per_tick=Decimal("0.1"), start_index=1000, q_max_m3_per_h=Decimal(900),
        convertor=Convertor(unconverted_digits=8, unconverted_m3_per_tick=Decimal("0.1")), password=PASSWORDS.get(protocol),
        **more,
    )  # fmt: skip


class AtSite:
    """The folder with `gateway.toml`, and the meters' truth by serial number."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder, self.config = folder, folder / "gateway.toml"
        self.meters: dict[str, SimulatedMeter] = dict(
            zip((meter.meter for meter in service.settings), service.meters.values(), strict=True)
        )
        self.addresses = {meter.meter: meter.address for meter in service.settings}
        self.text = f'gateway = "g"\nstate_dir = "state"\n{KAFKA}{service.gateway("g").toml()}'
        self.config.write_text(self.text.replace("backfill_days = 40", "backfill_days = 1"))

    def environment(self) -> dict[str, str]:
        """Of a command: nothing of ours in it."""
        return {name: value for name, value in os.environ.items() if not name.startswith("DAILYREAD_")}

    def run(
        self, *arguments: str, config: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command, as a person starts it."""
        last = ["--config", str(self.config)] if config else []
        command = [sys.executable, "-m", "dailyread", *arguments, *last]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment() | dict(environment or {}), capture_output=True, text=True,
            timeout=patient(30), check=False,
        )  # fmt: skip


@contextmanager
def at_a_site(
    folder: Path, protocols: tuple[str, ...] = ("modbus_tcp", "dlms", "iec62056_21"), **more: Any
) -> Iterator[AtSite]:
    """Serve it, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def on_loop(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(patient(10))

    sites = [site(protocol, number, **more) for number, protocol in enumerate(protocols, 1)]
    service = on_loop(serve(sites, lambda: datetime.now(UTC), folder))
    try:
        yield AtSite(folder, service)
    finally:
        on_loop(service.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
