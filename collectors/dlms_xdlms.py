"""xDLMS messages with logical names (IEC 62056-5-3): GET, SET, ACTION and their answers, the exception response, and
DataNotification. Each is a type with an `encode`; `decode_message` gives one of them, or raises `RemoteError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from collectors.dlms_base import Cursor, Malformed, length, octets
from collectors.dlms_data import Data, encode, take
from collectors.dlms_time import CosemTime, decode_time, encode_time

GET_REQUEST, SET_REQUEST, ACTION_REQUEST = 0xC0, 0xC1, 0xC3
GET_RESPONSE, SET_RESPONSE, ACTION_RESPONSE = 0xC4, 0xC5, 0xC7
EXCEPTION_RESPONSE, DATA_NOTIFICATION, NOTIFICATION_CONFIRM = 0xD8, 0x0F, 0x10
NORMAL, NEXT_OR_BLOCK, WITH_LIST = 1, 2, 3
CONFIRMED = 0xC0  # of the invoke-id octet: confirmed, high priority
CONFIRMED_NOTIFICATION = 0x40  # of the upper octet of a long invoke-id
LOGICAL_NAME_OCTETS = 6
ACCESS_ERRORS = {
    1: "hardware fault", 2: "temporary failure", 3: "read-write denied", 4: "object undefined", 9: "object class inconsistent",
    11: "object unavailable", 12: "type unmatched", 13: "scope of access violated", 14: "data block unavailable",
    15: "long get aborted", 16: "no long get in progress", 17: "long set aborted", 18: "no long set in progress",
    19: "data block number invalid", 250: "other reason",
}  # fmt: skip
STATE_ERRORS = {1: "service not allowed", 2: "service unknown"}
SERVICE_ERRORS = {
    1: "operation not possible", 2: "service not supported", 3: "other reason", 4: "message too long",
    5: "deciphering error", 6: "invocation counter error",
}  # fmt: skip


def access_error(code: int) -> str:
    """A data access result other than 0, in words."""
    return ACCESS_ERRORS.get(code, f"data access error {code}")


@dataclass(frozen=True, slots=True)
class Member:
    """An attribute of an object, or a method of it: its class, logical name and number."""

    class_id: int
    name: bytes
    number: int

    def encode(self) -> bytes:
        """Nine octets."""
        return self.class_id.to_bytes(2, "big") + self.name + self.number.to_bytes(1, "big", signed=True)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of the attribute: selector 1 is by range, 2 by entry, of a profile's buffer."""

    selector: int
    parameters: Data


@dataclass(frozen=True, slots=True)
class Wanted:
    """An attribute to read, whole or in part."""

    attribute: Member
    selection: Selection | None = None

    def encode(self) -> bytes:
        """Attribute and selection."""
        if self.selection is None:
            return self.attribute.encode() + b"\x00"
        return self.attribute.encode() + bytes([1, self.selection.selector]) + encode(self.selection.parameters)


@dataclass(frozen=True, slots=True)
class AccessError:
    """Instead of a value: why there is none."""

    code: int


Result: TypeAlias = Data | AccessError


@dataclass(frozen=True, slots=True)
class GetRequest:
    """Read one attribute."""

    invoke_id: int
    wanted: Wanted

    def encode(self) -> bytes:
        """The message."""
        return _head(GET_REQUEST, NORMAL, self.invoke_id) + self.wanted.encode()


@dataclass(frozen=True, slots=True)
class GetRequestNext:
    """The block of this number has come: send the next."""

    invoke_id: int
    block: int

    def encode(self) -> bytes:
        """The message."""
        return _head(GET_REQUEST, NEXT_OR_BLOCK, self.invoke_id) + self.block.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class GetRequestList:
    """Read several attributes."""

    invoke_id: int
    wanted: tuple[Wanted, ...]

    def encode(self) -> bytes:
        """The message."""
        items = b"".join(one.encode() for one in self.wanted)
        return _head(GET_REQUEST, WITH_LIST, self.invoke_id) + length(len(self.wanted)) + items


@dataclass(frozen=True, slots=True)
class SetRequest:
    """Write one attribute."""

    invoke_id: int
    wanted: Wanted
    data: Data

    def encode(self) -> bytes:
        """The message."""
        return _head(SET_REQUEST, NORMAL, self.invoke_id) + self.wanted.encode() + encode(self.data)


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """Call one method."""

    invoke_id: int
    method: Member
    data: Data | None = None

    def encode(self) -> bytes:
        """The message."""
        parameters = b"\x00" if self.data is None else b"\x01" + encode(self.data)
        return _head(ACTION_REQUEST, NORMAL, self.invoke_id) + self.method.encode() + parameters


@dataclass(frozen=True, slots=True)
class GetResponse:
    """The value of one attribute."""

    invoke_id: int
    result: Result

    def encode(self) -> bytes:
        """The message."""
        return _head(GET_RESPONSE, NORMAL, self.invoke_id) + encode_result(self.result)


@dataclass(frozen=True, slots=True)
class GetResponseBlock:
    """A block of what a GET gives: octets of the encoded answer, or why it ends."""

    invoke_id: int
    last: bool
    block: int
    content: bytes | AccessError

    def encode(self) -> bytes:
        """The message."""
        head = _head(GET_RESPONSE, NEXT_OR_BLOCK, self.invoke_id) + bytes([self.last]) + self.block.to_bytes(4, "big")
        if isinstance(self.content, AccessError):
            return head + bytes([1, self.content.code])
        return head + b"\x00" + octets(self.content)


@dataclass(frozen=True, slots=True)
class GetResponseList:
    """The values of several attributes, in the order in which they were asked for."""

    invoke_id: int
    results: tuple[Result, ...]

    def encode(self) -> bytes:
        """The message."""
        return _head(GET_RESPONSE, WITH_LIST, self.invoke_id) + encode_results(self.results)


@dataclass(frozen=True, slots=True)
class SetResponse:
    """0: written; else a data access error."""

    invoke_id: int
    code: int

    def encode(self) -> bytes:
        """The message."""
        return _head(SET_RESPONSE, NORMAL, self.invoke_id) + bytes([self.code])


@dataclass(frozen=True, slots=True)
class ActionResponse:
    """0: done; else an error; and what the method gives back, if anything."""

    invoke_id: int
    code: int
    result: Result | None = None

    def encode(self) -> bytes:
        """The message."""
        result = b"\x00" if self.result is None else b"\x01" + encode_result(self.result)
        return _head(ACTION_RESPONSE, NORMAL, self.invoke_id) + bytes([self.code]) + result


@dataclass(frozen=True, slots=True)
class ExceptionResponse:
    """The request as such is refused. `counter`: the invocation counter that it expects, where it says so."""

    state: int
    service: int
    counter: int | None = None

    def encode(self) -> bytes:
        """The message."""
        counter = b"" if self.counter is None else self.counter.to_bytes(4, "big")
        return bytes([EXCEPTION_RESPONSE, self.state, self.service]) + counter

    def __str__(self) -> str:
        state = STATE_ERRORS.get(self.state, f"state error {self.state}")
        return f"{state}, {SERVICE_ERRORS.get(self.service, f'service error {self.service}')}"


@dataclass(frozen=True, slots=True)
class DataNotification:
    """What a meter pushes. `time`: when it was sent, by the meter; None where it does not say. `flags`: the upper octet of
    its long invoke-id and priority."""

    invoke_id: int
    time: CosemTime | None
    data: Data
    flags: int = 0

    @property
    def wants_confirmation(self) -> bool:
        """Whether its service class is confirmed."""
        return bool(self.flags & CONFIRMED_NOTIFICATION)

    def encode(self) -> bytes:
        """The message."""
        time = b"" if self.time is None else encode_time(self.time)
        return bytes([DATA_NOTIFICATION]) + _long_id(self.flags, self.invoke_id) + octets(time) + encode(self.data)


@dataclass(frozen=True, slots=True)
class NotificationConfirm:
    """The notification of this invoke-id was taken. We say no time, whatever the clock of who sent it may be."""

    invoke_id: int
    flags: int = CONFIRMED_NOTIFICATION

    def encode(self) -> bytes:
        """The message."""
        return bytes([NOTIFICATION_CONFIRM]) + _long_id(self.flags, self.invoke_id) + octets(b"")


Request: TypeAlias = GetRequest | GetRequestNext | GetRequestList | SetRequest | ActionRequest | NotificationConfirm
Response: TypeAlias = (
    GetResponse | GetResponseBlock | GetResponseList | SetResponse | ActionResponse | ExceptionResponse | DataNotification
)


def encode_result(result: Result) -> bytes:
    """A value or an error, as an answer has it."""
    return bytes([1, result.code]) if isinstance(result, AccessError) else b"\x00" + encode(result)


def encode_results(results: tuple[Result, ...]) -> bytes:
    """Several, as an answer to a list has them."""
    return length(len(results)) + b"".join(encode_result(one) for one in results)


def decode_results(data: bytes) -> tuple[Result, ...]:
    """Of a list, put together from blocks. Raises RemoteError."""
    cursor = Cursor(data)
    results = _take_results(cursor)
    cursor.end("a list of results")
    return results


def decode_message(message: bytes) -> Request | Response:
    """The message that these octets are. Raises RemoteError."""
    cursor = Cursor(message)
    tag = cursor.unsigned()
    if tag == EXCEPTION_RESPONSE:
        found: Request | Response = _exception(cursor)
    elif tag == DATA_NOTIFICATION:
        found = _notification(cursor)
    elif tag == NOTIFICATION_CONFIRM:
        flags, invoke_id, _ = cursor.unsigned(), cursor.unsigned(3), cursor.octets()
        found = NotificationConfirm(invoke_id, flags)
    else:
        form = cursor.unsigned()
        decoder = _DECODERS.get((tag, form))
        if decoder is None:
            raise Malformed(f"message {tag:#04x} {form:#04x} is not known")
        found = decoder(cursor, cursor.unsigned() & 0x0F)
    cursor.end(f"message {tag:#04x}")
    return found


def _head(tag: int, form: int, invoke_id: int) -> bytes:
    return bytes([tag, form, CONFIRMED | invoke_id & 0x0F])


def _long_id(flags: int, invoke_id: int) -> bytes:
    return bytes([flags]) + invoke_id.to_bytes(3, "big")


def _take_member(cursor: Cursor) -> Member:
    return Member(cursor.unsigned(2), cursor.take(LOGICAL_NAME_OCTETS), cursor.signed())


def _take_wanted(cursor: Cursor) -> Wanted:
    attribute = _take_member(cursor)
    return Wanted(attribute, Selection(cursor.unsigned(), take(cursor)) if cursor.flag() else None)


def _take_result(cursor: Cursor) -> Result:
    choice = cursor.unsigned()
    if choice > 1:
        raise Malformed(f"choice {choice} of a result")
    return AccessError(cursor.unsigned()) if choice else take(cursor)


def _take_results(cursor: Cursor) -> tuple[Result, ...]:
    count = cursor.length()
    if count > cursor.left:
        raise Malformed(f"{count} results in {cursor.left} octets")
    return tuple(_take_result(cursor) for _ in range(count))


def _list_request(cursor: Cursor, invoke_id: int) -> GetRequestList:
    count = cursor.length()
    if count > cursor.left:
        raise Malformed(f"{count} attributes in {cursor.left} octets")
    return GetRequestList(invoke_id, tuple(_take_wanted(cursor) for _ in range(count)))


def _block(cursor: Cursor, invoke_id: int) -> GetResponseBlock:
    last, block, choice = cursor.flag(), cursor.unsigned(4), cursor.unsigned()
    if choice > 1:
        raise Malformed(f"choice {choice} of a block")
    return GetResponseBlock(invoke_id, last, block, AccessError(cursor.unsigned()) if choice else cursor.octets())


def _action_request(cursor: Cursor, invoke_id: int) -> ActionRequest:
    method = _take_member(cursor)
    return ActionRequest(invoke_id, method, take(cursor) if cursor.flag() else None)


def _action_response(cursor: Cursor, invoke_id: int) -> ActionResponse:
    code = cursor.unsigned()
    return ActionResponse(invoke_id, code, _take_result(cursor) if cursor.flag() else None)


def _exception(cursor: Cursor) -> ExceptionResponse:
    state, service = cursor.unsigned(), cursor.unsigned()
    return ExceptionResponse(state, service, cursor.unsigned(4) if service == 6 and cursor.left else None)


def _notification(cursor: Cursor) -> DataNotification:
    flags, invoke_id, time = cursor.unsigned(), cursor.unsigned(3), cursor.octets()
    return DataNotification(invoke_id, decode_time(time) if time else None, take(cursor), flags)


_DECODERS: dict[tuple[int, int], Callable[[Cursor, int], Request | Response]] = {
    (GET_REQUEST, NORMAL): lambda cursor, n: GetRequest(n, _take_wanted(cursor)),
    (GET_REQUEST, NEXT_OR_BLOCK): lambda cursor, n: GetRequestNext(n, cursor.unsigned(4)),
    (GET_REQUEST, WITH_LIST): _list_request,
    (SET_REQUEST, NORMAL): lambda cursor, n: SetRequest(n, _take_wanted(cursor), take(cursor)),
    (ACTION_REQUEST, NORMAL): _action_request,
    (GET_RESPONSE, NORMAL): lambda cursor, n: GetResponse(n, _take_result(cursor)),
    (GET_RESPONSE, NEXT_OR_BLOCK): _block,
    (GET_RESPONSE, WITH_LIST): lambda cursor, n: GetResponseList(n, _take_results(cursor)),
    (SET_RESPONSE, NORMAL): lambda cursor, n: SetResponse(n, cursor.unsigned()),
    (ACTION_RESPONSE, NORMAL): _action_response,
}
