"""Dead letters have a cap, and past it each can still be found: what is published says where everything stands."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from metering.messages import PLACES_A_LETTER, DeadLetter, Place, decode_dead_letter
from stream.letters import BYTES_AN_HOUR, HOUR_S, LETTERS_AN_HOUR, Letters
from stream.metrics import METRICS


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def letters(clock: Clock) -> Letters:
    return Letters("facts[2]", clock)


def letter(offset: int, number: int | None = None, payload: bytes = b"x") -> DeadLetter:
    return DeadLetter(topic="facts", partition=2, offset=offset, number=number, reason="not a frame", payload=payload)


def stood(messages: Iterable[bytes]) -> list[tuple[int, int | None]]:
    """Every place of which messages speak."""
    found: list[tuple[int, int | None]] = []
    for each in map(decode_dead_letter, messages):
        for offset, first, last in each.places or (Place(each.offset, each.number, each.number),):
            found += [(offset, None)] if first is None or last is None else [(offset, n) for n in range(first, last + 1)]
    return found


def test_up_to_the_cap_each_has_its_payload(letters: Letters) -> None:
    given = [letter(offset) for offset in range(LETTERS_AN_HOUR)]
    assert [*map(decode_dead_letter, letters.publish(given))] == given
    assert letters.past_cap == 0


def test_past_the_cap_places_are_listed_and_it_is_said_once(letters: Letters, caplog: pytest.LogCaptureFixture) -> None:
    before = METRICS.dead_letters_past_cap._value.get()
    given = [letter(offset) for offset in range(LETTERS_AN_HOUR)]
    more = [letter(7000), *(letter(7001, n) for n in (0, 1, 2, 5, 6)), letter(7002, 7), letter(7003)]
    messages = [*letters.publish([*given, *more[:3]]), *letters.publish(more[3:])]
    assert stood(messages) == [(each.offset, each.number) for each in (*given, *more)]
    assert len(messages) == LETTERS_AN_HOUR + 2
    assert letters.past_cap == len(more)
    assert METRICS.dead_letters_past_cap._value.get() == before + len(more)
    assert sum("more dead letters than the cap" in line for line in caplog.messages) == 1


def test_large_payloads_reach_the_cap_sooner(letters: Letters) -> None:
    payload = bytes(400_000)
    messages = letters.publish([letter(offset, payload=payload) for offset in range(200)])
    assert sum(map(len, messages)) < BYTES_AN_HOUR + 2 * len(payload)
    assert stood(messages) == [(offset, None) for offset in range(200)]


def test_places_that_are_many_are_in_letters_of_a_size_that_a_message_may_have(letters: Letters) -> None:
    letters.publish([letter(offset) for offset in range(LETTERS_AN_HOUR)])
    scattered = [letter(2**50, 2 * n) for n in range(3 * PLACES_A_LETTER + 1)]
    messages = letters.publish(scattered)
    assert stood(messages) == [(each.offset, each.number) for each in scattered]
    assert max(map(len, messages)) < 1_000_000


def test_an_hour_later_it_begins_anew(letters: Letters, clock: Clock) -> None:
    letters.publish([letter(offset) for offset in range(LETTERS_AN_HOUR + 1)])
    assert letters.past_cap == 1
    clock.now_s += HOUR_S
    assert letters.past_cap == 0
    assert [*map(decode_dead_letter, letters.publish([letter(9)]))] == [letter(9)]
