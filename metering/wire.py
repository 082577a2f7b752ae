"""The wire format: frames of facts on the `facts` and `broadcast` topics, records on `ledger`, dead letters.

A frame is one Kafka message: an envelope around a payload, which is a list of facts of meter points of one partition.
Readings are packed in columns and delta-coded; other facts are their Struct. All of it is MessagePack.
The same packing, without what says by which way a fact came, is the fact's canonical encoding: its identity.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeAlias

import msgspec

from metering.facts import (
    AdjustmentAgreed,
    Alarm,
    AnyFact,
    BypassUsed,
    CalorificValue,
    CheckRead,
    EquipmentFault,
    EstimateAccepted,
    Excluded,
    ExpertDetermination,
    GatewayStatus,
    GivenUp,
    Inspection,
    IntervalSet,
    MeterErrorAdjusted,
    MeterFitted,
    MeterRemoved,
    PollFailed,
    Provided,
    ReadErrorNotice,
    Readings,
    ReferenceIndex,
    Registered,
    RejectionNotice,
    Status,
    Tick,
    Withdrawn,
)
from metering.gasday import SECOND_US, to_datetime, to_us
from metering.limits import FIRST_GAS_DAY, LAST_GAS_DAY

VERSION = 1
FRAME_BYTES_MAX = 256 * 1024
FIRST_DAY, LAST_DAY = FIRST_GAS_DAY.toordinal(), LAST_GAS_DAY.toordinal()
LAST_US = 7_258_118_400_000_000  # the year 2200
NAME_MAX = 64


NOT_A_FACT = (msgspec.MsgspecError, OverflowError, ValueError, TypeError, RecursionError)  # what `decode_entry` may raise


class FrameError(ValueError):
    """The message is not a frame, or a frame that is broken."""


class UnknownVersion(FrameError):
    """The frame is of a later version than this program knows: stop here, and upgrade."""


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """`signature` is Ed25519 over `payload` by the key `key_id`; both are empty until keys are configured."""

    v: int
    gateway: str
    key_id: str
    payload: bytes
    signature: bytes


class PackedReadings(msgspec.Struct, array_like=True, frozen=True):
    """`Readings` in columns. `step` is the spacing of the instants in microseconds, or each spacing where they differ.
    `index` and `unconverted` hold the first value and then differences, where `delta` and all are integers."""

    meter_point: str
    meter: str
    gas_day: int
    first_us: int
    step: int | tuple[int, ...]
    delta: bool
    index: tuple[Any, ...]
    unconverted: tuple[Any, ...] | None = None
    reference_index: ReferenceIndex | None = None
    interval_m3: tuple[Decimal | None, ...] | None = None
    status: tuple[Status, ...] = ()
    clock_offset_s: float | None = None
    source: str = "dre"
    gateway: str | None = None
    outbox: str | None = None
    sequence: int | None = None

    @property
    def plain(self) -> bool:
        """Whether there are only indexes by Daily Read Equipment, all of them, and nothing beside that could be wrong."""
        return (
            self.delta and len(self.index) > 1 and not self.status and self.unconverted is None
            and self.reference_index is None and self.interval_m3 is None and self.source == "dre"
        )  # fmt: skip


_Other: TypeAlias = (
    CalorificValue | Registered | MeterFitted | MeterRemoved | CheckRead | MeterErrorAdjusted | BypassUsed | EquipmentFault
    | Inspection | ReadErrorNotice | EstimateAccepted | RejectionNotice | ExpertDetermination | AdjustmentAgreed | Withdrawn
    | Excluded | Provided | IntervalSet | Alarm | PollFailed | GivenUp | GatewayStatus | Tick
)  # fmt: skip
_Packed: TypeAlias = PackedReadings | _Other


class Origin(NamedTuple):
    """A message of a topic."""

    topic: str
    partition: int
    offset: int


class _Payload(msgspec.Struct, array_like=True, frozen=True):
    """`received_at_us` is only in frames that a relay copies: when the fact was first received. `origins` are only in frames of
    facts that are put back: the frames in which they stood before, and could not be used."""

    received_at_us: int | None
    facts: list[msgspec.Raw]
    origins: tuple[Origin, ...] = ()


class OpenFrame(msgspec.Struct, frozen=True):
    """A frame whose entries are not decoded: the gateway, a relay's `received_at`, each entry's bytes, and where they stood
    before, if they are put back."""

    gateway: str
    received_at: datetime | None
    entries: list[bytes]
    origins: tuple[Origin, ...] = ()


class BrokenFact(msgspec.Struct, frozen=True):
    """One entry of a frame that is not a fact: its number in the frame, why, and its bytes."""

    number: int
    reason: str
    payload: bytes


class Frame(msgspec.Struct, frozen=True):
    """A decoded frame. `facts` carry no `received_at` of their own: that is `received_at`, or else the log's."""

    gateway: str
    received_at: datetime | None
    facts: list[AnyFact]
    broken: list[BrokenFact]


_encoder = msgspec.msgpack.Encoder()
_canonical = msgspec.msgpack.Encoder(order="deterministic")
_decode_envelope = msgspec.msgpack.Decoder(Envelope).decode
_decode_payload = msgspec.msgpack.Decoder(_Payload).decode
_decode_readings = msgspec.msgpack.Decoder(PackedReadings).decode
_decode_other = msgspec.msgpack.Decoder(_Other).decode


def partition_of(meter_point: str, partitions: int) -> int:
    """The partition of a meter point's facts and records: murmur2 of its UTF-8 bytes, as Kafka's own partitioner does it."""
    return (_murmur2(meter_point.encode()) & 0x7FFFFFFF) % partitions


def encode_frame(facts: Iterable[AnyFact], gateway: str, received_at: datetime | None = None) -> bytes:
    """A frame of these facts. `received_at` is for relays alone; a gateway leaves it out."""
    return frame_of(map(encode_fact, facts), gateway, received_at)


def frame_of(
    entries: Iterable[bytes], gateway: str, received_at: datetime | None = None, origins: Sequence[Origin] = ()
) -> bytes:
    """A frame of entries as they stand in another, or come from `encode_fact`; `origins` are those of an OpenFrame."""
    content: list[Any] = [None if received_at is None else to_us(received_at), [*map(msgspec.Raw, entries)]]
    payload = _encoder.encode([*content, origins] if origins else content)
    return _encoder.encode(Envelope(VERSION, gateway, "", payload, b""))


def open_frame(message: bytes) -> OpenFrame:
    """The frame in a message, its entries not yet decoded; FrameError where there is none, UnknownVersion a later one."""
    try:
        envelope = _decode_envelope(message)
        if envelope.v != VERSION:
            raise UnknownVersion(f"frame version {envelope.v}; this program knows version {VERSION}")
        payload = _decode_payload(envelope.payload)
    except UnknownVersion:
        raise
    except ValueError as error:  # msgspec's errors, and text that is no UTF-8
        if (version := _version(message)) not in (None, VERSION):
            raise UnknownVersion(f"frame version {version}; this program knows version {VERSION}") from error
        raise FrameError(f"not a frame: {error}") from error
    try:
        received_at = None if payload.received_at_us is None else to_datetime(payload.received_at_us)
    except OverflowError as error:
        raise FrameError(f"not a frame: received_at: {error}") from error
    return OpenFrame(envelope.gateway, received_at, [*map(bytes, payload.facts)], payload.origins)


def _version(message: bytes) -> int | None:
    """The first field of an envelope of any version."""
    try:
        return msgspec.msgpack.decode(msgspec.msgpack.decode(message, type=list[msgspec.Raw])[0], type=int)
    except (ValueError, IndexError):
        return None


def decode_frame(message: bytes) -> Frame:
    """The frame in a message. Entries that are no facts are in `broken`; FrameError where there is no frame at all."""
    opened = open_frame(message)
    facts: list[AnyFact] = []
    broken: list[BrokenFact] = []
    for number, entry in enumerate(opened.entries):
        try:
            facts.append(_unpack(entry))
        except NOT_A_FACT as error:
            broken.append(BrokenFact(number, str(error), entry))
    return Frame(opened.gateway, opened.received_at, facts, broken)


def encode_fact(fact: AnyFact) -> bytes:
    """One fact, packed as in a frame (without `received_at`); for stores and outboxes."""
    return _encoder.encode(_pack(fact))


def pack_readings(fact: Readings) -> tuple[PackedReadings, bytes]:
    """Readings as they are packed in a frame, and their bytes."""
    packed = _pack(fact)
    assert isinstance(packed, PackedReadings)
    return packed, _encoder.encode(packed)


def decode_fact(packed: bytes, received_at: datetime | None = None) -> AnyFact:
    """The fact of `encode_fact`'s bytes, received at that instant."""
    entry = decode_entry(packed)
    if isinstance(entry, PackedReadings):
        return unpack(entry, received_at)
    return entry if received_at is None else msgspec.structs.replace(entry, received_at=received_at)


def received_us(fact: AnyFact) -> int:
    """When the fact was received, in microseconds. ValueError where it does not say so: every fact that the rules see must."""
    if fact.received_at is None:
        raise ValueError(f"a fact without received_at: {fact}")
    return to_us(fact.received_at)


def canonical(fact: AnyFact) -> bytes:
    """The bytes by which facts are the same: without `received_at`, `gateway`, `outbox`, `sequence`; however spelled."""
    packed = _pack(fact)
    plain: dict[str, Any] = {}
    for name in packed.__struct_fields__:
        value = getattr(packed, name)
        if isinstance(value, Decimal):
            plain[name] = _plain(value)
    if isinstance(packed, PackedReadings):
        plain |= {"gateway": None, "outbox": None, "sequence": None}
        plain["status"] = tuple(sorted(set(packed.status)))
        if packed.interval_m3 is not None:
            plain["interval_m3"] = tuple(None if m3 is None else _plain(m3) for m3 in packed.interval_m3)
        reference = packed.reference_index
        if reference is not None and reference.m3_per_tick is not None:
            plain["reference_index"] = msgspec.structs.replace(reference, m3_per_tick=_plain(reference.m3_per_tick))
    return _canonical.encode(msgspec.structs.replace(packed, **plain) if plain else packed)


def identity(fact: AnyFact) -> bytes:
    """A 16-byte digest of the canonical encoding."""
    return hashlib.blake2b(canonical(fact), digest_size=16).digest()


def _plain(value: Decimal) -> Decimal:
    return value.normalize() + 0


def _pack(fact: AnyFact) -> _Packed:
    if not isinstance(fact, Readings):
        return fact if fact.received_at is None else msgspec.structs.replace(fact, received_at=None)
    first_us, step = _columns(fact)
    index, unconverted = fact.index, fact.unconverted
    delta = all(type(value) is int for value in index) and (
        unconverted is None or all(type(value) is int for value in unconverted)
    )
    if delta:
        index = _deltas(index)
        unconverted = None if unconverted is None else _deltas(unconverted)
    return PackedReadings(
        fact.meter_point, fact.meter, fact.gas_day.toordinal(), first_us, step, delta, index, unconverted,
        fact.reference_index, fact.interval_m3, fact.status, fact.clock_offset_s, fact.source,
        fact.gateway, fact.outbox, fact.sequence,
    )  # fmt: skip


def _columns(fact: Readings) -> tuple[int, int | tuple[int, ...]]:
    if not fact.index:
        return 0, 0
    if fact.at is None:
        first_at = fact.first_at or datetime.fromtimestamp(0, UTC)
        return to_us(first_at), (fact.interval_s or 0) * SECOND_US if len(fact.index) > 1 else 0
    instants = [to_us(at) for at in fact.at]
    if len(instants) < 2:
        return instants[0], 0
    steps = tuple(after - before for before, after in pairwise(instants))
    if steps[0] >= SECOND_US and steps[0] % SECOND_US == 0 and steps.count(steps[0]) == len(steps):
        return instants[0], steps[0]
    return instants[0], steps


def _deltas(values: Sequence[int]) -> tuple[int, ...]:
    return (*values[:1], *(after - before for before, after in pairwise(values)))


def _unpack(data: bytes) -> AnyFact:
    packed = decode_entry(data)
    return unpack(packed, None) if isinstance(packed, PackedReadings) else packed


def decode_entry(data: bytes) -> _Packed:
    """One entry of a frame: readings as they are packed, or another fact."""
    if data and (data[0] in (0xDC, 0xDD) or 0x90 <= data[0] <= 0x9F):  # readings are the only array
        readings: PackedReadings = _decode_readings(data)
        return readings
    other: _Other = _decode_other(data)
    return other


def unpack(packed: PackedReadings, received_at: datetime | None) -> Readings:
    """The readings as a fact, received at that instant. Raises ValueError or OverflowError where they are none."""
    index, unconverted = packed.index, packed.unconverted
    for name, values in (("index", index), ("unconverted", unconverted or ())):
        if packed.delta and not _are_integers(values):
            raise ValueError(f"{name}: differences that are no integers")
        if not packed.delta and not all(map(_is_json, values)):
            raise ValueError(f"{name}: holds what JSON has no form for")
    if packed.delta:
        index = tuple(accumulate(index))
        unconverted = None if unconverted is None else tuple(accumulate(unconverted))
    at, interval_s = None, None
    if isinstance(packed.step, tuple):
        at = tuple(to_datetime(us) for us in accumulate((packed.first_us, *packed.step)))
    elif packed.step >= SECOND_US and packed.step % SECOND_US == 0:
        interval_s = packed.step // SECOND_US
    elif len(index) > 1:
        at = tuple(to_datetime(packed.first_us + n * packed.step) for n in range(len(index)))
    first_at = to_datetime(packed.first_us)
    if not index:
        at, interval_s = (), None
    return Readings(
        meter_point=packed.meter_point, meter=packed.meter, gas_day=date.fromordinal(packed.gas_day),
        at=at, first_at=first_at if at is None else None, interval_s=interval_s if at is None else None,
        index=index, unconverted=unconverted, reference_index=packed.reference_index,
        interval_m3=packed.interval_m3, status=packed.status, clock_offset_s=packed.clock_offset_s,
        gateway=packed.gateway, outbox=packed.outbox, sequence=packed.sequence, received_at=received_at,
        source="on_site" if packed.source == "on_site" else "dre",
    )  # fmt: skip


def _are_integers(values: Iterable[Any]) -> bool:
    return set(map(type, values)) <= {int}


def _is_json(value: Any) -> bool:
    """Whether JSON can say the value: an index that is wrong is still shown as it came."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(each) for key, each in value.items())
    return value is None or isinstance(value, bool | int | str)


class Entry(NamedTuple):
    """One fact of a frame as it stands there: when it was received, its bytes, and what they say."""

    received_at: datetime
    packed: bytes
    content: PackedReadings | AnyFact

    def fact(self) -> AnyFact:
        """The fact, with `received_at`."""
        if isinstance(self.content, PackedReadings):
            return unpack(self.content, self.received_at)
        return msgspec.structs.replace(self.content, received_at=self.received_at)


def read_entry(packed: bytes, received_at: datetime) -> Entry:
    """An entry of a frame, sound: raises one of NOT_A_FACT where it is no fact."""
    entry = Entry(received_at, packed, decode_entry(packed))
    content = entry.content
    usual = (
        isinstance(content, PackedReadings) and content.plain and type(content.step) is int and content.step >= SECOND_US
        and content.step % SECOND_US == 0 and FIRST_DAY <= content.gas_day <= LAST_DAY
        and 0 <= content.first_us < content.first_us + content.step * len(content.index) < LAST_US
        and 0 < len(content.meter_point) <= NAME_MAX and 0 < len(content.meter) <= NAME_MAX
        and _are_integers(content.index)
    )  # fmt: skip
    if not usual:
        entry.fact()  # its own checks
    return entry


def _murmur2(data: bytes) -> int:
    """The 32-bit MurmurHash2 with Kafka's seed."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for n in range(0, whole, 4):
        k = int.from_bytes(data[n : n + 4], "little") * m & mask
        h = (h * m ^ (k ^ k >> 24) * m) & mask
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
