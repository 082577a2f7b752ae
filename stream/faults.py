"""How a worker ends when it must not go on: at once, so that nothing more is sent or committed.

Leaving by an exception would do harm: Faust acknowledges the event that an agent failed on, and commits while it stops.
What is not acknowledged is read again at the next start, and states tell what has already been done; so a sudden end
loses nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import NoReturn

log = logging.getLogger(__name__)

EXIT_CODE = 1
WRONG_CONFIGURATION = 2  # not to be started again before somebody has seen to it


def end_at_once(reason: str, error: BaseException | None = None, code: int = EXIT_CODE) -> NoReturn:
    """Say why, and end the process without stopping anything in order."""
    log.critical("%s; ending at once, nothing of it is acknowledged", reason, exc_info=error)
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(code)


class FreezeGuard:
    """Ends the process when it wakes from a freeze (SIGSTOP, a suspended machine) in which it may have lost its partitions.

    Another worker has taken over by then; what this one would still send is older than what that one has sent. Readers
    keep the greatest offset per key and would not be fooled, but it is better not to send it at all.
    """

    _LOOK_EVERY_S = 0.2

    def __init__(self, session_timeout_s: float) -> None:
        self._limit_s = 0.8 * session_timeout_s
        self._seen_s = _now_s()
        threading.Thread(target=self._watch, name="freeze-guard", daemon=True).start()

    def check(self) -> None:
        """To be called before anything is sent: ends the process after a freeze."""
        gap_s = _now_s() - self._seen_s
        if gap_s > self._limit_s:
            end_at_once(f"this process was frozen for {gap_s:.1f} s, and may have lost its partitions")

    def _watch(self) -> None:
        while True:
            time.sleep(self._LOOK_EVERY_S)
            self.check()
            self._seen_s = _now_s()


def _now_s() -> float:
    # Goes on while the machine is suspended, where the system has such a clock.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
