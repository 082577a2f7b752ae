"""Listens for DLMS/COSEM meters that push: DataNotification in wrappers over TCP (IEC 62056-47).

A notification is confirmed, where the meter wants that, only when what it says is on disk in the outbox; while the disk
refuses, connections wait. What cannot be used of a meter of ours becomes a `poll_failed` fact with the reason, and is
confirmed, or it would come for ever. Who is none of ours gets no answer, and one line in the log.

`dlms.md` beside this file describes what has to be set in the meter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol

from collectors.alarms import of_day
from collectors.counters import GatewayCounters
from collectors.dlms_base import NeedData, RemoteError
from collectors.dlms_link import WrapperReader, wrapped
from collectors.dlms_maps import dlms_map
from collectors.dlms_notification import BadNotification, Sender, Stranger, facts_of, sent_by
from collectors.dlms_reader import meter_of
from collectors.dlms_security import Keys
from collectors.dlms_xdlms import DataNotification, NotificationConfirm
from collectors.gateway import Evidence, no_evidence
from collectors.outbox import Outbox, OutboxError, Told
from collectors.reading import as_reason
from collectors.store import Store, ToStore
from collectors.trace import Frame
from metering.facts import AnyFact, PollFailed, Readings
from metering.gasday import GasDays, to_datetime, to_us

log = logging.getLogger(__name__)
READ_OCTETS = 4096
IDLE_S = 120.0
CONNECTIONS_MAX = 1000
STRANGERS_MAX = 100
TOLD_DAYS = 40  # so long an alarm is not told once more


class PushingMeter(Protocol):
    """One meter that pushes (`dailyread.config.PushingMeterConfig`)."""

    @property
    def meter_point(self) -> str: ...
    @property
    def meter(self) -> str: ...
    @property
    def sender(self) -> str:
        """Its logical device name; where its map has keys, its system title in 16 hexadecimal digits."""

    @property
    def map(self) -> str: ...
    @property
    def host(self) -> str | None: ...


@dataclass
class PushCounters:
    """What happened since the start, for metrics. `store`: of which what it says of the disk counts."""

    notifications: int = 0
    readings: int = 0
    rejected: int = 0
    strangers: int = 0
    connections: int = 0  # now
    store: GatewayCounters = field(default_factory=GatewayCounters)


def sender_of(meter: PushingMeter) -> Sender:
    """The meter with what its map says. ValueError where they do not fit."""
    map_ = dlms_map(meter.map)
    name, keys = map_.push_name(meter.sender), map_.keys()
    assert map_.push is not None  # else it has no name
    return Sender(
        meter_point=meter.meter_point,
        meter=meter.meter,
        name=name,
        map=map_,
        known=meter_of(map_, map_.push.period_s),
        keys=None if keys is None else Keys(*keys),
        host=meter.host,
    )


class DlmsPush:
    """Takes what the meters push, from `listen` until `close`. ValueError where a meter's settings do not fit.

    `evidence` is called with the octets of each notification that brought readings, in a thread; it must not raise.
    """

    def __init__(
        self,
        meters: Iterable[PushingMeter],
        outbox: Outbox,
        now: Callable[[], datetime],
        *,
        days: GasDays | None = None,
        evidence: Evidence = no_evidence,
        idle_s: float = IDLE_S,
    ) -> None:
        self.counters = PushCounters()
        self._senders = [sender_of(meter) for meter in meters]
        self._outbox, self._now, self._days, self._idle_s = outbox, now, days or GasDays(), idle_s
        self._evidence = evidence
        self._store = Store(outbox, now, self.counters.store)
        self._strangers: set[str] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> int:
        """Begin; the port, which is another than `port` where that is 0. Raises OSError."""
        self._server = await asyncio.start_server(self._connected, host, port, limit=READ_OCTETS)
        self._begin(self._store.run())
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def close(self) -> None:
        """Hang up. What is not on disk is not confirmed, and comes again where the meter keeps it."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.counters.connections >= CONNECTIONS_MAX:
            writer.close()
            return
        self.counters.connections += 1
        self._begin(self._talk(reader, writer))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = str((writer.get_extra_info("peername") or ["?"])[0])
        try:
            await self._listen_to(host, reader, writer)
        except RemoteError as error:
            self._tell_stranger(host, str(error))
        except (OSError, TimeoutError, OutboxError) as error:  # it has gone, or cannot be stored now: it comes again
            log.debug("DLMS push: %s: %s", host, error)
        except Exception:  # a fault of ours with one message must not end the others'
            log.exception("DLMS push: %s: a message could not be taken", host)
        finally:
            self.counters.connections -= 1
            writer.close()

    async def _listen_to(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages = WrapperReader()
        while True:
            async with asyncio.timeout(self._idle_s):
                data = await reader.read(READ_OCTETS)
            if not data:
                return
            messages.receive_data(data)
            while not isinstance(found := messages.next_message(), NeedData):
                if answer := await self._taken(found.message, host):
                    writer.write(wrapped(found.destination, found.source, answer))
                    await writer.drain()

    async def _taken(self, message: bytes, host: str) -> bytes:
        """Returns when it is on disk: what to answer, if anything."""
        self.counters.notifications += 1
        notification: DataNotification | None
        try:
            sender, notification = sent_by(message, self._senders, host)
            facts = facts_of(sender, notification, self._days)
        except Stranger as error:
            self._tell_stranger(host, str(error))
            return b""
        except BadNotification as error:
            sender, notification = error.sender, error.notification
            await self._store.put(ToStore([self._rejected(sender, str(error))]))
        else:
            frame = Frame(self._now(), False, message)
            for fact in facts:
                await self._store.beside(self._evidence, sender.meter, fact.gas_day, (frame,))
            await self._store.put(await self._store.beside(self._with_alarms, sender, facts))
            self.counters.readings += sum(index is not None for fact in facts for index in fact.index)
        return _confirmation(sender, notification)

    def _with_alarms(self, sender: Sender, facts: Sequence[Readings]) -> ToStore:
        """The facts, and what their status has to tell that is not told yet."""
        before = told = self._outbox.told(sender.meter)
        alarms: list[AnyFact] = []
        for fact in facts:
            day = fact.gas_day.toordinal()
            at = min(self._now(), to_datetime(self._days.end_us(day)))
            new = of_day(sender.meter_point, sender.meter, day, at, fact.status, told, day - TOLD_DAYS)
            alarms.extend(new.facts)
            told = new.told
        changes: list[tuple[str, frozenset[Told]]] = [(sender.meter, told)] if told != before else []
        return ToStore([*facts, *alarms], told=changes)

    def _rejected(self, sender: Sender, reason: str) -> PollFailed:
        self.counters.rejected += 1
        log.warning("%s: a notification of meter %s was rejected: %s", sender.meter_point, sender.meter, reason)
        gas_day = date.fromordinal(self._days.day_of(to_us(self._now())))
        told = as_reason(f"pushed: {reason}")
        return PollFailed(meter_point=sender.meter_point, meter=sender.meter, gas_day=gas_day, reason=told, attempts=1)

    def _tell_stranger(self, host: str, reason: str) -> None:
        self.counters.strangers += 1
        if host not in self._strangers and len(self._strangers) < STRANGERS_MAX:
            self._strangers.add(host)
            log.error("DLMS push: %s sends what is not of our meters, and is not taken: %s", host, reason)


def _confirmation(sender: Sender, notification: DataNotification | None) -> bytes:
    """In the clear only: to cipher it, we would have to know an invocation counter that the meter has not had."""
    if notification is None or not notification.wants_confirmation or sender.keys is not None:
        return b""
    return NotificationConfirm(notification.invoke_id, notification.flags).encode()
