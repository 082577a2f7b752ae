"""What stands in an IEC 62056-21 block: data sets, profiles, archives, readouts, or Malformed; and any octets in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from collectors.iec62056_21 import Malformed
from collectors.iec62056_21_data import MeterTime, Row, data_sets, profile_rows
from collectors.iec62056_21_describe import described
from collectors.iec62056_21_lis200 import archive_rows
from collectors.iec62056_21_readout import Codes, readout_rows
from collectors.profile_maps import profile_map

_ARCHIVE = profile_map("lis200_intervals").archive
_CODES = Codes(("7-0:13.0.0",), "7-0:13.0.0", "7-0:13.0.0*")
_AT = datetime(2026, 10, 5, 4, tzinfo=UTC)
SEEDS = (
    b"P.01(2261025000000)(0000)(60)(2)(7-0:13.0.0)(m3)(7-0:3.0.0)(m3)\r\n(0423378.0)(0423378.0)\r\n(0423417.4)(-)",
    b"P.01(1260328000000)(0102)(60)(1)(7-0:13.0.0)(m3)(1.5)P.01(0260328030000)(0000)(60)(1)(7-0:13.0.0)(m3)(2)",
    b"0.0.0(DRE-10)\r\n0.9.1(2013015)\r\n7-0:13.0.0(0423434.7*m3)\r\n7-0:13.0.0*01(0423400.1*m3)(2261001050000)\r\n!\r\n",
    b"(1)(2)(2026-10-05,06:00:00)(0423378)(0423378)(0)(0)(0)(0)(0)(CRC Ok)\r\n(1)(3)(2026-10-05,07:00:00)(0423379)(-)(0)\r\n",
)


def decode(data: bytes) -> None:
    """One block's text, read as each of them."""
    text = data.decode("latin-1")
    described(data)
    for time in (MeterTime(), MeterTime(keeps="local")):
        _rows(lambda time=time: profile_rows(text, time))
        _rows(lambda time=time: archive_rows([text], _ARCHIVE, time))
        _rows(lambda time=time: readout_rows(list(data_sets(text)), _CODES, time, _AT), in_order=False)


def _rows(read: Callable[[], Sequence[Row]], in_order: bool = True) -> None:
    try:
        rows = read()
    except Malformed:
        return
    assert not in_order or all(earlier.at < later.at for earlier, later in pairwise(rows))
    values = (value for row in rows for value in row.values.values() if value is not None)
    assert all(value.is_finite() and value >= 0 for value in values)
