"""The protocol core: the golden table, echoes, resynchronisation, and that no damaged byte ever becomes a reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import collectors
from collectors.iec62056_21 import (
    FRAME_BYTES_MAX,
    TABLE,
    Client,
    LocalError,
    Malformed,
    RemoteError,
    State,
    TooLong,
    WrongAnswer,
    WrongBcc,
)
from collectors.iec62056_21_messages import (
    NEED_DATA,
    Again,
    Answer,
    AskedAgain,
    Break,
    Ended,
    HdlcFollows,
    Heard,
    Identification,
    NeedData,
    Password,
    Read,
    ReadoutFollows,
    Said,
    SignOn,
    framed,
)
from tests.collectors.iec62056_21_golden import GOLDEN, LIS200, MODE_B, MODE_E, PROFILE, Step

ANSWER = GOLDEN[11].data


def is_said(step: Step) -> bool:
    return isinstance(step.event, get_args(Said))


def client_at(count: int) -> Client:
    """A client that has been through the first `count` steps."""
    client = Client()
    for step in GOLDEN[:count]:
        go(client, step)
    return client


def go(client: Client, step: Step) -> None:
    if is_said(step):
        client.send(step.event)  # type: ignore[arg-type]
    else:
        client.receive_data(step.data)
        client.next_event()


def drain(client: Client) -> Iterator[Heard | RemoteError]:
    """All there is to hear; the number of turns is bounded by the bytes."""
    for _ in range(FRAME_BYTES_MAX + 2):
        try:
            event = client.next_event()
        except RemoteError as error:
            yield error
            continue
        if isinstance(event, NeedData):
            return
        yield event
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("n", range(len(GOLDEN)))
def test_golden(n: int) -> None:
    client, step = client_at(n), GOLDEN[n]
    assert client.state is step.state
    if is_said(step):
        assert client.send(step.event) == step.data  # type: ignore[arg-type]
    else:
        client.receive_data(step.data)
        assert client.next_event() == step.event
    assert client.next_event() is NEED_DATA


@pytest.mark.parametrize("n", [n for n, step in enumerate(GOLDEN) if not is_said(step)])
def test_golden_byte_by_byte_and_echoed(n: int) -> None:
    """An optical head gives back what we say; that is heard at sign-on, and taken off from then on."""
    client, heard = Client(), []
    for step in GOLDEN[: n + 1]:
        data = step.data
        if is_said(step):
            data = client.send(step.event)  # type: ignore[arg-type]
        for byte in data:
            client.receive_data(bytes((byte,)))
            heard += list(drain(client))
    assert client.echoes
    assert heard == [step.event for step in GOLDEN[: n + 1] if not is_said(step)]


@pytest.mark.parametrize("table", [MODE_B, MODE_E, LIS200])
@pytest.mark.parametrize("echoed", [False, True])
def test_golden_of_other_kinds_of_meter(table: tuple[Step, ...], echoed: bool) -> None:
    client = Client()
    for step in table:
        assert client.state is step.state
        if is_said(step):
            assert client.send(step.event) == step.data  # type: ignore[arg-type]
            if echoed:
                client.receive_data(step.data)
                assert client.next_event() is NEED_DATA
            continue
        for byte in step.data[:-1]:
            client.receive_data(bytes((byte,)))
            assert client.next_event() is NEED_DATA
        client.receive_data(step.data[-1:])
        assert client.next_event() == step.event


def test_a_confirmation_of_hdlc_at_another_speed_is_told_apart() -> None:
    client = Client()
    for step in MODE_E[:3]:
        go(client, step)
    client.receive_data(b"\x06232\r\n")
    assert client.next_event() == HdlcFollows("3")


def test_what_may_not_be_said_in_a_state_says_what_may() -> None:
    with pytest.raises(LocalError, match="Read in state IDLE; allowed: SignOn, Break"):
        Client().send(Read("0.9.1"))


def test_every_state_can_be_reached_and_left_by_a_break() -> None:
    reached = {following for row in TABLE.values() for following in row.values()}
    assert reached == set(State)
    assert all(row[Break] is State.IDLE for row in TABLE.values())


def test_a_wrong_bcc_is_an_error_and_the_repetition_is_read() -> None:
    client = client_at(11)
    client.receive_data(ANSWER[:-1] + b"J")
    with pytest.raises(WrongBcc, match="BCC 0x4a, computed 0x49"):
        client.next_event()
    assert client.send(Again()) == b"\x15"
    client.receive_data(ANSWER)
    assert client.next_event() == Answer(PROFILE)


def test_a_late_answer_to_another_question_is_not_this_ones() -> None:
    client = client_at(11)
    client.receive_data(GOLDEN[9].data + ANSWER)
    with pytest.raises(WrongAnswer, match=r"asked for P\.01, got '0\.9\.1"):
        client.next_event()
    assert client.next_event() == Answer(PROFILE)


def test_what_came_before_we_spoke_is_no_answer() -> None:
    client = client_at(10)
    client.receive_data(ANSWER)
    client.send(Read("P.01", "22610250000;22610250200"))
    assert client.next_event() is NEED_DATA


def test_corrupt_is_not_incomplete() -> None:
    client = client_at(11)
    client.receive_data(ANSWER[:40] + b"\xff")
    with pytest.raises(Malformed, match="0xff within a frame"):
        client.next_event()
    client.receive_data(ANSWER[:40])
    assert client.next_event() is NEED_DATA
    client.receive_data(ANSWER)  # a new frame starts within the old
    with pytest.raises(Malformed, match="0x02 within a frame"):
        client.next_event()
    assert client.next_event() == Answer(PROFILE)


def test_noise_before_a_frame_is_passed_over() -> None:
    client = client_at(1)
    client.receive_data(b"\x00\xff\x00garbage" + GOLDEN[1].data)
    assert client.next_event() == GOLDEN[1].event


def test_the_meters_break_and_nak() -> None:
    client = client_at(11)
    client.receive_data(b"\x15")
    assert client.next_event() == AskedAgain()
    client.send(Read("P.01"))
    client.receive_data(framed(b"\x01", b"B0"))
    assert client.next_event() == Ended()
    assert client.state is State.IDLE


@pytest.mark.parametrize(("character", "baud"), [("E", 9600), ("x", 300)])
def test_modes_a_and_b_read_out_by_themselves(character: str, baud: int) -> None:
    client = Client()
    client.send(SignOn())
    client.receive_data(f"/ABC{character}METER\r\n".encode() + framed(b"\x02", b"13.0.0(1*m3)\r\n!\r\n"))
    identification = client.next_event()
    assert identification == ReadoutFollows("ABC", character, "METER")
    assert identification.baud == baud
    assert client.next_event() == Answer("13.0.0(1*m3)\r\n!\r\n")


def test_a_quick_meter_says_so_by_a_lower_case_letter() -> None:
    assert Identification("EMh", "5", "").quick
    assert not Identification("EMH", "5", "").quick


def test_the_password_is_in_no_representation() -> None:
    assert "secret" not in repr(Password("secret"))


def test_more_than_a_frames_length_without_an_end_is_given_up() -> None:
    client = client_at(11)
    client.receive_data(b"\x02")
    for _ in range(FRAME_BYTES_MAX // 1024):
        assert client.next_event() is NEED_DATA
        client.receive_data(b"1" * 1024)
    assert len(client._buffer) == 0
    with pytest.raises(TooLong):
        client.next_event()
    client.receive_data(ANSWER)
    assert client.next_event() == Answer(PROFILE)


states = st.sampled_from([n for n, step in enumerate(GOLDEN) if not is_said(step)])
pieces = st.lists(
    st.one_of(
        st.binary(max_size=60), st.sampled_from([step.data for step in GOLDEN]), st.sampled_from([b"\x02", b"\x01", b"/"])
    ),
    max_size=12,
)


@given(states, pieces)
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_events_or_typed_errors_in_bounded_memory(n: int, data: list[bytes]) -> None:
    client = client_at(n)
    for piece in data:
        client.receive_data(piece)
        for _ in drain(client):
            pass
        assert len(client._buffer) <= FRAME_BYTES_MAX
        assert client.state in State


@given(st.integers(0, len(ANSWER) * 8 - 1), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_never_becomes_a_reading(bit: int, size: int) -> None:
    damaged = bytearray(ANSWER)
    damaged[bit // 8] ^= 1 << bit % 8
    assert not any(isinstance(heard, Answer) for heard in heard_in_pieces(bytes(damaged), size))


@given(st.integers(0, len(ANSWER) - 1), st.integers(1, 20), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_a_shortened_answer_never_becomes_a_reading(cut: int, length: int, size: int) -> None:
    """But where the check character vouches for it: it has 8 bits, and some damage cancels out."""
    damaged = ANSWER[:cut] + ANSWER[cut + length :]
    for heard in heard_in_pieces(damaged, size):
        if isinstance(heard, Answer):
            assert framed(b"\x02", heard.text.encode()) in damaged


def heard_in_pieces(damaged: bytes, size: int) -> list[Heard | RemoteError]:
    client, heard = client_at(11), []
    for n in range(0, len(damaged), size):
        client.receive_data(damaged[n : n + size])
        heard += list(drain(client))
    return heard


def diagram() -> str:
    """The state table as a Mermaid diagram; Break, which leads from everywhere to IDLE, is left out."""
    lines = ["stateDiagram-v2"]
    for state, row in TABLE.items():
        for following in dict.fromkeys(row.values()):
            events = [kind.__name__ for kind, to in row.items() if to is following and kind is not Break]
            if events:
                lines.append(f"    {state.name} --> {following.name}: {', '.join(events)}")
    return "\n".join(lines)


def test_the_diagram_in_the_page_is_the_table() -> None:
    page = (Path(collectors.__file__).parent / "iec62056_21.md").read_text()
    assert f"```mermaid\n{diagram()}\n```" in page
