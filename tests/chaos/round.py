"""One round: everything runs, faults come and go, all is mended; then nothing may be lost, and nothing counted twice."""

from __future__ import annotations

import secrets
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from metering.facts import AnyFact, Readings
from metering.wire import identity
from tests.chaos.chain import Chain, chain_of
from tests.chaos.outbox_witness import left_and_left_over
from tests.chaos.plan import WINDOW_S, WORKERS, Fault, Plan
from tests.chaos.services import Services
from tests.integration.cluster import Lines, decoded, replayed
from tests.integration.truth import check_nothing_lost_nor_doubled, check_truth
from tests.patience import patient

QUIET_DAYS = 2  # after all is mended; what has been missed is read then at the latest
ENTERED_AT_S = (0.0, 0.3 * WINDOW_S, 0.8 * WINDOW_S)
WRONG_CONFIGURATION = 2
SETTLES_WITHIN_S = 60.0


class Result(NamedTuple):
    """What came of a round. `failure` is empty where all held; `starts`: how often processes were started again; `copies`:
    of how many batches of readings there is another one."""

    plan: Plan
    seconds: float
    facts: int
    copies: int
    records: int
    starts: int
    failure: str


def run_round(services: Services, plan: Plan, folder: Path) -> Result:
    """Run it; logs, and after a failure what there is to compare, are in the folder."""
    began_s = time.monotonic()
    facts: Lines = []
    records, starts, failure = 0, 0, ""
    (folder / "plan.txt").write_text("\n".join(map(str, plan.faults)) + "\n")
    try:
        with chain_of(services, plan, folder, f"{plan.seed}-{secrets.token_hex(3)}") as chain:
            try:
                _harm(chain)
                _settle(chain)
                facts = chain.cluster.equals_replay(SETTLES_WITHIN_S)
                records = _check(chain, facts)
                starts = sum(kept.again for kept in chain.processes.values())
            except BaseException:
                _keep(chain, folder)
                raise
    except Exception:
        failure = traceback.format_exc()
        (folder / "failure.txt").write_text(failure)
    readings = [fact for fact in decoded(facts) if isinstance(fact, Readings)]
    copies = len(readings) - len(_identities(readings))
    return Result(plan, time.monotonic() - began_s, len(facts), copies, records, starts, failure)


def _harm(chain: Chain) -> None:
    """Gas Days pass and are read, people enter what they know, and all the faults begin and end."""
    harmed_days = chain.plan.days - QUIET_DAYS
    with ThreadPoolExecutor(len(chain.plan.faults) + 2) as pool:
        began_s = time.monotonic()
        doing = [pool.submit(_befall, chain, fault, began_s) for fault in chain.plan.faults]
        doing.append(pool.submit(_enter, chain, began_s))
        doing.append(pool.submit(chain.pass_days, 0, harmed_days, WINDOW_S / harmed_days))
        for each in doing:
            each.result(patient(120))


def _befall(chain: Chain, fault: Fault, began_s: float) -> None:
    _sleep_until(began_s + fault.at_s)
    try:
        chain.begin(fault)
        time.sleep(fault.for_s)
    finally:
        chain.end(fault)


def _enter(chain: Chain, began_s: float) -> None:
    """One after the other: of two facts about a meter the one that is received later counts."""
    for part, at_s in enumerate(ENTERED_AT_S):
        _sleep_until(began_s + at_s)
        chain.enter(part, len(ENTERED_AT_S))


def _sleep_until(until_s: float) -> None:
    time.sleep(max(0.0, until_s - time.monotonic()))


def _settle(chain: Chain) -> None:
    """Nothing goes wrong any more; the rest of the Days is read, and Kafka has all of the outbox."""
    chain.wait_collecting()
    chain.pass_days(chain.plan.days - QUIET_DAYS, chain.plan.days, 0.2)
    chain.end_of_time()


def _check(chain: Chain, facts: Lines) -> int:
    """Hold the facts to what left the outbox and to what was entered, and the ledger to the meters; how many records."""
    found = _identities(decoded(facts))
    gone, waiting = left_and_left_over(chain.outbox)
    assert waiting == 0, f"{waiting} facts are still in the outbox"
    for whose, these in (("the gateway", gone), ("people", chain.entered)):
        lost = [fact for fact in these if identity(fact) not in found]
        assert not lost, f"of {len(these)} facts that {whose} had acknowledged {len(lost)} are lost, such as {lost[0]}"
    check_nothing_lost_nor_doubled(chain.sites, facts)
    ledger = chain.cluster.ledger()
    check_truth(chain.sites, ledger)
    assert chain.cluster.dead_letters() == 0, "there are dead letters"
    refused = [name for name in WORKERS if chain.processes[name].exits[WRONG_CONFIGURATION]]
    assert not refused, f"{refused} ended as if somebody had to see to them"
    return len(ledger)


def _identities(facts: Sequence[AnyFact]) -> set[bytes]:
    return {identity(fact) for fact in facts}


def _keep(chain: Chain, folder: Path) -> None:
    """What there is to compare, as far as it can be had."""
    exits = {name: dict(kept.exits) for name, kept in chain.processes.items() if kept.exits}
    (folder / "exits.txt").write_text(f"{exits}\n")
    try:
        facts = chain.cluster.export()
        (folder / "facts.jsonl").write_bytes(b"\n".join(facts))
        (folder / "replay.jsonl").write_bytes(b"\n".join(replayed(facts)))
        (folder / "ledger.jsonl").write_bytes(b"\n".join(chain.cluster.ledger()))
        (folder / "ends.txt").write_text(f"{chain.cluster.ends()}\n")
    except Exception:
        (folder / "not-kept.txt").write_text(traceback.format_exc())
