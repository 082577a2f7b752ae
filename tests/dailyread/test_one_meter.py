"""Commands for who sets meters up, as processes, on real sockets and a pseudo-terminal: read, evidence, set-interval."""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
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
from tests.collectors.small_disk import small_disk
from tests.dailyread.at_a_site import KAFKA, PASSWORDS, ROOT, AtSite, at_a_site
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
    assert " missing\n" in done.stdout
    text = here.config.read_text().replace(here.addresses["MOD-1"], "tcp://127.0.0.1:1")
    (tmp_path / "gateway.toml").write_text(text)
    command = [sys.executable, "-m", "dailyread", "read", "MOD-1", "--config", str(tmp_path / "gateway.toml")]
    done = subprocess.run(command, cwd=ROOT, env=here.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "No readings after 1 attempt: no connection: Connection refused" in done.stdout
    assert "Nothing was heard. Look at address, device 1. What does answer there:" in done.stdout
    assert done.stdout.endswith("\ndailyread probe tcp://127.0.0.1:1\n")


def test_read_fits_a_terminal_of_80_columns(here: AtSite) -> None:
    for meter in METERS:
        done = here.run("read", meter, "--day", str(last_day()), environment={"COLUMNS": "80"})
        assert done.returncode == 0
        assert max(map(len, done.stdout.splitlines()[1:])) <= 80
        assert "None" not in done.stdout


def test_read_shows_no_column_of_which_nothing_is_known(here: AtSite) -> None:
    heads = [next(line for line in here.run("read", meter).stdout.splitlines() if line.startswith("at ")) for meter in METERS]
    assert [head.split() for head in heads] == [["at", "index", "unconverted"], *2 * [["at", "index", "m³", "unconverted"]]]


def test_a_day_that_has_not_begun_is_refused(here: AtSite) -> None:
    done = here.run("read", "MOD-1", "--day", str(last_day() + timedelta(days=3)))
    assert done.returncode == 2
    assert f"which has not begun; allowed: {last_day() + timedelta(days=1)} (that runs), or before" in done.stderr


def test_a_meter_that_refuses_says_where_to_look(here: AtSite) -> None:
    with other_content(here.folder / "site-3.password", "another"):
        done = here.run("read", "IEC-1")
    assert done.returncode == 1
    assert "No readings after 1 attempt: password: refused: ER02\nSomething answers. Look at the map" in done.stdout


def test_what_pushes_is_not_asked(here: AtSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = '[[mqtt.loggers]]\nlogger = "L-1"\nmeter_point = "MP-8"\nmeter = "PULSE-1"\n'
    pushing = '[[dlms_push.meters]]\nmeter_point = "MP-9"\nmeter = "DLM-9"\nsender = "DRY9"\nmap = "hourly_push"\n'
    path = tmp_path / "gateway.toml"
    broker = f'[mqtt]\nbroker = "localhost:1883"\n{logger}[dlms_push]\nlisten = "127.0.0.1:4059"\n{pushing}'
    path.write_text(f'gateway = "g"\nstate_dir = "state"\n{KAFKA}{broker}')
    for name in ("L-1", "PULSE-1", "MP-9"):
        with pytest.raises(SystemExit) as ended:
            main(["read", name, "--config", str(path)])
        assert ended.value.code == 2
        assert "which pushes its readings and is not asked" in capsys.readouterr().err
    assert main(["check", str(path)]) == 0
    told = capsys.readouterr().out
    assert "MP-8  PULSE-1  pushed by logger L-1 through localhost:1883" in told
    assert "MP-9  DLM-9  pushes as DRY9 to 127.0.0.1:4059, map hourly_push" in told


def test_once_says_what_came_and_status_that_the_disk_is_full(tmp_path: Path) -> None:
    """What is on a full disk nobody can write down, so the status looks at the disk."""
    with at_a_site(tmp_path, ("modbus_tcp",)) as served, small_disk(tmp_path / "disk", 8) as disk:
        state = {"DAILYREAD_STATE_DIR": str(disk / "state")}
        once = [sys.executable, "-m", "dailyread", "collect", "--once", "--config", str(served.config)]
        with subprocess.Popen(
            once, cwd=ROOT, env=served.environment() | state, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as collect:
            assert collect.stdout is not None
            assert collect.stdout.readline().startswith("1 of 1 meters answered: 2")
            collect.terminate()
        with suppress(OSError), (disk / "other").open("wb", buffering=0) as other:
            while other.write(bytes(65536)):
                pass
        full = served.run("status", environment=state | {"COLUMNS": "200"})
    assert full.returncode == 1
    assert "KiB are free on this disk; where it is full, collecting stops" in full.stdout


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
    assert "asked for every 3600 s: set `interval_s = 360` of this meter" in done.stdout
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


def test_where_no_evidence_is_it_says_so(here: AtSite, capsys: pytest.CaptureFixture[str]) -> None:
    done = here.run("evidence", "MOD-1", "2020-01-01")
    assert done.returncode == 1
    assert "nothing is kept of meter MOD-1 and Gas Day 2020-01-01" in done.stderr or "no poll has brought" in done.stderr
    path = here.folder / "elsewhere.toml"
    path.write_text(here.config.read_text().replace('state_dir = "state"', 'state_dir = "other"'))
    assert main(["evidence", "MOD-1", "2020-01-01", "--config", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"dailyread evidence: there is no {here.folder}/other/evidence.sqlite; no poll has brought readings here yet\n"
    )
