"""Loggers that push by MQTT: every message is on disk in the outbox before the broker is told that it came.

The session is persistent and messages are acknowledged one by one, by the thread that receives them and only after `put`
(QoS 1), so what a crash leaves unacknowledged comes again, and a copy counts once. While the disk refuses, the thread
waits: the broker keeps what comes. A payload that cannot be used becomes a `poll_failed` fact with the reason, and is
acknowledged, or it would come for ever.

`mqtt.md` beside this file describes topics and payloads.
"""

from __future__ import annotations

import logging
import queue
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Protocol

import msgspec
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from collectors.mqtt_payloads import (
    BadPayload,
    Command,
    Confirmation,
    IntervalRequest,
    PushedAlarm,
    columns,
    compact_columns,
    decoded,
    to_alarm,
    to_facts,
)
from collectors.outbox import Outbox, OutboxError
from metering.facts import AnyFact, IntervalSet, PollFailed
from metering.gasday import GasDays, to_datetime, to_us

log = logging.getLogger(__name__)
DISK_RETRY_S = 2.0
RECONNECT_S, RECONNECT_S_MAX = 1, 60
LOOK_S = 600.0  # how often it is looked whether Days that the outbox gave up can be asked for again
SHOWN_BYTES = 200
STRANGERS_MAX = 100


class LoggerSettings(Protocol):
    """One meter behind a logger (`dailyread.config.LoggerConfig`); a logger may have several."""

    @property
    def logger(self) -> str: ...
    @property
    def meter_point(self) -> str: ...
    @property
    def meter(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Broker:
    """Where the broker is, who we are to it, and where topics begin. `tls`: verify it, and show our certificate, if any.
    `password` is asked for each connection, for it may change."""

    host: str
    port: int
    client_id: str
    prefix: str = "dailyread"
    tls: ssl.SSLContext | None = None
    user: str | None = None
    password: Callable[[], str | None] = lambda: None
    keepalive_s: int = 60


@dataclass
class MqttCounters:
    """What happened since the start, for metrics. `subscribed`: the broker has confirmed it, and keeps what comes from then on.
    `offline`: loggers that said so, or whose last will did."""

    messages: int = 0
    readings: int = 0
    rejected: int = 0
    subscribed: bool = False
    away: bool = False
    disk_refuses: bool = False
    offline: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Asked:
    """An interval that a logger was told to keep, and is to confirm."""

    id: str
    interval_s: int
    timer: threading.Timer


def no_order(meter: str, _interval_s: int) -> None:
    """Of a gateway that polls no meter."""
    raise KeyError(meter)


class MqttCollector:
    """Takes what the loggers push until `stop`. `confirm_s`: how long a logger has to confirm an interval. `order` takes the
    serial number of a meter that is polled, and the interval (s) that its equipment is to record at; KeyError where there is
    no such meter."""

    def __init__(
        self,
        broker: Broker,
        gateway: str,
        loggers: Sequence[LoggerSettings],
        outbox: Outbox,
        now: Callable[[], datetime],
        *,
        days: GasDays | None = None,
        confirm_s: float = 86_400.0,
        look_s: float = LOOK_S,
        order: Callable[[str, int], None] = no_order,
    ) -> None:
        self.counters = MqttCounters()
        self._broker, self._outbox, self._now, self._days = broker, outbox, now, days or GasDays()
        self._confirm_s, self._order = confirm_s, order
        self._points = {(each.logger, each.meter): each.meter_point for each in loggers}
        self._loggers = {each.logger for each in loggers}
        self._root = f"{broker.prefix}/gateways/{gateway}"
        self._asked: dict[str, _Asked] = {}
        self._resends: dict[int, tuple[str, date]] = {}
        self._published: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._look_s = look_s
        self._strangers: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._client = self._made()
        self._looking = threading.Thread(target=self._look, name="mqtt-resend", daemon=True)

    def start(self) -> None:
        """Begin to connect, and go on whatever happens to the connection."""
        self._client.connect_async(self._broker.host, self._broker.port, self._broker.keepalive_s)
        self._client.loop_start()
        self._looking.start()

    def stop(self) -> None:
        """End; what is not acknowledged comes again at the next start."""
        self._stop.set()
        for asked in list(self._asked.values()):
            asked.timer.cancel()
        self._published.put(0)
        self._client.publish(f"{self._root}/state", "offline", qos=1, retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def set_interval(self, logger: str, interval_s: int) -> None:
        """Tell a logger to read every `interval_s` (M4.1.3). An `interval_set` fact says whether it confirmed in time.

        The command is kept by the broker until then, for loggers that sleep. KeyError for a logger that we do not have.
        """
        if logger not in self._loggers:
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

    def _made(self) -> Client:
        broker = self._broker
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            clean_session=False,  # the broker keeps what comes while we are away
            protocol=MQTTv311,
            manual_ack=True,
        )
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        client.on_pre_connect = self._on_pre_connect
        client.will_set(f"{self._root}/state", "offline", qos=1, retain=True)
        client.suppress_exceptions = True  # else one would end the receiving thread; what is not acknowledged comes again
        client.reconnect_delay_set(RECONNECT_S, RECONNECT_S_MAX)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _on_pre_connect(self, client: Client, _data: Any) -> None:
        if self._broker.user is not None:
            client.username_pw_set(self._broker.user, self._broker.password())

    def _on_connect(
        self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._away(f"the broker refused: {reason}")
            return
        kinds = ("readings", "readings/compact", "alarm", "confirm", "state")
        client.subscribe(
            [(f"{self._broker.prefix}/loggers/+/{kind}", 1) for kind in kinds] + [(f"{self._root}/set-interval", 1)]
        )
        client.publish(f"{self._root}/state", "online", qos=1, retain=True)

    def _on_subscribe(
        self, _client: Client, _data: Any, _number: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._away("the broker does not let us subscribe")
            return
        if self.counters.away:
            log.info("MQTT: connected again to %s:%d", self._broker.host, self._broker.port)
        self.counters.away, self.counters.subscribed = False, True

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        self._away("no connection")

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if not self._stop.is_set():
            self._away(str(reason))

    def _away(self, reason: str) -> None:
        self.counters.subscribed = False
        if not self.counters.away:
            log.warning("MQTT: %s:%d is away (%s); it is tried again", self._broker.host, self._broker.port, reason)
        self.counters.away = True

    def _on_message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        """In the receiving thread, from the first byte to the acknowledgement: so none can be of another session."""
        if self._stored(self._taken(message)) and not self._stop.is_set():
            client.ack(message.mid, message.qos)

    def _taken(self, message: MQTTMessage) -> list[AnyFact]:
        self.counters.messages += 1
        logger = ""
        try:
            topic = message.topic.removeprefix(f"{self._broker.prefix}/").split("/", 2)
            if topic[0] == "gateways":
                self._asked_for(decoded(bytes(message.payload), IntervalRequest))
                return []
            logger = topic[1]
            return self._facts(logger, topic[2], bytes(message.payload))
        except BadPayload as error:
            return self._rejected(logger, str(error), message)
        except Exception as error:  # one message of one logger must not end the others'
            log.exception("MQTT: a message could not be taken")
            return self._rejected(logger, f"{type(error).__name__}: {error}", message)

    def _facts(self, logger: str, kind: str, payload: bytes) -> list[AnyFact]:
        if logger not in self._loggers:
            raise BadPayload(f'no logger "{logger}" in the configuration')
        match kind:
            case "readings" | "readings/compact":
                pushed = columns(payload) if kind == "readings" else compact_columns(payload)
                facts = to_facts(pushed, self._point(logger, pushed.meter), self._days)
                self.counters.readings += sum(value is not None for value in pushed.index)
                return list(facts)
            case "alarm":
                alarm: PushedAlarm = decoded(payload, PushedAlarm)
                return [to_alarm(alarm, self._point(logger, alarm.meter))]
            case "confirm":
                return self._confirmed(logger, decoded(payload, Confirmation))
            case _:
                self._is(logger, payload)
                return []

    def _point(self, logger: str, meter: str) -> str:
        try:
            return self._points[logger, meter]
        except KeyError:
            raise BadPayload(f'no meter "{meter}" of logger "{logger}" in the configuration') from None

    def _is(self, logger: str, state: bytes) -> None:
        if state == b"offline":
            if logger not in self.counters.offline:
                log.warning("MQTT: logger %s is offline", logger)
            self.counters.offline.add(logger)
        elif logger in self.counters.offline:
            log.info("MQTT: logger %s is back", logger)
            self.counters.offline.discard(logger)

    def _rejected(self, logger: str, reason: str, message: MQTTMessage) -> list[AnyFact]:
        """Of a logger that we have a fact says so, for its first meter; of another one line in the log does, once."""
        self.counters.rejected += 1
        shown = f"{reason}; {len(message.payload)} bytes: {message.payload[:SHOWN_BYTES]!r}"
        known = [(meter, point) for (name, meter), point in self._points.items() if name == logger]
        if not known:
            if logger not in self._strangers and len(self._strangers) < STRANGERS_MAX:
                log.error("MQTT: a message was rejected: %s", shown)
                self._strangers.add(logger)
            return []
        log.warning("MQTT: a message of logger %s was rejected: %s", logger, shown)
        meter, point = known[0]
        gas_day = date.fromordinal(self._days.day_of(to_us(self._now())))
        return [PollFailed(meter_point=point, meter=meter, gas_day=gas_day, reason=f"pushed: {shown}", attempts=1)]

    def _stored(self, facts: Sequence[AnyFact]) -> bool:
        """Wait until the facts are on disk; False where the program ends before."""
        while facts:
            try:
                self._outbox.put(facts, self._now())
                break
            except OutboxError as error:
                if not self.counters.disk_refuses:
                    log.critical("MQTT: nothing more is taken: %s", error)
                self.counters.disk_refuses = True
            if self._stop.wait(DISK_RETRY_S):
                return False
        if self.counters.disk_refuses:
            log.warning("MQTT: goes on: the outbox takes facts again")
        self.counters.disk_refuses = False
        return True

    # Intervals.

    def _asked_for(self, request: IntervalRequest) -> None:
        if (request.logger is None) == (request.meter is None):
            raise BadPayload("logger: give either `logger` or `meter`, one of the two")
        try:
            if request.logger is not None:
                self.set_interval(request.logger, request.interval_s)
            if request.meter is not None:
                self._order(request.meter, request.interval_s)
        except KeyError as error:
            kind = "logger" if request.meter is None else "meter that is polled"
            raise BadPayload(f'no {kind} "{error.args[0]}" in the configuration') from None

    def _confirmed(self, logger: str, confirmation: Confirmation) -> list[AnyFact]:
        with self._lock:
            asked = self._asked.get(logger)
            if asked is not None and asked.interval_s == confirmation.interval_s:
                del self._asked[logger]
                asked.timer.cancel()
                asked = None
        if asked is None:  # the broker need not keep the command any longer
            self._client.publish(self._command_topic(logger), b"", qos=1, retain=True)
        log.info("MQTT: logger %s reads every %d s, as it confirms", logger, confirmation.interval_s)
        return self._interval_set(logger, confirmation.interval_s, confirmed=True)

    def _not_confirmed(self, logger: str, number: str) -> None:
        with self._lock:
            asked = self._asked.get(logger)
            if asked is None or asked.id != number:
                return
            del self._asked[logger]
        log.warning("MQTT: logger %s has not confirmed an interval of %d s", logger, asked.interval_s)
        self._stored(self._interval_set(logger, asked.interval_s, confirmed=False))

    def _interval_set(self, logger: str, interval_s: int, confirmed: bool) -> list[AnyFact]:
        points = sorted({point for (name, _), point in self._points.items() if name == logger})
        return [IntervalSet(meter_point=point, interval_s=interval_s, confirmed=confirmed) for point in points]

    def _command(self, logger: str, command: Command, retain: bool) -> int:
        return self._client.publish(self._command_topic(logger), msgspec.json.encode(command), qos=1, retain=retain).mid

    def _command_topic(self, logger: str) -> str:
        return f"{self._broker.prefix}/loggers/{logger}/command"

    # Days that the outbox gave up.

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

    def _on_publish(
        self, _client: Client, _data: Any, number: int, _reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._published.put(number)  # paho holds a lock here that publishing takes
