"""The update of a machine's version: real virtual environments; stand-ins for the program, and for systemd, which starts it."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import patient

SCRIPT = Path(__file__).parents[2] / "deploy" / "update.sh"
UNIT = "dailyread-collect"
# The program: what it does is in its version, which its wheel was made with.
PROGRAM = """
import os, sys, time
from pathlib import Path

HOW = {how!r}
state = Path(os.environ["STATE"])
if sys.argv[1] == "check":
    sys.exit(2 if HOW == "refuses" else 0)
if HOW == "ends":
    sys.exit(1)
(state / "runs").write_text({version!r})
(state / "ready").touch()
if HOW == "ends later":
    time.sleep(0.1)
    sys.exit(1)
time.sleep(600)
"""
# systemd: `restart` comes back when the service is ready, or has ended. Nothing is started again here, but of the version
# $FLAPS every look says that it was, once more.
SYSTEMCTL = """#!/bin/sh
pid=$STATE/pid
lives() { grep -q '^State:.[^Z]' "/proc/$(cat "$pid")/status" 2>/dev/null; }
case $1 in
restart)
    [ ! -e "$pid" ] || kill "$(cat "$pid")" 2>/dev/null
    rm -f "$STATE/ready" "$STATE/runs"
    "$DAILYREAD_HOME/bin/dailyread" collect 9>&- >/dev/null 2>&1 &
    echo $! >"$pid"
    while [ ! -e "$STATE/ready" ]; do
        lives || exit 1
        sleep 0.05
    done ;;
is-active) [ -e "$STATE/ready" ] && lives ;;
show)
    [ "$(cat "$STATE/runs")" != "$FLAPS" ] || echo >>"$STATE/restarts"
    wc -l <"$STATE/restarts" ;;
esac
"""
QUICK_VENV = '#!/bin/sh\nexec {python} -m venv --system-site-packages --without-pip "$3"\n'


class Machine:
    """A machine in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.versions = folder, folder / "dailyread", folder / "dailyread-versions"
        self.state = folder / "state"
        (folder / "bin").mkdir()
        self.state.mkdir()
        (self.state / "restarts").touch()
        self._program("systemctl", SYSTEMCTL)
        python = self._program("quick-venv", QUICK_VENV.format(python=sys.executable))
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "STATE": str(self.state), "DAILYREAD_HOME": str(self.home),
            "SETTLE_S": "0.5", "FLAPS": "", "PYTHON": str(python), "PIP_NO_INDEX": "1", "PIP_ROOT_USER_ACTION": "ignore",
        }  # fmt: skip

    def _program(self, name: str, text: str) -> Path:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def has(self, version: str) -> None:
        """This version runs already; it was not installed by pip, which takes its time."""
        program = self.versions / "first" / "bin" / "dailyread"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!{sys.executable}\n{PROGRAM.format(how='runs', version=version)}")
        program.chmod(0o755)
        self.home.symlink_to(self.versions / "first")
        subprocess.run([str(self.folder / "bin" / "systemctl"), "restart", UNIT], env=self.environment, check=True)

    def start_update(self, package: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(SCRIPT), str(package), UNIT], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def update(self, package: Path) -> tuple[int, str]:
        """Exit code, and what it says last to who looks after it."""
        process = self.start_update(package)
        out, err = process.communicate(timeout=patient(60))
        return process.returncode, (out + err).strip().splitlines()[-1]

    def runs(self) -> str:
        """The version that runs now; empty: none."""
        pid = int((self.state / "pid").read_text())
        alive = Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
        return (self.state / "runs").read_text() if alive else ""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    if (pid := made.state / "pid").exists() and made.runs():
        os.kill(int(pid.read_text()), signal.SIGKILL)


def wheel(folder: Path, version: str, how: str = "runs") -> Path:
    """A wheel of the stand-in."""
    path = folder / f"dailyread-{version}-py3-none-any.whl"
    info = f"dailyread-{version}.dist-info"
    files = {
        "standin.py": f"def main() -> None:\n    exec({PROGRAM.format(how=how, version=version)!r})\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: dailyread\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ndailyread = standin:main\n",
    }
    record = ""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text.encode())}\n"
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path


def test_a_version_that_runs_takes_the_place_of_the_one_before_which_stays_beside_it(machine: Machine) -> None:
    """The first time with a virtual environment as everybody has it, then with one that is made more quickly."""
    quick, machine.environment["PYTHON"] = machine.environment["PYTHON"], sys.executable
    for version in ("1.0", "1.1", "1.2"):
        code, said = machine.update(wheel(machine.folder, version))
        assert code == 0, said
        assert machine.runs() == version
        machine.environment["PYTHON"] = quick
    assert len(list(machine.versions.iterdir())) == 3  # of 1.1 and 1.2, and the lock
    assert machine.home.resolve().parent == machine.versions


@pytest.mark.parametrize("how", ["ends", "ends later"])
def test_a_version_that_does_not_stay_up_is_rolled_back(machine: Machine, how: str) -> None:
    machine.has("1.0")
    before = machine.home.readlink()
    machine.environment["SETTLE_S"] = "4"  # far longer than it needs to end, on a busy machine too
    code, said = machine.update(wheel(machine.folder, "1.1", how))
    assert code == 2
    assert said == f"the new version does not run; back to {before}"
    assert machine.runs() == "1.0"
    assert machine.home.readlink() == before
    assert {path.name for path in machine.versions.iterdir()} == {"first", ".lock"}


def test_a_version_that_systemd_had_to_start_again_is_rolled_back(machine: Machine) -> None:
    machine.has("1.0")
    machine.environment["FLAPS"] = "1.1"
    assert machine.update(wheel(machine.folder, "1.1"))[0] == 2
    assert machine.runs() == "1.0"


def test_a_version_that_cannot_begin_touches_nothing(machine: Machine) -> None:
    machine.has("1.0")
    pid = (machine.state / "pid").read_text()
    refuses, none = wheel(machine.folder, "1.1", "refuses"), machine.folder / "none.whl"
    for package, said in ((refuses, "the new version does not take "), (none, f"{none} could not be installed")):
        code, told = machine.update(package)
        assert code == 1
        assert told.startswith(f"nothing was changed: {said}")
        assert (machine.runs(), (machine.state / "pid").read_text()) == ("1.0", pid)  # not even started again
        assert {path.name for path in machine.versions.iterdir()} == {"first", ".lock"}


def test_who_is_told_to_stop_while_it_waits_goes_back(machine: Machine) -> None:
    machine.has("1.0")
    machine.environment["SETTLE_S"] = "2"
    process = machine.start_update(wheel(machine.folder, "1.1"))
    wait_for_version(machine, "1.1")
    process.terminate()
    assert process.wait(patient(60)) == 2
    assert machine.runs() == "1.0"


def test_a_first_version_that_does_not_run_has_nothing_to_go_back_to(machine: Machine) -> None:
    assert machine.update(wheel(machine.folder, "1.0", "ends")) == (3, "there is no version of before")


def test_a_folder_in_the_place_of_the_link_is_refused(machine: Machine) -> None:
    machine.home.mkdir()
    code, said = machine.update(wheel(machine.folder, "1.0"))
    assert code == 1
    assert "allowed: a link to a version" in said


def test_the_script_is_clean() -> None:
    program = shutil.which("shellcheck")
    assert program, "shellcheck is missing: install it with `apt-get install shellcheck`, or run `make services`"
    done = subprocess.run([program, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def wait_for_version(machine: Machine, version: str) -> None:
    deadline = time.monotonic() + patient(30)
    while not (machine.state / "runs").exists() or (machine.state / "runs").read_text() != version:
        assert time.monotonic() < deadline, f"{version} does not run"
        time.sleep(0.05)
