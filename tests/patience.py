"""How long a test waits for what must come."""

from __future__ import annotations


def patient(seconds: float) -> float:
    """The time limit on a machine that is busy with much else, of what takes so long at most on one that is not.

    A wait ends as soon as what it waits for is there, so only a failure takes longer by it.
    """
    return min(4 * seconds, 200.0)
