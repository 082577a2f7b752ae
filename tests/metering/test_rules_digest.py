"""What makes rules the same, and from which Gas Day two sets of them differ."""

from __future__ import annotations

from datetime import date

import pytest

from metering.rules import load
from metering.rules_digest import differ_from, digest

SAME = [
    ("", "# the rules\n\n"),
    ("", "close_out_days = 5"),
    ("boundary_s = 30\nhistory_days = 100", "history_days = 100\nboundary_s = 30"),
    ("", '[[validation]]\nsince = 2026-04-01\ntolerance = "0.0100"'),
    ("", '[[validation]]\nsince = 2026-04-01\naction = { excess_flow = "reject" }'),
    ('[[validation]]\nsince = 2026-04-01\nunusual_factor = "10"', '[[validation]]\nsince = 2026-04-01\nunusual_factor = "1E1"'),
    (
        '[[validation]]\nsince = 2026-04-01\ntolerance = "0.02"',
        '[[validation]]\nsince = 2026-04-01\ntolerance = "0.02"\n[[validation]]\nsince = 2027-04-01\ntolerance = "0.02"',
    ),
    ("", '[[performance]]\nsince = 2026-04-01\nconsecutive_gbp = "75.00"'),
]
DIFFERENT = [
    ("", "close_out_days = 6", date.min),
    ("", 'zone = "Europe/Dublin"', date.min),
    ("", '[[validation]]\ntolerance = "0.02"', date.min),
    ("", '[[validation]]\nsince = 2026-04-01\ntolerance = "0.02"', date(2026, 4, 1)),
    ("", '[[validation]]\nsince = 2026-04-01\naction = { tolerance_1_percent = "flag" }', date(2026, 4, 1)),
    (
        '[[validation]]\nsince = 2026-04-01\ntolerance = "0.02"',
        '[[validation]]\nsince = 2026-05-01\ntolerance = "0.02"',
        date(2026, 4, 1),
    ),
    (
        '[[validation]]\nsince = 2026-04-01\ntolerance = "0.02"',
        '[[validation]]\nsince = 2026-04-01\ntolerance = "0.02"\n[[validation]]\nsince = 2027-04-01\ntolerance = "0.03"',
        date(2027, 4, 1),
    ),
    ("", '[[performance]]\nsince = 2026-04-01\nshortfall_gbp = "10"', date(2026, 4, 1)),
    # What looks back further, or lets advances stand that were rejected, changes what is kept of Days before.
    ("", "[[validation]]\nsince = 2026-04-01\nstuck_days = 9", date.min),
    ("", '[[validation]]\nsince = 2026-04-01\naction = { excess_flow = "flag" }', date.min),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_how_rules_are_spelled_does_not_matter(one: str, other: str) -> None:
    first, second = load(one.encode()), load(other.encode())
    assert digest(first) == digest(second)
    assert differ_from(first, second) is None


@pytest.mark.parametrize(("one", "other", "since"), DIFFERENT)
def test_rules_differ_from_the_first_day_on_which_they_say_something_else(one: str, other: str, since: date) -> None:
    first, second = load(one.encode()), load(other.encode())
    assert digest(first) != digest(second)
    assert differ_from(first, second) == differ_from(second, first) == since
