"""HDLC and the wrapper: published frames, addresses, segmentation, repetition, and that no damaged frame is ever taken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.dlms_base import LocalError, Malformed, NeedData, RemoteError, WrongAnswer, WrongCheck
from collectors.dlms_hdlc import (
    DISC,
    DM,
    FRMR,
    POLL,
    RR,
    SNRM,
    UA,
    UI,
    Address,
    Frame,
    FrameReader,
    Parameters,
    check_sequence,
    decode_parameters,
    information_control,
)  # fmt: skip
from collectors.dlms_link import (
    LLC_RESPONSE,
    SAID_AGAIN_MAX,
    Closed,
    HdlcLink,
    LinkEvent,
    Message,
    Opened,
    Pushed,
    Say,
    WrapperLink,
    WrapperReader,
    wrapped,
)  # fmt: skip

CLIENT, METER = Address(16), Address(1, 17, 2)
AARQ = bytes.fromhex("601DA109060760857405080101BE10040E01000000065F1F0400001E1DFFFF")
AARE = bytes.fromhex("6129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F0400001E1D04C80007")
SNRM_BYTES = bytes.fromhex("7ea00802232193bd647e")
UA_BYTES = bytes.fromhex("7EA01F21022373E6C781801205019A06019A070400000001080400000001CCA27E")
AARQ_BYTES = bytes.fromhex("7EA02C02232110AF9FE6E600601DA109060760857405080101BE10040E01000000065F1F0400001E1DFFFFC5E47E")
AARE_BYTES = bytes.fromhex(
    "7EA0382102233034E7E6E7006129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F0400001E1D04C80007B86A7E"
)


def from_meter(control: int, information: bytes = b"", segmented: bool = False) -> bytes:
    return Frame(CLIENT, METER, control, information, segmented).encode()


def events(link: HdlcLink | WrapperLink, data: bytes) -> Iterator[LinkEvent | RemoteError]:
    link.receive_data(data)
    for _ in range(len(data) + 2):
        try:
            event = link.next_event()
        except RemoteError as error:
            yield error
            continue
        if isinstance(event, NeedData):
            return
        yield event
    raise AssertionError("it does not come to an end")


def frames(data: bytes) -> list[Frame]:
    reader, found = FrameReader(), []
    reader.receive_data(data)
    while not isinstance(frame := reader.next_frame(), NeedData):
        found.append(frame)
    return found


def opened() -> HdlcLink:
    link = HdlcLink(16, METER)
    link.open()
    assert list(events(link, UA_BYTES)) == [Opened()]
    return link


def asked(message: bytes = AARQ) -> HdlcLink:
    link = opened()
    link.send(message)
    return link


# Frames.


@pytest.mark.parametrize(("data", "check"), [(b"123456789", "6e90"), (bytes.fromhex("033f"), "5bec")])
def test_check_sequence_is_crc_16_x_25(data: bytes, check: str) -> None:
    assert check_sequence(data).hex() == check


@pytest.mark.parametrize(
    ("octets", "frame"),
    [
        (SNRM_BYTES, Frame(METER, CLIENT, SNRM | POLL)),
        (UA_BYTES, Frame(CLIENT, METER, UA | POLL, UA_BYTES[9:-3])),
        (AARQ_BYTES, Frame(METER, CLIENT, information_control(0, 0), b"\xe6\xe6\x00" + AARQ)),
        (AARE_BYTES, Frame(CLIENT, METER, information_control(0, 1), b"\xe6\xe7\x00" + AARE)),
    ],
    ids=["SNRM", "UA", "AARQ", "AARE"],
)
def test_published_frames_both_ways(octets: bytes, frame: Frame) -> None:
    assert frame.encode() == octets
    assert frames(octets) == [frame]


@pytest.mark.parametrize(
    ("address", "octets"),
    [
        (Address(1), "03"),
        (Address(16), "21"),
        (Address(0b1001010), "95"),
        (Address(1, 17, 2), "0223"),
        (Address(0x1234, 0x3FFF, 4), "4868feff"),
        (Address(1, 17, 4), "00020023"),
    ],
)
def test_addresses_of_one_two_and_four_octets(address: Address, octets: str) -> None:
    assert address.encode().hex() == octets
    assert frames(Frame(address, CLIENT, SNRM | POLL).encode()) == [Frame(address, CLIENT, SNRM | POLL)]


@pytest.mark.parametrize(
    "address", [Address(128), Address(1, 1, 1), Address(1, 128, 2), Address(0x4000, 0, 4), Address(1, 1, 3)]
)
def test_an_address_that_does_not_fit_is_not_sent(address: Address) -> None:
    with pytest.raises(LocalError):
        address.encode()


def test_parameters_of_the_published_ua() -> None:
    assert decode_parameters(UA_BYTES[9:-3]) == Parameters(0x9A, 0x9A, 1, 1)
    assert Parameters(0x9A, 0x9A).encode() == UA_BYTES[9:-3]
    assert decode_parameters(b"") == Parameters(128, 128, 1, 1)
    assert decode_parameters(Parameters(2030, 1024, 1, 7).encode()) == Parameters(2030, 1024, 1, 7)
    with pytest.raises(Malformed):
        decode_parameters(bytes.fromhex("818003050104"))


def test_frames_share_flags_and_noise_lies_between() -> None:
    reader = FrameReader()
    reader.receive_data(b"\xff\x00" + UA_BYTES[:-1] + AARE_BYTES + b"\x7e\x7e" + UA_BYTES)
    assert [reader.next_frame() for _ in range(3)] == [*frames(UA_BYTES), *frames(AARE_BYTES), *frames(UA_BYTES)]
    assert isinstance(reader.next_frame(), NeedData)


def test_every_flipped_bit_is_found() -> None:
    for bit in range(8, 8 * (len(AARE_BYTES) - 1)):  # all but the flags
        spoiled = bytearray(AARE_BYTES)
        spoiled[bit // 8] ^= 1 << bit % 8
        link = asked()
        assert not any(isinstance(event, Message) for event in events(link, bytes(spoiled))), bit


def test_a_header_check_that_is_wrong_under_a_right_frame_check() -> None:
    body = bytearray(AARE_BYTES[1:-3])
    body[6] ^= 1
    with pytest.raises(WrongCheck, match="HCS"):
        frames(b"\x7e" + bytes(body) + check_sequence(bytes(body)) + b"\x7e")


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.integers(1, 20), max_size=20))
def test_a_frame_is_found_in_noise_without_flags_however_it_is_cut(before: bytes, after: bytes, cuts: list[int]) -> None:
    data = before.replace(b"\x7e", b"") + AARE_BYTES + after.replace(b"\x7e", b"")
    link, heard = asked(), []
    for cut in [*cuts, len(data)]:
        heard += list(events(link, data[:cut]))
        data = data[cut:]
    assert Message(AARE) in heard


@given(st.binary(max_size=200), st.sampled_from([b"", UA_BYTES, AARE_BYTES, UA_BYTES[:9]]))
def test_any_bytes_give_events_or_typed_errors(noise: bytes, frame: bytes) -> None:
    for link in (HdlcLink(16, METER), asked(), WrapperLink(1, 1)):
        list(events(link, noise + frame + noise))


# The link.


def test_a_session_as_published() -> None:
    link = HdlcLink(16, METER)
    assert link.open() == SNRM_BYTES
    assert list(events(link, UA_BYTES)) == [Opened()]
    assert link.send(AARQ) == AARQ_BYTES
    assert list(events(link, AARE_BYTES)) == [Message(AARE)]
    assert frames(link.close()) == [Frame(METER, CLIENT, DISC | POLL)]
    assert list(events(link, from_meter(UA | POLL))) == [Closed()]


def test_a_long_question_goes_in_segments_each_when_the_meter_is_ready() -> None:
    link = opened()
    (first,) = frames(link.send(bytes(200)))
    assert (len(first.information), first.segmented, first.sent) == (128, True, 0)
    (say,) = events(link, from_meter(RR | POLL | 1 << 5))
    assert isinstance(say, Say)
    (second,) = frames(say.data)
    assert (len(second.information), second.segmented, second.sent) == (75, False, 1)
    assert first.information + second.information == b"\xe6\xe6\x00" + bytes(200)
    assert list(events(link, from_meter(information_control(0, 2), LLC_RESPONSE + b"yes"))) == [Message(b"yes")]


def test_a_long_answer_comes_in_segments_each_when_we_are_ready() -> None:
    link = asked()
    (say,) = events(link, from_meter(information_control(0, 1), LLC_RESPONSE + b"one ", segmented=True))
    assert isinstance(say, Say)
    assert frames(say.data) == [Frame(METER, CLIENT, RR | POLL | 1 << 5)]
    assert list(events(link, from_meter(information_control(0, 1), LLC_RESPONSE + b"one ", segmented=True))) == []  # again
    assert list(events(link, from_meter(information_control(1, 1), b"two"))) == [Message(b"one two")]


def test_numbers_go_round_after_eight() -> None:
    link = opened()
    for n in range(20):
        (frame,) = frames(link.send(b"?"))
        assert (frame.sent, frame.expects) == (n % 8, n % 8)
        answer = from_meter(information_control(n % 8, (n + 1) % 8), LLC_RESPONSE + bytes([n]))
        assert list(events(link, answer)) == [Message(bytes([n]))]


def test_a_late_answer_is_never_the_answer_to_this_question() -> None:
    link = asked()
    assert list(events(link, AARE_BYTES)) == [Message(AARE)]
    link.send(b"second")
    assert list(events(link, AARE_BYTES)) == []
    right = from_meter(information_control(1, 1), LLC_RESPONSE + b"late, but of the next number")
    assert [type(event) for event in events(link, right)] == [WrongAnswer]


@pytest.mark.parametrize("frame", [Frame(CLIENT, Address(1, 18, 2), UA | POLL), Frame(Address(1), METER, UA | POLL)])
def test_other_stations_are_passed_over(frame: Frame) -> None:
    link = HdlcLink(16, METER)
    link.open()
    assert list(events(link, frame.encode())) == []


def test_our_own_echo_is_passed_over() -> None:
    link = opened()
    assert list(events(link, link.send(AARQ))) == []
    assert list(events(link, AARE_BYTES)) == [Message(AARE)]


def test_after_silence_it_asks_whether_the_meter_is_ready() -> None:
    link = HdlcLink(16, METER)
    assert link.open() == link.repeat()
    link = asked()
    assert frames(link.repeat()) == [Frame(METER, CLIENT, RR | POLL)]
    (say,) = events(link, from_meter(RR | POLL))  # it has not had our frame
    assert say == Say(AARQ_BYTES)
    assert list(events(link, from_meter(RR | POLL | 1 << 5))) == []  # it has, and still works on it


def test_a_meter_that_never_takes_our_frame_is_not_told_for_ever() -> None:
    link = asked()
    heard = [next(events(link, from_meter(RR | POLL))) for _ in range(SAID_AGAIN_MAX + 1)]
    assert [type(event) for event in heard] == [Say] * SAID_AGAIN_MAX + [Malformed]


@pytest.mark.parametrize(
    ("control", "information", "expected"),
    [(DM | POLL, b"", Closed()), (UI, LLC_RESPONSE + b"news", Pushed(b"news"))],
)
def test_other_frames(control: int, information: bytes, expected: LinkEvent) -> None:
    assert list(events(asked(), from_meter(control, information))) == [expected]


def test_a_rejected_frame_and_a_message_without_llc_are_errors() -> None:
    assert [type(event) for event in events(asked(), from_meter(FRMR | POLL))] == [Malformed]
    assert [type(event) for event in events(asked(), from_meter(information_control(0, 1), b"bare"))] == [Malformed]


def test_it_may_only_speak_in_its_turn() -> None:
    with pytest.raises(LocalError):
        HdlcLink(16, METER).send(b"x")
    with pytest.raises(LocalError):
        asked().send(b"x")


# The wrapper.


def test_a_published_wrapper_header() -> None:
    data = bytes.fromhex("0001000100010003") + b"abc"
    assert wrapped(1, 1, b"abc") == data
    reader = WrapperReader()
    reader.receive_data(data)
    assert reader.next_message() is not None


@given(st.lists(st.binary(max_size=40), max_size=4), st.integers(1, 30))
def test_messages_come_out_of_a_stream_however_it_is_cut(messages: list[bytes], size: int) -> None:
    link, heard = WrapperLink(16, 1), []
    data = b"".join(wrapped(1, 16, message) for message in messages)
    for n in range(0, len(data), size):
        heard += list(events(link, data[n : n + size]))
    assert heard == [Message(message) for message in messages]


def test_a_message_of_another_station_and_another_version() -> None:
    assert [type(event) for event in events(WrapperLink(16, 1), wrapped(2, 16, b"x"))] == [WrongAnswer]
    assert [type(event) for event in events(WrapperLink(16, 1), b"\x00\x02" + bytes(6))] == [Malformed]
    assert [type(event) for event in events(WrapperLink(16, 1), b"HTTP/1.1 400")] == [Malformed]
    with pytest.raises(LocalError):
        wrapped(16, 1, bytes(0x10000))
