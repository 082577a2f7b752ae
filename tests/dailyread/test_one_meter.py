"""Commands for who sets meters up, as processes, on real sockets and a pseudo-terminal: read, evidence, set-interval."""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from collectors.evidence import find
from collectors.orders import INTERVAL_S_MIN
from collectors.outbox import Outbox
from dailyread.cli import main
from dailyread.commands.set_interval import interval
from metering.facts import IntervalSet, Readings
from metering.gasday import GasDays, to_us
from tests.dailyread.at_a_site import PASSWORDS, ROOT, AtSite, at_a_site
from tests.patience import patient

DAYS = GasDays()
METERS = ["MOD-1", "DLM-1", "IEC-1"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtSite]:
    with at_a_site(tmp_path_factory.mktemp("site")) as served:
        map_ = served.folder / "site-3.toml"
        map_.write_text(map_.read_text() + 'interval_code = "7-0:0.8.1"\n')
        yield served


def last_day() -> date:
    return date.fromordinal(DAYS.day_of(to_us(datetime.now(UTC))) - 1)


def shows_no_password(text: str) -> bool:
    octets = [password.encode() for password in PASSWORDS.values()]
    return not any(each.decode() in text or each.hex() in text or each.hex(" ") in text for each in octets)


@pytest.mark.parametrize("meter", METERS)
def test_read_shows_the_frames_and_the_truth(here: AtSite, meter: str) -> None:
    done = here.run("read", meter)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    frames = [line for line in lines if "  sent   " in line or "  heard  " in line]
    assert len([line for line in frames if "  sent   " in line]) >= 3
    assert len([line for line in frames if "  heard  " in line]) >= 3
    truth = here.meters[meter]
    for at_us in (DAYS.start_us(last_day().toordinal()), DAYS.end_us(last_day().toordinal())):
        index = truth.true_index_at(datetime.fromtimestamp(at_us // 1_000_000, UTC))
        assert any(f" {index} " in line for line in lines), index
    assert "the meter's clock: " in done.stdout
    assert shows_no_password(done.stdout + done.stderr)


def test_read_gives_one_json_object_for_other_programs(here: AtSite) -> None:
    done = here.run("read", "MP-1", "--json", "--day", str(last_day()))  # by its meter point
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["fact"]["fact"] == "readings"
    assert None not in found["fact"]["index"]
    first = found["frames"][0]
    assert (first["sent"], first["octets"][4:8]) == (True, "0000")  # the protocol identifier of Modbus TCP
    assert all(frame["means"] for frame in found["frames"])


def test_read_says_what_is_missing_and_who_does_not_answer(here: AtSite, tmp_path: Path) -> None:
    done = here.run("read", "MOD-1", "--day", "2020-01-01")
    assert done.returncode == 1
    assert " missing " in done.stdout
    text = here.config.read_text().replace(here.addresses["MOD-1"], "tcp://127.0.0.1:1")
    (tmp_path / "gateway.toml").write_text(text)
    command = [sys.executable, "-m", "dailyread", "read", "MOD-1", "--config", str(tmp_path / "gateway.toml")]
    done = subprocess.run(command, cwd=ROOT, env=here.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "No readings, after 1 attempts: no connection" in done.stdout


def test_a_name_nobody_has_gets_a_hint(here: AtSite) -> None:
    for command in (("read", "MOD-2"), ("set-interval", "MOD-2", "6m")):
        done = here.run(*command)
        assert done.returncode == 2
        assert done.stderr == (
            'METER: found "MOD-2", which is no serial number or meter point of the configuration; did you mean `MOD-1`?\n'
        )


@pytest.mark.clause("4.1.3")
def test_no_interval_below_six_minutes_can_be_asked_for(here: AtSite) -> None:
    """M4.1.3."""
    for text in ("5m", "359", "25h", "6", "six", "-6m"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not an interval from 6m to 24h"):
            interval(text)
    assert [interval(text) for text in ("6m", "360", "360s", "1h", "24h")] == [360, 360, 360, 3600, 86_400]
    done = here.run("set-interval", "MOD-1", "5m")
    assert done.returncode == 2
    assert "'5m' is not an interval from 6m to 24h" in done.stderr


def facts_of(here: AtSite) -> list[Any]:
    with closing(Outbox(here.folder / "state" / "outbox.sqlite", "g")) as outbox:
        return [entry.fact for entry in outbox.pending(1000)]


@pytest.mark.clause("4.1.3")
@pytest.mark.parametrize("meter", METERS)
def test_an_interval_is_set_without_a_gateway_and_read_back(here: AtSite, meter: str) -> None:
    """M4.1.3, for each family."""
    done = here.run("set-interval", meter, "6m")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{meter}: records every {INTERVAL_S_MIN} s now, as it says itself" in done.stdout
    assert facts_of(here)[-1] == IntervalSet(meter_point=f"MP-{METERS.index(meter) + 1}", interval_s=360, confirmed=True)


@contextmanager
def collecting(here: AtSite) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "dailyread", "collect", "--config", str(here.config)]
    with (here.folder / "collect.log").open("a") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=here.environment(), stderr=log, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(patient(10))


def eventually(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + patient(30)
    while not reached():
        assert time.monotonic() < deadline, "not in time"
        assert process.poll() is None, "the gateway ended"
        time.sleep(0.1)


def has_evidence(here: AtSite, meter: str) -> bool:
    try:
        return bool(find(here.folder / "state" / "evidence.sqlite", meter, last_day()))
    except (FileNotFoundError, sqlite3.OperationalError):  # not there yet, or nothing in it yet
        return False


def test_a_gateway_that_runs_keeps_evidence_and_takes_orders(here: AtSite, capsys: pytest.CaptureFixture[str]) -> None:
    """The outbox is held by the gateway meanwhile. Meters' passwords are read from their files each time."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--config", str(here.config)])
        return code, *capsys.readouterr()

    with collecting(here) as process:
        eventually(lambda: all(has_evidence(here, meter) for meter in METERS), process)
        for meter in METERS:
            code, out, err = call("set-interval", meter, "30m")
            assert code == 0, err
            assert f"{meter}: records every 1800 s now" in out
            assert "the gateway runs; it is asked to set the interval" in err
        for meter, file in (("DLM-1", "site-2.password"), ("IEC-1", "site-3.password")):
            with other_content(here.folder / file, "another"):
                code, _, err = call("set-interval", meter, "1h")
                assert (code, "another" in err) == (1, False), err
            assert call("set-interval", meter, "1h")[0] == 0
        shown = {meter: call("evidence", meter, str(last_day())) for meter in METERS}
    found = facts_of(here)
    set_ = [(fact.meter_point, fact.confirmed) for fact in found if isinstance(fact, IntervalSet) and fact.interval_s == 1800]
    assert set_ == [("MP-1", True), ("MP-2", True), ("MP-3", True)]
    assert {fact.meter for fact in found if isinstance(fact, Readings)} == set(METERS)
    for meter, (code, out, err) in shown.items():
        assert code == 0, (meter, err)
        assert "  sent   " in out
        assert "  heard  " in out
        assert shows_no_password(out), meter
    for kept in (here.folder / "state").iterdir():
        if kept.is_file():
            assert not any(password.encode() in kept.read_bytes() for password in PASSWORDS.values()), kept


@contextmanager
def other_content(path: Path, text: str) -> Iterator[None]:
    """As if the file had been changed, and was put right again."""
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


def test_where_no_evidence_is_it_says_so(here: AtSite) -> None:
    done = here.run("evidence", "MOD-1", "2020-01-01")
    assert done.returncode == 1
    assert "nothing is kept of meter MOD-1 and Gas Day 2020-01-01" in done.stderr or "there is no evidence" in done.stderr
