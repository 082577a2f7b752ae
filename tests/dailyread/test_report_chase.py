"""The chase list in words: terminal, CSV and page, of the cases of `tests/metering/test_chase.py`."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from rich.console import Console

from dailyread.report.chase_tables import NO_FACTS, Told, bears, chance, chase_list, duration, headline, lacks, wants
from dailyread.report.csv_files import CHASE, chase_csv
from dailyread.report.pages import render_chase
from metering.chase import Chase, History, Need
from metering.facts import AnyFact
from metering.ledger import Day
from tests.dailyread.outline import HOSTILE, Outline
from tests.metering.test_chase import AT_NINE, CALENDAR, TODAY, a_day, chased, failed, read, stood

TOLD = Told(has_facts=True, latest=AT_NINE - timedelta(minutes=4))
LEDGER = Told(has_facts=False, latest=AT_NINE - timedelta(minutes=4))


def found(*more: Day | AnyFact) -> Chase:
    told = [*stood("DRE1", "rrrrrrrrrllll-"), *stood("DRE2", "vr-", "ALDER+BIRCH", points=2), *stood("DRE3", "vx")]
    return chased(*told, *stood("DRE4", "vvllll-"), *more)


def shown(of: Chase, told: Told = TOLD, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(chase_list(of, CALENDAR, told))
    return out.getvalue()


def test_headline_is_the_day_the_time_left_and_how_much_is_missing() -> None:
    start = "Gas Day Fri 20 Mar 2026, as of 21 Mar 2026 "
    assert headline(found(), CALENDAR) == start + "09:00 GMT: 2 h 0 min left until 11:00. 3 items of equipment are missing."
    one = chased(*stood("A", "v-"))
    assert headline(one, CALENDAR).endswith("1 item of equipment is missing.")
    over = chased(*stood("A", "v-"), at=datetime(2026, 3, 21, 11, 30, tzinfo=UTC))
    assert headline(over, CALENDAR) == start + "11:30 GMT: 11:00 has passed. 1 item of equipment has failed."
    assert headline(chased(*stood("A", "vv")), CALENDAR).endswith("until 11:00. No equipment that counts is missing.")


def test_list_is_in_the_order_of_worth_with_its_reasons() -> None:
    polls = [failed("05:30", "DRE2-0", "no answer"), failed("06:00", "DRE2-0", "no answer"), read("04:30", "DRE1-0")]
    text = shown(found(*polls))
    lines = text.splitlines()
    places = [line.split()[:2] for line in lines if line[:2] in ("1.", "2.", "3.")]
    assert places == [["1.", "DRE1"], ["2.", "DRE2"], ["3.", "DRE4"]]
    first = next(line for line in lines if line.startswith("1. DRE1"))
    assert first.split() == ["1.", "DRE1", "ALDER", "not", "Valid", "4", "75.00", "likely", "4", "h", "30", "min", "ago", "–"]
    assert "9 of 13 such Days" in text
    assert "2 (no" in text
    assert "Missing too, but left out of performance: DRE3: no access to the equipment (5.1.2)" in text


def test_needs_of_each_user() -> None:
    """ALDER's month before: 22 Days of equipment, 8 failed; with three items for 12 Days more 58, of which 1 may fail."""
    lines = shown(found()).splitlines()
    alder = next(line.split() for line in lines if line.startswith("ALDER"))
    assert alder[:6] == ["ALDER", "0/3", "0.0%", "3", "14/22", "63.6%"]
    assert " ".join(alder).endswith("no longer met: 7 too many")


def test_a_ledger_alone_says_what_it_does_not_know() -> None:
    text = shown(found(), LEDGER)
    assert " ".join(NO_FACTS.split()) in " ".join(text.split())
    assert "never" not in text.replace("never so late", "")
    assert text.count("not known") >= 6
    assert NO_FACTS not in " ".join(shown(found()).split())


def test_a_source_that_ends_long_before_is_told() -> None:
    old = Told(has_facts=True, latest=AT_NINE - timedelta(hours=1, minutes=1))
    assert old.warnings(found(), CALENDAR) == [
        "The source ends 1 h 1 min before, at 21 Mar 2026 07:59 GMT: what came since is not in it."
    ]
    assert TOLD.warnings(found(), CALENDAR) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start_index": None, "end_index": None}, "no start or end"),
        ({"end_index": None}, "no end"),
        ({"end_index": None, "failed": ("excess_flow",)}, "no end; excess_flow"),
        ({"failed": ("boundary_mismatch", "negative_advance")}, "boundary_mismatch, negative_advance"),
        ({}, "not Valid"),
    ],
)
def test_what_a_day_lacks(changes: dict[str, object], words: str) -> None:
    assert lacks(a_day("P", TODAY, None, **changes)) == words


def test_many_points_that_lack_the_same_are_told_once() -> None:
    days = stood("A", "v-", points=7)
    lost = [
        msgspec.structs.replace(d, end_index=None) if isinstance(d, Day) and d.gas_day == TODAY and d.meter_point < "A-5" else d
        for d in days
    ]
    (item,) = chased(*lost).items
    assert wants(item) == "no end: A-0, A-1, A-2 and 2 more; not Valid: A-5, A-6"
    assert "A-0, A-1, A-2 and 4 more" in render_chase(chased(*lost), CALENDAR, TOLD)


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(0, "0 min"), (59, "59 min"), (60, "1 h 0 min"), (2879, "47 h 59 min"), (2880, "2 days"), (-5, "0 min")],
)
def test_durations(minutes: int, words: str) -> None:
    assert duration(AT_NINE, AT_NINE + timedelta(minutes=minutes, seconds=59 if minutes >= 0 else 0)) == words


def test_words_for_chances_and_months() -> None:
    assert chance(History()) == "no history"
    assert chance(History(28, 28)) == "never so late in 28 Days"
    need = Need("ALDER", 4, 4, 0, 80, 80, 2)
    assert (bears(need), bears(need._replace(bearable=-1))) == ("2 more, this Day's included", "no longer met: 1 too many")


def test_csv_is_the_list_in_its_order() -> None:
    facts = [failed("05:30", "DRE2-0", "no answer"), read("04:30", "DRE1-0"), read("04:31", "DRE2-0"), read("04:32", "DRE2-1")]
    rows = list(csv.DictReader(io.StringIO(chase_csv(found(*facts), True))))
    assert list(rows[0]) == list(CHASE)
    assert [(each["place"], each["equipment"], each["charge_gbp"]) for each in rows] == [
        ("1", "DRE1", "75.00"), ("2", "DRE2", "0.00"), ("3", "DRE4", "75.00"),
    ]  # fmt: skip
    assert (rows[1]["users"], rows[1]["meter_points"]) == ("ALDER;BIRCH", "DRE2-0;DRE2-1")
    assert (rows[1]["heard_at"], rows[1]["failed_polls"], rows[1]["reason"]) == ("2026-03-21T04:31:00Z", "1", "no answer")
    assert (rows[2]["heard_at"], rows[2]["failed_polls"]) == ("", "0")
    (row, *_) = csv.DictReader(io.StringIO(chase_csv(found(), False)))
    assert (row["heard_at"], row["failed_polls"], row["reason"]) == ("", "", "")


def test_page_says_the_same() -> None:
    page = render_chase(found(), CALENDAR, TOLD)
    outline = Outline(page)
    assert {name for name, _ in outline.tags}.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert page.index("DRE1") < page.index("DRE2") < page.index("DRE4")
    assert "3 items of equipment are missing" in page
    assert NO_FACTS in render_chase(found(), CALENDAR, LEDGER)


def test_what_comes_from_outside_is_harmless() -> None:
    days = [msgspec.structs.replace(d, users=(HOSTILE,), equipment=HOSTILE) for d in stood("A", "v-") if isinstance(d, Day)]
    of = chased(*days, failed("05:30", "A-0", f"\x1b[31m{HOSTILE}"))
    page = render_chase(of, CALENDAR, TOLD)
    Outline(page)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert "\x1b" not in shown(of) + page


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = stood("E" * 50, "v-", "U" * 50, points=3)
    assert max(len(line) for line in shown(found(*long), width=width).splitlines()) <= width
