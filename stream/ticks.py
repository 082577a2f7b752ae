"""Ticks: facts that say how late it is, so that what is due comes out although nothing else happens.

Published to `broadcast` by the worker that relays it: when it begins to, and at each whole multiple of the interval in UTC.
With the usual minute that includes 05:00 and 11:00 local time. Nobody decides anything by this clock: a tick counts from
when the broker appended it. In simulated time the simulator publishes the ticks.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from metering.facts import Tick
from metering.wire import encode_frame
from stream.metrics import METRICS
from stream.processor import RELAY
from stream.relay import Relay
from stream.settings import WorkerSettings
from stream.sink import Sink


async def publish_ticks(settings: WorkerSettings, relay: Relay, sink: Sink) -> None:
    """Publish ticks until cancelled, while this worker is the relay's owner."""
    while True:
        if not relay.owner:
            await asyncio.sleep(min(1.0, settings.tick_s))
            continue
        tick = encode_frame([Tick(now=datetime.now(UTC))], RELAY)
        await sink.send(settings.topics.broadcast, 0, [(None, tick)])
        METRICS.ticks.inc()
        await asyncio.sleep(settings.tick_s - time.time() % settings.tick_s + 0.01)
