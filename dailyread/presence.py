"""Whether Kafka is there: said once when it goes, and once when it is back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from kafka.errors import KafkaError

from dailyread.config import KafkaConfig

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_S, RETRY_MAX_S = 0.5, 30.0


class Presence:
    """`away` while Kafka does not answer; shared by whoever reads and sends for one command."""

    def __init__(self, config: KafkaConfig) -> None:
        self.away = False
        self._servers = ", ".join(config.bootstrap_servers)

    def gone(self, error: Exception) -> None:
        """Kafka did not answer, or refused."""
        if not self.away:
            self.away = True
            log.warning("Kafka at %s is away: %s; trying until it is back", self._servers, error)

    def back(self) -> None:
        """Kafka answered."""
        if self.away:
            self.away = False
            log.info("Kafka is back")


def patiently(
    presence: Presence, wait: Callable[[float], None], attempt: Callable[[], T], mend: Callable[[], None] = lambda: None
) -> T:
    """What the attempt returns, once Kafka lets it; after each failure `mend`. `wait` may raise to give up."""
    delay_s = RETRY_S
    while True:
        try:
            return attempt()
        except (KafkaError, OSError) as error:
            presence.gone(error)
            mend()
            wait(delay_s)
            delay_s = min(delay_s * 2, RETRY_MAX_S)
