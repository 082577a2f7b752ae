"""A state's bytes: what comes back of them, although most Days stay packed until somebody asks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.book import Book
from metering.books import Books
from metering.point import Point
from metering.replay import point_ledger
from metering.rules import Rules
from metering.state import decode_outlook, decode_state, encode_state, outlook, prune
from metering.wire import received_us
from tests.metering.scenarios import Scenario

RULES = Rules()
DAYS = RULES.calendar()


def pruned(seed: int) -> Point:
    """A point after some weeks with every trouble."""
    facts = Scenario(random.Random(seed), days=24).facts
    until_us = max(map(received_us, facts))
    point, _ = point_ledger("MP0", facts, until_us, RULES, DAYS)
    prune(point)
    return point


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_a_state_says_the_same_of_the_point_and_of_what_is_to_come(seed: int) -> None:
    point = pruned(seed)
    state = encode_state(point)
    again = decode_state(state, RULES, DAYS)
    assert decode_outlook(state, RULES, DAYS) == outlook(point) == outlook(again)
    assert encode_state(again) == state
    for day in sorted(point.books):
        assert list(again.reference.values_of(day)) == list(point.reference.values_of(day))
    assert {day: again.books[day] for day in again.books} == dict(point.books)
    again.stale.update(again.books)
    assert encode_state(again) == state


@pytest.mark.parametrize("cut", [1, 40])
def test_half_a_state_is_refused(cut: int) -> None:
    state = encode_state(pruned(1))
    with pytest.raises(ValueError, match="not a state"):
        decode_state(state[:-cut], RULES, DAYS)
    with pytest.raises(ValueError, match="not a state"):
        decode_outlook(state[:-cut], RULES, DAYS)


def test_books_are_a_mapping_whether_packed_or_not() -> None:
    point = pruned(1)
    state = encode_state(point)
    books = decode_state(state, RULES, DAYS).books
    first, *others = books
    assert isinstance(books, Books)
    assert (books.get(1), books.get(1, Book(closed=7)), 1 in books, first in books) == (None, Book(closed=7), False, True)
    with pytest.raises(KeyError):
        books[1]
    books[1] = Book(closed=1)
    assert (books[1], list(books), len(books)) == (Book(closed=1), [first, *others, 1], len(others) + 2)
    del books[1], books[first]
    assert (books.get(first), list(books)) == (None, others)
