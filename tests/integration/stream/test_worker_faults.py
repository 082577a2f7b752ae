"""What a worker does when it, or another, ends without warning: nothing is lost, nothing counts twice.

The toy rules count different facts, and every record on the ledger is compared with what the facts topic says.
"""

from __future__ import annotations

import random
import time

from metering.wire import encode_frame, partition_of
from tests.integration.services import Proc
from tests.integration.stream.toy_cluster import PARTITIONS, SESSION_TIMEOUT_S, ToyCluster, fact, health, wait_for

WORKING = r"working on facts"


def test_kills_at_random_moments_lose_nothing(toys: ToyCluster) -> None:
    with toys.sending(per_second=300):
        for attempt in range(5):
            worker = toys.worker(disk="lost" if attempt == 3 else "kept")  # once without what it had on disk
            worker.wait_for_log(WORKING)
            time.sleep(random.uniform(0.0, 2.0))
            worker.kill()
    toys.worker(disk="kept").wait_for_log(WORKING)
    toys.check()


def test_a_restart_begins_at_the_first_frame_that_is_not_done(toys: ToyCluster) -> None:
    """Before any commit, with no state on disk and with frames coming in: there Faust's own order skips some now and then."""
    toys.send_numbers(1000)
    with toys.sending(per_second=1000):
        for n in range(6):
            worker = toys.worker(disk=f"new-{n}")
            worker.wait_for_log(WORKING)
            time.sleep(0.4)
            worker.kill()
            assert "is next" not in worker.output(), "frames were skipped"
    toys.worker(disk="last")
    toys.check()


def test_an_exception_in_the_rules_ends_the_process_and_nothing_of_it_is_committed(toys: ToyCluster) -> None:
    toys.send([fact("point-1", 1)])
    worker = toys.worker()
    toys.check()
    number = partition_of("point-1", PARTITIONS)
    wait_for(lambda: toys.committed().get(number) == 1, "the first frame is committed")
    toys.send([fact("point-1", "boom")])
    assert worker.wait(10) == 1
    assert "the rules fail on this fact" in worker.output()
    time.sleep(1)
    assert toys.committed()[number] == 1


def test_poison_goes_to_the_dead_letters_and_the_rest_goes_on(toys: ToyCluster) -> None:
    worker = toys.worker()
    number = partition_of("point-1", PARTITIONS)
    for poison in (b"", b"\xff\xff", b"no frame at all", encode_frame([fact("point-1", 9)], "gateway")[:-9]):
        toys.send([fact("point-1", toys.committed().get(number, 0))])
        toys.send_bytes(poison, number)
    toys.send([fact("point-1", "last")])
    toys.check()
    letters = toys.read("dead_letter")
    assert [b'"offset":%d' % offset in letter.value for offset, letter in zip((1, 3, 5, 7), letters, strict=True)] == [True] * 4
    assert worker.running


def test_a_frame_of_a_later_version_halts_its_partition_alone(toys: ToyCluster) -> None:
    worker = toys.worker()
    number = partition_of("point-1", PARTITIONS)
    other = next(f"point-{n}" for n in range(2, 40) if partition_of(f"point-{n}", PARTITIONS) != number)
    toys.send([fact("point-1", 1)])
    toys.check()
    toys.send_bytes(b"\x95\x02" + encode_frame([], "gateway")[2:], number)
    toys.send([fact("point-1", 2)])
    toys.send([fact(other, 3)])
    worker.wait_for_log(rf"facts\[{number}\] is halted at offset 1: frame version 2")
    wait_for(lambda: any(at[2] == other for at, _ in toys.ledger()), "the other partition goes on")
    time.sleep(1)
    assert toys.committed()[number] == 1
    assert [count for at, count in toys.ledger() if at[2] == "point-1"] == [1]


def test_another_worker_takes_over_the_partitions_of_one_that_was_killed(toys: ToyCluster) -> None:
    first, second = toys.worker("1"), toys.worker("2")
    with toys.sending(per_second=200):
        both = [each.wait_for_log(WORKING) for each in (first, second)]
        assert both
        wait_for(lambda: _partitions(first) == _partitions(second) == 2, "both have two partitions")
        first.kill()
        wait_for(lambda: _partitions(second) == PARTITIONS, "the second has all")
    toys.check()


def test_a_worker_that_slept_through_its_session_changes_nothing(toys: ToyCluster) -> None:
    sleeper, other = toys.worker("1"), toys.worker("2")
    with toys.sending(per_second=200):
        wait_for(lambda: _partitions(sleeper) == _partitions(other) == 2, "both have two partitions")
        sleeper.pause()
        wait_for(lambda: _partitions(other) == PARTITIONS, "the other has all")
        time.sleep(0.5 * SESSION_TIMEOUT_S)
        sleeper.resume()
        assert sleeper.wait(5) == 1
        assert "was frozen for" in sleeper.output()
    toys.check()


def test_terminated_in_the_middle_it_ends_in_time_and_commits_what_is_done(toys: ToyCluster) -> None:
    worker = toys.worker()
    with toys.sending(per_second=300):
        worker.wait_for_log(WORKING)
        wait_for(lambda: len(toys.committed()) == PARTITIONS, "all partitions are committed")
        assert worker.terminate(5) == 0
    toys.worker().wait_for_log(WORKING)
    toys.check()


def _partitions(worker: Proc) -> int:
    return len(health(worker).get("partitions", ()))
