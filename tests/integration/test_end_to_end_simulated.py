"""The demo's sites through every process and both servers, in virtual time: the ledger is that of the embedded run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dailyread.commands.demo import embedded_run
from dailyread.jsonlines import in_order
from simulators.sites import DEMO_SITES, load_sites
from tests.integration.cluster import Cluster, Lines, difference, replayed
from tests.integration.conftest import Start
from tests.integration.services import GivenKafka, KafkaBroker
from tests.integration.storage.buckets import Influx, fresh_bucket
from tests.patience import patient

WITHIN_S = 45.0


@pytest.fixture
def cluster(kafka: KafkaBroker | GivenKafka, influx: Influx, tmp_path: Path, unique: str, start: Start) -> Iterator[Cluster]:
    with fresh_bucket(influx) as bucket:
        made = Cluster(kafka, bucket, tmp_path, unique, start, time="simulated")
        yield made
        made.print_logs()


def test_the_chain_of_processes_gives_the_ledger_of_the_embedded_run(cluster: Cluster, tmp_path: Path) -> None:
    worker, store = cluster.worker(), cluster.store()
    expected = asyncio.run(embedded_ledger(tmp_path))
    worker.wait_for_log("working on facts")
    began_s = time.monotonic()
    simulate = cluster.simulate(DEMO_SITES, "--publish", cluster.config)
    collect = cluster.collect(load_sites().first_day)
    assert simulate.wait(WITHIN_S) == 0
    assert collect.wait(WITHIN_S) == 0
    collected_s = time.monotonic()
    until_s = collected_s + patient(WITHIN_S)
    cluster.wait_done(until_s)
    cluster.wait_equal(expected, until_s)
    ended_s = time.monotonic()
    facts = cluster.export()
    assert not (found := difference(replayed(facts), expected)), found
    assert cluster.dead_letters() == 0
    assert store.terminate() == 0
    print(
        f"{len(facts)} facts, {len(expected)} records: {collected_s - began_s:.1f} s until all was collected,"
        f" {ended_s - collected_s:.1f} s more until InfluxDB had it"
    )


async def embedded_ledger(directory: Path) -> Lines:
    """The ledger of the same sites without Kafka, Faust and InfluxDB, all in this process."""
    async with embedded_run(load_sites(), directory / "embedded", lambda *_: None) as run:
        assert not run.job.dead
        return list(in_order(run.job.ledger.records()))
