"""The book of what Users were given: on a real file, closed and opened again, whatever had been done by then."""

from __future__ import annotations

import csv
import io
import os
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metering.facts import Readings, Withdrawn
from metering.gasday import SECOND_US, GasDays, to_datetime, to_us
from metering.messages import LedgerMessage
from metering.provision import FileName, Timing
from storage.provision import ProvisionBook, Publication, Terms, Version
from storage.user_files import write_file
from tests.storage.ledger_contract import ACTUAL

DAYS = GasDays()
D8, D9 = date(2026, 1, 8), date(2026, 1, 9)
GATHER_US = 600 * SECOND_US
TERMS = Terms(DAYS, Timing(GATHER_US, 900 * SECOND_US), 60 * SECOND_US, back_days=40)
Open = Callable[..., ProvisionBook]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    books: list[ProvisionBook] = []

    def open_book(terms: Terms = TERMS, name: str = "book.sqlite") -> ProvisionBook:
        for book in books:
            book.close()
        books[:] = [ProvisionBook(tmp_path / name, terms)]
        return books[0]

    yield open_book
    for book in books:
        book.close()


def us(text: str) -> int:
    return to_us(datetime.fromisoformat(text).replace(tzinfo=UTC))


def day(point: str = "MP1", offset: int = 1, **changes: Any) -> LedgerMessage:
    fields = {"meter_point": point, "gas_day": D8, "users": ("U",)} | changes
    return LedgerMessage(0, offset, msgspec.structs.replace(ACTUAL, **fields))


def readings(*index: object, first: str = "2026-01-08T05:00", received: str = "2026-01-08T09:02", **changes: Any) -> Readings:
    at = datetime.fromisoformat(first).replace(tzinfo=UTC)
    received_at = datetime.fromisoformat(received).replace(tzinfo=UTC)
    fields = {"meter_point": "MP1", "meter": "M", "gas_day": D8, "interval_s": 3600} | changes
    return Readings(first_at=at, index=index, received_at=received_at, **fields)


def take(book: ProvisionBook, *what: LedgerMessage | Readings | Withdrawn, at: str = "2026-01-09T06:00") -> None:
    messages = [each for each in what if isinstance(each, LedgerMessage)]
    book.take(messages, [each for each in what if not isinstance(each, LedgerMessage)], {}, us(at))


def published(book: ProvisionBook, now: str) -> list[Publication]:
    """All that is due, taken out of the book as published."""
    book.prepare(us(now))
    found: list[Publication] = []
    while waiting := book.waiting(100):
        found += waiting
        book.done(waiting)
    return found


def lines(publication: Publication) -> list[list[str]]:
    return list(csv.reader(io.StringIO(publication.content.decode(), newline="")))[1:]


def test_a_day_is_given_once_gathered_and_then_only_what_changes(opened: Open) -> None:
    book = opened()
    take(book, day("A"), day("B"))
    assert published(book, "2026-01-09T06:09") == []
    (first,) = published(book, "2026-01-09T06:10")
    assert (first.file, first.version) == (FileName("U", D8.toordinal(), 0), 1)
    assert first.provided == (("A", 1), ("B", 1))
    take(book, day("A", 2), day("B", 2, start_index=1001), at="2026-01-09T06:20")
    (second,) = published(book, "2026-01-09T07:00")
    assert [(line[0], line[3], line[-1]) for line in lines(second)] == [("A", "1000", "1"), ("B", "1001", "2")]
    assert second.provided == (("B", 2),)


def test_a_day_that_is_not_valid_is_given_before_11_and_does_not_count_as_provided(opened: Open) -> None:
    book = opened()
    take(book, day(valid=False, status="provisional", start_index=None), at="2026-01-08T05:00")
    assert published(book, "2026-01-09T10:44") == []
    (first,) = published(book, "2026-01-09T10:45")
    assert lines(first)[0][2:4] == ["provisional", ""]
    assert first.provided == ()
    take(book, day(offset=2), at="2026-01-09T10:50")
    (second,) = published(book, "2026-01-09T10:55")
    assert (second.version, second.provided) == (2, (("MP1", 2),))


def test_each_of_the_sharing_users_gets_the_row_and_no_other_does(opened: Open) -> None:
    book = opened()
    take(book, day("A", users=("U", "V")), day("B", users=("V",)), day("C", users=("W",)))
    found = {each.file.user: [line[0] for line in lines(each)] for each in published(book, "2026-01-09T07:00")}
    assert found == {"U": ["A"], "V": ["A", "B"], "W": ["C"]}


def test_a_row_goes_where_the_point_goes(opened: Open) -> None:
    book = opened()
    take(book, day("A"), day("B"))
    published(book, "2026-01-09T07:00")
    take(book, day("A", 2, users=("V",)), at="2026-01-09T08:00")
    found = {each.file.user: (each.version, lines(each)) for each in published(book, "2026-01-09T09:00")}
    assert {user: (version, [line[0] for line in rows]) for user, (version, rows) in found.items()} == {
        "U": (2, ["B"]), "V": (1, ["A"]),
    }  # fmt: skip


def test_a_record_that_no_longer_holds_is_a_row_no_more(opened: Open) -> None:
    book = opened()
    take(book, day("A"))
    published(book, "2026-01-09T07:00")
    take(book, LedgerMessage(0, 2, None, ("day", "A", "2026-01-08")), at="2026-01-09T08:00")
    (second,) = published(book, "2026-01-09T09:00")
    assert (second.version, lines(second)) == (2, [])


def test_what_was_closed_out_is_the_last_that_is_given(opened: Open) -> None:
    book = opened()
    take(book, day(valid=False, status="provisional"))
    published(book, "2026-01-09T11:00")
    take(book, day(offset=2, valid=False, status="assumed", closed_out=True), at="2026-01-14T05:01")
    (second,) = published(book, "2026-01-14T06:00")
    assert lines(second)[0][2] == "assumed"
    take(book, day(offset=3, closed_out=True, determined_status="restored", valid=True), at="2026-01-15T05:01")
    assert published(book, "2026-01-16T06:00") == []


def test_the_close_out_alone_is_no_change(opened: Open) -> None:
    book = opened()
    take(book, day())
    published(book, "2026-01-09T11:00")
    take(book, day(offset=2, closed_out=True), at="2026-01-14T05:01")
    assert published(book, "2026-01-14T06:00") == []


def test_a_record_that_rests_on_older_facts_changes_nothing(opened: Open) -> None:
    book = opened()
    take(book, day(offset=5))
    published(book, "2026-01-09T11:00")
    take(book, day(offset=4, status="assumed"))
    assert published(book, "2026-01-09T12:00") == []


def test_days_too_far_back_are_not_given_not_even_when_the_clock_goes_back(opened: Open) -> None:
    book = opened()
    take(book, day(gas_day=date(2026, 1, 1)), day(gas_day=date(2026, 3, 1)), at="2026-03-02T06:00")
    assert [each.file.gas_day for each in published(book, "2026-03-02T07:00")] == [
        date(2026, 1, 1).toordinal(), date(2026, 3, 1).toordinal(),
    ]  # fmt: skip
    book = opened()
    take(book, day(gas_day=date(2026, 1, 1), offset=2, start_index=7), at="2026-01-02T06:00")
    assert published(book, "2026-01-02T12:00") == []
    take(book, day(gas_day=date(2026, 1, 21), start_index=7), at="2026-03-02T06:00")
    take(book, day(gas_day=date(2026, 1, 1), offset=3, start_index=8), at="2026-01-02T06:00")
    assert [each.file.gas_day for each in published(book, "2026-03-02T12:00")] == [date(2026, 1, 21).toordinal()]


def test_a_clock_in_the_far_future_forgets_nothing(opened: Open) -> None:
    book = opened()
    take(book, day())
    assert len(published(book, "2126-01-09T07:00")) == 1
    take(book, day(offset=2, start_index=1001))
    assert [each.version for each in published(book, "2026-01-09T11:00")] == [2]


# Hourly readings.


@pytest.mark.clause("4.6.1(b)")
def test_hourly_readings_are_given_every_four_hours_4_6_1(opened: Open) -> None:
    book = opened()
    take(book, day(valid=False), at="2026-01-08T05:00")
    take(book, readings(10, 11, None, 13, 14), at="2026-01-08T09:02")
    (first,) = published(book, "2026-01-08T09:12")
    assert first.file == FileName("U", D8.toordinal(), 1)
    assert [(line[3], line[4]) for line in lines(first)] == [
        ("2026-01-08T05:00:00Z", "10"), ("2026-01-08T06:00:00Z", "11"), ("2026-01-08T08:00:00Z", "13"),
        ("2026-01-08T09:00:00Z", "14"),
    ]  # fmt: skip
    assert first.provided == ()
    late = readings(12, first="2026-01-08T07:00", received="2026-01-08T12:00")
    take(book, late, readings(15, first="2026-01-08T10:00", received="2026-01-08T12:00"), at="2026-01-08T12:00")
    (again,) = published(book, "2026-01-08T13:00")
    assert (again.file.part, again.version, lines(again)[2][3:]) == (1, 2, ["2026-01-08T07:00:00Z", "12", "2"])
    (second,) = published(book, "2026-01-08T13:10")
    assert (second.file.part, second.version) == (2, 1)


def test_readings_that_come_before_the_ledger_says_whose_they_are_wait_for_it(opened: Open) -> None:
    book = opened()
    take(book, readings(10, 11), at="2026-01-09T06:00")
    assert published(book, "2026-01-09T07:00") == []
    take(book, day(valid=False), at="2026-01-09T07:00")
    assert [(each.file.part, each.version) for each in published(book, "2026-01-09T07:10")] == [(1, 1)]


def test_of_two_readings_of_one_instant_that_received_first_is_given(opened: Open) -> None:
    book = opened()
    first = readings(10, received="2026-01-08T06:00")
    second, copy = readings(11, received="2026-01-08T07:00"), readings(10, received="2026-01-08T08:00")
    take(book, day(valid=False), second, first, copy, second, at="2026-01-08T09:00")
    (found,) = published(book, "2026-01-08T09:15")
    assert [line[4] for line in lines(found)] == ["10"]


def test_what_is_no_reading_by_the_equipment_within_the_day_is_left_out(opened: Open) -> None:
    book = opened()
    wrong = [
        readings("x", 1.5, -1, None, True),
        readings(10, source="on_site"),
        readings(10, first="2026-01-08T04:00"),
        readings(10, received="2026-01-14T05:00:01"),
    ]
    take(book, day(valid=False), *wrong)
    assert [each for each in published(book, "2026-01-09T10:00") if each.file.part] == []


def test_readings_withdrawn_are_given_no_more_and_later_ones_are(opened: Open) -> None:
    book = opened()
    take(book, day(valid=False), readings(10, 11, received="2026-01-08T06:00"), at="2026-01-08T07:00")
    assert len(published(book, "2026-01-08T09:10")) == 1
    withdrawn = Withdrawn(
        meter_point="MP1", meter="M", gas_day=D8, reason="wrong meter", by="clerk",
        received_at=datetime(2026, 1, 8, 10, tzinfo=UTC),
    )  # fmt: skip
    take(book, withdrawn, at="2026-01-08T10:00")
    assert [(each.version, lines(each)) for each in published(book, "2026-01-08T10:30")] == [(2, [])]
    take(book, readings(20, received="2026-01-08T11:00"), at="2026-01-08T11:00")
    assert [(each.version, lines(each)[0][4]) for each in published(book, "2026-01-08T12:00")] == [(3, "20")]


def test_hourly_readings_go_to_those_who_asked_for_them(opened: Open) -> None:
    book = opened(TERMS._replace(hourly_users=frozenset({"V"})))
    take(book, day(users=("U", "V")), readings(10))
    found = published(book, "2026-01-09T10:00")
    assert sorted((each.file.user, each.file.part) for each in found) == [("U", 0), ("V", 0), ("V", 1)]


# Whatever ends the process.


def test_a_version_that_waits_is_published_after_a_restart_whatever_has_come_meanwhile(opened: Open) -> None:
    book = opened()
    take(book, day())
    book.prepare(us("2026-01-09T07:00"))
    (before,) = book.waiting(9)
    book = opened()
    take(book, day(offset=2, start_index=5), at="2026-01-09T07:01")
    book.prepare(us("2026-01-09T08:00"))
    assert book.waiting(9) == [before]
    book.done([before])
    assert [each.version for each in book.waiting(9)] == [2]


def test_positions_are_kept_with_what_was_read(opened: Open) -> None:
    book = opened()
    assert book.empty
    book.take([day()], [], {("ledger", 0): 5, ("facts", 2): 7}, us("2026-01-09T06:00"))
    book = opened()
    assert not book.empty
    assert book.positions() == {("ledger", 0): 5, ("facts", 2): 7}
    assert len(published(book, "2026-01-09T06:10")) == 1


def test_a_lost_book_takes_over_what_was_published(opened: Open) -> None:
    """The next versions go on behind the last, nothing is given twice with other content, and the last is said again."""
    book = opened()
    take(book, day("A,1"), day("B", valid=False), readings(10, meter_point="B"))
    out = published(book, "2026-01-09T10:45")
    take(book, day("B", 2), at="2026-01-09T10:46")
    out += published(book, "2026-01-09T10:58")
    book = opened(name="other.sqlite")
    assert book.restore((each.file, Version(each.version, each.content, each.made_us)) for each in [*out, out[0]]) == 2
    again = book.waiting(9)
    assert {(each.file, each.version, each.content) for each in again} <= {
        (each.file, each.version, each.content) for each in out
    }
    assert [each.provided for each in again if each.file.part == 0] == [(("A,1", 1), ("B", 2))]
    book.done(again)
    take(book, day("A,1"), day("B", 2), readings(10, meter_point="B"))
    assert published(book, "2026-01-09T12:00") == []
    take(book, day("B", 3, start_index=1), at="2026-01-09T12:00")
    assert [each.version for each in published(book, "2026-01-09T13:00")] == [3]


class World:
    """What outlives the process: the versions that somebody has seen, and the messages and facts that there are to read."""

    def __init__(self) -> None:
        self.messages: list[LedgerMessage | Readings] = []
        self.seen: dict[tuple[FileName, int], bytes] = {}
        self.provided: set[tuple[str, str, int, int]] = set()

    def show(self, publication: Publication) -> None:
        """A version's content never changes, and versions come without a gap."""
        file, version = publication.file, publication.version
        assert self.seen.setdefault((file, version), publication.content) == publication.content
        assert version == 1 or (file, version - 1) in self.seen

    def say(self, publication: Publication) -> None:
        """A fact never comes before what it speaks of."""
        assert (publication.file, publication.version) in self.seen
        file = publication.file
        self.provided |= {(point, file.user, file.gas_day, version) for point, version in publication.provided}


class Ended(Exception):
    """The process has ended here."""


def run(book: ProvisionBook, world: World, dice: random.Random, now_us: int) -> None:
    """One life of the process, as the command lives it; it may end between any two steps."""

    def step() -> None:
        if dice.random() < 0.15:
            raise Ended

    while True:
        at = book.positions().get(("ledger", 0), 0)
        found = world.messages[at : at + dice.randint(1, 5)]
        messages = [each for each in found if isinstance(each, LedgerMessage)]
        step()
        book.take(messages, [each for each in found if isinstance(each, Readings)], {("ledger", 0): at + len(found)}, now_us)
        step()
        book.prepare(now_us if found else now_us + 10 * GATHER_US)
        step()
        while waiting := book.waiting(3):
            for each in waiting:
                world.show(each)
                step()
            for each in waiting:
                world.say(each)
                step()
            book.done(waiting)
            step()
        if not found:
            return


@pytest.mark.parametrize("seed", range(25))
def test_wherever_it_ends_no_version_changes_or_is_missing_and_the_last_is_what_stands(opened: Open, seed: int) -> None:
    dice, world = random.Random(seed), World()
    now_us = us("2026-01-09T12:00")
    for offset in range(60):
        point, gas_day = dice.choice("AB"), dice.choice([D8, D9 - timedelta(days=2)])
        users = dice.choice([("U",), ("U", "V")])
        if dice.random() < 0.3:
            at = to_datetime(DAYS.start_us(gas_day.toordinal())) + timedelta(hours=dice.randint(0, 24))
            world.messages.append(
                readings(
                    dice.randint(0, 9), first=at.isoformat()[:16], received=f"2026-01-09T06:{offset:02}", meter_point=point,
                    gas_day=gas_day,
                )
            )  # fmt: skip
        else:
            valid = dice.random() < 0.7
            world.messages.append(day(point, offset, gas_day=gas_day, users=users, start_index=dice.randint(0, 3), valid=valid))
    while True:
        try:
            run(opened(), world, dice, now_us)
            break
        except Ended:
            now_us += 60 * SECOND_US
    last = _last(world)
    fresh = opened(name="fresh.sqlite")  # which has read all of it at once
    _all(fresh, world.messages)
    expected = {each.file: _without_versions(each.content) for each in fresh.waiting(100)}
    assert {file: _without_versions(content) for file, content in last.items() if content.count(b"\n") > 1} == expected
    for file, content in last.items():
        valid_rows = [line for line in _rows(content) if file.part == 0 and line[7] == "true"]
        assert {(line[0], file.user, file.gas_day, int(line[-1])) for line in valid_rows} <= world.provided


def _last(world: World) -> dict[FileName, bytes]:
    return {file: content for (file, _), content in sorted(world.seen.items())}


def _all(book: ProvisionBook, messages: Sequence[LedgerMessage | Readings]) -> None:
    take(book, *messages, at="2026-01-09T12:00")
    book.prepare(us("2026-01-09T13:00"))


def _rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))[1:]


def _without_versions(content: bytes) -> list[list[str]]:
    return [line[:-1] for line in _rows(content)]


# The files.


def test_a_file_is_whole_or_not_there_and_what_an_earlier_try_left_is_replaced(tmp_path: Path) -> None:
    file = FileName("../a b", D8.toordinal(), 0)
    path = write_file(tmp_path / "users", file, 1, b"first")
    assert path == tmp_path / "users" / "_2E_2E_2Fa_20b" / "daily-2026-01-08-v001.csv"
    (path.parent / ".daily-2026-01-08-v002.csv.part").write_bytes(b"half of something longer")
    assert write_file(tmp_path / "users", file, 2, b"second").read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert sorted(os.listdir(path.parent)) == ["daily-2026-01-08-v001.csv", "daily-2026-01-08-v002.csv"]


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("a file")
    with pytest.raises(OSError, match="users"):
        write_file(tmp_path / "users", FileName("U", D8.toordinal(), 0), 1, b"")
