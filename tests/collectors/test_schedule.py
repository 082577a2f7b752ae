"""When a meter is asked, and for which Gas Day: tables of local times, and what must hold whatever the meter does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.schedule import MeterState, Outcome, Policy, after, asked_within, next_ask, owed, spread_us
from metering.gasday import SECOND_US, GasDays, to_datetime, to_us

DAYS = GasDays()
LONDON = ZoneInfo("Europe/London")
POLICY = Policy()
COMPLETE, PARTIAL, GONE, SILENT = Outcome.COMPLETE, Outcome.PARTIAL, Outcome.GONE, Outcome.SILENT
OFFSET_US = 150 * SECOND_US
Answers = Callable[[int, datetime], Outcome]


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=LONDON)


def settled_before(day: str) -> MeterState:
    """Everything up to this Gas Day is settled."""
    last = date.fromisoformat(day).toordinal()
    return MeterState(settled=frozenset(range(last - POLICY.backfill_days - 1, last)))


def polls(state: MeterState, start: str, end: str, answers: Answers, policy: Policy = POLICY) -> list[tuple[str, str]]:
    """Run the schedule in virtual time: (local time, Gas Day) of each poll."""
    asked: list[tuple[str, str]] = []
    now_us = to_us(local(start).astimezone(UTC))
    while True:
        ask = next_ask(state, now_us, DAYS, policy, OFFSET_US)
        now_us = max(now_us, ask.at_us)
        now = to_datetime(now_us)
        if now > local(end):
            return asked
        asked.append((now.astimezone(LONDON).strftime("%d %H:%M:%S"), date.fromordinal(ask.day).strftime("%d")))
        if DAYS.end_us(ask.day) > now_us:
            state = asked_within(state, now_us)
        else:
            state = after(state, ask.day, answers(ask.day, now), now_us, DAYS, policy)


def always(outcome: Outcome) -> Answers:
    return lambda _day, _now: outcome


@pytest.mark.parametrize(
    ("first", "end", "times"),
    [
        ("2026-06-01", "2026-06-04T04:00", ["02 05:02:30", "03 05:02:30"]),
        ("2026-03-28", "2026-03-31T04:00", ["29 05:02:30", "30 05:02:30"]),  # the Day of 28 March has 23 hours
        ("2026-10-24", "2026-10-27T04:00", ["25 05:02:30", "26 05:02:30"]),  # the Day of 24 October has 25
        ("2015-09-29", "2015-10-02T04:00", ["30 06:02:30", "01 05:02:30"]),  # Days began at 06:00 until then
    ],
)
def test_a_meter_that_answers_is_asked_once_a_day_soon_after_its_end(first: str, end: str, times: list[str]) -> None:
    asked = polls(settled_before(first), f"{first}T12:00", end, always(COMPLETE))
    assert [time for time, _ in asked] == times
    started = date.fromisoformat(first)
    assert [day for _, day in asked] == [(started + timedelta(n)).strftime("%d") for n in range(2)]


def test_a_dead_meter_is_asked_with_growing_pauses_until_11_and_then_slowly() -> None:
    asked = polls(settled_before("2026-06-01"), "2026-06-02T04:00", "2026-06-03T04:59", always(SILENT))
    morning = [
        "05:02:30", "05:03:30", "05:05:30", "05:09:30", "05:17:30", "05:33:30", "06:03:30", "06:33:30", "07:03:30",
        "07:33:30", "08:03:30", "08:33:30", "09:03:30", "09:33:30", "10:03:30", "10:33:30", "10:47:30",
    ]  # fmt: skip
    slow = ["12:47:30", "14:47:30", "16:47:30", "18:47:30", "20:47:30", "22:47:30", "00:47:30", "02:47:30", "04:47:30"]
    assert [time[3:] for time, _ in asked] == morning + slow
    assert {day for _, day in asked} == {"01"}


def test_a_dead_meter_costs_no_more_polls_a_day_after_weeks() -> None:
    asked = polls(settled_before("2026-05-01"), "2026-05-01T12:00", "2026-06-15T04:59", always(SILENT))
    by_day = [len([1 for _, day in asked[n * 26 : n * 26 + 26] if day == asked[n * 26][1]]) for n in range(len(asked) // 26)]
    assert set(by_day) == {26}


def test_after_a_gap_the_newest_day_goes_first_and_the_rest_follow_a_minute_apart() -> None:
    answers: Answers = lambda _day, now: SILENT if now < local("2026-06-05T05:00") else COMPLETE  # noqa: E731
    asked = polls(settled_before("2026-06-01"), "2026-06-02T04:00", "2026-06-06T04:00", answers)
    back = [poll for poll in asked if poll[0] > "05 05"]
    assert back == [("05 05:02:30", "04"), ("05 05:03:30", "03"), ("05 05:04:30", "02"), ("05 05:05:30", "01")]


def test_back_filling_does_not_get_in_the_way_of_the_morning() -> None:
    asked = polls(MeterState(), "2026-06-30T04:58", "2026-06-30T05:10", always(COMPLETE), Policy(backfill_days=20))
    # Never asked before: at once the Day before yesterday's, a minute apart, and at 05:02:30 the Day that has just ended.
    assert asked[0] == ("30 04:58:00", "28")
    assert ("30 05:02:30", "29") in asked
    days = [day for _, day in asked]
    assert sorted(days, reverse=True) == sorted(set(days), reverse=True)


def test_what_the_log_cannot_have_is_not_asked_for_any_more() -> None:
    def answers(day: int, _now: datetime) -> Outcome:
        return COMPLETE if day >= date(2026, 6, 1).toordinal() else GONE

    asked = polls(MeterState(), "2026-06-03T12:00", "2026-06-04T04:00", answers)
    assert [day for _, day in asked] == ["02", "01", "31"]


def test_a_partial_day_is_asked_again_in_the_morning_then_slowly_until_its_close_out() -> None:
    def answers(day: int, _now: datetime) -> Outcome:
        return PARTIAL if day == date(2026, 6, 1).toordinal() else COMPLETE

    asked = polls(settled_before("2026-06-01"), "2026-06-02T04:00", "2026-06-09T04:00", answers)
    times = [time for time, day in asked if day == "01"]
    assert times[:4] == ["02 05:02:30", "02 05:03:30", "02 05:05:30", "02 05:09:30"]
    assert times[-1] > "07 05:00"  # its Exit Close-Out
    assert all(time < "07 07:05" for time in times)
    assert [time for time, day in asked if day not in ("01",)] == [f"0{n} 05:02:30" for n in range(3, 9)]


def test_one_old_day_that_is_never_answered_does_not_starve_the_others() -> None:
    stubborn = date(2026, 6, 4).toordinal()

    def answers(day: int, now: datetime) -> Outcome:
        return SILENT if day == stubborn or now < local("2026-06-07T05:00") else COMPLETE

    asked = polls(settled_before("2026-06-01"), "2026-06-02T04:00", "2026-06-08T04:00", answers)
    assert {day for time, day in asked if time > "07 05"} >= {"06", "05", "04", "03", "02", "01"}


WITHIN = Policy(within_day_s=4 * 3600)


@pytest.mark.parametrize(
    ("first", "hours"),
    [
        ("2026-06-01", ["09", "13", "17", "21", "01", "05"]),
        ("2026-03-28", ["09", "13", "17", "21", "02", "05"]),  # the Day has 23 hours: summer time begins in it
        ("2026-10-24", ["09", "13", "17", "21", "01", "04", "05"]),  # and this one 25
    ],
)
def test_a_day_that_runs_is_asked_for_every_four_hours_and_whole_after_its_end(first: str, hours: list[str]) -> None:
    end = (datetime.fromisoformat(f"{first}T06:00") + timedelta(days=1)).isoformat()
    asked = polls(settled_before(first), f"{first}T05:30", end, always(COMPLETE), WITHIN)
    assert [time[3:] for time, _ in asked] == [f"{hour}:02:30" for hour in hours]
    assert {day for _, day in asked} == {first[-2:]}


def test_a_gateway_that_starts_within_a_day_asks_for_it_once_and_then_in_its_turn() -> None:
    asked = polls(settled_before("2026-06-01"), "2026-06-01T14:00", "2026-06-01T22:00", always(COMPLETE), WITHIN)
    assert [time[3:] for time, _ in asked] == ["14:00:00", "17:02:30", "21:02:30"]


def test_a_silent_meter_is_not_asked_within_the_day_and_one_that_is_late_comes_after_its_morning() -> None:
    answers: Answers = lambda _day, now: SILENT if now < local("2026-06-02T13:30") else COMPLETE  # noqa: E731
    asked = polls(settled_before("2026-06-01"), "2026-06-02T04:58", "2026-06-02T22:00", answers, WITHIN)
    first_of_the_second = next(n for n, (_, day) in enumerate(asked) if day == "02")
    assert {day for _, day in asked[:first_of_the_second]} == {"01"}
    assert asked[first_of_the_second - 1][0] > "02 13:30"
    assert len(asked[first_of_the_second:]) == 3  # the turn of 13:00, of 17:00, of 21:00


def test_meters_are_spread_and_each_keeps_its_place() -> None:
    offsets = [spread_us(f"MP{n:06}", POLICY) for n in range(1000)]
    assert offsets == [spread_us(f"MP{n:06}", POLICY) for n in range(1000)]
    first, last = POLICY.first_delay_s * SECOND_US, (POLICY.first_delay_s + POLICY.spread_s) * SECOND_US
    assert all(first <= offset < last and offset % SECOND_US == 0 for offset in offsets)
    assert len(set(offsets)) > 200


@settings(max_examples=60, deadline=None)
@given(
    start=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),  # noqa: DTZ001
    outcomes=st.lists(st.sampled_from(Outcome), min_size=1, max_size=120),
    retry_first_s=st.integers(1, 3600),
)
def test_time_always_moves_on_and_everything_owed_is_fetched_in_the_end(
    start: datetime, outcomes: list[Outcome], retry_first_s: int
) -> None:
    policy = Policy(retry_first_s=retry_first_s, retry_max_s=3600, backfill_days=10)
    state, now_us = MeterState(), to_us(start.replace(tzinfo=UTC))
    for outcome in outcomes:
        ask = next_ask(state, now_us, DAYS, policy, OFFSET_US)
        now_us = max(now_us, ask.at_us)
        assert DAYS.end_us(ask.day) <= now_us
        assert ask.day not in state.settled
        state = after(state, ask.day, outcome, now_us, DAYS, policy)
        assert next_ask(state, now_us, DAYS, policy, OFFSET_US).at_us > now_us
    deadline_us = now_us + 2 * 86_400 * SECOND_US
    while now_us < deadline_us:  # from now on it answers
        ask = next_ask(state, now_us, DAYS, policy, OFFSET_US)
        now_us = max(now_us, ask.at_us)
        state = after(state, ask.day, COMPLETE, now_us, DAYS, policy)
    assert list(owed(state, DAYS.day_of(now_us) - 1, policy)) == []
