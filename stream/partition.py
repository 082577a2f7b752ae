"""One partition of the facts topic while it is ours: its frames in order, and nothing acknowledged too early.

The rule of order, which makes everything exactly once in effect: records and dead letters are with the broker before the
states are written, states are in the changelog before they are in RocksDB, and all of it is there before the frame counts
as done. So a state at offset s says that all outputs up to s are with the broker, and a frame that comes again because the
process died is passed over by the points that have had it.

Frames that wait are worked on together, and what follows from them is published by a second task, while the next ones are
worked on: all that came in the meantime in one go, and of the states of one point only the last.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

from metering.messages import DeadLetter, encode_change
from metering.wire import UnknownVersion
from stream.faults import WRONG_CONFIGURATION, FreezeGuard, end_at_once
from stream.letters import Letters
from stream.marks import LaterStates, OtherRules
from stream.metrics import METRICS
from stream.opening import Opening, Processor, Slice
from stream.settings import Topics
from stream.sink import KeyValue, Sink
from stream.states import States

log = logging.getLogger(__name__)

# Taken and not yet worked on. Where so much waits no more is asked for; then one answer more may come, of some 1 MiB.
FRAMES_WAITING = 1000
BYTES_WAITING = 1024 * 1024
FRAMES_TOGETHER = 1000
FRAME_BYTES_TOGETHER = 256 * 1024
BYTES_TOGETHER = 1024 * 1024  # of outputs; where so many wait to be published, no more frames are worked on
# While frames wait, what is not urgent gets so much of the time that they take. Little: a batch that comes to a point before a
# tick's turn there has come brings it along, at next to no cost.
NOT_URGENT = 0.2
WITHOUT_PAUSE_S = 0.01  # then Faust and the other partitions go on for a while


class Frame(NamedTuple):
    """A message of the facts topic; `timestamp` is when the broker appended it, or the virtual instant."""

    offset: int
    timestamp: datetime
    value: bytes


class Output:
    """Records and dead letters that wait to be sent. All that follows from the frames before `done` is in it, or was sent."""

    def __init__(self, done: int) -> None:
        self.done = done
        self.records: list[KeyValue] = []
        self.dead: list[DeadLetter] = []
        self.size_bytes = 0

    def add(self, part: Slice, partition: int, offset: int) -> None:
        """Take what a slice says; `offset` is its frame's."""
        size_bytes = sum(map(len, part.states.values()))
        for change in part.changes:
            key, value = encode_change(change, partition, offset)
            self.records.append((key, value))
            size_bytes += len(key) + len(value)
        for letter in part.dead:
            self.dead.append(letter)
            size_bytes += len(letter.payload)
        self.size_bytes += size_bytes


class Partition:
    """Takes frames by `accept`, works on them in a task of its own, and says in `position` how far all is done."""

    def __init__(self, number: int, start: int, topics: Topics, sink: Sink, guard: FreezeGuard) -> None:
        self.number = number
        self.position = start  # every frame before it is done: may be committed
        self._followed = start  # every frame before it is done, but for what is not urgent
        self.beside = 0  # slices done while the position stands: of points made anew, and of what is not urgent
        self.halted: str | None = None
        self.letters = Letters(f"facts[{number}]")
        self._expected = start
        self._topics = topics
        self._sink = sink
        self._guard = guard
        self._waiting: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._came = asyncio.Event()
        self._pause_s = 0.0
        self._output = Output(start)
        self._filled, self._emptied = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._opening: Opening | None = None
        self._closed = False

    def open(self, states: States, opening: Opening) -> None:
        """Begin to work, when `opening` has made the processor."""
        self._states, self._opening = states, opening
        self._tasks = [asyncio.create_task(self._sure(each)) for each in (self._work(opening), self._publish_all())]

    async def close(self) -> None:
        """Stop between two steps of what is being done; what is not done is for whoever has the partition next."""
        already, self._closed = self._closed, True
        if already:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._opening is not None:  # its thread may still be reading
            await asyncio.to_thread(self._opening.stop)
        self._waiting.clear()

    @property
    def wants(self) -> bool:
        """Whether it can do with more frames now."""
        if self.halted is not None or self._closed:
            return False
        return len(self._waiting) < FRAMES_WAITING and self._waiting_bytes < BYTES_WAITING

    def accept(self, frames: Iterable[Frame]) -> None:
        """The next frames. Ends the process where one was left out: it would be lost if these were acknowledged."""
        if self._closed or self.halted is not None:
            return
        for frame in frames:
            if frame.offset < self._expected:
                continue  # read again after the position was set back
            if frame.offset > self._expected:
                end_at_once(f"facts[{self.number}]: offset {frame.offset} came where {self._expected} is next")
            self._expected += 1
            self._waiting.append(frame)
            self._waiting_bytes += len(frame.value)
        self._came.set()

    async def _sure(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it; whatever is unexpected ends the process."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except LaterStates as error:
            self._halt(f"offset {self.position}", error)
        except OtherRules as error:
            end_at_once(f"facts[{self.number}]: {error}", code=WRONG_CONFIGURATION)
        except BaseException as error:
            end_at_once(f"facts[{self.number}]: after offset {self.position - 1}", error)

    async def _work(self, opening: Opening) -> None:
        self._processor: Processor = await asyncio.to_thread(opening.run, self.position)
        await self._remake()
        while self.halted is None:
            frames, began_s = await self._take(), monotonic()
            if frames:
                await self._process(frames)
            await self._work_off(monotonic() + (monotonic() - began_s) * NOT_URGENT)
            self._filled.set()
            self._count()

    async def _remake(self) -> None:
        """Publish what is different under these rules. It rests on the last frame that any state rests on, or that is done:
        no record of the ledger rests on a later one."""
        offset = max(self.position, self._processor.rests_on) - 1
        for part in self._processor.remake(offset):
            self.beside += 1
            if self._put(part, offset):
                await self._pause()
        self._filled.set()
        if self.beside:
            log.info("facts[%d]: made %d states anew under these rules", self.number, self.beside)

    async def _take(self) -> list[Frame]:
        while not self._waiting and self._processor.behind is None:
            self._came.clear()
            await self._came.wait()
        frames: list[Frame] = []
        size_bytes = 0
        while self._waiting and len(frames) < FRAMES_TOGETHER and size_bytes < FRAME_BYTES_TOGETHER:
            frames.append(self._waiting.popleft())
            size_bytes += len(frames[-1].value)
        self._waiting_bytes -= size_bytes
        return frames

    async def _process(self, frames: Sequence[Frame]) -> None:
        """Keep the facts of the frames, and put what follows from them where it is published."""
        read = self._read(frames)
        self._processor.keep(read)
        for frame, facts in zip(frames, read, strict=False):
            for part in self._processor.follow(facts):
                if self._put(part, frame.offset):
                    await self._pause()
            self._output.done = frame.offset + 1

    async def _work_off(self, until_s: float) -> None:
        """Do what the frame `behind` has left, such as a tick that reaches many points, until an instant; a slice at least."""
        while (offset := self._processor.behind) is not None:
            self.beside += 1
            if self._put(self._processor.work_off(), offset):
                await self._pause()
            if monotonic() >= until_s:
                return

    def _put(self, part: Slice, offset: int) -> bool:
        """Put what follows from a frame where it is published; whether it is time to let others go on."""
        self._output.add(part, self.number, offset)
        self._states.stage(part.states)
        return self._output.size_bytes >= BYTES_TOGETHER or monotonic() >= self._pause_s

    def _count(self) -> None:
        processor = self._processor
        for kind, count in processor.told.items():
            METRICS.edge_facts.labels(kind).inc(count)
        processor.told.clear()
        METRICS.close_outs.labels(self.number).inc(processor.closed_out)
        processor.closed_out = 0

    def _read(self, frames: Sequence[Frame]) -> list[Any]:
        """The facts of the frames; halts before one that cannot be read."""
        read: list[Any] = []
        for frame in frames:
            try:
                read.append(self._processor.read(frame.offset, frame.timestamp, frame.value))
            except UnknownVersion as error:
                self._halt(f"offset {frame.offset}", error)
                break
        return read

    async def _pause(self) -> None:
        """Let Faust and the other partitions go on, and wait where much is still to be published."""
        self._filled.set()
        await asyncio.sleep(0)
        while self._output.size_bytes >= BYTES_TOGETHER:
            self._emptied.clear()
            await self._emptied.wait()
        self._pause_s = monotonic() + WITHOUT_PAUSE_S

    async def _publish_all(self) -> None:
        """Publish what there is, again and again."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            output, self._output = self._output, Output(self._output.done)
            behind = self._processor.behind
            self._states.cut()
            self._emptied.set()
            with METRICS.batch_seconds.time():
                await self._publish(output)
            METRICS.frames.labels(self.number).inc(output.done - self._followed)
            self._followed = output.done
            self.position = output.done if behind is None else min(behind, output.done)

    async def _publish(self, output: Output) -> None:
        self._guard.check()
        if output.dead:
            letters = self.letters.publish(output.dead)
            await self._sink.send_anywhere(self._topics.dead_letter, [(None, each) for each in letters])
        await self._sink.send(self._topics.ledger, self.number, output.records)
        self._guard.check()
        written = await self._states.write()
        METRICS.records.labels(self.number).inc(len(output.records))
        METRICS.states.labels(self.number).inc(written)

    def _halt(self, where: str, error: UnknownVersion | LaterStates) -> None:
        self.halted = f"{where}: {error}"
        METRICS.halted.labels(self.number).set(1)
        log.critical("facts[%d] is halted at %s. Upgrade the stream job; nothing is lost", self.number, self.halted)
        self._waiting.clear()
