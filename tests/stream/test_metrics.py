"""The table of metrics is what the code counts with and what Prometheus sees."""

from __future__ import annotations

from stream.metrics import DEFINITIONS, METRICS, exposition


def test_every_metric_of_the_table_is_used_and_every_used_one_is_in_the_table() -> None:
    in_table = {entry.name.removeprefix("dailyread_stream_") for entry in DEFINITIONS}
    assert in_table == set(type(METRICS).__annotations__)


def test_each_has_a_meaning_and_says_what_to_do() -> None:
    for entry in DEFINITIONS:
        assert entry.meaning.endswith("."), entry.name
        assert entry.to_do, entry.name


def test_a_partition_that_was_given_away_is_no_longer_shown() -> None:
    METRICS.lag_frames.labels(77).set(5)
    METRICS.halted.labels(77).set(0)
    assert b'dailyread_stream_lag_frames{partition="77"} 5.0' in exposition()
    METRICS.forget(77)
    assert b'partition="77"' not in exposition()
