"""How InfluxDB's answers are judged, and how lines are put into requests."""

import pytest
from influxdb_client.rest import ApiException

from storage.influx_client import BYTES_MAX, LINES_MAX, Away, Connection, InfluxError, NeedsAttention, Refused, judge
from storage.influx_client import _chunks as chunks


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (400, "unable to parse 'day volume=1': missing tag value", Refused),
        (400, "partial write: field type conflict: input field \"x\" on measurement \"day\" dropped=1", Refused),
        (422, "failure writing points to database: partial write: field type conflict", Refused),
        (413, "request too large", Refused),
        (400, "partial write: max-values-per-tag limit exceeded (100000/100000): dropped=1", NeedsAttention),
        (400, "partial write: max-series-per-database limit exceeded: (1000) dropped=1", NeedsAttention),
        (422, "partial write: points beyond retention policy dropped=5", NeedsAttention),
        (500, "write /var/lib/influxdb/wal/_00001.wal: no space left on device", NeedsAttention),
        (401, "unauthorized access", NeedsAttention),
        (403, "insufficient permissions for write", NeedsAttention),
        (404, "bucket \"ledger\" not found", NeedsAttention),
        (500, "engine: cache-max-memory-size exceeded: (1/1)", Away),
        (500, "timeout", Away),
        (503, "service unavailable", Away),
        (429, "too many requests", Away),
        (0, "SSLError", Away),
    ],
)  # fmt: skip
def test_an_answer_says_whether_to_try_again_to_give_up_a_line_or_to_stop(
    status: int, body: str, meaning: type[InfluxError]
) -> None:
    error = ApiException(status=status)
    error.body = body
    judged = judge(error)
    assert type(judged) is meaning
    assert body[:30] in str(judged)


def test_requests_have_a_bounded_number_of_lines_and_bytes() -> None:
    assert list(chunks([])) == []
    assert list(chunks(["x"] * (2 * LINES_MAX + 1))) == [
        (0, LINES_MAX), (LINES_MAX, 2 * LINES_MAX), (2 * LINES_MAX, 2 * LINES_MAX + 1),
    ]  # fmt: skip
    long = "x" * (BYTES_MAX // 2)
    assert list(chunks([long, long, "x", long, long * 3, "x"])) == [(0, 2), (2, 4), (4, 5), (5, 6)]


def test_a_connection_does_not_show_its_token() -> None:
    assert "hidden" not in repr(Connection("http://127.0.0.1:8086", "org", "bucket", "hidden"))
