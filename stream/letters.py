"""What of the dead letters is published: up to a cap an hour each with its payload, past it only where they stand.

What a letter speaks of stays in its topic, under (topic, partition, offset, number in the frame). So past the cap nothing is
lost: a letter without payload lists the places of many, and `dailyread redrive` takes the payloads from the topic. A flood of
spoilt frames costs a few bytes a fact, on the topic as in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import monotonic

from metering.messages import PLACES_A_LETTER, DeadLetter, Place, encode_dead_letter, places_of
from stream.metrics import METRICS

log = logging.getLogger(__name__)

HOUR_S = 3600.0
LETTERS_AN_HOUR = 1000
BYTES_AN_HOUR = 16 * 1024 * 1024  # of letters as they are published


class Letters:
    """The dead letters of one partition, called `where` in the log. The hour is this worker's own, from the first of them."""

    def __init__(self, where: str, clock_s: Callable[[], float] = monotonic) -> None:
        self._where = where
        self._clock_s = clock_s
        self._began_s = -HOUR_S
        self._letters = self._size_bytes = self._past_cap = 0

    @property
    def past_cap(self) -> int:
        """How many facts and frames of this hour have no letter of their own."""
        return self._past_cap if self._clock_s() - self._began_s < HOUR_S else 0

    def publish(self, letters: Sequence[DeadLetter]) -> list[bytes]:
        """The messages to send for these. Counts and logs them."""
        if self._clock_s() - self._began_s >= HOUR_S:
            self._began_s = self._clock_s()
            self._letters = self._size_bytes = self._past_cap = 0
        messages: list[bytes] = []
        for number, letter in enumerate(letters):
            if self._letters >= LETTERS_AN_HOUR or self._size_bytes >= BYTES_AN_HOUR:
                messages += self._listed(letters[number:])
                break
            messages.append(encode_dead_letter(letter))
            self._letters += 1
            self._size_bytes += len(messages[-1])
            log.warning("%s[%d] offset %d: %s", letter.topic, letter.partition, letter.offset, letter.reason)
        METRICS.dead_letters.inc(len(letters))
        return messages

    def _listed(self, letters: Sequence[DeadLetter]) -> list[bytes]:
        if not self._past_cap:
            log.error(
                "%s: more dead letters than the cap (%d an hour, %d bytes of them); of more only the places are listed",
                self._where, LETTERS_AN_HOUR, BYTES_AN_HOUR,
            )  # fmt: skip
        self._past_cap += len(letters)
        METRICS.dead_letters_past_cap.inc(len(letters))
        places = list(places_of((letter.offset, letter.number) for letter in letters))
        log.warning("%s: %d more, from offset %d to %d", self._where, len(letters), places[0].offset, places[-1].offset)
        return [
            encode_dead_letter(_letter_of(letters[0], places[first : first + PLACES_A_LETTER]))
            for first in range(0, len(places), PLACES_A_LETTER)
        ]


def _letter_of(one: DeadLetter, places: Sequence[Place]) -> DeadLetter:
    return DeadLetter(
        topic=one.topic, partition=one.partition, offset=places[0].offset, number=None,
        reason=f"past {LETTERS_AN_HOUR} dead letters an hour: of these only the places are listed; the first: {one.reason}",
        payload=b"", places=tuple(places),
    )  # fmt: skip
