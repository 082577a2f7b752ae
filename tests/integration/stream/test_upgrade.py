"""A rolling upgrade with a changed form of the states: old and new workers side by side, and neither destroys what the other
wrote."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from metering.facts import Tick
from metering.gasday import to_us
from metering.replay import replay
from metering.rules import Rules
from metering.state import STATE_VERSION, version_of
from stream.marks import is_point, split
from tests.integration.conftest import Start
from tests.integration.services import Proc
from tests.integration.stream.job import PARTITIONS, Job
from tests.integration.stream.toy_cluster import wait_for
from tests.metering.scenarios import Scenario

NEXT = (sys.executable, "-m", "tests.integration.stream.next_version")
REMADE = "states anew under these rules"


class Pair:
    """Two workers of one job, each with a folder and a web address of its own."""

    def __init__(self, job: Job, folder: Path, start: Start) -> None:
        self.first, self.second = job, job.beside("2", folder)
        self._start, self._folder = start, folder

    def start(self, job: Job, name: str, *, is_next: bool = False) -> Proc:
        command = {"command": NEXT} if is_next else {}
        return self._start("stream", "--config", job.config, log=self._folder / f"{name}.log", **command)

    def owned(self, job: Job) -> set[int]:
        partitions = job.health().get("partitions") or {}
        assert isinstance(partitions, dict)
        return {int(number) for number, each in partitions.items() if each["halted"] is None}

    def share(self) -> bool:
        """Whether both have partitions, and together all."""
        first, second = self.owned(self.first), self.owned(self.second)
        return bool(first) and bool(second) and first | second == set(range(PARTITIONS))

    def done(self) -> bool:
        return self.first.done(self.second)


def test_old_and_new_workers_side_by_side_give_the_ledger_of_replay(job: Job, start: Start, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    facts = sorted(Scenario(random.Random(seed), points=9, days=12).facts, key=lambda fact: fact.received_at)  # type: ignore[arg-type,return-value]
    latest = facts[-1].received_at
    assert latest is not None
    facts.append(Tick(now=latest, received_at=latest))
    parts = [facts[n * len(facts) // 4 : (n + 1) * len(facts) // 4] for n in range(4)]
    pair = Pair(job, tmp_path, start)

    old, other = pair.start(pair.first, "old"), pair.start(pair.second, "other")
    wait_for(pair.share, "both have partitions", 60)
    job.publish(parts[0])
    wait_for(pair.done, "the first part is done", 60)

    assert old.terminate(10) == 0
    new = pair.start(pair.first, "new", is_next=True)
    new.wait_for_log(REMADE, timeout_s=60)
    wait_for(pair.share, "both have partitions again", 60)
    others_own = pair.owned(pair.second)
    job.publish(parts[1])
    wait_for(pair.done, "the second part is done", 60)

    new.kill()  # for longer than its session: the old one gets what the new one had
    other.wait_for_log(r"is halted at offset \d+: the states of \d+ meter points were made by a later version", timeout_s=60)
    job.publish(parts[2])
    wait_for(lambda: pair.owned(pair.second) == others_own, "the old one goes on with its own")
    assert REMADE not in other.output(), f"seed {seed}: the old worker has changed states back"

    new = pair.start(pair.first, "new-again", is_next=True)
    assert other.terminate(10) == 0
    other = pair.start(pair.second, "other-new", is_next=True)
    job.publish(parts[3])
    wait_for(pair.done, "all is done", 90)
    assert job.ledger() == replay(facts, to_us(latest), Rules()), f"seed {seed}"
    assert other.running
    assert new.running
    wait_for(lambda: versions(job) == {STATE_VERSION + 1}, "all states are those of the new version")


def versions(job: Job) -> set[int]:
    """The versions of the points' last states in the changelog. None stands behind a later one of its point."""
    newest: dict[bytes, int] = {}
    for message in job.messages(f"{job.group}-states-changelog"):
        if is_point(message.key.decode()):
            version = version_of(split(message.value)[1])
            assert version is not None
            assert version >= newest.get(message.key, 0)
            newest[message.key] = version
    return set(newest.values())
