"""The end of a service by a signal."""

from __future__ import annotations

import signal
import threading

UNWIND_AFTER_S = 3.0  # after a signal: what takes longer is left, and done again at the next start


class Stopped(BaseException):
    """A signal said stop. Not an Exception, so that nobody on the way takes it for a failure to try again."""


class Stop:
    """SIGTERM and SIGINT: `asked` from then on; waits end at once, and what still works after some seconds is left."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGALRM, self._leave)

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Sleeps; raises Stopped when a signal comes or has come."""
        if self._event.wait(seconds):
            raise Stopped

    def _ask(self, *_: object) -> None:
        self._event.set()
        signal.setitimer(signal.ITIMER_REAL, UNWIND_AFTER_S)

    def _leave(self, *_: object) -> None:
        raise Stopped
