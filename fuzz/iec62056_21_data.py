"""What stands in an IEC 62056-21 block, as text: data sets and profiles, or Malformed."""

from __future__ import annotations

from itertools import pairwise

from collectors.iec62056_21 import Malformed
from collectors.iec62056_21_data import MeterTime, data_sets, profile_rows

SEEDS = (
    b"P.01(2261025000000)(0000)(60)(2)(7-0:13.0.0)(m3)(7-0:3.0.0)(m3)\r\n(0423378.0)(0423378.0)\r\n(0423417.4)(-)",
    b"P.01(1260328000000)(0102)(60)(1)(7-0:13.0.0)(m3)(1.5)P.01(0260328030000)(0000)(60)(1)(7-0:13.0.0)(m3)(2)",
    b"0.0.0(DRE-10)\r\n0.9.1(2013015)\r\n7-0:13.0.0(0423434.7*m3)\r\n!\r\n",
)


def decode(data: bytes) -> None:
    """One block's text."""
    text = data.decode("latin-1")
    for time in (MeterTime(), MeterTime(keeps="local")):
        try:
            rows = profile_rows(text, time)
        except Malformed:
            continue
        assert all(earlier.at < later.at for earlier, later in pairwise(rows))
        values = (value for row in rows for value in row.values.values() if value is not None)
        assert all(value.is_finite() and value >= 0 for value in values)
    try:
        list(data_sets(text))
    except Malformed:
        return
