"""What a Modbus frame means, in a line of words, for who sets a meter up. Pure.

An answer does not say which registers it brings, so the question before it is kept in mind: describe frames in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from collectors.modbus_frames import READS, Framing, LineError, Question
from collectors.modbus_maps import WORDS, Instant, RegisterMap
from collectors.modbus_registers import BadRegisters, Flags, RecordDecoder, Words, instant_s
from collectors.trace import Frame

RECORDS_SHOWN = 3


class Describer:
    """Describes the frames of one meter's polls, one after the other."""

    def __init__(self, framing: Framing, map_: RegisterMap) -> None:
        self._framing, self._map = framing, map_
        self._question: Question | None = None

    def describe(self, frame: Frame) -> str:
        """What this frame says; noise is said to be noise."""
        return self._sent(frame.octets) if frame.sent else self._heard(frame.octets)

    def _sent(self, octets: bytes) -> str:
        start = 6 if self._framing == "tcp" else 0
        if len(octets) < start + 6:
            self._question = None
            return f"{len(octets)} octets, which are no question"
        unit, function = octets[start], octets[start + 1]
        first = int.from_bytes(octets[start + 2 : start + 4], "big")
        number = int.from_bytes(octets[start + 4 : start + 6], "big")
        count = 1 if function == 6 else number
        transaction = int.from_bytes(octets[:2], "big") if start else 0
        self._question = Question(self._framing, unit, function, first, count, transaction, octets)
        if function in READS:
            return f"to unit {unit}: read {count} {READS[function]} registers from {first} on"
        if function == 6:
            return f"to unit {unit}: write {number} to register {first}{self._place(first)}"
        return f"to unit {unit}: write {count} registers from {first} on{self._place(first)}"

    def _heard(self, octets: bytes) -> str:
        question = self._question
        if question is None:
            return f"{len(octets)} octets that nobody asked for"
        try:
            answer = question.answer_in(octets)
        except LineError as error:
            return str(error)
        if answer is None:
            return f"{len(octets)} octets, and no whole answer in them"
        if question.function not in READS:
            return f"from unit {question.unit}: written"
        start = 9 if self._framing == "tcp" else 3
        registers = [int.from_bytes(answer[n : n + 2], "big") for n in range(start, start + 2 * question.count, 2)]
        said = "; ".join(self._said(question, registers))
        return f"from unit {question.unit}: {question.count} registers from {question.first} on{': ' if said else ''}{said}"

    def _place(self, first: int) -> str:
        """What the map has in a register that is written."""
        map_ = self._map
        places = {"interval": map_.interval, "clock": map_.set_clock}
        for name, part in places.items():
            if part is not None and part.address == first:
                return f" ({name})"
        window = map_.archive.window
        return " (the archive's position)" if window and window.select == first else ""

    def _said(self, question: Question, registers: list[int]) -> Iterator[str]:
        """What the registers say by the map, as far as that can be."""
        map_, archive = self._map, self._map.archive
        words = Words(question.first, registers, map_.word_order)
        if READS[question.function] == map_.table:
            yield from self._instants(words)
            if words.holds(map_.status.address, 1):
                names = Flags(map_.status).names(words.unsigned(map_.status.address, 1))
                yield f"status {', '.join(names) or 'good'}"
        setting = map_.interval
        if question.function == 3 and setting and words.holds(setting.address, WORDS[setting.type]):
            yield f"interval {words.unsigned(setting.address, WORDS[setting.type]) * setting.unit_s} s"
        at = archive.address - 1 if archive.window else archive.address
        if READS[question.function] == map_.table and question.first >= at and not words.holds(map_.clock.address, 1):
            yield from self._records(registers[1:] if archive.window else registers)

    def _instants(self, words: Words) -> Iterator[str]:
        parts = (("clock", self._map.clock), ("newest record of", self._map.archive.newest_at))
        for name, instant in parts:
            if words.holds(instant.address, WORDS[instant.type]):
                yield f"{name} {_shown(words, instant)}"

    def _records(self, registers: list[int]) -> Iterator[str]:
        archive = self._map.archive
        if not registers or len(registers) % archive.record_registers:
            return
        words = Words(archive.address, registers, self._map.word_order)
        try:
            records = RecordDecoder(archive, self._map.word_order).records([words])
        except BadRegisters as error:
            yield str(error)
            return
        yield f"{len(records)} records"
        for record in records[:RECORDS_SHOWN]:
            yield f"{datetime.fromtimestamp(record.at_s, UTC):%Y-%m-%d %H:%M:%SZ} index {_count(record.index)}"
        if len(records) > RECORDS_SHOWN:
            yield "..."


def _shown(words: Words, instant: Instant) -> str:
    try:
        return f"{datetime.fromtimestamp(instant_s(words, instant), UTC):%Y-%m-%d %H:%M:%SZ}"
    except BadRegisters as error:
        return str(error)


def _count(index: int | None) -> str:
    return "missing" if index is None else str(index)
