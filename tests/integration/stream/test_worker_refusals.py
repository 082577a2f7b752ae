"""Where a worker cannot be sure that nothing is lost, it ends, and says why; and stale writes of others change nothing."""

from __future__ import annotations

import shutil
import time

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from metering.wire import partition_of
from tests.integration.stream.toy_cluster import PARTITIONS, ToyCluster, fact, wait_for

NUMBER = partition_of("point-1", PARTITIONS)


def test_a_record_that_the_broker_refuses_ends_the_worker_before_its_frame_is_committed(toys: ToyCluster) -> None:
    admin = KafkaAdminClient(bootstrap_servers=toys.bootstrap)
    small = ConfigResource(ConfigResourceType.TOPIC, toys.topics["ledger"], {"max.message.bytes": "100"})
    admin.alter_configs([small])
    toys.send([fact("point-1", 1)])
    worker = toys.worker()
    assert worker.wait(20) == 1
    assert "MessageSizeTooLarge" in worker.output()
    assert toys.committed().get(NUMBER, 0) == 0
    assert not toys.read(f"{toys.name}-states-changelog"), "no state may rest on a record that is not there"
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, toys.topics["ledger"], {"max.message.bytes": "1000000"})])
    admin.close()
    toys.worker()
    toys.check()


def test_of_the_states_in_the_changelog_the_greatest_offset_stands(toys: ToyCluster) -> None:
    """A worker that was paused has written behind the one that took over; then a third recovers from nothing."""
    worker = toys.worker()
    for number in range(3):
        toys.send([fact("point-1", number)])
        toys.check()
    wait_for(lambda: toys.committed().get(NUMBER) == 3, "all is committed")
    worker.kill()
    changelog = toys.read(f"{toys.name}-states-changelog")
    stale = KafkaProducer(bootstrap_servers=toys.bootstrap)
    stale.send(changelog[0].topic, key=changelog[0].key, value=changelog[0].value, partition=NUMBER)
    stale.flush()
    stale.close()
    toys.worker(disk="empty")
    toys.send([fact("point-1", "after")])
    toys.check()


def test_facts_that_are_gone_from_the_topic_are_not_passed_over(toys: ToyCluster) -> None:
    worker = toys.worker()
    for number in range(5):
        toys.send([fact("point-1", number)])
    toys.check()
    wait_for(lambda: toys.committed().get(NUMBER) == 5, "all is committed")
    worker.kill()
    admin = KafkaAdminClient(bootstrap_servers=toys.bootstrap)
    admin.delete_records({TopicPartition(toys.topics["facts"], NUMBER): 3})
    admin.close()
    worker = toys.worker(disk="empty")
    assert worker.wait(20) == 1
    assert "begins at offset 3, but the fact store has only the frames before 0" in worker.output()


def test_a_fact_store_that_was_lost_is_read_again_before_the_next_frame(toys: ToyCluster) -> None:
    worker = toys.worker()
    toys.send_numbers(300)
    toys.check()
    time.sleep(1)
    worker.kill()
    for path in toys.folder.glob("state-1/facts-*"):
        shutil.rmtree(path)
    worker = toys.worker()
    worker.wait_for_log("frames again for the fact store")
    toys.send_numbers(20)
    toys.check()
