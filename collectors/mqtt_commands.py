"""What loggers are told by MQTT: at which interval to read from now on (M4.1.3), and which Days to push again, of which the
outbox gave readings up.

An interval's command is kept by the broker until the logger confirms it, or until it is too late; that a Day is to be pushed
again counts as asked for once the broker has the command.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime

import msgspec
from paho.mqtt.client import Client

from collectors.mqtt_payloads import Command, Confirmation
from collectors.outbox import Outbox, OutboxError
from metering.facts import AnyFact, IntervalSet
from metering.gasday import GasDays, to_datetime

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Asked:
    """An interval that a logger was told to keep, and is to confirm."""

    id: str
    interval_s: int
    timer: threading.Timer


class Commands:
    """The commands to the loggers of `points` (by logger and meter), from `start` until `stop`.

    `store` returns when the facts that it is given are on disk. A logger has `confirm_s` to confirm an interval; every
    `look_s` it is looked whether Days that the outbox gave up can be asked for again.
    """

    def __init__(
        self,
        client: Client,
        prefix: str,
        points: Mapping[tuple[str, str], str],
        outbox: Outbox,
        now: Callable[[], datetime],
        days: GasDays,
        store: Callable[[Sequence[AnyFact]], bool],
        confirm_s: float,
        look_s: float,
    ) -> None:
        self._client, self._prefix, self._points = client, prefix, points
        self._outbox, self._now, self._days, self._store = outbox, now, days, store
        self._confirm_s, self._look_s = confirm_s, look_s
        self._asked: dict[str, _Asked] = {}
        self._resends: dict[int, tuple[str, date]] = {}
        self._published: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._looking = threading.Thread(target=self._look, name="mqtt-resend", daemon=True)

    def start(self) -> None:
        """Begin to look for Days to ask for again."""
        self._looking.start()

    def stop(self) -> None:
        """End; intervals that are not confirmed by now are not waited for."""
        self._stop.set()
        for asked in list(self._asked.values()):
            asked.timer.cancel()
        self._published.put(0)

    def set_interval(self, logger: str, interval_s: int) -> None:
        """As `MqttCollector.set_interval`."""
        if all(logger != name for name, _ in self._points):
            raise KeyError(logger)
        number = secrets.token_hex(4)
        timer = threading.Timer(self._confirm_s, self._not_confirmed, (logger, number))
        timer.daemon = True
        with self._lock:
            before = self._asked.get(logger)
            self._asked[logger] = _Asked(number, interval_s, timer)
        if before is not None:
            before.timer.cancel()
        timer.start()
        self._command(logger, Command(id=number, interval_s=interval_s), retain=True)

    def confirmed(self, logger: str, confirmation: Confirmation) -> list[AnyFact]:
        """The facts that a logger's confirmation is."""
        with self._lock:
            asked = self._asked.get(logger)
            if asked is not None and asked.interval_s == confirmation.interval_s:
                del self._asked[logger]
                asked.timer.cancel()
                asked = None
        if asked is None:  # the broker need not keep the command any longer
            self._client.publish(self._topic(logger), b"", qos=1, retain=True)
        log.info("MQTT: logger %s reads every %d s, as it confirms", logger, confirmation.interval_s)
        return self._interval_set(logger, confirmation.interval_s, confirmed=True)

    def published(self, number: int) -> None:
        """The broker has this message. paho calls it with a lock held that publishing takes."""
        self._published.put(number)

    def _not_confirmed(self, logger: str, number: str) -> None:
        with self._lock:
            asked = self._asked.get(logger)
            if asked is None or asked.id != number:
                return
            del self._asked[logger]
        log.warning("MQTT: logger %s has not confirmed an interval of %d s", logger, asked.interval_s)
        self._store(self._interval_set(logger, asked.interval_s, confirmed=False))

    def _interval_set(self, logger: str, interval_s: int, confirmed: bool) -> list[AnyFact]:
        points = sorted({point for (name, _), point in self._points.items() if name == logger})
        return [IntervalSet(meter_point=point, interval_s=interval_s, confirmed=confirmed) for point in points]

    def _command(self, logger: str, command: Command, retain: bool) -> int:
        return self._client.publish(self._topic(logger), msgspec.json.encode(command), qos=1, retain=retain).mid

    def _topic(self, logger: str) -> str:
        return f"{self._prefix}/loggers/{logger}/command"

    def _look(self) -> None:
        """A thread of its own: what the broker has is settled at once, and now and then it is looked for more."""
        look_at = time.monotonic() + self._look_s
        while not self._stop.is_set():
            with suppress(queue.Empty):
                self._settle(self._published.get(timeout=max(0.0, look_at - time.monotonic())))
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + self._look_s
                self._ask_again()

    def _ask_again(self) -> None:
        """Tell loggers to push again the Days of which the outbox gave readings up, where it has room by now."""
        of_meter = {meter: logger for logger, meter in self._points}
        try:
            wanted = self._outbox.days_to_ask(self._now()) if self._client.is_connected() else []
        except OutboxError as error:
            log.debug("MQTT: %s", error)
            return
        for meter, day in wanted:
            if meter in of_meter and (meter, day) not in self._resends.values():
                number = self._command(of_meter[meter], self._resend(meter, day), retain=False)
                self._resends[number] = meter, day

    def _settle(self, number: int) -> None:
        """The broker has a message: where it asks for a Day, only now is that Day taken as asked for."""
        asked = self._resends.pop(number, None)
        if asked is not None:
            try:
                self._outbox.ask_again([asked])
            except OutboxError as error:  # it will be asked for once more
                log.debug("MQTT: %s", error)

    def _resend(self, meter: str, day: date) -> Command:
        start, end = self._days.start_us(day.toordinal()), self._days.end_us(day.toordinal())
        return Command(id=secrets.token_hex(4), meter=meter, resend_from=to_datetime(start), resend_until=to_datetime(end))
