"""The folder of one engine: one owner, private files, whole writes."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from farebox.core.errors import BadSettings, LogFull, LogUnfit, StoreInUse
from farebox.log.seeds import is_seed
from farebox.runtime.store import EngineRecord, Process, ServerRecord, Store, refusal, resolve

HOLD = """
import sys
from pathlib import Path
from farebox.runtime.store import EngineRecord, Process, Store
store = Store(Path(sys.argv[1])); store.open()
import os
me = Process.of(os.getpid())
store.write("engine.json", EngineRecord(pid=me.pid, born_s=me.born_s, url="nats://x", credentials="c", started_ms=1))
print("open", flush=True); sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    store.open()
    yield store
    store.close()


@pytest.fixture
def holder(tmp_path):
    """Another process that owns the store."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "held")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"open\n"
    yield process
    process.kill()
    process.communicate()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_argument_comes_before_the_environment_and_both_before_the_usual_place(tmp_path):
    assert resolve(tmp_path, {"FAREBOX_HOME": "/elsewhere"}) == tmp_path
    assert resolve(None, {"FAREBOX_HOME": str(tmp_path)}) == tmp_path
    assert resolve(None, {"FAREBOX_HOME": "~/x"}) == Path.home() / "x"
    assert resolve("relative").is_absolute()
    assert resolve(None, {}).name == "farebox"


def test_folders_are_private_and_files_too(store):
    for folder in ("", "nats", "views", "spool", "snapshots"):
        assert mode(store.path / folder) == 0o700
    store.key()
    store.seeds(["client"])
    for name in ("lock", "key", "users.json"):
        assert mode(store.path / name) == 0o600


@pytest.mark.fault(59)
def test_two_engines_never_own_one_store(store):
    with pytest.raises(StoreInUse, match=f"in use by process {os.getpid()} since 20") as caught:
        Store(store.path).open()
    assert (caught.value.code, caught.value.exit_code) == ("FB104", 3)
    assert "farebox down" in caught.value.hint


def test_a_closed_store_can_be_opened_again(store):
    store.close()
    store.close()
    other = Store(store.path)
    other.open()
    other.close()


@pytest.mark.fault(59)
def test_another_process_is_named_and_its_death_frees_the_store(holder, tmp_path):
    store = Store(tmp_path / "held")
    with pytest.raises(StoreInUse, match=f"process {holder.pid} since"):
        store.open()
    assert store.engine().pid == holder.pid
    holder.kill()
    holder.wait()
    assert store.engine() is None, "what a crashed engine left behind does not count"
    store.open()
    store.close()


def test_a_lock_that_says_nothing_still_locks(store):
    (store.path / "lock").write_bytes(b"")
    with pytest.raises(StoreInUse, match="by another engine"):
        Store(store.path).open()


def test_a_folder_that_others_may_write_to_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(BadSettings, match="chmod 700"):
        Store(tmp_path).open()


def test_the_key_is_drawn_once_and_a_damaged_one_is_refused(store):
    key = store.key()
    assert len(key) == 32
    assert Store(store.path).key() == key
    store.write("key", b"short")
    with pytest.raises(LogUnfit, match="holds 5 bytes instead of 32"):
        store.key()


def test_seeds_stay_when_users_come(store):
    first = store.seeds(["client", "engine"])
    both = store.seeds(["client", "adapter-x"])
    assert {name: both[name] for name in first} == first
    assert len(set(both.values())) == 3
    assert all(is_seed(seed) for seed in both.values())


def test_passwords_of_an_older_farebox_are_replaced_by_seeds(store):
    store.write("users.json", b'{"client": "a-password-of-old", "gone": "another"}')
    found = store.seeds(["client"])
    assert is_seed(found["client"])
    assert store.read("users.json", dict[str, str]) == found == {"client": found["client"]}
    assert mode(store.path / "users.json") == 0o600


def test_records_come_back_as_they_were_written(store):
    record = EngineRecord(pid=1, born_s=2.5, url="nats://h:1", credentials="/c", started_ms=3)
    assert mode(store.write("engine.json", record)) == 0o600
    assert store.read("engine.json", EngineRecord) == record
    assert store.engine() is None
    assert store.read("server.json", ServerRecord) is None
    store.remove("engine.json")
    store.remove("engine.json")
    assert store.read("engine.json", EngineRecord) is None


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(store):
    store.write("engine.json", b"{}")
    (store.path / "folder").mkdir()
    (store.path / "folder" / "full").touch()
    with pytest.raises(LogUnfit, match="folder is not usable"):
        store.write("folder", b"x")
    assert (store.path / "engine.json").read_bytes() == b"{}"
    assert not list(store.path.glob(".*"))


def test_a_file_that_does_not_read_is_named(store):
    store.write("engine.json", b"{")
    with pytest.raises(LogUnfit, match=r"engine\.json does not read"):
        store.engine()


def test_a_place_that_is_no_folder_gives_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LogUnfit, match="file is not usable: File exists"):
        Store(tmp_path / "file").open()
    with pytest.raises(LogUnfit, match="not usable: Not a directory"):
        Store(tmp_path / "file" / "below").open()


def test_a_lock_that_cannot_be_made_gives_one_line(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "lock").symlink_to("/dev/null")
    with pytest.raises(LogUnfit, match="symbolic links"):
        Store(tmp_path).open()


def test_a_full_disk_is_called_so():
    error = refusal(Path("/store"), OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(error, LogFull)
    assert "No space left for /store" in str(error)


def test_a_process_is_known_by_its_number_and_its_birth():
    me = Process.of(os.getpid())
    assert me.runs()
    assert not Process(pid=me.pid, born_s=me.born_s - 1).runs()
    assert not Process(pid=2**22 + 1, born_s=me.born_s).runs()
    with pytest.raises(ProcessLookupError):
        Process.of(2**22 + 1)


def test_the_room_left_is_known(store):
    assert store.free_bytes() > 0
    with pytest.raises(LogUnfit, match="No such file"):
        Store(store.path / "gone").free_bytes()


def test_a_zombie_does_not_run():
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    child = Process.of(process.pid)
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not child.runs()
    process.wait()
