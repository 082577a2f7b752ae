"""Loggers that push by MQTT: every message is on disk in the outbox before the broker is told that it came.

The session is persistent and messages are acknowledged one by one, by the thread that receives them and only after `put`
(QoS 1), so what a crash leaves unacknowledged comes again, and a copy counts once. While the disk refuses, the thread
waits: the broker keeps what comes. A payload that cannot be used becomes a `poll_failed` fact with the reason, and is
acknowledged, or it would come for ever.

`mqtt.md` beside this file describes topics and payloads.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Protocol

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from collectors.mqtt_commands import Commands
from collectors.mqtt_payloads import (
    BadPayload,
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
from collectors.reading import as_reason
from metering.facts import AnyFact, PollFailed
from metering.gasday import GasDays, to_us

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
        self._order = order
        self._points = {(each.logger, each.meter): each.meter_point for each in loggers}
        self._loggers = {each.logger for each in loggers}
        self._root = f"{broker.prefix}/gateways/{gateway}"
        self._strangers: set[str] = set()
        self._stop = threading.Event()
        self._client = self._made()
        self._commands = Commands(
            self._client, broker.prefix, self._points, outbox, now, self._days, self._stored, confirm_s, look_s
        )

    def start(self) -> None:
        """Begin to connect, and go on whatever happens to the connection."""
        self._client.connect_async(self._broker.host, self._broker.port, self._broker.keepalive_s)
        self._client.loop_start()
        self._commands.start()

    def stop(self) -> None:
        """End; what is not acknowledged comes again at the next start."""
        self._stop.set()
        self._commands.stop()
        self._client.publish(f"{self._root}/state", "offline", qos=1, retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def set_interval(self, logger: str, interval_s: int) -> None:
        """Tell a logger to read every `interval_s` (M4.1.3). An `interval_set` fact says whether it confirmed in time.

        The command is kept by the broker until then, for loggers that sleep. KeyError for a logger that we do not have.
        """
        self._commands.set_interval(logger, interval_s)

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
        if self._kept(message) and not self._stop.is_set():
            client.ack(message.mid, message.qos)

    def _kept(self, message: MQTTMessage) -> bool:
        """Whether what a message says is on disk; that it cannot be, where the outbox will never take it."""
        facts = self._taken(message)
        try:
            return self._stored(facts)
        except Exception as error:  # without an acknowledgement it would come for ever, and hold up the others'
            log.exception("MQTT: a message could not be stored")
            return self._stored(self._rejected(self._about(message)[0], f"{type(error).__name__}: {error}", message))

    def _taken(self, message: MQTTMessage) -> list[AnyFact]:
        self.counters.messages += 1
        logger, kind = self._about(message)
        try:
            if not logger:
                self._asked_for(message)
                return []
            return self._facts(logger, kind, bytes(message.payload))
        except BadPayload as error:
            return self._rejected(logger, str(error), message)
        except Exception as error:  # one message of one logger must not end the others'
            log.exception("MQTT: a message could not be taken")
            return self._rejected(logger, f"{type(error).__name__}: {error}", message)

    def _about(self, message: MQTTMessage) -> tuple[str, str]:
        """Which logger's message it is (nobody's: it is for the gateway), and of which kind."""
        group, name, kind = message.topic.removeprefix(f"{self._broker.prefix}/").split("/", 2)
        return name if group == "loggers" else "", kind

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
                return self._commands.confirmed(logger, decoded(payload, Confirmation))
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
        shown = f"{as_reason(reason)}; {len(message.payload)} bytes: {message.payload[:SHOWN_BYTES]!r}"
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

    def _asked_for(self, message: MQTTMessage) -> None:
        if message.retain:  # it would be done again at each connection, whatever was asked for since
            raise BadPayload("a request that the broker keeps; allowed: without `retain`")
        request: IntervalRequest = decoded(bytes(message.payload), IntervalRequest)
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

    def _on_publish(
        self, _client: Client, _data: Any, number: int, _reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._commands.published(number)
