"""A simulated logger that pushes by MQTT: a real client of a real broker, with the truth of simulated meters.

Its log is the meter's truth at every interval. It keeps what the broker has not acknowledged and pushes it again, says when
it is online and leaves a last will, takes commands (another interval, a span of its log once more) and confirms them.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from collectors.mqtt_payloads import Columns, Command, Pushed, compact
from simulators.meter import SimulatedMeter


class Access(NamedTuple):
    """How the logger reaches its broker."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = None
    prefix: str = "dailyread"


class MqttLogger:
    """A logger called `name` with these meters, by serial number. `obeys` false: it takes no command and confirms none."""

    def __init__(
        self,
        name: str,
        meters: Mapping[str, SimulatedMeter],
        access: Access,
        *,
        interval_s: int = 3600,
        packed: bool = False,
        obeys: bool = True,
    ) -> None:
        self.interval_s = interval_s
        self.commands: list[Command] = []
        self._meters, self._access = dict(meters), access
        self._packed, self._obeys = packed, obeys
        self._root = f"{access.prefix}/loggers/{name}"
        self._waiting: set[int] = set()
        self._emptied = threading.Condition()
        self._client = self._made(name)

    def start(self) -> None:
        """Connect, and connect again whenever the connection is lost."""
        self._client.connect_async(self._access.host, self._access.port, keepalive=5)
        self._client.loop_start()

    def stop(self) -> None:
        """Go offline in good order."""
        self._client.publish(f"{self._root}/state", "offline", qos=1, retain=True).wait_for_publish(2)
        self._client.disconnect()
        self._client.loop_stop()

    def push(self, first: datetime, last: datetime) -> None:
        """Push the log of [first, last], a message for each meter, now or as soon as there is a connection."""
        for meter in self._meters:
            self._push(meter, first, last)

    def wait_acknowledged(self, timeout_s: float) -> bool:
        """Wait until the broker has all that was pushed."""
        with self._emptied:
            return self._emptied.wait_for(lambda: not self._waiting, timeout_s)

    def publish(self, kind: str, payload: bytes) -> None:
        """Publish anything at all under the logger's name."""
        with self._emptied:
            number = self._client.publish(f"{self._root}/{kind}", payload, qos=1).mid
            self._waiting.add(number)

    def columns(self, meter: str, first: datetime, last: datetime) -> Columns:
        """What the log of a meter has from `first` to `last`."""
        step = timedelta(seconds=self.interval_s)
        at = [first + n * step for n in range((last - first) // step + 1)]
        truth = self._meters[meter]
        return Columns(meter, at, [truth.true_index_at(instant) for instant in at], None)

    def _push(self, meter: str, first: datetime, last: datetime) -> None:
        columns = self.columns(meter, first, last)
        if self._packed:
            self.publish("readings/compact", compact(columns))
            return
        pushed = Pushed(meter=meter, first_at=first, interval_s=self.interval_s, index=tuple(columns.index))
        self.publish("readings", msgspec.json.encode(pushed))

    def _made(self, name: str) -> Client:
        access = self._access
        client = Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        if access.tls is not None:
            client.tls_set_context(access.tls)
        if access.user is not None:
            client.username_pw_set(access.user, access.password)
        client.will_set(f"{self._root}/state", "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, 2)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _on_connect(
        self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if not reason.is_failure:
            client.subscribe(f"{self._root}/command", 1)
            client.publish(f"{self._root}/state", "online", qos=1, retain=True)

    def _on_publish(
        self, _client: Client, _data: Any, number: int, _reason: ReasonCode, _properties: Properties | None
    ) -> None:
        threading.Thread(target=self._acknowledged, args=(number,), daemon=True).start()  # paho holds its lock here

    def _acknowledged(self, number: int) -> None:
        with self._emptied:
            self._waiting.discard(number)
            self._emptied.notify_all()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if not message.payload:
            return
        command = msgspec.json.decode(message.payload, type=Command)
        self.commands.append(command)
        if not self._obeys:
            return
        if command.interval_s is not None:
            self.interval_s = command.interval_s
            self.publish("confirm", msgspec.json.encode({"id": command.id, "interval_s": command.interval_s}))
        if command.meter is not None and command.resend_from is not None and command.resend_until is not None:
            self._push(command.meter, command.resend_from, command.resend_until)
