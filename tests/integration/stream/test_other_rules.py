"""Rules that change under a job: the worker refuses, until `dailyread rebuild state`; then the ledger is that of the new."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from metering.facts import AnyFact, Tick
from metering.gasday import to_us
from metering.ledger import AnyRecord, Key
from metering.replay import replay
from metering.rules import Rules, load
from metering.rules_digest import digest
from tests.integration.conftest import Start
from tests.integration.stream.job import Job
from tests.integration.stream.toy_cluster import wait_for
from tests.metering.scenarios import Scenario

STRICT = b'[[validation]]\ntolerance = "0.000001"\nexcess_factor = "0.5"\n'


def facts_of(seed: int) -> list[AnyFact]:
    """Facts of some points in the order of their receipt, and a last tick."""
    facts = sorted(Scenario(random.Random(seed), points=6).facts, key=lambda fact: fact.received_at)  # type: ignore[arg-type,return-value]
    latest = facts[-1].received_at
    assert latest is not None
    return [*facts, Tick(now=latest, received_at=latest)]


def ledger_of(facts: list[AnyFact], rules: Rules) -> dict[Key, AnyRecord]:
    latest = facts[-1].received_at
    assert latest is not None
    return replay(facts, to_us(latest), rules)


def rebuild_state(config: Path) -> str:
    command = [sys.executable, "-m", "dailyread", "rebuild", "state", "--config", str(config)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_worker_refuses_until_rebuild_and_then_publishes_what_is_different(job: Job, start: Start, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"facts_of({seed})")
    facts = facts_of(seed)
    half = len(facts) // 2
    worker = start("stream", "--config", job.config)
    job.publish(facts[:half])
    wait_for(job.done, "the first half is done", 60)
    assert worker.terminate(10) == 0

    (tmp_path / "rules.toml").write_bytes(STRICT)
    old = job.config.read_text()
    job.config.write_text('rules = "rules.toml"\n' + old)
    refused = start("stream", "--config", job.config, log=tmp_path / "refused.log")
    assert refused.wait(60) == 2
    said = refused.output()
    assert f"{tmp_path / 'rules.toml'}: these rules ({digest(load(STRICT)).hex()}) cannot go on from the states of" in said
    assert f"made under other rules, {digest(Rules()).hex()}" in said
    assert "run `dailyread rebuild state`" in said

    assert "states of other rules will be made anew by" in rebuild_state(job.config)
    worker = start("stream", "--config", job.config, log=tmp_path / "rebuilt.log")
    worker.wait_for_log("states anew under these rules", timeout_s=60)
    job.publish(facts[half:])
    wait_for(job.done, "all is done", 60)
    assert job.ledger() == ledger_of(facts, load(STRICT))
    worker.kill()

    late = tmp_path / "late.toml"  # a second worker, of which nobody thought
    late.write_text('instance = "2"\n' + old.replace('"state"', '"state-2"'))
    refused = start("stream", "--config", late, log=tmp_path / "late.log")
    assert refused.wait(90) == 2
    assert "the default rules: these rules" in refused.output()

    worker = start("stream", "--config", job.config, log=tmp_path / "again.log")
    wait_for(job.done, "all is done again", 60)
    assert "states anew" not in worker.output()
    assert job.ledger() == ledger_of(facts, load(STRICT))
