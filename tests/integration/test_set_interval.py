"""Intervals set by a message, and of a logger by the command, at a gateway that runs (M4.1.3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish, subscribe

from collectors.outbox import Outbox
from dailyread.cli import main
from metering.facts import IntervalSet
from simulators.mqtt_logger import Access, MqttLogger
from tests.dailyread.at_a_site import AtSite, at_a_site
from tests.integration.conftest import Start
from tests.integration.mosquitto import Mosquitto
from tests.integration.services import Proc
from tests.integration.test_mqtt import truth

LOGGER = '[[mqtt.loggers]]\nlogger = "L2"\nmeter_point = "MP-L"\nmeter = "M-3"\n'
TOPIC = "dailyread/gateways/g/set-interval"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture
def here(tmp_path: Path, broker: Mosquitto) -> Iterator[AtSite]:
    with at_a_site(tmp_path, ("modbus_tcp",)) as site:
        site.config.write_text(f'{site.config.read_text()}\n[mqtt]\nbroker = "127.0.0.1:{broker.port}"\n{LOGGER}')
        yield site


def intervals_set(here: AtSite) -> list[tuple[str, int, bool]]:
    with closing(Outbox(here.folder / "state" / "outbox.sqlite", "g")) as outbox:
        facts = [entry.fact for entry in outbox.pending(1000)]
    return sorted((fact.meter_point, fact.interval_s, fact.confirmed) for fact in facts if isinstance(fact, IntervalSet))


def collecting(here: AtSite, broker: Mosquitto, start: Start) -> Proc:
    """The gateway, once the broker has its subscriptions, which it sends before it says that it is online."""
    process = start("collect", "--config", here.config, log=here.folder / "collect.log")
    message = subscribe.simple("dailyread/gateways/g/state", hostname="127.0.0.1", port=broker.port)
    assert message.payload == b"online"
    return process


@pytest.mark.clause("4.1.3")
def test_a_message_sets_the_interval_of_a_meter_that_is_polled(here: AtSite, broker: Mosquitto, start: Start) -> None:
    process = collecting(here, broker, start)
    requests = ({"meter": "MOD-7", "interval_s": 360}, {"meter": "MOD-1", "interval_s": 360})
    messages: list[Any] = [(TOPIC, json.dumps(request), 1, False) for request in requests]
    publish.multiple(messages, hostname="127.0.0.1", port=broker.port)
    process.wait_for_log("meter MOD-1 was told to record every 360 s: records every 360 s")
    assert 'no meter that is polled "MOD-7" in the configuration' in process.output()
    process.terminate(10)
    assert intervals_set(here) == [("MP-1", 360, True)]


@pytest.mark.clause("4.1.3")
def test_the_command_tells_a_logger_which_confirms(
    here: AtSite, broker: Mosquitto, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["set-interval", "L2", "6m", "--config", str(here.config)]) == 1
    assert "loggers are told by the gateway; it does not run" in capsys.readouterr().err
    process = collecting(here, broker, start)
    logger = MqttLogger("L2", {"M-3": truth(3)}, Access("127.0.0.1", broker.port))
    logger.start()
    try:
        assert main(["set-interval", "M-3", "6m", "--config", str(here.config)]) == 0
        assert "L2: told to record every 360 s" in capsys.readouterr().out
        process.wait_for_log("logger L2 reads every 360 s, as it confirms")
        assert logger.interval_s == 360
    finally:
        logger.stop()
    process.terminate(10)
    assert intervals_set(here) == [("MP-L", 360, True)]
