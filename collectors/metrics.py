"""All metrics of a gateway in one place: kind, meaning, and what to do about it; and their text for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from collectors.alarms import KINDS
from collectors.counters import GatewayCounters
from collectors.dlms_push import PushCounters
from collectors.evidence import EvidenceCounters
from collectors.mqtt import MqttCounters
from collectors.outbox import GivenUpSoFar, Outbox, OutboxError
from collectors.publisher import PublisherCounters


class Metric(NamedTuple):
    """One metric, as the documentation and the alarms want it."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    to_do: str


METRICS = (
    Metric("dailyread_collect_polls_total", "counter", "Polls of meters, each for one Gas Day.",
           "None after 05:00: the gateway hangs, or its clock is wrong."),
    Metric("dailyread_collect_polls_failed_total", "counter", "Polls that brought no usable answer.",
           "The log and the `poll_failed` facts say of which meters, and why."),
    Metric("dailyread_collect_readings_total", "counter", "Readings that polls, loggers and meters that push brought.", ""),
    Metric("dailyread_collect_meters_away", "gauge", "Meters whose last poll brought no usable answer.",
           "Above 0 at 10:00: somebody has an hour to read them on site. The log says which."),
    Metric("dailyread_collect_alarms_total", "counter", "Alarms told: of equipment, and of meters' clocks.",
           "The `alarm` facts and the log say of which meters."),
    Metric("dailyread_collect_meters_tamper", "gauge", "Meters whose newest Day is marked as tampered with.",
           "Somebody goes there. The readings count; the rules and people judge them."),
    Metric("dailyread_collect_meters_battery_low", "gauge", "Meters whose newest Day is marked with a low battery.",
           "Change it before the log is lost with it."),
    Metric("dailyread_collect_meters_reed_switch", "gauge", "Meters whose newest Day is marked with a bad reed switch.",
           "The pulses may be wrong: have it repaired, and see `dailyread explain`."),
    Metric("dailyread_collect_meters_bypass_open", "gauge", "Meters whose newest Day is marked with an open by-pass.",
           "Gas may pass unmetered: enter what is known of it (`bypass_used`)."),
    Metric("dailyread_collect_clocks_off", "gauge", "Meters whose clock is further off than `meter_clocks.alarm_s`.",
           "With `meter_clocks.set` it is moved slowly; otherwise somebody sets it."),
    Metric("dailyread_collect_clock_steps_total", "counter", "Steps by which meters' clocks were moved.", ""),
    Metric("dailyread_collect_clock_unsynchronised", "gauge", "1 while the gateway's own clock is not synchronised.",
           "See to NTP. Meanwhile no meter's clock is judged or moved."),
    Metric("dailyread_collect_disk_full", "gauge", "1 while the outbox cannot be written: collecting has stopped.",
           "Make room on the disk; it goes on by itself."),
    Metric("dailyread_collect_facts_waiting", "gauge", "Facts on disk that Kafka has not acknowledged; -1: unknown.",
           "Grows for hours: look at dailyread_collect_kafka_away, and at the room on the disk."),
    Metric("dailyread_collect_readings_given_up_total", "counter", "Readings that the outbox dropped at its cap.",
           "The `given_up` facts say of which meters and Days. The meters are asked again once Kafka takes facts."),
    Metric("dailyread_collect_reports_given_up_total", "counter", "`poll_failed`, `gateway_status` facts dropped at the cap.",
           ""),
    Metric("dailyread_collect_days_to_ask_again", "gauge", "Days given up at the cap for which meters wait to be asked again.",
           "Does not fall although Kafka takes facts: a meter with such a Day is no longer in the configuration."),
    Metric("dailyread_collect_files_set_aside", "gauge", "Corrupt files of the outbox that stand beside it.",
           "Look at the disk. Meters are asked again for what they still know; then take the files away."),
    Metric("dailyread_collect_facts_acknowledged_total", "counter", "Facts that Kafka has acknowledged.", ""),
    Metric("dailyread_collect_kafka_away", "gauge", "1 while Kafka cannot be reached, or refuses.",
           "The log says at which address, and what was refused. Nothing is lost while the disk lasts."),
    Metric("dailyread_collect_mqtt_away", "gauge", "1 while the MQTT broker cannot be reached, or refuses.",
           "The log says why. The broker and the loggers keep what comes, as long as they can."),
    Metric("dailyread_collect_mqtt_messages_total", "counter", "Messages of loggers.", ""),
    Metric("dailyread_collect_mqtt_rejected_total", "counter", "Messages of loggers that could not be used.",
           "The log, and `poll_failed` facts with a reason that begins with `pushed`, say of which logger and why."),
    Metric("dailyread_collect_mqtt_loggers_offline", "gauge", "Loggers that say they are offline, or whose last will does.",
           "The log says which."),
    Metric("dailyread_collect_dlms_notifications_total", "counter", "Messages of DLMS meters that push.", ""),
    Metric("dailyread_collect_dlms_rejected_total", "counter", "Notifications of DLMS meters that could not be used.",
           "The log, and `poll_failed` facts with a reason that begins with `pushed`, say of which meter and why."),
    Metric("dailyread_collect_dlms_strangers_total", "counter", "Messages of nobody that we know, where meters push to.",
           "The log says from which address, and as whom. Let only the meters' network reach the port."),
    Metric("dailyread_collect_evidence_bytes", "gauge", "Octets of polls kept as evidence, as they are on disk.", ""),
    Metric("dailyread_collect_evidence_gone_total", "counter", "Polls whose evidence made room for newer evidence.",
           "Sooner than you want it: raise `[evidence] max_bytes`."),
    Metric("dailyread_collect_evidence_not_kept_total", "counter", "Polls of which no evidence could be kept.",
           "The log says why; readings are not concerned. Mostly the disk is nearly full."),
)  # fmt: skip


def values(
    gateway: GatewayCounters,
    publisher: PublisherCounters,
    outbox: Outbox,
    mqtt: MqttCounters | None = None,
    evidence: EvidenceCounters | None = None,
    push: PushCounters | None = None,
) -> dict[str, int]:
    """What each metric is now; without loggers, evidence, or meters that push, theirs are 0."""
    mqtt, evidence, push = mqtt or MqttCounters(), evidence or EvidenceCounters(), push or PushCounters()
    return _of_outbox(outbox) | {
        "dailyread_collect_polls_total": gateway.polls,
        "dailyread_collect_polls_failed_total": gateway.failed,
        "dailyread_collect_readings_total": gateway.readings + mqtt.readings + push.readings,
        "dailyread_collect_meters_away": len(gateway.away),
        "dailyread_collect_alarms_total": gateway.alarms,
        **{f"dailyread_collect_meters_{kind}": len(gateway.reported.get(kind, ())) for kind in KINDS},
        "dailyread_collect_clocks_off": len(gateway.clocks_off),
        "dailyread_collect_clock_steps_total": gateway.clock_steps,
        "dailyread_collect_clock_unsynchronised": int(not gateway.clock_synchronised),
        "dailyread_collect_disk_full": int(gateway.disk_refuses or mqtt.disk_refuses or push.store.disk_refuses),
        "dailyread_collect_facts_acknowledged_total": publisher.facts_acknowledged,
        "dailyread_collect_kafka_away": int(publisher.away),
        "dailyread_collect_mqtt_away": int(mqtt.away),
        "dailyread_collect_mqtt_messages_total": mqtt.messages,
        "dailyread_collect_mqtt_rejected_total": mqtt.rejected,
        "dailyread_collect_mqtt_loggers_offline": len(mqtt.offline),
        "dailyread_collect_dlms_notifications_total": push.notifications,
        "dailyread_collect_dlms_rejected_total": push.rejected,
        "dailyread_collect_dlms_strangers_total": push.strangers,
        "dailyread_collect_evidence_bytes": evidence.bytes,
        "dailyread_collect_evidence_gone_total": evidence.gone,
        "dailyread_collect_evidence_not_kept_total": evidence.not_kept,
    }


def exposition(values: Mapping[str, int]) -> bytes:
    """The metrics in Prometheus' text format; `values` has one for each name."""
    lines = []
    for metric in METRICS:
        lines.append(f"# HELP {metric.name} {metric.meaning}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines.append(f"{metric.name} {values[metric.name]}")
    return "\n".join([*lines, ""]).encode()


def _of_outbox(outbox: Outbox) -> dict[str, int]:
    try:
        waiting, given_up = outbox.backlog().facts, outbox.given_up()
    except OutboxError:
        waiting, given_up = -1, GivenUpSoFar(-1, -1, -1)
    return {
        "dailyread_collect_facts_waiting": waiting,
        "dailyread_collect_readings_given_up_total": given_up.readings,
        "dailyread_collect_reports_given_up_total": given_up.reports,
        "dailyread_collect_days_to_ask_again": given_up.days_to_ask,
        "dailyread_collect_files_set_aside": outbox.files_set_aside(),
    }
