"""Modbus TCP: one connection to a meter (or to several units behind one address), and the reading of a Day's archive.

pymodbus frames, numbers and matches the requests. What it lets pass is refused here: an answer shorter than asked, of
another function, with a byte count that is not its length, or without our transaction identifier. After anything but a
proper exception answer the connection is closed, so that a late answer to this request can never meet the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from collectors.modbus_maps import RegisterMap, Table
from collectors.modbus_registers import (
    ArchiveRecord,
    BadRegisters,
    Header,
    RecordDecoder,
    Span,
    Words,
    header_of,
    header_spans,
    record_spans,
)
from collectors.reader import Answer, Unable, Unanswered
from collectors.reading import DayReadings, PollError
from collectors.trace import Frame, Trace
from metering.facts import ReferenceIndex

FUNCTION: dict[Table, int] = {"holding": 3, "input": 4}
EXCEPTIONS = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure", 5: "acknowledge",
    6: "device busy", 8: "memory parity error", 10: "gateway path unavailable", 11: "gateway target did not respond",
}  # fmt: skip
TOLERANCE_S = 60
BUFFER_BYTES = 8 * 260


class LineError(Exception):
    """What came over the line is no answer to what was asked."""


class NothingCame(LineError):
    """No connection, no answer within the time-out, or the connection was closed."""


class ModbusLine:
    """One address, with the meters behind it. Hold `lock` for the whole of a poll, and `close` after it: a meter has few
    connections to give, and one that was kept for a Day is as often as not a dead one."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.lock = asyncio.Lock()
        self.trace = Trace()
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._client: AsyncModbusTcpClient | None = None
        self._asking = False
        _quiet()

    async def read(self, unit: int, table: Table, spans: Iterable[Span]) -> list[tuple[int, Sequence[int]]]:
        """The registers of these spans, each with its first address. Connects where it is not connected. Raises LineError."""
        try:
            client = self._client or await self._connected()
            return [(span.first, await self._ask(client, unit, table, span)) for span in spans]
        except ModbusException as error:
            self.close()
            raise NothingCame(f"no answer within {self._timeout_s:g} s") from error
        except (LineError, asyncio.CancelledError):
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next `read` opens another."""
        self._asking = False
        if self._client is not None:
            self._client.close()
            self._client = None

    async def _connected(self) -> AsyncModbusTcpClient:
        self._client = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            timeout=self._timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._check_frame,
            trace_connect=self._connection_changed,
        )
        self._client.ctx.max_buffer_size = BUFFER_BYTES  # its own would drop a late answer together with the one behind it
        if not await self._client.connect():
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # pymodbus takes a cancellation for a refused connection
                raise asyncio.CancelledError
            raise NothingCame("no connection")
        return self._client

    async def _ask(self, client: AsyncModbusTcpClient, unit: int, table: Table, span: Span) -> Sequence[int]:
        request = client.read_holding_registers if table == "holding" else client.read_input_registers
        self._asking = True
        answer = await request(span.first, count=span.length, device_id=unit)
        self._asking = False
        _check_answer(answer, FUNCTION[table], span)
        return answer.registers

    def _check_frame(self, sending: bool, data: bytes) -> bytes:
        """Called by pymodbus with all bytes not yet used; what it would stumble over fails the request here."""
        frame = data
        if sending:
            self.trace.sent(data)
        else:
            self.trace.heard(data)
        while not sending and len(frame) >= 9 and len(frame) >= (end := 6 + int.from_bytes(frame[4:6], "big")):
            if wrong := _frame_error(frame):
                self._fail(LineError(wrong))
                return b""
            frame = frame[end:]
        return data

    def _connection_changed(self, connected: bool) -> None:
        if not connected:
            self._fail(NothingCame("the connection was closed"))

    def _fail(self, error: LineError) -> None:
        if self._asking and self._client is not None and not self._client.ctx.response_future.done():
            self._client.ctx.response_future.set_exception(error)


def _quiet() -> None:
    """What pymodbus logs about each failed request is in the error that we raise, once. All of it with `--verbose`."""
    level = logging.NOTSET if logging.getLogger().isEnabledFor(logging.DEBUG) else logging.CRITICAL
    if (log := logging.getLogger("pymodbus")).level != level:  # setting it empties every logger's cache
        log.setLevel(level)


def _frame_error(frame: bytes) -> str:
    """What is wrong with a complete Modbus TCP answer to a read request; empty where nothing is."""
    protocol, length = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
    function, count = frame[7], frame[8]
    if protocol != 0:
        return f"corrupt answer: protocol identifier {protocol}"
    if function & 0x7F not in FUNCTION.values():
        return f"corrupt answer: function {function}"
    if length < 3 or (function < 0x80 and count != length - 3):
        return f"corrupt answer: {count} bytes announced, {length - 3} in the frame"
    return ""


def _check_answer(answer: ModbusPDU, function: int, span: Span) -> None:
    if answer.isError():
        code = getattr(answer, "exception_code", 0)
        raise LineError(f"exception answer {code} ({EXCEPTIONS.get(code, 'unknown')}) for register {span.first}")
    if answer.transaction_id == 0:
        raise LineError("answer without our transaction identifier")
    if answer.function_code != function:
        raise LineError(f"answer of function {answer.function_code}, asked was {function}")
    if len(answer.registers) != span.length:
        raise LineError(f"short answer: {len(answer.registers)} of {span.length} registers from {span.first} on")


class ModbusMeter:
    """One unit on a line, with its register map."""

    def __init__(self, line: ModbusLine, unit: int, map_: RegisterMap, site: str, interval_s: int = 3600) -> None:
        if interval_s % map_.archive.interval_s:
            raise ValueError(f"interval_s: {interval_s}; allowed with this map: multiples of {map_.archive.interval_s}")
        self.line, self.unit, self.map, self.site, self.interval_s = line, unit, map_, site, interval_s
        self._decoder = RecordDecoder(map_.archive, map_.word_order)

    async def read_day(self, start: datetime, end: datetime, now: Callable[[], datetime]) -> Answer:
        """The readings from `start` to `end` (whole seconds), from the meter's archive. Raises PollError.

        `now` is asked when the meter's clock has been read, for the offset.
        """
        try:
            return await self._read_day(int(start.timestamp()), int(end.timestamp()), now)
        except NothingCame as error:
            raise Unanswered(self.site, str(error)) from error
        except (LineError, BadRegisters) as error:
            raise PollError(self.site, str(error)) from error
        finally:
            self.line.close()

    @property
    def lock(self) -> asyncio.Lock:
        """As `Reader.lock`."""
        return self.line.lock

    @property
    def trace(self) -> Trace:
        """As `Reader.trace`."""
        return self.line.trace

    async def set_interval(self, interval_s: int) -> int:
        """As `Reader.set_interval`."""
        raise Unable(self.site, "the register map does not say where the interval is set")

    async def set_clock(self, now: Callable[[], datetime], step_max_s: float) -> float:
        """As `Reader.set_clock`."""
        raise Unable(self.site, "the register map does not say where the clock is set")

    def describe(self, frame: Frame) -> str:
        """As `Reader.describe`."""
        return f"{'request' if frame.sent else 'answer'} of {len(frame.octets)} octets"

    async def close(self) -> None:
        """As `Reader.close`."""
        self.line.close()

    async def _read_day(self, start_s: int, end_s: int, now: Callable[[], datetime]) -> Answer:
        answers = await self._answers(header_spans(self.map))
        asked_at = now()
        header = header_of(answers, self.map)
        offset_s = header.clock_s - asked_at.timestamp()
        records = await self._between(header, start_s - TOLERANCE_S, end_s + TOLERANCE_S)
        readings = _day_readings(self.map, header, records, range(start_s, end_s + 1, self.interval_s), offset_s)
        log_from = None
        if not any(index is not None for index in readings.index[:-1]) and header.stored:
            (oldest,) = await self._aged(header, header.stored - 1, header.stored - 1)
            log_from = datetime.fromtimestamp(oldest.at_s, UTC)
        return Answer(readings, log_from)

    async def _answers(self, spans: Sequence[Span]) -> list[Words]:
        answers = await self.line.read(self.unit, self.map.table, spans)
        return [Words(first, registers, self.map.word_order) for first, registers in answers]

    async def _between(self, header: Header, start_s: int, end_s: int) -> list[ArchiveRecord]:
        """The records of a period. Where hours are missing from the archive, or twice in it, counting back from the newest
        record misses the period by as much: the window then grows towards it."""
        if header.newest_at_s is None:
            return []
        interval_s, oldest = self.map.archive.interval_s, header.stored - 1
        young = min(max(0, -((end_s - header.newest_at_s) // interval_s)), oldest)
        old = min(max(young, (header.newest_at_s - start_s) // interval_s), oldest)
        records = await self._aged(header, old, young)
        while records[-1].at_s < end_s - interval_s and young > 0:
            more = min(young, 1 + (end_s - records[-1].at_s) // interval_s)
            records += await self._aged(header, young - 1, young - more)
            young -= more
        while records[0].at_s >= start_s + interval_s and old < oldest:
            more = min(oldest - old, 1 + (records[0].at_s - start_s) // interval_s)
            records[:0] = await self._aged(header, old + more, old + 1)
            old += more
        return [record for record in records if start_s <= record.at_s <= end_s]

    async def _aged(self, header: Header, old: int, young: int) -> list[ArchiveRecord]:
        """The records from the `old`-th to the `young`-th before the newest, oldest first."""
        archive = self.map.archive
        spans = record_spans(archive, (header.newest - old) % archive.capacity, old - young + 1, self.map.max_count)
        return self._decoder.records(await self._answers(spans))


def _day_readings(
    map_: RegisterMap, header: Header, records: Sequence[ArchiveRecord], wanted_s: range, offset_s: float
) -> DayReadings:
    """For each wanted instant the record nearest to it, no more than a minute away."""
    by_instant: dict[int, ArchiveRecord] = {}
    for record in records:
        slot_s = wanted_s.start + round((record.at_s - wanted_s.start) / wanted_s.step) * wanted_s.step
        known = by_instant.get(slot_s)
        if abs(record.at_s - slot_s) <= TOLERANCE_S and (known is None or abs(record.at_s - slot_s) < abs(known.at_s - slot_s)):
            by_instant[slot_s] = record
    found = [by_instant.get(slot_s) for slot_s in wanted_s]
    archive = map_.archive
    status = {name for record in found if record for name in record.status} if archive.status else set(header.status)
    return DayReadings(
        at=tuple(
            datetime.fromtimestamp(record.at_s if record else slot_s, UTC)
            for record, slot_s in zip(found, wanted_s, strict=True)
        ),
        index=tuple(record.index if record else None for record in found),
        unconverted=tuple(record.unconverted if record else None for record in found) if archive.unconverted else None,
        reference_index=_reference(map_, found[0], found[-1]),
        status=tuple(sorted(status)),
        clock_offset_s=offset_s,
    )


def _reference(map_: RegisterMap, first: ArchiveRecord | None, last: ArchiveRecord | None) -> ReferenceIndex | None:
    if first is None or last is None or first.own_index is None or last.own_index is None:
        return None
    archive = map_.archive
    return ReferenceIndex(
        start=first.own_index, end=last.own_index, digits=archive.own_digits, m3_per_tick=archive.own_m3_per_tick
    )
