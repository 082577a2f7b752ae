"""The meter's end of a DLMS/COSEM association, with a simulated meter behind it: a message in, a message out.

It shares the codec with the collector (types of messages, data, frames, ciphering), and none of what decides in a session:
states, blocks, segments, numbers. What can be read:

    0-0:1.0.0 (clock)           time, with the deviation where the equipment keeps local time; it can be set
    0-0:42.0.0, 0-0:43.1.0      logical device name; invocation counter (these three and no more for the public client)
    7-0:13.2.0  7-0:13.0.0      index, of the converted (with a convertor) and of the unconverted register
    7-0:3.0.0                   the meter's own index
    7-0:99.99.2 (profile)       the log, an hour a row: time, status, these registers; its capture period can be set
    7-0:99.98.0 (profile)       events: time and code, by range
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

from collectors.dlms_acse import (
    AARQ,
    RLRQ,
    Aare,
    Aarq,
    Conformance,
    InitiateResponse,
    Mechanism,
    decode_aarq,
    decode_initiate_request,
    release_response,
)
from collectors.dlms_base import DlmsError, RemoteError
from collectors.dlms_data import Data, Kind, array, encode, octet_string, structure
from collectors.dlms_objects import CLOCK_COLUMN, CaptureObject, logical_name
from collectors.dlms_security import Ciphering, Keys
from collectors.dlms_time import CosemTime, cosem_time, decode_time, encode_time
from collectors.dlms_xdlms import (
    AccessError,
    ActionRequest,
    ActionResponse,
    ExceptionResponse,
    GetRequest,
    GetRequestList,
    GetRequestNext,
    GetResponse,
    GetResponseBlock,
    GetResponseList,
    Member,
    Result,
    Selection,
    SetRequest,
    SetResponse,
    Wanted,
    decode_message,
    encode_results,
)
from metering.facts import Status
from simulators.faults import Reports, of_kind
from simulators.meter import LogRow, Register, SimulatedMeter

PUBLIC_CLIENT = 16
CHALLENGE = b"simulated meter!"
TITLE = b"DRY\x00\x00\x00\x00\x01"
UNIT_M3, UNIT_M3_CONVERTED = 13, 14
SERVES = (
    Conformance.GET | Conformance.SET | Conformance.ACTION | Conformance.SELECTIVE_ACCESS | Conformance.BLOCKS_WITH_GET
    | Conformance.MULTIPLE_REFERENCES
)  # fmt: skip
CLOCK, NAME, COUNTER = logical_name("0-0:1.0.0"), logical_name("0-0:42.0.0"), logical_name("0-0:43.1.0")
STATUS, PROFILE = logical_name("0-0:96.10.1"), logical_name("7-0:99.99.2")
EVENTS, EVENT_CODE = logical_name("7-0:99.98.0"), logical_name("0-0:96.11.0")
PUBLIC = (CLOCK, NAME, COUNTER)
OBJECT_UNDEFINED, READ_WRITE_DENIED, OTHER_REASON = AccessError(4), AccessError(3), AccessError(250)
SCOPE_VIOLATED = AccessError(13)
STATUS_BITS = {name: 1 << bit for bit, name in enumerate(get_args(Status))}


@dataclass(frozen=True, slots=True, kw_only=True)
class DlmsAccess:
    """What the meter wants of a client other than the public one, and how it speaks.

    `knows_us`: else its proof is of another challenge. `general`: it answers in general-glo-ciphering.
    `message_octets_max`: longer answers go in blocks. `zone`: where its clock keeps local time; None: UTC.
    `says_deviation`: else its times have none, only the summer-time bit. `takes_range`: else rows can be asked for by entry
    only; `newest_first`: how the log is sorted.
    """

    mechanism: Mechanism = Mechanism.NONE
    password: bytes = field(default=b"", repr=False)
    keys: Keys | None = None
    title: bytes = TITLE
    zone: ZoneInfo | None = None
    says_deviation: bool = True
    message_octets_max: int = 1024
    general: bool = False
    knows_us: bool = True
    takes_range: bool = True
    newest_first: bool = False


class DlmsSide:
    """The meter's end of associations, one at a time."""

    def __init__(self, meter: SimulatedMeter, access: DlmsAccess, now: Callable[[], datetime], name: str = "DRY") -> None:
        self.meter = meter
        self.capture_period_s = 3600
        self.invocation_counter = 0  # the last that a client used; a client must go above it
        self._access, self._now, self._name = access, now, name
        self._client: int | None = None
        self._ciphering: Ciphering | None = None
        self._proved = False
        self._challenges = (b"", b"")
        self._rest: list[bytes] = []
        self._block = 0
        self._counter = 1  # there are clients that take 0 for an old one

    def hears(self, message: bytes, client: int) -> bytes:
        """What the meter says to a message; nothing where it does not answer at all."""
        if not self.meter.answers(self._now()):
            return b""
        try:
            if message[0] == AARQ:
                return self._associate(decode_aarq(message), client)
            if message[0] == RLRQ:
                self._client = None
                return release_response()
            return self._serve(message, client)
        except (DlmsError, IndexError):
            return ExceptionResponse(1, 5 if self._ciphering else 3).encode()

    def disconnected(self) -> None:
        """The link is gone, and the association with it."""
        self._client = None

    def _associate(self, aarq: Aarq, client: int) -> bytes:
        self._client, self._proved, self._ciphering = None, False, None
        access = DlmsAccess() if client == PUBLIC_CLIENT else self._access
        if (aarq.mechanism, aarq.ciphered) != (access.mechanism, access.keys is not None):
            return Aare(1, 2 if aarq.ciphered != (access.keys is not None) else 11, information=b"\x0e\x01\x06\x01").encode()
        if access.mechanism is Mechanism.LOW and aarq.authentication != access.password:
            return Aare(1, 13, ciphered=aarq.ciphered, information=b"\x0e\x01\x06\x01").encode()
        asked = decode_initiate_request(self._opened(aarq, access))
        agreed = InitiateResponse(int(asked.conformance & SERVES), access.message_octets_max).encode()
        if self._ciphering is not None:
            agreed = self._ciphering.protect_initiate(agreed)
            self._ciphering.dedicated = (
                Keys(asked.dedicated_key, self._ciphering.keys.authentication) if asked.dedicated_key else None
            )
        self._client = client
        is_high = access.mechanism is Mechanism.GMAC
        self._proved = not is_high
        self._challenges = (aarq.authentication if access.knows_us else b"another", CHALLENGE)
        return Aare(
            result=0,
            diagnostic=14 if is_high else 0,
            ciphered=aarq.ciphered,
            mechanism=aarq.mechanism,
            title=access.title if aarq.ciphered else b"",
            challenge=CHALLENGE if is_high else b"",
            information=agreed,
        ).encode()

    def _opened(self, aarq: Aarq, access: DlmsAccess) -> bytes:
        """The initiate request, in the clear."""
        if access.keys is None:
            return aarq.information
        self._ciphering = Ciphering(access.title, access.keys, self._counter, general=access.general)
        self._ciphering.peer_title = aarq.title
        self._counter += 1000
        self._note_counter(aarq.information[3:7])
        return self._ciphering.unprotect(aarq.information)

    def _note_counter(self, octets: bytes) -> None:
        counter = int.from_bytes(octets, "big")
        if counter <= self.invocation_counter:
            raise RemoteError(f"invocation counter {counter} again")
        self.invocation_counter = counter

    def _serve(self, message: bytes, client: int) -> bytes:
        if self._client != client:
            return ExceptionResponse(1, 1).encode()
        ciphering = self._ciphering
        if ciphering is not None:
            message = ciphering.unprotect(message)
            self.invocation_counter = max(self.invocation_counter, ciphering.heard_counter)
        request = decode_message(message)
        if not self._proved and not isinstance(request, ActionRequest):
            return ExceptionResponse(1, 1).encode()
        match request:
            case GetRequest(invoke_id, wanted):
                answer = self._get(invoke_id, wanted)
            case GetRequestList(invoke_id, several):
                answer = self._get_list(invoke_id, several)
            case GetRequestNext(invoke_id, block) if self._rest and block == self._block:
                answer = self._next_block(invoke_id)
            case GetRequestNext(invoke_id, block):
                answer = GetResponseBlock(invoke_id, True, block, AccessError(19)).encode()
            case SetRequest(invoke_id, wanted, data):
                answer = SetResponse(invoke_id, self._set(wanted.attribute, data)).encode()
            case ActionRequest():
                answer = self._prove(request)
            case _:
                answer = ExceptionResponse(2, 2).encode()
        return answer if ciphering is None or answer[0] == 0xD8 else ciphering.protect(answer, with_dedicated=True)

    def _prove(self, request: ActionRequest) -> bytes:
        if self._ciphering is None or request.data is None:
            return ActionResponse(request.invoke_id, 3).encode()
        from_client, from_meter = self._challenges
        try:
            self._ciphering.proves(request.data.octets, from_meter)
        except RemoteError:
            self._client = None
            return ActionResponse(request.invoke_id, 3).encode()
        self._proved = True
        return ActionResponse(request.invoke_id, 0, octet_string(self._ciphering.proof(from_client))).encode()

    # Answers, whole or in blocks.

    def _get(self, invoke_id: int, wanted: Wanted) -> bytes:
        result = self._value(wanted)
        whole = GetResponse(invoke_id, result).encode()
        if isinstance(result, AccessError) or len(whole) <= self._access.message_octets_max:
            return whole
        return self._first_block(invoke_id, encode(result))

    def _get_list(self, invoke_id: int, several: Sequence[Wanted]) -> bytes:
        results = tuple(self._value(wanted) for wanted in several)
        whole = GetResponseList(invoke_id, results).encode()
        if len(whole) <= self._access.message_octets_max:
            return whole
        return self._first_block(invoke_id, encode_results(results))

    def _first_block(self, invoke_id: int, content: bytes) -> bytes:
        size = self._access.message_octets_max - 40
        self._rest = [content[n : n + size] for n in range(0, len(content), size)]
        self._block = 0
        return self._next_block(invoke_id)

    def _next_block(self, invoke_id: int) -> bytes:
        content = self._rest.pop(0)
        self._block += 1
        return GetResponseBlock(invoke_id, not self._rest, self._block, content).encode()

    # What there is to read.

    def _value(self, wanted: Wanted) -> Result:
        name, number = wanted.attribute.name, wanted.attribute.number
        if self._client == PUBLIC_CLIENT and name not in PUBLIC:
            return READ_WRITE_DENIED
        if number == 1:
            return octet_string(name)
        now = self._now()
        shows = self.meter.row_now(now)
        registers = self._registers()
        match wanted.attribute.class_id, number:
            case 8, 2 if name == CLOCK:
                return self._time(self.meter.clock(now), ())
            case 1, 2 if name == NAME:
                return octet_string(self._name.encode("ascii"))
            case 1, 2 if name == COUNTER:
                return Data(Kind.DOUBLE_LONG_UNSIGNED, self.invocation_counter)
            case 3, 2 if name in registers:
                return self._register(name, shows)
            case 3, 3 if name in registers:
                exponent = min(0, _exponent(registers[name]))
                unit = UNIT_M3_CONVERTED if name == logical_name("7-0:13.2.0") else UNIT_M3
                return structure(Data(Kind.INTEGER, exponent), Data(Kind.ENUM, unit))
            case 7, _ if name == PROFILE:
                return self._profile(number, wanted.selection, now)
            case 7, 2 | 3 | 4 if name == EVENTS:
                return self._events(number, wanted.selection, now)
        return OBJECT_UNDEFINED

    def _registers(self) -> dict[bytes, Register]:
        meter = self.meter
        main = "7-0:13.0.0" if meter.unconverted is None else "7-0:13.2.0"
        found = {logical_name(main): meter.register}
        if meter.unconverted is not None:
            found[logical_name("7-0:13.0.0")] = meter.unconverted
        return {**found, logical_name("7-0:3.0.0"): meter.register}

    def _register(self, name: bytes, row: LogRow) -> Data:
        register = self._registers()[name]
        ticks = row.reference if name == logical_name("7-0:3.0.0") else row.index
        if self.meter.unconverted is not None and name == logical_name("7-0:13.0.0"):
            ticks = row.unconverted or 0
        value = ticks * register.m3_per_tick
        return Data(Kind.DOUBLE_LONG_UNSIGNED, int(value.scaleb(-min(0, _exponent(register)))))

    def _columns(self) -> list[CaptureObject]:
        return [CLOCK_COLUMN, CaptureObject(1, STATUS, 2), *(CaptureObject(3, name, 2) for name in self._registers())]

    def _profile(self, number: int, selection: Selection | None, now: datetime) -> Result:
        match number:
            case 2:
                return self._buffer(selection, now)
            case 3:
                return array(*(column.data() for column in self._columns()))
            case 4:
                return Data(Kind.DOUBLE_LONG_UNSIGNED, self.capture_period_s)
            case 7 | 8:
                return Data(Kind.DOUBLE_LONG_UNSIGNED, len(self._log(now)))
        return OBJECT_UNDEFINED

    def _events(self, number: int, selection: Selection | None, now: datetime) -> Result:
        """When each of the reports began, by its code: the bit that it has in the log's status."""
        if number == 3:
            return array(CLOCK_COLUMN.data(), CaptureObject(1, EVENT_CODE, 2).data())
        if number == 4:
            return Data(Kind.DOUBLE_LONG_UNSIGNED, 0)
        if selection is None or selection.selector != 1:
            return OTHER_REASON
        first, last = (self._instant(item) for item in selection.parameters.items[1:3])
        began = [fault for fault in of_kind(self.meter.faults, Reports) if first <= fault.from_ <= min(last, now)]
        return array(
            *(structure(self._time(fault.from_, ()), Data(Kind.UNSIGNED, STATUS_BITS[fault.status])) for fault in began)
        )

    def _log(self, now: datetime, first: datetime | None = None, last: datetime | None = None) -> list[LogRow]:
        shows = self.meter.clock(now)
        every = timedelta(seconds=self.capture_period_s)
        return self.meter.log(first or shows - self.meter.log_for, last or shows, now, every)

    def _buffer(self, selection: Selection | None, now: datetime) -> Result:
        if selection is None:
            rows = self._log(now)
        elif selection.selector == 1 and not self._access.takes_range:
            return SCOPE_VIOLATED
        elif selection.selector == 1:
            _, first, last, _ = selection.parameters.items
            rows = self._log(now, self._instant(first), self._instant(last))
        else:
            start, end = (item.number for item in selection.parameters.items[:2])
            rows = self._log(now)[:: -1 if self._access.newest_first else 1][start - 1 : end or None]
        return array(*(self._row(row) for row in rows))

    def _row(self, row: LogRow) -> Data:
        status = sum(STATUS_BITS.get(name, 0) for name in row.status)
        registers = (self._register(name, row) for name in self._registers())
        return structure(self._time(row.at, row.status), Data(Kind.UNSIGNED, status), *registers)

    def _time(self, instant: datetime, status: Sequence[str]) -> Data:
        time = cosem_time(instant, self._access.zone)
        marked = (time.status or 0) | (0x01 if "clock_invalid" in status else 0)
        deviation = time.deviation_minutes if self._access.says_deviation else None
        fields = {name: getattr(time, name) for name in CosemTime.__slots__}
        return octet_string(encode_time(CosemTime(**{**fields, "status": marked, "deviation_minutes": deviation})))

    def _instant(self, data: Data) -> datetime:
        return decode_time(data.octets).instants(self._access.zone or ZoneInfo("UTC"))[0].astimezone(UTC)

    def pushed(self, first: datetime, last: datetime) -> Data:
        """What the meter pushes: its logical device name, the clock, and the rows of its log in [first, last]."""
        now = self._now()
        rows = array(*(self._row(row) for row in self._log(now, first, last)))
        return structure(octet_string(self._name.encode("ascii")), self._time(self.meter.clock(now), ()), rows)

    def _set(self, attribute: Member, data: Data) -> int:
        if self._client == PUBLIC_CLIENT:
            return READ_WRITE_DENIED.code
        if (attribute.name, attribute.number) == (CLOCK, 2):
            now = self._now()
            self.meter.set_clock(self._instant(data), now)
            return 0
        if (attribute.name, attribute.number) != (PROFILE, 4):
            return READ_WRITE_DENIED.code
        if data.kind is not Kind.DOUBLE_LONG_UNSIGNED or data.number not in (360, 900, 1800, 3600):
            return OTHER_REASON.code
        self.capture_period_s = data.number
        return 0


def _exponent(register: Register) -> int:
    return int(register.m3_per_tick.as_tuple().exponent)
