"""The program as an earlier version would be that cannot read one meter's readings, for the tests of what comes after a mend.

python -m tests.integration.stream.narrow_version stream --config stream.toml
"""

from __future__ import annotations

import sys
from datetime import datetime

from metering.wire import Entry, read_entry
from stream import processor

UNREADABLE = "m-unreadable"


def _read(packed: bytes, received_at: datetime) -> Entry:
    entry = read_entry(packed, received_at)
    if getattr(entry.content, "meter", "") == UNREADABLE and hasattr(entry.content, "step"):
        raise ValueError(f"this version cannot read {UNREADABLE}")
    return entry


processor.read_entry = _read

if __name__ == "__main__":
    from dailyread.cli import main

    sys.exit(main())
