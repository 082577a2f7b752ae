"""That somebody asked for states to be made anew under other rules: a small file in the worker's `state_dir`.

`dailyread rebuild state` writes it; a worker that finds states of other rules looks here whether it may. It holds for the
rules that were configured when it was written, and for states older than itself.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import msgspec

from metering.gasday import to_us

FILE = "rebuild.json"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """States are to be those of the rules with this digest, from `asked_at` on."""

    rules: str
    asked_at: datetime


def ask(state_dir: Path, rules: bytes, now: datetime) -> None:
    """Ask for it; the file survives a power cut when this returns. OSError where it cannot be written."""
    state_dir.mkdir(parents=True, exist_ok=True)
    new = state_dir / f"{FILE}.new"
    with new.open("wb") as file:
        file.write(msgspec.json.encode(Request(rules=rules.hex(), asked_at=now)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(state_dir / FILE)


def asked_us(state_dir: Path, rules: bytes) -> int:
    """When it was last asked for under the rules with this digest; 0 where it was not, or under others since."""
    try:
        found = msgspec.json.decode((state_dir / FILE).read_bytes(), type=Request)
    except (FileNotFoundError, msgspec.MsgspecError):  # none, or none of ours
        return 0
    return to_us(found.asked_at) if found.rules == rules.hex() and found.asked_at.tzinfo is not None else 0
