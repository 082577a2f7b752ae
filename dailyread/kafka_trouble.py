"""Why Kafka cannot be reached, in words: kafka-python only logs it, and then raises that it was "unable to bootstrap".

So we listen to its log, whether it is shown or not, for the errors in it. By default it is not shown: it has a line for every
attempt to connect, and we say once that Kafka is away. With `--verbose` it is, but for the lines in such detail that
passwords are in them.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kafka.errors import (
    InvalidReceiveError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    RequestTimedOutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

from dailyread.config import KafkaConfig

# Also what is seen of a refused password where its answer and the connection's end come in one read: kafka-python then takes
# the end first.
CLOSED = "the broker closes the connection; TLS, user or password may not be what it wants"
_HANDSHAKE = re.compile(r"Handshake failed: (\[[^]]*\] )?(?P<what>.*?)( \(_ssl\.c:\d+\))?$")


class NotReached(KafkaError):  # type: ignore[misc]
    """No broker answers as it should; says at which address, how we came, and what was refused. Holds no secret."""

    def __str__(self) -> str:
        return str(self.args[0])


class _Cause(NamedTuple):
    """What a connection failed of: how telling that is (0 the most), in words, and when."""

    rank: int
    words: str
    at_s: float


class _Listener(logging.Handler):
    """Remembers the errors in kafka-python's log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._heard: deque[_Cause] = deque(maxlen=100)

    def emit(self, record: logging.LogRecord) -> None:
        errors = [argument for argument in record.args or () if isinstance(argument, Exception)]
        self._heard.extend(_Cause(*_in_words(error), time.monotonic()) for error in errors)

    def cause(self, since_s: float) -> str:
        """The most telling of what was heard; empty where nothing was."""
        heard = [cause for cause in list(self._heard) if cause.at_s >= since_s]
        return min(heard).words if heard else ""


_listener = _Listener()


def listen() -> None:
    """Listen to kafka-python's log; show of it what `--verbose` wants. To call before a client is made."""
    log = logging.getLogger("kafka")
    if _listener not in log.handlers:
        log.addHandler(_listener)
    verbose = logging.getLogger().isEnabledFor(logging.DEBUG)
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    log.propagate = verbose


@contextmanager
def told_why(config: KafkaConfig) -> Iterator[None]:
    """Turn "unable to bootstrap" into NotReached, with the cause."""
    listen()
    began_s = time.monotonic()
    try:
        yield
    except KafkaTimeoutError as error:
        cause = _listener.cause(began_s) or "no answer"
        raise NotReached(f"{', '.join(config.bootstrap_servers)} ({_way(config)}): {cause}") from error


def _way(config: KafkaConfig) -> str:
    encrypted = "TLS" if config.tls else "no TLS"
    if config.sasl is None:
        return f"{encrypted}, no password"
    return f'{encrypted}, {config.sasl.mechanism} as "{config.sasl.user}"'


def _in_words(error: Exception) -> tuple[int, str]:
    said = str(error).rpartition("Error: ")[2]
    if isinstance(error, SaslAuthenticationFailedError):
        return 0, f"user and password are refused: {said}"
    if isinstance(error, UnsupportedSaslMechanismError):
        return 0, "the broker does not take this mechanism"
    if isinstance(error, InvalidReceiveError):
        return 2, "what answers does not speak Kafka's protocol, or speaks TLS"
    if isinstance(error, RequestTimedOutError):  # of the time that is left for an attempt, which may be next to none
        return 7, "no answer in time"
    if not isinstance(error, KafkaConnectionError | KafkaTimeoutError):
        return 1, f"{type(error).__name__}: {said}"
    if handshake := _HANDSHAKE.search(said):
        return 2, f"TLS failed: {handshake['what']}"
    if said == "socket disconnected":
        return 3, CLOSED
    if "ECONNREFUSED" in said:
        return 4, "connection refused"
    if "DNS" in said:
        return 4, "the host's name is not known"
    return 5 if isinstance(error, KafkaConnectionError) else 6, said
