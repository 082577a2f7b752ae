"""Serving a file of sites: what a gateway is told of them, what people enter, and the same run in one process and in two."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from collectors.gateway import Gateway
from collectors.outbox import Outbox
from metering.facts import AnyFact, CalorificValue, GatewayStatus, Readings, Tick
from metering.gasday import GasDays
from simulators.clock import SteppedClock
from simulators.serve import Service, all_others_wait, ends_at, entered_facts, feed, serve
from simulators.sites import DEMO_SITES, Sites, load_sites
from tests.patience import patient

DAYS = 5
CALENDAR = GasDays()


@pytest.fixture(scope="module")
def sites() -> Sites:
    return msgspec.structs.replace(load_sites(), days=DAYS)


def test_what_people_enter_comes_in_order_and_ends_with_the_run(sites: Sites) -> None:
    groups = list(entered_facts(sites, CALENDAR))
    instants = [facts[0].received_at for facts in groups]
    assert instants == sorted(set(instants))  # type: ignore[type-var]
    assert all(fact.received_at == facts[0].received_at for facts in groups for fact in facts)
    facts = [fact for group in groups for fact in group]
    assert sum(isinstance(fact, CalorificValue) for fact in facts) == (DAYS - 1) * len(sites.ldz)
    ticks = [fact for fact in facts if isinstance(fact, Tick)]
    assert ticks[-1].now == ends_at(sites, CALENDAR) == instants[-1]
    assert len(ticks) == 2 * DAYS + 2


def test_a_served_gateway_is_a_configuration(sites: Sites, tmp_path: Path) -> None:
    async def main() -> tuple[Service, str]:
        service = await serve(sites.sites, lambda: sites.starts_at(), tmp_path)
        text = service.gateway("g").toml()
        await service.close()
        return service, text

    service, text = asyncio.run(main())
    tables = tomllib.loads(text)
    assert [meter["meter_point"] for meter in tables["meters"]] == [site.meter_point for site in sites.sites]
    assert tables["polling"]["retry_first_s"] == 3600
    assert set(service.meters) == {site.name for site in sites.sites}
    secret = tmp_path / "junction-mill.password"
    assert secret.read_text() == "00000000"
    assert secret.stat().st_mode & 0o077 == 0


def test_sites_of_every_protocol_are_served_and_read_by_the_configuration_that_is_written(
    sites: Sites, tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    """The demo's first site, five times, each with another way to speak."""
    ways = {
        "modbus_tcp": "", "modbus_rtu": "", "iec62056_21": 'password = "00000000"',
        "dlms": 'password = "12345678"\nmeter_time = "local"', "dlms hdlc": 'link = "hdlc"',
    }  # fmt: skip
    head, first, *_ = DEMO_SITES.read_text().split("[[sites]]")
    text = head
    for number, (way, more) in enumerate(ways.items()):
        one = re.sub(r'^(name|meter_point|meter|equipment) = ".*"$', rf'\1 = "\1-{number}"', first, flags=re.MULTILINE)
        text += "[[sites]]" + one.replace('protocol = "modbus_tcp"', f'protocol = "{way.split()[0]}"\n{more}')
    file = tmp_path / "sites.toml"
    file.write_text(text.replace("days = 40", "days = 2"))
    config = tmp_path / "gateway.toml"
    simulate = dailyread("simulate", "--sites", str(file), "--clock", "stepped", "--gateway-config", str(config))
    started.append(simulate)
    wait_for_line(simulate, "ready: ")
    config.write_text(config.read_text().replace('["127.0.0.1:9092"]', '["127.0.0.1:1"]'))  # no Kafka there
    collect = dailyread("collect", "--config", str(config), "--since", sites.first_day.isoformat())
    started.append(collect)
    assert simulate.wait(patient(60)) == 0
    collect.send_signal(signal.SIGTERM)
    assert collect.wait(patient(10)) == 0
    outbox = Outbox(config.with_suffix(".state") / "outbox.sqlite", "gateway-1")
    facts = [fact for _, fact in stored(outbox)]
    outbox.close()
    assert {type(fact) for fact in facts} == {Readings}
    batches = [fact for fact in facts if isinstance(fact, Readings)]
    assert len(batches) == 2 * len(ways)
    truth = sites.sites[0].build()
    assert all(batch.index == tuple(truth.true_index_at(at) for at in batch.instants()) for batch in batches)


def in_one_process(sites: Sites, outbox: Outbox) -> list[AnyFact]:
    """The run of the demo; returns what was entered."""
    entered: list[AnyFact] = []

    async def give(facts: list[AnyFact], _received_at: datetime) -> None:
        entered.extend(facts)

    async def main() -> None:
        clock = SteppedClock(sites.starts_at())
        service = await serve(sites.sites, clock.now)
        gateway = Gateway(service.gateway(), clock.join("gateway"), outbox, since=sites.first_day)
        me = clock.join("feed")
        moving = asyncio.create_task(clock.run(expected=2))
        running = asyncio.create_task(gateway.run())
        await feed(sites, me, give)
        await all_others_wait(clock, me)
        gateway.stop()
        await running
        moving.cancel()
        await service.close()

    asyncio.run(asyncio.wait_for(main(), patient(60)))
    return entered


def stored(outbox: Outbox) -> list[tuple[datetime, AnyFact]]:
    """What was stored and when, without what differs by outbox or by how far publishing is."""
    return sorted(
        (
            (entry.committed_at, _bare(entry.fact))
            for entry in outbox.pending(100_000)
            if not isinstance(entry.fact, GatewayStatus)
        ),
        key=repr,
    )


def _bare(fact: AnyFact) -> AnyFact:
    return msgspec.structs.replace(fact, outbox=None) if isinstance(fact, Readings) else fact


def wait_for_line(process: subprocess.Popen[str], start: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"{process.args!r} ended without a line that begins with {start}")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def dailyread(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dailyread", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DAILYREAD_")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_two_processes_collect_the_same_facts_at_the_same_instants_as_one(
    sites: Sites, tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    config, facts_file = tmp_path / "gateway.toml", tmp_path / "facts.jsonl"
    simulate = dailyread(
        "simulate", "--clock", "stepped", "--days", str(DAYS), "--gateway-config", str(config), "--facts", str(facts_file)
    )
    started.append(simulate)
    ready = wait_for_line(simulate, "ready: ")
    assert ready.split()[-1] == sites.first_day.isoformat()
    config.write_text(config.read_text().replace('["127.0.0.1:9092"]', '["127.0.0.1:1"]'))  # no Kafka there
    collect = dailyread("collect", "--config", str(config), "--since", sites.first_day.isoformat())
    started.append(collect)
    assert simulate.wait(patient(60)) == 0
    time.sleep(0.5)
    begun_s = time.monotonic()
    collect.send_signal(signal.SIGTERM)  # it still waits for Kafka
    assert collect.wait(patient(10)) == 0, collect.stderr and collect.stderr.read()
    assert time.monotonic() - begun_s < patient(5)

    apart = Outbox(config.with_suffix(".state") / "outbox.sqlite", "gateway-1")
    together = Outbox(tmp_path / "together.sqlite", "gateway-1")
    entered = in_one_process(sites, together)
    assert stored(apart) == stored(together)
    assert len(stored(apart)) > DAYS * 10
    assert len(facts_file.read_text().splitlines()) == len(entered)
    apart.close()
    together.close()


def test_every_reading_of_the_run_is_the_truth_where_nothing_is_wrong(sites: Sites, tmp_path: Path) -> None:
    quiet = msgspec.structs.replace(sites, sites=tuple(site for site in sites.sites if not site.faults), days=3)
    outbox = Outbox(tmp_path / "outbox.sqlite", "gateway-1")
    in_one_process(quiet, outbox)
    batches = [fact for _, fact in stored(outbox) if isinstance(fact, Readings)]
    truth = {site.meter: site.build() for site in quiet.sites}
    for batch in batches:
        meter = truth[batch.meter]
        assert batch.index == tuple(meter.true_index_at(at) for at in batch.instants())
        assert batch.unconverted is not None or meter.unconverted is None
    by_day = {(batch.meter, batch.gas_day) for batch in batches}
    assert by_day == {(meter, quiet.first_day + timedelta(n)) for meter in truth for n in range(3)}
    outbox.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("simulate", "--sites", "/nowhere.toml"), "/nowhere.toml"),
        (("simulate", "--publish", "/nowhere.toml"), "/nowhere.toml"),
        (("collect", "--config", "/nowhere.toml"), "/nowhere.toml"),
    ],
)
def test_wrong_input_is_exit_code_2(arguments: tuple[str, ...], said: str, started: list[subprocess.Popen[str]]) -> None:
    process = dailyread(*arguments)
    started.append(process)
    _, error = process.communicate(timeout=patient(30))
    assert process.returncode == 2
    assert said in error
