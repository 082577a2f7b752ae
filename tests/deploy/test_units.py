"""The systemd units: systemd itself finds no mistake in them, they are shut in, and their settings are ours."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dailyread.cli import COMMANDS
from dailyread.config import KINDS
from dailyread.sdnotify import BEAT_S
from dailyread.settings import settings, variable

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
NAMES = ("dailyread-collect.service", "dailyread-stream@.service", "dailyread-store.service", "dailyread-provide.service")
DROP_INS = ("kafka-password.conf", "meter-passwords.conf")
INSTALLED = "/opt/dailyread/bin/dailyread"
every_unit = pytest.mark.parametrize("name", NAMES)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs systemd-analyze; it needs no running systemd."""
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is missing: install it with `apt-get install systemd`, or run `make services`"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a machine where the program is where they say, with the drop-ins for passwords in each."""
    for name in NAMES:
        unit = (UNITS / name).read_text().replace(INSTALLED, str(Path(sys.executable).with_name("dailyread")))
        target = tmp_path / name.replace("@.", "@1.")
        target.write_text(unit)
        folder = Path(f"{target}.d")
        folder.mkdir()
        for drop_in in DROP_INS:
            shutil.copy(UNITS / drop_in, folder)
    return tmp_path


def sections(name: str) -> configparser.RawConfigParser:
    """The unit; of a key that stands several times the last."""
    parser = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#", interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / name)
    return parser


def test_no_unit_is_left_out() -> None:
    assert {path.name for path in UNITS.iterdir()} == {*NAMES, *DROP_INS}


@every_unit
def test_systemd_finds_no_mistake(installed: Path, name: str) -> None:
    done = analyze("verify", "--man=no", installed / name.replace("@.", "@1."))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_would_find_a_mistake(installed: Path) -> None:
    unit = installed / NAMES[0]
    unit.write_text(unit.read_text().replace("Restart=always", "Restart=sometimes"))
    assert "sometimes" in analyze("verify", "--man=no", unit).stderr


@every_unit
def test_unit_is_shut_in(installed: Path, name: str) -> None:
    done = analyze("security", "--offline=true", "--threshold=20", installed / name.replace("@.", "@1."))
    assert done.returncode == 0, done.stdout  # exposure up to 2.0 of 10


def test_the_gateway_may_ask_whether_the_clock_is_synchronised(installed: Path) -> None:
    """What it may not ask it takes for not so; and it has no capability to set the clock by the same calls."""
    unit = installed / "dailyread-collect.service"
    done = analyze("security", "--offline=true", "--json=short", unit)
    allowed = [each["set"] for each in json.loads(done.stdout) if each["json_field"].startswith("ProtectClock")]
    assert allowed == [False], done.stdout
    service = unit.read_text()
    assert "\nCapabilityBoundingSet=\n" in service
    *_, last = re.findall(r"^SystemCallFilter=(.*)$", service, re.MULTILINE)
    assert last.split() == ["adjtimex", "clock_adjtime"]


@every_unit
def test_unit_starts_a_command_of_ours_and_starts_it_again(name: str) -> None:
    service = sections(name)["Service"]
    program, command, option, file = service["ExecStart"].split()
    assert (program, option) == (INSTALLED, "--config")
    assert command in COMMANDS
    assert file in ("/etc/dailyread/gateway.toml", "/etc/dailyread/stream.toml")
    assert (service["Type"], service["Restart"], service["RestartPreventExitStatus"]) == ("notify", "always", "2")
    assert int(service["WatchdogSec"]) >= 6 * BEAT_S


@pytest.mark.parametrize("name", [*NAMES, *DROP_INS])
def test_every_variable_is_a_setting(name: str) -> None:
    known = {variable(path) for kind in KINDS for path, _ in settings(kind)}
    named = set(re.findall(r"\b(DAILYREAD_\w+)=", (UNITS / name).read_text()))
    assert named <= known


@pytest.mark.parametrize("name", [*NAMES, *DROP_INS])
def test_no_secret_in_the_environment(name: str) -> None:
    """systemd shows the environment of a unit to every user; credentials are files that only the service can read."""
    named = re.findall(r"\b(DAILYREAD_\w*(?:TOKEN|PASSWORD)\w*)=(\S+)", (UNITS / name).read_text())
    assert all(variable.endswith("_FILE") and value.startswith("%d/") for variable, value in named)
