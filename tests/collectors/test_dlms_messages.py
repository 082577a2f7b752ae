"""Association and xDLMS messages, and their ciphering: published bytes both ways, round trips, and damaged bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.dlms_acse import (
    Aare,
    Aarq,
    InitiateRequest,
    InitiateResponse,
    Mechanism,
    decode_aare,
    decode_aarq,
    decode_initiate_request,
    decode_initiate_response,
    release_request,
    release_response,
    service_error,
)  # fmt: skip
from collectors.dlms_base import LocalError, Malformed, NotAuthentic, RemoteError
from collectors.dlms_data import Data, Kind, array, long_unsigned, octet_string, structure
from collectors.dlms_objects import by_entry, by_range, capture_objects, code_of, logical_name, profile_rows, scaler_unit
from collectors.dlms_security import BOTH, Ciphering, Control, Keys, seal, unseal
from collectors.dlms_time import CosemTime, decode_time
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
    Selection,
    SetRequest,
    SetResponse,
    Wanted,
    access_error,
    decode_message,
)  # fmt: skip

# The keys and system titles of the standard's examples.
KEYS = Keys(bytes.fromhex("000102030405060708090A0B0C0D0E0F"), bytes.fromhex("D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"))
TITLE = bytes.fromhex("4D4D4D0000BC614E")
COUNTER = 0x01234567
CIPHERED_INITIATE = bytes.fromhex(
    "21303001234567801302FF8A7874133D414CED25B42534D28DB0047720606B175BD52211BE6841DB204D39EE6FDB8E356855"
)
INITIATE = bytes.fromhex("01000000065F1F0400007E1F04B0")
INITIATE_WITH_KEY = bytes.fromhex("01011000112233445566778899AABBCCDDEEFF0000065F1F0400007E1F04B0")
DEDICATED = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
GET_CLOCK = bytes.fromhex("C0010000080000010000FF0200")
CIPHERED_GET_CLOCK = bytes.fromhex("411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B")

AARQS = [
    (
        "601DA109060760857405080101BE10040E01000000065F1F0400001E1DFFFF",
        Aarq(information=bytes.fromhex("01000000065F1F0400001E1DFFFF")),
    ),
    (
        "6036A1090607608574050801018A0207808B0760857405080201AC0A80083132333435363738BE10040E01000000065F1F0400007E1F04B0",
        Aarq(Mechanism.LOW, authentication=b"12345678", information=INITIATE),
    ),
    (
        "6036A1090607608574050801018A0207808B0760857405080205AC0A80084B35366956616759BE10040E01000000065F1F0400007E1F04B0",
        Aarq(Mechanism.GMAC, authentication=b"K56iVagY", information=INITIATE),
    ),
    (
        "6066a109060760857405080103a60a04084D4D4D0000BC614E8a0207808b0760857405080201ac0a80083132333435363738be340432"
        + CIPHERED_INITIATE.hex(),
        Aarq(Mechanism.LOW, True, TITLE, b"12345678", CIPHERED_INITIATE),
    ),
]
ACCEPTED = bytes.fromhex("0800065F1F040000501F01F40007")
AARES = [
    (
        "6129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F040000501F01F40007",
        Aare(0, 0, information=ACCEPTED),
    ),
    (
        "6129A109060760857405080101A203020101A305A103020102BE10040E0800065F1F040000501F01F40007",
        Aare(1, 2, information=ACCEPTED),
    ),
    ("611FA109060760857405080101A203020101A305A103020101BE0604040E010601", Aare(1, 1, information=bytes.fromhex("0E010601"))),
    (
        "6142A109060760857405080101A203020100A305A10302010E88020780890760857405080205AA0A8008503677524A323146"
        "BE10040E0800065F1F040000501F01F40007",
        Aare(0, 14, mechanism=Mechanism.GMAC, challenge=b"P6wRJ21F", information=ACCEPTED),
    ),
]


@pytest.mark.parametrize(("octets", "aarq"), AARQS, ids=["public", "password", "GMAC", "ciphered"])
def test_published_aarq_both_ways(octets: str, aarq: Aarq) -> None:
    assert aarq.encode() == bytes.fromhex(octets)
    assert decode_aarq(bytes.fromhex(octets)) == aarq


@pytest.mark.parametrize(("octets", "aare"), AARES, ids=["accepted", "wrong context", "wrong version", "proof wanted"])
def test_published_aare_both_ways(octets: str, aare: Aare) -> None:
    assert aare.encode() == bytes.fromhex(octets)
    assert decode_aare(bytes.fromhex(octets)) == aare


def test_an_aare_may_say_its_protocol_version() -> None:
    octets = bytes.fromhex("612D 80020780 A109060760857405080101A203020100A305A103020100BE10040E0800065F1F040000501F01F40007")
    assert decode_aare(octets) == Aare(0, 0, information=ACCEPTED)


@pytest.mark.parametrize(
    "octets",
    [
        "61",
        "6000",
        "6100",
        "6129A109060760857405080102A203020100A305A103020100BE10040E0800065F1F040000501F01F40007",  # short names
        "610BA109060760857405080101",
        "611AA109060760857405080101A203020100A203020100A305A103020100",  # two results
    ],
)
def test_an_aare_that_is_none(octets: str) -> None:
    with pytest.raises(Malformed):
        decode_aare(bytes.fromhex(octets))


def test_published_initiate_messages() -> None:
    assert InitiateRequest(0x007E1F, 0x04B0).encode() == INITIATE
    assert decode_initiate_request(INITIATE_WITH_KEY) == InitiateRequest(0x007E1F, 0x04B0, DEDICATED)
    assert InitiateRequest(0x007E1F, 0x04B0, DEDICATED).encode() == INITIATE_WITH_KEY
    assert decode_initiate_response(ACCEPTED) == InitiateResponse(0x00501F, 500)
    assert InitiateResponse(0x00501F, 500).encode() == ACCEPTED
    with_quality = bytes.fromhex("080100065f1f0400001e1d04c80007")
    assert decode_initiate_response(with_quality) == InitiateResponse(0x001E1D, 1224)
    assert decode_initiate_response(bytes.fromhex("0800065f0400001e1d04c80007")) == InitiateResponse(0x001E1D, 1224)
    assert service_error(bytes.fromhex("0E010601")) == "service error 1, 6, 1"
    assert service_error(ACCEPTED) is None


def test_release() -> None:
    assert release_request() == bytes.fromhex("6203800100")
    assert release_response() == bytes.fromhex("6303800100")
    assert release_request(CIPHERED_INITIATE) == bytes.fromhex("6239800100be340432") + CIPHERED_INITIATE


VALUE = Member(1, bytes([0, 0, 43, 1, 0, 255]), 2)
MESSAGES: list[tuple[str, Request | Response]] = [
    ("c001c1000100002b0100ff0200", GetRequest(1, Wanted(VALUE))),
    ("c002c100000001", GetRequestNext(1, 1)),
    ("c003c102000100002b0100ff0200000100002b0100ff0200", GetRequestList(1, (Wanted(VALUE), Wanted(VALUE)))),
    ("c401c1000600001391", GetResponse(1, Data(Kind.DOUBLE_LONG_UNSIGNED, 5009))),
    ("c401c10101", GetResponse(1, AccessError(1))),
    ("c402c1000000000100050102030405", GetResponseBlock(1, False, 1, bytes([1, 2, 3, 4, 5]))),
    ("c402c101000000080102", GetResponseBlock(1, True, 8, AccessError(2))),
    ("c403c1020012000a010b", GetResponseList(1, (long_unsigned(10), AccessError(11)))),
    (
        "c101c100080000010000ff0200090c07e50118ff0e303950ffc400",
        SetRequest(
            1, Wanted(Member(8, bytes([0, 0, 1, 0, 0, 255]), 2)), octet_string(bytes.fromhex("07e50118ff0e303950ffc400"))
        ),
    ),
    ("c501c100", SetResponse(1, 0)),
    (
        "c301c0000f0000280000ff010109111000001a90e6d2221fa2fd85eed61acc22",
        ActionRequest(
            0, Member(15, bytes([0, 0, 40, 0, 0, 255]), 1), octet_string(bytes.fromhex("1000001a90e6d2221fa2fd85eed61acc22"))
        ),
    ),
    ("c301c0000f0000280000ff0100", ActionRequest(0, Member(15, bytes([0, 0, 40, 0, 0, 255]), 1))),
    ("c701c00000", ActionResponse(0, 0)),
    (
        "c701c0000100 09111000001afde8857b728a3499106aa665d1",
        ActionResponse(0, 0, octet_string(bytes.fromhex("1000001afde8857b728a3499106aa665d1"))),
    ),
    ("d80101", ExceptionResponse(1, 1)),
    ("d802060000002a", ExceptionResponse(2, 6, 42)),
    (
        "0f000001db000922125a85913600000000490000001100" + "00000a5a8513d01480000000" + "0d0000000a0100",
        DataNotification(
            0x1DB, None, octet_string(bytes.fromhex("125a8591360000000049000000110000000a5a8513d014800000000d0000000a0100"))
        ),
    ),
    (
        "0f0000002a0c07e50118ff0e303950ffc4001200ff",
        DataNotification(42, decode_time(bytes.fromhex("07e50118ff0e303950ffc400")), long_unsigned(255)),
    ),
    ("0f4000002a001200ff", DataNotification(42, None, long_unsigned(255), 0x40)),
    ("104000002a00", NotificationConfirm(42)),
]


@pytest.mark.parametrize(("octets", "message"), MESSAGES)
def test_messages_both_ways(octets: str, message: Request | Response) -> None:
    assert message.encode() == bytes.fromhex(octets)
    assert decode_message(bytes.fromhex(octets)) == message


@pytest.mark.parametrize(
    "octets",
    ["", "c4", "c401c1", "c404c100", "c401c100060000139100", "c401c102", "ffff", "c403c1ff00", "c402c100000001 00 05 01"],
)
def test_what_is_no_message(octets: str) -> None:
    with pytest.raises(Malformed):
        decode_message(bytes.fromhex(octets))


def test_the_published_request_for_a_profile_by_range() -> None:
    octets = bytes.fromhex(
        "c001c100070100630100ff0201010204020412000809060000010000ff0f02120000"
        "090c07e10a010700000000ffc480090c07e10a010701000000ffc4800100"
    )
    request = decode_message(octets)
    assert isinstance(request, GetRequest)
    assert request.encode() == octets
    assert request.wanted.selection is not None
    column, first, _last, selected = request.wanted.selection.parameters.items
    assert capture_objects(array(column))[0].is_clock
    assert decode_time(first.octets).instants() == (datetime(2017, 9, 30, 23, tzinfo=UTC),)
    assert selected == array()


def test_by_range_and_by_entry() -> None:
    selection = by_range(datetime(2025, 10, 26, 5, tzinfo=UTC), datetime(2025, 10, 27, 5, tzinfo=UTC))
    _, first, last, _ = selection.parameters.items
    assert (first.octets.hex(), last.octets.hex()) == ("07e90a1a0705000000000000", "07e90a1b0105000000000000")
    assert by_entry(1, 24) == Selection(
        2,
        structure(Data(Kind.DOUBLE_LONG_UNSIGNED, 1), Data(Kind.DOUBLE_LONG_UNSIGNED, 24), long_unsigned(1), long_unsigned(0)),
    )
    with pytest.raises(LocalError):
        by_entry(5, 4)


def test_codes_and_scalers() -> None:
    assert logical_name("7-0:13.2.0") == bytes([7, 0, 13, 2, 0, 255])
    assert code_of(logical_name("7-0:13.26.0*1")) == "7-0:13.26.0*1"
    assert str(scaler_unit(structure(Data(Kind.INTEGER, -3), Data(Kind.ENUM, 13))).value(123456)) == "123.456"
    for bad in ("13.2.0", "7-0:13.2.256", ""):
        with pytest.raises(ValueError, match="OBIS"):
            logical_name(bad)
    with pytest.raises(Malformed):
        scaler_unit(structure(long_unsigned(1)))
    assert access_error(4) == "object undefined"


def test_rows_of_a_profile_leave_out_what_follows() -> None:
    """As published: the first row has its time, the following ones null: fifteen minutes later each."""
    columns = capture_objects(
        array(
            structure(long_unsigned(8), octet_string(bytes([0, 0, 1, 0, 0, 255])), Data(Kind.INTEGER, 2), long_unsigned(0)),
            structure(long_unsigned(3), octet_string(logical_name("7-0:13.0.0")), Data(Kind.INTEGER, 2), long_unsigned(0)),
        )
    )
    time = octet_string(bytes.fromhex("07e30c1001080000 00ffc400".replace(" ", "")))
    null = Data(Kind.NULL)
    rows = list(profile_rows(array(structure(time, long_unsigned(7)), structure(null, null)), columns, 900))
    assert [(row.at.isoformat(), row.values[1].number) for row in rows] == [
        ("2019-12-16T07:00:00+00:00", 7),
        ("2019-12-16T07:15:00+00:00", 7),
    ]
    for broken in (array(structure(null, null)), array(structure(time)), array(structure(long_unsigned(1), null)), null):
        with pytest.raises(Malformed):
            list(profile_rows(broken, columns, 900))


# Ciphering.


def test_published_ciphered_messages() -> None:
    header = bytes.fromhex("3001234567")
    assert seal(BOTH, TITLE, COUNTER, KEYS, GET_CLOCK) == header + CIPHERED_GET_CLOCK
    assert unseal(header + CIPHERED_GET_CLOCK, TITLE, KEYS) == (COUNTER, GET_CLOCK)
    sender = Ciphering(TITLE, KEYS, COUNTER)
    assert sender.protect_initiate(INITIATE_WITH_KEY) == CIPHERED_INITIATE
    assert Ciphering(TITLE, KEYS, COUNTER).protect(GET_CLOCK) == bytes.fromhex("C81E") + header + CIPHERED_GET_CLOCK


def test_published_general_ciphered_notification() -> None:
    message = bytes.fromhex(
        "db082f192291991641033b30000001e5025ce9d2271fd78be8c204211a916a9d7f"
        "587e0a7a814cadea89e9593f01f92ea8c087b5bdfdefeab6becf282dfe49c08f5be6dc8400"
    )
    receiver = Ciphering(b"CLIENT01", Keys(b"MYDUMMYGLOBALKEY", b"MYDUMMYGLOBALKEY"))
    pushed = decode_message(receiver.unprotect(message))
    assert isinstance(pushed, DataNotification)
    assert (pushed.invoke_id, len(pushed.data.octets)) == (0x1DB, 34)


def test_published_proof_by_gmac() -> None:
    client = Ciphering(bytes.fromhex("4D4D4D0000000001"), KEYS, 1)
    proof = client.proof(b"P6wRJ21F")
    assert proof == bytes.fromhex("10000000011A52FE7DD3E72748973C1E28")
    meter = Ciphering(TITLE, KEYS)
    meter.peer_title = client.title
    meter.proves(proof, b"P6wRJ21F")
    for wrong in (proof[:-1] + b"\0", proof[:-1], b"\x30" + proof[1:]):
        with pytest.raises(NotAuthentic):
            meter.proves(wrong, b"P6wRJ21F")
    with pytest.raises(NotAuthentic):
        meter.proves(proof, b"P6wRJ21G")


def pair(**more: object) -> tuple[Ciphering, Ciphering]:
    sender, receiver = Ciphering(TITLE, KEYS, 5, **more), Ciphering(b"CLIENT01", KEYS, **more)  # type: ignore[arg-type]
    receiver.peer_title = TITLE
    return sender, receiver


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("dedicated", [None, DEDICATED])
@pytest.mark.parametrize("control", [BOTH, Control.AUTHENTICATED])
def test_protected_messages_come_out_and_only_once(general: bool, dedicated: bytes | None, control: Control) -> None:
    sender, receiver = pair(general=general, dedicated=dedicated, control=control)
    first, second = (sender.protect(GET_CLOCK, with_dedicated=True) for _ in range(2))
    assert receiver.unprotect(first) == GET_CLOCK
    with pytest.raises(NotAuthentic, match="old"):
        receiver.unprotect(first)
    assert receiver.unprotect(second) == GET_CLOCK
    with pytest.raises(NotAuthentic, match="old"):
        receiver.unprotect(first)


def test_every_flipped_bit_of_a_protected_message_is_found() -> None:
    for general in (False, True):
        message = pair(general=general)[0].protect(bytes.fromhex("c401c1000600001391"))
        for bit in range(8 * len(message)):
            spoiled = bytearray(message)
            spoiled[bit // 8] ^= 1 << bit % 8
            with pytest.raises(RemoteError):
                pair(general=general)[1].unprotect(bytes(spoiled))


def test_less_protection_than_agreed_is_refused() -> None:
    _, receiver = pair()
    with pytest.raises(NotAuthentic, match="not protected"):
        receiver.unprotect(bytes.fromhex("c401c1000600001391"))
    for control in (Control.AUTHENTICATED, Control.ENCRYPTED, Control(0)):
        with pytest.raises(NotAuthentic, match="less protection"):
            receiver.unprotect(pair(control=control)[0].protect(GET_CLOCK))
    with pytest.raises(NotAuthentic, match="dedicated"):
        receiver.unprotect(pair(dedicated=DEDICATED)[0].protect(GET_CLOCK, with_dedicated=True))


def test_keys_and_counters_that_cannot_be() -> None:
    with pytest.raises(LocalError, match="key has 3 octets"):
        Keys(b"abc", KEYS.authentication)
    with pytest.raises(LocalError, match="used up"):
        Ciphering(TITLE, KEYS, 0x1_0000_0000).protect(GET_CLOCK)
    assert "0001" not in repr(KEYS)


# Damaged bytes.

ALL = [bytes.fromhex(octets) for octets, _ in [*MESSAGES, *AARQS, *AARES]] + [INITIATE, ACCEPTED, CIPHERED_INITIATE]


@given(st.one_of(st.binary(max_size=80), st.sampled_from(ALL)), st.data())
def test_any_bytes_give_a_message_or_a_typed_error(octets: bytes, draw: st.DataObject) -> None:
    spoiled = bytearray(octets[: draw.draw(st.integers(0, len(octets)))])
    if spoiled:
        spoiled[draw.draw(st.integers(0, len(spoiled) - 1))] ^= draw.draw(st.integers(0, 255))
    decoders = (decode_message, decode_aare, decode_aarq, decode_initiate_request, decode_initiate_response, service_error)
    for decoder in (*decoders, pair()[1].unprotect):
        try:
            decoder(bytes(spoiled))
        except RemoteError:
            continue


def test_a_notification_may_have_no_time() -> None:
    assert DataNotification(1, CosemTime(), long_unsigned(1)).encode()[5:18] == bytes.fromhex("0cffffffffffffffffff8000ff")
