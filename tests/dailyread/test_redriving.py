"""What the dead-letter topic says is still to be put back."""

import logging

import pytest

from dailyread.facts_topic import Appended
from dailyread.redriving import Found, Wanted, lost_by_place, notes
from metering.messages import DeadLetter, encode_dead_letter
from metering.wire import Origin

PLACE = Origin("facts", 1, 7)


def letter(number: int | None, reason: str = "no fact") -> bytes:
    return encode_dead_letter(
        DeadLetter(topic="facts", partition=1, offset=7, number=number, reason=reason, payload=b"?")
    )  # fmt: skip


def stood(*values: bytes, wanted: Wanted = Wanted()) -> dict[Origin, dict[int | None, str]]:  # noqa: B008
    messages = [Appended("dead-letter", 0, offset, 1_770_000_000_000, value) for offset, value in enumerate(values)]
    return {place: lost.numbers for place, lost in lost_by_place(messages, wanted).items()}


def test_what_is_no_letter_is_said_and_the_others_count(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert stood(letter(0), b"{spoilt", letter(2)) == {PLACE: {0: "no fact", 2: "no fact"}}
    assert ["dead-letter[0] offset 1: not a dead letter" in message for message in caplog.messages] == [True]


def test_what_was_put_back_is_left_out_unless_it_is_wanted_again() -> None:
    back = [*notes([Found(PLACE, [], [0, 1], 2, [])])]
    assert len(back) == 1
    assert stood(letter(0), letter(1), letter(2), *back) == {PLACE: {2: "no fact"}}
    assert stood(letter(0), letter(1), *back) == {}
    assert stood(letter(0), letter(1), *back, wanted=Wanted(again=True)) == {PLACE: {0: "no fact", 1: "no fact"}}


def test_only_the_reason_that_is_asked_for() -> None:
    assert stood(letter(0, "index: -1"), letter(1, "meter: ''"), wanted=Wanted(reason="index")) == {PLACE: {0: "index: -1"}}
