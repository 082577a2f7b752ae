"""Fixtures that run real servers and the project's own processes; how to use them is in README.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.services import (
    GivenInflux,
    GivenKafka,
    InfluxServer,
    KafkaBroker,
    Proc,
    given_influx,
    given_kafka,
)

Start = Callable[..., Proc]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All below this folder is an integration test; `-m "not integration"` leaves it out."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("integration")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker | GivenKafka]:
    """A broker for the session, or the one of $KAFKA_BOOTSTRAP_SERVERS: never stop it, name topics by `unique`."""
    if given := given_kafka():
        yield given
        return
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer | GivenInflux]:
    """A server for the whole session, or the one of $INFLUXDB_URL: never stop it, name meter points by `unique`."""
    if given := given_influx():
        yield given
        return
    with InfluxServer(tmp_path_factory.mktemp("influxdb")) as server:
        yield server


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker of the test's own, to stop, kill or pause."""
    with KafkaBroker(tmp_path / "kafka") as broker:
        yield broker


@pytest.fixture
def own_influx(tmp_path: Path) -> Iterator[InfluxServer]:
    """A server of the test's own, to stop, kill or pause."""
    with InfluxServer(tmp_path / "influxdb") as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start("collect", "gateway.toml", env=kafka.env)` runs `dailyread collect gateway.toml`, at most until the test ends.

    Keywords are `Proc`'s; the log is `tmp_path/COMMAND.log` unless `log` is given.
    """
    running: list[Proc] = []

    def run(*arguments: str | Path, log: Path | None = None, **keywords: object) -> Proc:
        process = Proc(*arguments, log=log or tmp_path / f"{arguments[0]}.log", **keywords)  # type: ignore[arg-type]
        running.append(process)
        return process

    yield run
    for process in running:
        process.end()
