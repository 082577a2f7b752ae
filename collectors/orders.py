"""Orders to a gateway that runs: have a meter's equipment record at another interval (M4.1.3).

Whoever gives an order (`dailyread set-interval`, or a message) writes a file into a folder beside the outbox; the gateway works
it off between two polls of the meter's line, and writes the answer beside it. So an order needs no open port, whoever may
write into the folder may give it, and one that was accepted survives a restart. An order has an end: nobody is surprised by
one that nobody waits for any more.

What was done is an `interval_set` fact, confirmed where the equipment says by itself that it records at that interval now.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from collectors.outbox import Outbox, OutboxError
from collectors.reader import MeterSettings, Reader, Unable
from collectors.reading import PollError
from metering.facts import IntervalSet

log = logging.getLogger(__name__)
INTERVAL_S_MIN, INTERVAL_S_MAX = 360, 86_400  # M4.1.3: 6 minutes is the least
LOOK_S = 0.5
DISK_RETRY_S = 2.0
ORDER, ANSWER = ".order", ".answer"
ANSWER_KEPT_S = 3600.0
Done = tuple["Answer", IntervalSet | None]
AtMeter = Callable[[str, Callable[[Reader], Awaitable[Done]]], Awaitable[Done]]


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Set the interval of the meter with this serial number, or of the logger of this name, until `until` (seconds since 1970,
    this machine's clock).

    `waited_for`: somebody waits for the answer and takes it away.
    """

    meter: str
    interval_s: Annotated[int, Meta(ge=INTERVAL_S_MIN, le=INTERVAL_S_MAX)]
    until: float
    waited_for: bool = True


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: the interval that the equipment says that it has now, in seconds; `error` where there is none. Neither:
    a logger will be told when it wakes."""

    interval_s: int | None = None
    error: str = ""


async def set_interval(meter: MeterSettings, reader: Reader, interval_s: int) -> Done:
    """Set it at the meter, whose line's lock is held; what came of it, and the fact, where anything was sent."""
    try:
        now_s = await reader.set_interval(interval_s)
    except Unable as error:
        return Answer(error=str(error)), None
    except PollError as error:
        return Answer(error=str(error)), IntervalSet(meter_point=meter.meter_point, interval_s=interval_s, confirmed=False)
    fact = IntervalSet(meter_point=meter.meter_point, interval_s=interval_s, confirmed=now_s == interval_s)
    return Answer(interval_s=now_s), fact


class OrderDesk:
    """Works off the orders in `folder` for the meters of a gateway that runs. `at_meter` is `Gateway.at_meter`; `tell_logger`
    takes the name of a logger that pushes, and the interval, and raises KeyError where there is no such logger."""

    def __init__(
        self,
        folder: Path,
        meters: Sequence[MeterSettings],
        at_meter: AtMeter,
        tell_logger: Callable[[str, int], None],
        outbox: Outbox,
        now: Callable[[], datetime],
    ) -> None:
        self._folder, self._outbox, self._now = folder, outbox, now
        self._at_meter, self._tell_logger = at_meter, tell_logger
        self._meters = {meter.meter: meter for meter in meters}
        self._taken: set[Path] = set()  # once each, even where a file cannot be taken away
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is cancelled."""
        with suppress(OSError):  # whoever gives an order may be another user, whose folder we could not write into
            self._folder.mkdir(parents=True, exist_ok=True)
        try:
            while True:
                for path in await asyncio.to_thread(self._waiting):
                    self._taken.add(path)
                    task = asyncio.create_task(self._work_off(path))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                await asyncio.sleep(LOOK_S)
        finally:
            for task in self._tasks:
                task.cancel()

    def _waiting(self) -> list[Path]:
        """Orders that are new; answers that nobody came for are taken away."""
        with suppress(OSError):
            for path in self._folder.glob(f"*{ANSWER}"):
                if time.time() - path.stat().st_mtime > ANSWER_KEPT_S:
                    path.unlink()
            return sorted(path for path in self._folder.glob(f"*{ORDER}") if path not in self._taken)
        return []

    async def _work_off(self, path: Path) -> None:
        try:
            order = msgspec.json.decode(await asyncio.to_thread(path.read_bytes), type=Order)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("%s is no order and is taken away: %s", path, error)
            path.unlink(missing_ok=True)
            return
        answer, fact = await self._done(order)
        if fact is not None:
            await self._store(fact)
        said = answer.error or (f"records every {answer.interval_s} s" if answer.interval_s else "it will be when it wakes")
        log.info("meter %s was told to record every %d s: %s", order.meter, order.interval_s, said)
        await asyncio.to_thread(_finish, path, order, answer)

    async def _done(self, order: Order) -> Done:
        meter = self._meters.get(order.meter)
        if meter is None:
            return self._told(order), None

        async def work(reader: Reader) -> Done:
            if time.time() > order.until:
                return Answer(error="its line was not free in time; nothing was sent"), None
            return await set_interval(meter, reader, order.interval_s)

        try:
            return await self._at_meter(order.meter, work)
        except Exception as error:  # a fault of ours at one meter must not end the others' polls
            log.exception("an order for meter %s failed unexpectedly", order.meter)
            return Answer(error=f"{type(error).__name__}: {error}"), None

    def _told(self, order: Order) -> Answer:
        if time.time() > order.until:
            return Answer(error="no gateway ran in time; nothing was sent")
        try:
            self._tell_logger(order.meter, order.interval_s)
        except KeyError:
            return Answer(error=f'the gateway that runs has no meter "{order.meter}"; start it again for a changed file')
        return Answer()

    async def _store(self, fact: IntervalSet) -> None:
        while True:
            try:
                return await asyncio.to_thread(self._outbox.put, [fact], self._now())
            except OutboxError as error:
                log.error("that an interval was set cannot be stored yet: %s", error)
                await asyncio.sleep(DISK_RETRY_S)


def place(folder: Path, order: Order) -> Path:
    """Give an order; it is on disk when this returns. Returns its file. OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.time_ns():020}-{secrets.token_hex(4)}{ORDER}"
    _write(path, msgspec.json.encode(order))
    return path


def answer_to(path: Path, order: Order) -> Answer:
    """Wait for the answer to an order that was placed; one that says so where the gateway gives none in time. OSError."""
    found = path.with_suffix(ANSWER)
    try:
        while not found.exists():
            if time.time() > order.until + LOOK_S:
                return Answer(error="the gateway that runs did not answer in time")
            time.sleep(0.1)
        return msgspec.json.decode(found.read_bytes(), type=Answer)
    finally:
        path.unlink(missing_ok=True)
        found.unlink(missing_ok=True)


def _finish(path: Path, order: Order, answer: Answer) -> None:
    with suppress(OSError):  # the folder or the disk is away: the order is done once more, which does no harm
        if order.waited_for:
            _write(path.with_suffix(ANSWER), msgspec.json.encode(answer))
        path.unlink(missing_ok=True)


def _write(path: Path, octets: bytes) -> None:
    """All of it or nothing, whenever the power goes."""
    made = path.with_suffix(".new")
    with made.open("wb") as file:
        file.write(octets)
        file.flush()
        os.fchmod(file.fileno(), 0o644)  # whoever gave the order, or works it off
        os.fsync(file.fileno())
    made.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
