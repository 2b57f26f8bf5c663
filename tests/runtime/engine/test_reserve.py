"""Room for answers: promised before the call, so that many calls at once cannot all count on the same last bytes."""

import errno
import os
import sys

import pytest

from farebox.runtime import reserve as module
from farebox.runtime.reserve import PROMISE_BYTES, SPARE_BYTES, STEP_BYTES, Reserve

MIB = 1024 * 1024


class Disk:
    """A disk whose free space is known. `can`: its file system can allocate."""

    def __init__(self, free, *, can=True):
        self.free = free
        self.can = can
        self.allocated = []

    def free_bytes(self):
        return self.free

    def allocate(self, _file, offset, length):
        if not self.can:
            return False
        if length > self.free:
            raise OSError(errno.ENOSPC, "full")
        self.free -= length
        self.allocated.append((offset, length))
        return True

    def write(self, reserve, count, promise=None):
        """Write as the spool does; where nothing was allocated, the bytes come from what is free."""
        reserve.take(count, promise)
        if not self.can:
            self.free -= count


@pytest.fixture
def reserve_on():
    def make(disk, **options):
        found = Reserve(disk.free_bytes, disk.allocate, **options)
        found.begin(3, 0)
        return found

    return make


@pytest.mark.parametrize("can", [True, False], ids=["allocated", "counted"])
@pytest.mark.fault(17)
def test_no_two_calls_are_promised_the_same_last_bytes_and_each_promised_answer_finds_its_room(reserve_on, can):
    disk = Disk(SPARE_BYTES + 3 * PROMISE_BYTES + PROMISE_BYTES // 2, can=can)
    reserve = reserve_on(disk)
    promises = [reserve.promise() for _ in range(5)]
    assert [promise is not None for promise in promises] == [True, True, True, False, False]
    assert not reserve.fits()
    for promise in promises[:3]:
        disk.write(reserve, 200, promise)  # the mark
        disk.write(reserve, PROMISE_BYTES - 200, promise)
    assert disk.free >= SPARE_BYTES


@pytest.mark.parametrize("can", [True, False], ids=["allocated", "counted"])
def test_what_was_promised_to_others_is_never_written_over(reserve_on, can):
    disk = Disk(SPARE_BYTES + 2 * PROMISE_BYTES, can=can)
    reserve = reserve_on(disk)
    one, other = reserve.promise(), reserve.promise()
    if not can:
        disk.free = 2 * PROMISE_BYTES  # another program took the rest
    else:
        disk.free = 0
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        disk.write(reserve, PROMISE_BYTES + 1, one)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match=r"\[Errno"):
        disk.write(reserve, 1)
    disk.write(reserve, PROMISE_BYTES, other)
    disk.write(reserve, PROMISE_BYTES, one)


def test_room_that_is_given_back_goes_to_who_waits_for_it(reserve_on):
    heard = []
    disk = Disk(SPARE_BYTES + PROMISE_BYTES)
    reserve = reserve_on(disk, on_given=lambda: heard.append(reserve.fits()))
    first = reserve.promise()
    assert reserve.promise() is None
    first.give_back()
    first.give_back()
    assert heard == [True, True]
    assert reserve.promise() is not None
    assert reserve.promise() is None


def test_somebody_who_is_faster_than_a_look_takes_no_promise_with_him(reserve_on):
    disk = Disk(100 * MIB)
    reserve = reserve_on(disk)

    def stolen(*_):
        raise OSError(errno.ENOSPC, "full")

    reserve._allocate = stolen
    assert reserve.promise() is None
    reserve._allocate = disk.allocate
    assert reserve.promise() is not None


def test_where_there_is_plenty_room_is_allocated_rarely_and_given_back_when_nobody_needs_it(reserve_on, tmp_path):
    disk = Disk(1000 * MIB)
    reserve = reserve_on(disk)
    promises = [reserve.promise() for _ in range(20)]
    assert len(disk.allocated) == 2
    with (tmp_path / "journal").open("wb") as file:
        file.write(b"x" * 10)
        file.flush()
        reserve.begin(file.fileno(), 10)
        reserve.shrink()
        assert disk.allocated[-1][0] == 10
        for promise in promises:
            promise.give_back()
        before = len(disk.allocated)
        reserve.shrink()
        reserve.shrink()
        assert os.fstat(file.fileno()).st_size == 10
        assert reserve.promise() is not None
        assert len(disk.allocated) == before + 1, "what was given back is allocated again"
    assert disk.allocated[-1] == (10, PROMISE_BYTES + STEP_BYTES)


def test_a_new_journal_that_finds_no_room_for_the_promises_leaves_them_where_they_are(reserve_on):
    disk = Disk(SPARE_BYTES + 2 * PROMISE_BYTES)
    reserve = reserve_on(disk)
    promise = reserve.promise()
    disk.free = 0
    with pytest.raises(OSError, match="full"):
        reserve.begin(4, 100)
    disk.write(reserve, PROMISE_BYTES, promise)


def test_after_a_write_that_failed_the_room_is_counted_from_where_the_data_ends(reserve_on):
    disk = Disk(SPARE_BYTES + PROMISE_BYTES)
    reserve = reserve_on(disk)
    promise = reserve.promise()
    disk.write(reserve, 1000, promise)
    reserve.written_to(0)
    disk.free = 0
    disk.write(reserve, PROMISE_BYTES - 1000, promise)


def test_a_disk_that_cannot_be_asked_promises_and_writing_tells():
    reserve = Reserve(lambda: None, lambda *_: False)
    reserve.begin(3, 0)
    promise = reserve.promise()
    assert reserve.fits()
    reserve.take(100, promise)


@pytest.mark.skipif(sys.platform != "linux", reason="fallocate")
def test_linux_allocates_behind_the_end_and_leaves_the_size(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.write(b"data")
        file.flush()
        done = module.allocated(file.fileno(), 4, 4 * MIB)
        seen = os.fstat(file.fileno())
        assert seen.st_size == 4
        assert not done or seen.st_blocks * 512 >= 4 * MIB
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        module.allocated(-1, 0, 1)
    assert caught.value.errno == errno.EBADF


def test_elsewhere_nothing_is_allocated(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert module.allocated(-1, 0, 1) is False


def test_a_file_system_that_cannot_allocate_is_counted(monkeypatch):
    class Cannot:
        @staticmethod
        def fallocate64(*_):
            module.ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    monkeypatch.setattr(module, "_libc", Cannot)
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert module.allocated(3, 0, 1) is False
