import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.datadir import AlreadyRunningError, DataDir, DataDirError, Running, read_running

HOLD = """
import sys, time
from pathlib import Path
from gateway.datadir import DataDir
with DataDir(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def hold(path: Path) -> "subprocess.Popen[str]":
    """Hold the lock of a data directory in another process, until its standard input ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    return holder


def test_the_directory_is_found_by_option_then_environment_then_the_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ = {"OBSHUB_DATA_DIR": "/srv/hub"}
    assert DataDir.resolve(Path("/a"), environ).path == Path("/a")
    assert DataDir.resolve(None, environ).path == Path("/srv/hub")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert DataDir.resolve(None, {}).path == tmp_path / "obs-hub"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a place of the system")
def test_roots_is_a_place_of_the_system_unless_it_has_data_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("gateway.datadir.SYSTEM_PATH", tmp_path / "system")
    assert DataDir.resolve(None, {}).path == tmp_path / "system"
    earlier = tmp_path / ".local/state/obs-hub"
    earlier.mkdir(parents=True)
    assert DataDir.resolve(None, {}).path == earlier
    (tmp_path / "system").mkdir()
    assert DataDir.resolve(None, {}).path == tmp_path / "system"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may use what is another's")
def test_root_does_not_write_among_the_files_of_the_units_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.chown(tmp_path, 4321, 4321)
    monkeypatch.setattr("gateway.datadir.SYSTEM_PATH", tmp_path)
    with (
        pytest.raises(DataDirError, match=r"belongs to another user \(uid 4321\).*sudo -u '#4321'"),
        DataDir(tmp_path).locked(),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    directory = DataDir(tmp_path / "deep" / "hub")
    directory.create()
    directory.create()
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700


def test_a_second_hub_is_told_who_holds_the_directory_and_what_to_do(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        with pytest.raises(AlreadyRunningError) as caught, DataDir(tmp_path).locked():
            pass
        holder.communicate()
    assert caught.value.pid == holder.pid
    assert f"pid {holder.pid}" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "--data-dir" in str(caught.value)
    with DataDir(tmp_path).locked():
        assert DataDir(tmp_path).lock_file.read_text() == f"{os.getpid()}\n"


def test_the_lock_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with DataDir(tmp_path).locked():
        pass


def test_a_child_of_the_hub_does_not_keep_the_lock(tmp_path: Path) -> None:
    with DataDir(tmp_path).locked():
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with DataDir(tmp_path).locked():
        child.communicate(b"\n")


def test_the_running_hub_is_found_while_it_runs_and_not_after(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    running = Running(os.getpid(), "postgresql://u:secret@/x", {"otlp grpc": "127.0.0.1:4317"})
    assert read_running(directory) is None
    with directory.locked():
        assert read_running(directory) is None  # it is still starting
        directory.record(running)
        assert read_running(directory) == running
        assert stat.S_IMODE(directory.state_file.stat().st_mode) == 0o600
    assert read_running(directory) is None
    directory.record(running)  # as a killed hub leaves it
    assert read_running(directory) is None
    with directory.locked():
        assert read_running(directory) is None


def test_looking_for_a_hub_makes_nothing(tmp_path: Path) -> None:
    assert read_running(DataDir(tmp_path / "none")) is None
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_or_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match=r"file/hub cannot be used: .*choose another with --data-dir"):
        DataDir(tmp_path / "file" / "hub").create()
    # A directory in which not even root may make a file.
    with pytest.raises(DataDirError, match="cannot be used"), DataDir(Path("/proc/self")).locked():
        pass
