"""What the octets of a DLMS/COSEM line mean, in a line of words for who sets a meter up. Pure.

What is ciphered stays so, and a password is not there to be shown: `dlms_line.py` keeps it out of the trace. Octets come as the
line had them, so a frame may be cut in two, or several may be together.
"""

from __future__ import annotations

from collectors.dlms_acse import AARE, AARQ, RLRE, RLRQ, Mechanism, decode_aare, decode_aarq
from collectors.dlms_base import NeedData, RemoteError
from collectors.dlms_client import DIAGNOSTICS, RESULTS
from collectors.dlms_data import Data
from collectors.dlms_hdlc import DISC, DM, FRMR, RNR, RR, SNRM, UA, UI, Address, Frame, FrameReader, check_sequence
from collectors.dlms_link import LLC_COMMAND, LLC_RESPONSE, WrapperReader
from collectors.dlms_objects import code_of
from collectors.dlms_security import DEDICATED, GENERAL_DEDICATED, GENERAL_GLOBAL, GLOBAL
from collectors.dlms_xdlms import (
    AccessError,
    ActionRequest,
    ActionResponse,
    DataNotification,
    ExceptionResponse,
    GetRequest,
    GetRequestList,
    GetRequestNext,
    GetResponse,
    GetResponseBlock,
    GetResponseList,
    Member,
    NotificationConfirm,
    Request,
    Response,
    Result,
    SetRequest,
    SetResponse,
    access_error,
    decode_message,
)

SHOWN = 60  # characters of a value
CIPHERED = {tag: plain for plain, tag in (*GLOBAL.items(), *DEDICATED.items())}
KINDS = {SNRM: "SNRM, opens the link", UA: "UA, agreed", DISC: "DISC, closes the link", DM: "DM, there is no link"}
KINDS |= {FRMR: "FRMR, frame rejected", UI: "UI, unasked"}
MESSAGES = {
    0x01: "initiate request", 0x08: "initiate response", 0x0E: "service error", 0xC0: "GET request", 0xC1: "SET request",
    0xC3: "ACTION request", 0xC4: "GET response", 0xC5: "SET response", 0xC7: "ACTION response",
}  # fmt: skip
MECHANISMS = {Mechanism.NONE: "without a password", Mechanism.LOW: "with a password (not shown)", Mechanism.GMAC: "GMAC"}


def described(octets: bytes, link: str, is_ours: bool = False) -> str:
    """The frames in these octets, in words. `link`: `hdlc` or `wrapper`. `is_ours`: of which a password may have been taken
    out, so that the check does not hold any more."""
    return "; ".join(_hdlc(octets, is_ours) if link == "hdlc" else _wrapped(octets)) or f"{len(octets)} octets, no whole frame"


def _hdlc(octets: bytes, is_ours: bool) -> list[str]:
    if is_ours and len(octets) > 4:
        octets = octets[:-3] + check_sequence(octets[1:-3]) + octets[-1:]
    reader, said = FrameReader(), []
    reader.receive_data(octets)
    while True:
        try:
            frame = reader.next_frame()
        except RemoteError as error:
            said.append(str(error))
            continue
        if isinstance(frame, NeedData):
            return said
        said.append(f"{_address(frame.source)} to {_address(frame.destination)}: {_frame(frame)}")


def _address(address: Address) -> str:
    return str(address.upper) if address.size == 1 else f"{address.upper}/{address.lower}"


def _frame(frame: Frame) -> str:
    if frame.is_information:
        content = frame.information
        is_first = content[:3] in (LLC_COMMAND, LLC_RESPONSE)
        more = ", more follows" if frame.segmented else ""
        what = message(content[3:]) if is_first and not frame.segmented else f"{len(content)} octets of a message{more}"
        return f"I-frame {frame.sent}, expects {frame.expects}: {what}"
    if frame.kind in (RR, RNR):
        return f"{'RR' if frame.kind == RR else 'RNR, busy'}, expects {frame.expects}"
    return KINDS.get(frame.kind, f"control {frame.control:#04x}")


def _wrapped(octets: bytes) -> list[str]:
    reader, said = WrapperReader(), []
    reader.receive_data(octets)
    try:
        while not isinstance(found := reader.next_message(), NeedData):
            said.append(f"{found.source} to {found.destination}: {message(found.message)}")
    except RemoteError as error:
        said.append(str(error))
    return said


def message(octets: bytes) -> str:
    """What a message (APDU) is, in words."""
    if not octets:
        return "an empty message"
    tag = octets[0]
    if tag in (GENERAL_GLOBAL, GENERAL_DEDICATED):
        return f"a message ciphered with the {'global' if tag == GENERAL_GLOBAL else 'dedicated'} key"
    if tag in CIPHERED:
        key = "global" if tag in GLOBAL.values() else "dedicated"
        return f"{MESSAGES[CIPHERED[tag]]}, ciphered with the {key} key"
    try:
        return _clear(tag, octets)
    except RemoteError as error:
        return f"{MESSAGES.get(tag, f'message {tag:#04x}')} of {len(octets)} octets that cannot be read: {error}"


def _clear(tag: int, octets: bytes) -> str:
    match tag:
        case k if k == AARQ:
            aarq = decode_aarq(octets)
            return f"AARQ, asks for an association {MECHANISMS[aarq.mechanism]}{', ciphered' if aarq.ciphered else ''}"
        case k if k == AARE:
            aare = decode_aare(octets)
            why = DIAGNOSTICS.get(aare.diagnostic, f"diagnostic {aare.diagnostic}")
            said = f"AARE, {RESULTS.get(aare.result, 'accepted')}"
            return said if aare.diagnostic == 0 else f"{said}: {why}"
        case k if k in (RLRQ, RLRE):
            return "RLRQ, releases the association" if tag == RLRQ else "RLRE, released"
    return _service(decode_message(octets))


def _service(found: Request | Response) -> str:
    match found:
        case GetRequest(_, wanted):
            part = "" if wanted.selection is None else f", {'by range' if wanted.selection.selector == 1 else 'by entry'}"
            return f"GET request, {_member(wanted.attribute)}{part}"
        case GetRequestNext(_, block):
            return f"GET request, the block after {block}"
        case GetRequestList(_, several):
            return f"GET request, {'; '.join(_member(one.attribute) for one in several)}"
        case SetRequest(_, wanted, data):
            return f"SET request, {_member(wanted.attribute)}: {value(data)}"
        case ActionRequest(_, method, _):
            return f"ACTION request, {code_of(method.name)} method {method.number}"
        case GetResponse(_, result):
            return f"GET response: {_result(result)}"
        case GetResponseBlock(_, last, block, content):
            what = access_error(content.code) if isinstance(content, AccessError) else f"{len(content)} octets"
            return f"GET response, block {block}{', the last' if last else ''}: {what}"
        case GetResponseList(_, results):
            return f"GET response: {'; '.join(map(_result, results))}"
        case SetResponse(_, code):
            return f"SET response: {access_error(code) if code else 'written'}"
        case ActionResponse(_, code, _):
            return f"ACTION response: {access_error(code) if code else 'done'}"
        case ExceptionResponse():
            return f"exception: {found}"
        case DataNotification(_, _, data):
            return f"data notification: {value(data)}"
        case NotificationConfirm():
            return "data notification taken"


def _member(member: Member) -> str:
    return f"{code_of(member.name)} attribute {member.number}"


def _result(result: Result) -> str:
    return access_error(result.code) if isinstance(result, AccessError) else value(result)


def value(data: Data) -> str:
    """A value, short; of arrays and structures how many they hold."""
    match data.value:
        case tuple(items):
            return f"{data.kind.name.lower().replace('_', ' ')} of {len(items)}"
        case bytes(octets):
            said = octets.hex()
        case None:
            return "null"
        case other:
            said = str(other)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}..."
