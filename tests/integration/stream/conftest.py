"""Fixtures for the stream worker's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.services import GivenKafka, KafkaBroker
from tests.integration.stream.job import Job
from tests.integration.stream.toy_cluster import ToyCluster


@pytest.fixture
def toys(kafka: KafkaBroker | GivenKafka, unique: str, tmp_path: Path) -> Iterator[ToyCluster]:
    """Topics of the test's own, and a way to start toy workers on them."""
    cluster = ToyCluster(kafka.bootstrap, f"toy-{unique}", tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture
def job(kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str) -> Job:
    """Topics of the test's own in simulated time, and a configuration of a worker."""
    job = Job(kafka.bootstrap, tmp_path, unique)
    job.make_topics()
    return job
