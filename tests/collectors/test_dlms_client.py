"""An association's own rules: its table of states, and that nothing that is said to it gives anything but an event or a typed
error, in any state, with and without ciphering."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.dlms_acse import Aare, InitiateResponse, Mechanism
from collectors.dlms_base import LocalError, Malformed, NotAuthentic, Refused, RemoteError, TooLong, WrongAnswer
from collectors.dlms_client import (
    ANSWER_OCTETS_MAX,
    TABLE,
    Associate,
    Associated,
    Association,
    Credentials,
    Get,
    Got,
    Release,
    Released,
    Set,
    State,
    Written,
)  # fmt: skip
from collectors.dlms_data import Data, Kind, long_unsigned
from collectors.dlms_link import Say
from collectors.dlms_objects import CLOCK_TIME
from collectors.dlms_security import Ciphering, Keys
from collectors.dlms_xdlms import (
    AccessError,
    DataNotification,
    ExceptionResponse,
    GetRequestNext,
    GetResponse,
    GetResponseBlock,
    GetResponseList,
    SetResponse,
    Wanted,
    decode_message,
)  # fmt: skip

AGREED = InitiateResponse(0x00121D, 1024)
ACCEPTED = Aare(0, 0, information=AGREED.encode()).encode()
CLOCK = Wanted(CLOCK_TIME)
KEYS = Keys(bytes(16), bytes(range(16)))


def at(state: State) -> Association:
    """An association that has come so far."""
    association = Association()
    if state is State.IDLE:
        return association
    association.send(Associate())
    if state is State.ASKED:
        return association
    assert association.heard(ACCEPTED) == Associated(AGREED.conformance)
    said = {State.GETTING: Get((CLOCK,)), State.SETTING: Set(CLOCK_TIME, long_unsigned(1)), State.RELEASING: Release()}
    if state in said:
        association.send(said[state])
    assert association.state is state
    return association


STATES = [state for state in State if state is not State.PROVING]


@pytest.mark.parametrize("state", STATES)
def test_what_may_be_said_is_in_the_table(state: State) -> None:
    for said in (Associate(), Get((CLOCK,)), Set(CLOCK_TIME, long_unsigned(1)), Release()):
        association = at(state)
        if (following := TABLE[state].get(type(said))) is not None:
            association.send(said)
            assert association.state is following
        else:
            with pytest.raises(LocalError):
                association.send(said)
            assert association.state is state


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "message", [ACCEPTED, bytes.fromhex("6303800100"), GetResponse(1, long_unsigned(1)).encode(), SetResponse(1, 0).encode()]
)
def test_an_answer_to_nothing_is_none(state: State, message: bytes) -> None:
    association = at(state)
    answers = {State.ASKED: 0x61, State.RELEASING: 0x63, State.GETTING: 0xC4, State.SETTING: 0xC5}
    if answers.get(state) == message[0]:
        association.heard(message)
        assert association.state is not state
    else:
        with pytest.raises(WrongAnswer):
            association.heard(message)
        assert association.state is state


def test_blocks_are_put_together_in_their_order() -> None:
    association = at(State.GETTING)
    say = association.heard(GetResponseBlock(1, False, 1, b"\x12\x00").encode())
    assert say == Say(GetRequestNext(1, 1).encode())
    with pytest.raises(WrongAnswer, match="block 1, waiting for 2"):
        association.heard(GetResponseBlock(1, False, 1, b"\x12\x00").encode())
    with pytest.raises(WrongAnswer, match="block 3"):
        association.heard(GetResponseBlock(1, True, 3, b"\x2a").encode())
    assert association.heard(GetResponseBlock(1, True, 2, b"\x2a").encode()) == Got((long_unsigned(42),))


def test_a_block_may_be_an_error_or_be_nothing_or_never_end() -> None:
    assert at(State.GETTING).heard(GetResponseBlock(1, True, 1, AccessError(15)).encode()) == Got((AccessError(15),))
    with pytest.raises(Malformed):
        at(State.GETTING).heard(GetResponseBlock(1, False, 1, b"").encode())
    association, block = at(State.GETTING), 60_000
    for n in range(1, ANSWER_OCTETS_MAX // block + 1):
        association.heard(GetResponseBlock(1, False, n, bytes(block)).encode())
    with pytest.raises(TooLong):
        association.heard(GetResponseBlock(1, False, n + 1, bytes(block)).encode())


def test_a_list_has_as_many_values_as_were_asked_for() -> None:
    association = at(State.READY)
    association.send(Get((CLOCK, CLOCK)))
    with pytest.raises(Malformed, match="1 values for 2"):
        association.heard(GetResponseList(1, (long_unsigned(1),)).encode())
    with pytest.raises(WrongAnswer, match="a list"):
        association.heard(GetResponse(1, long_unsigned(1)).encode())
    assert association.heard(GetResponseList(1, (long_unsigned(1), AccessError(4))).encode()) == Got(
        (long_unsigned(1), AccessError(4))
    )


def test_refusals_leave_it_where_it_can_go_on() -> None:
    association = at(State.GETTING)
    with pytest.raises(Refused, match="service unknown, service not supported"):
        association.heard(ExceptionResponse(2, 2).encode())
    assert association.state is State.READY
    association = at(State.ASKED)
    with pytest.raises(Refused, match="rejected for now: diagnostic 9"):
        association.heard(Aare(2, 9, information=b"\x0e\x01\x06\x01").encode())
    assert association.state is State.IDLE
    association.send(Associate())
    assert association.heard(ACCEPTED) == Associated(AGREED.conformance)


def test_a_message_longer_than_the_meter_takes_is_not_sent() -> None:
    with pytest.raises(LocalError, match="the meter takes 1024"):
        at(State.READY).send(Set(CLOCK_TIME, Data(Kind.OCTET_STRING, bytes(2000))))


def test_what_a_meter_pushes_meanwhile_is_an_event_and_no_answer() -> None:
    association = at(State.GETTING)
    pushed = DataNotification(7, None, long_unsigned(1))
    assert association.heard(pushed.encode()) == pushed
    assert association.state is State.GETTING


def ciphered() -> Association:
    return Association(Credentials(Mechanism.GMAC), Ciphering(b"GATEWAY1", KEYS), b"our own challenge")


@pytest.mark.parametrize(
    "aare",
    [
        Aare(0, 14, ciphered=True, mechanism=5, title=b"METER001", challenge=b"our own challenge"),
        Aare(0, 14, ciphered=True, mechanism=5, title=b"METER001", challenge=b"short"),
        Aare(0, 0, ciphered=True, title=b"METER001"),
        Aare(0, 14, ciphered=True, mechanism=5, title=b"", challenge=b"a sound challenge"),
    ],
    ids=["our own challenge back", "a short challenge", "no proof wanted", "no title"],
)
def test_a_meter_that_would_not_prove_itself_is_refused(aare: Aare) -> None:
    association = ciphered()
    association.send(Associate())
    meter = Ciphering(b"METER001", KEYS, 1)
    information = meter.protect_initiate(AGREED.encode())
    with pytest.raises(NotAuthentic):
        association.heard(
            Aare(**{name: getattr(aare, name) for name in Aare.__slots__} | {"information": information}).encode()
        )
    assert association.state is not State.READY


def test_nothing_is_taken_in_the_clear_where_it_should_be_ciphered() -> None:
    association = ciphered()
    association.send(Associate())
    for message in (ACCEPTED, Aare(0, 14, ciphered=True, title=b"METER001", information=AGREED.encode()).encode()):
        with pytest.raises(RemoteError):
            association.heard(message)
    for message in (GetResponse(1, long_unsigned(1)).encode(), DataNotification(1, None, long_unsigned(1)).encode()):
        with pytest.raises(NotAuthentic):
            association.heard(message)
    assert association.state is State.ASKED


SEEDS = [
    ACCEPTED,
    GetResponse(1, long_unsigned(1)).encode(),
    GetResponseBlock(1, False, 1, b"\x12\x00").encode(),
    GetResponseList(1, (long_unsigned(1), AccessError(4))).encode(),
    SetResponse(1, 0).encode(),
    ExceptionResponse(1, 6, 7).encode(),
    bytes.fromhex("6303800100"),
]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(STATES),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(SEEDS), st.binary(max_size=6), st.integers(0, 60)), max_size=4),
)
def test_whatever_is_said_gives_an_event_or_a_typed_error(
    state: State, with_keys: bool, messages: list[tuple[bytes, bytes, int]]
) -> None:
    association = at(state)
    if with_keys:
        association = ciphered()
        association.send(Associate())
    for seed, splice, where in messages:
        message = seed[:where] + splice + seed[where + len(splice) :]
        try:
            heard = association.heard(message)
        except RemoteError:
            continue
        assert isinstance(heard, (Associated, Got, Written, Released, Say, DataNotification))
        if isinstance(heard, Say):
            decode_message(heard.data)
