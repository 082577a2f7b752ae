"""Data sets, times across the clock changes, and profiles: what is not one is an error, never a value."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.iec62056_21 import Malformed
from collectors.iec62056_21_data import DataSet, MeterTime, data_sets, profile_rows, split_stamp
from tests.collectors.iec62056_21_golden import PROFILE, READOUT

UTC_TIME, LOCAL_TIME = MeterTime(), MeterTime("local")
naive = datetime.fromisoformat
HEAD = "P.01({time})({status})(60)(1)(7-0:13.0.0)(m3)\r\n"


def test_data_sets_of_a_readout() -> None:
    assert list(data_sets(READOUT))[3:] == [
        DataSet("7-0:13.0.0", ("0423434.7*m3",)),
        DataSet("7-0:3.0.0", ("0423434.7*m3",)),
    ]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2261025013000", ("2", naive("2026-10-25T01:30"))),
        ("12610250130", ("1", naive("2026-10-25T01:30"))),
        ("261025013000", ("", naive("2026-10-25T01:30"))),
    ],
)
def test_stamps(said: str, expected: tuple[str, datetime]) -> None:
    assert split_stamp(said) == expected


@pytest.mark.parametrize("said", ["", "3261025013000", "226102501300", "2261325013000", "٢261025013000", "22610250130000"])
def test_what_is_no_stamp(said: str) -> None:
    with pytest.raises(Malformed, match="time"):
        split_stamp(said)


@pytest.mark.parametrize(
    ("time", "instant", "stamp"),
    [
        (UTC_TIME, datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "22610250030"),
        (LOCAL_TIME, datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "12610250130"),
        (LOCAL_TIME, datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "02610250130"),
        (LOCAL_TIME, datetime(2026, 3, 29, 1, 30, tzinfo=UTC), "12603290230"),
    ],
)
def test_an_instant_becomes_a_stamp_and_comes_back(time: MeterTime, instant: datetime, stamp: str) -> None:
    assert time.stamp(instant) == stamp
    assert time.instants(*split_stamp(stamp)) == (instant,)


def test_local_time_without_a_season_means_two_instants_in_the_hour_that_comes_twice() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert LOCAL_TIME.instants("", naive("2026-10-25T01:30")) == (first, first + timedelta(hours=1))
    assert LOCAL_TIME.instants("", naive("2026-10-25T02:30")) == (first + timedelta(hours=2),)


def test_a_profile_is_rows_an_interval_apart() -> None:
    rows = profile_rows(PROFILE, UTC_TIME)
    assert [row.at for row in rows] == [datetime(2026, 10, 25, hour, tzinfo=UTC) for hour in (0, 1)]
    assert rows[1].values == {"7-0:13.0.0": Decimal("423417.4"), "7-0:3.0.0": Decimal("423417.4")}


def test_rows_may_stand_behind_the_header_and_in_any_lines() -> None:
    one_line = PROFILE.replace("\r\n", "")
    assert profile_rows(one_line, UTC_TIME) == profile_rows(PROFILE, UTC_TIME)


def test_a_new_header_starts_at_its_own_time_with_its_own_status() -> None:
    text = HEAD.format(time="22610250000", status="0000") + "(1)\r\n" + HEAD.format(time="22610250500", status="0902") + "(2)"
    first, second = profile_rows(text, UTC_TIME)
    assert (first.at.hour, first.status) == (0, ())
    assert (second.at.hour, second.status) == (5, ("clock_invalid", "tamper", "bypass_open"))


def test_the_second_header_of_an_hour_that_comes_twice_is_an_hour_later() -> None:
    text = "".join(HEAD.format(time="2610250100", status="08") + value for value in ("(1)\r\n", "(2)"))
    rows = profile_rows(text, LOCAL_TIME)
    assert [row.at.hour for row in rows] == [0, 1]


@pytest.mark.parametrize("value", ["", "-", "----"])
def test_a_value_that_is_missing_is_none_and_not_zero(value: str) -> None:
    (row,) = profile_rows(HEAD.format(time="22610250000", status="00") + f"({value})", UTC_TIME)
    assert row.values == {"7-0:13.0.0": None}


def test_a_channel_that_is_no_volume_is_no_index() -> None:
    (row,) = profile_rows("P.01(22610250000)(00)(60)(1)(7-0:13.0.0)(kWh)(5)", UTC_TIME)
    assert row.values == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(1)(2)", "before a profile's header"),
        ("P.02(22610250000)(00)(60)(1)(a)(m3)(1)", "where a profile's header is due"),
        ("P.01(22610250000)(00)(60)(2)(a)(m3)", "2 channels with 2 codes"),
        ("P.01(22610250000)(00)(60)(2)(a)(m3)(b)(m3)(1)", "1 values in rows of 2"),
        ("P.01(22610250000)(00)(0)(1)(a)(m3)(1)", "interval '0'"),
        ("P.01(22610250000)(00)(60)(33)(a)(m3)(1)", "channels '33'"),
        ("P.01(22610250000)(xy)(60)(1)(a)(m3)(1)", "status 'xy'"),
        ("P.01(22610250000)(00)(60)(1)(a)(m3)(1e)", "'1e' is no number"),
        ("P.01(22610250000)(00)(60)(1)(a)(m3)(NaN)", "'NaN' is no index"),
        ("P.01(22610250000)(00)(60)(1)(a)(m3)(-5)", "'-5' is no index"),
        ("P.01(22613250000)(00)(60)(1)(a)(m3)(1)", "time"),
        ("P.01(22610250000)(00)(60)(1)(a)(m3)(1)\r\nP.01(22610250000)(00)(60)(1)(a)(m3)(1)", "after that of"),
        ("P.01(22610250000)(00)(60)(1)(a)(m3)(1", "no data set at"),
    ],
)
def test_what_is_no_profile(text: str, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        profile_rows(text, UTC_TIME)


@given(st.text(alphabet="P.01()2610a-m3:\r\n!", max_size=120), st.integers(0, len(PROFILE)), st.integers(0, 8))
@settings(max_examples=300, deadline=None)
def test_any_text_is_rows_in_order_or_malformed(noise: str, at: int, cut: int) -> None:
    for text in (noise, PROFILE[:at] + noise + PROFILE[at + cut :]):
        for time in (UTC_TIME, LOCAL_TIME):
            try:
                rows = profile_rows(text, time)
            except Malformed:
                continue
            assert all(a.at < b.at for a, b in itertools.pairwise(rows))
