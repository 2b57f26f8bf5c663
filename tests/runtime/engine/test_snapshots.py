"""Snapshots: taken where all fits, folded anew where anything differs."""

import msgspec
import pytest

from farebox.core import events
from farebox.core.trail import Mark
from farebox.engines import actors
from farebox.log.port import Position
from farebox.runtime import snapshots

BY_NAME = {actor.name: actor for actor in actors()}
HERE = Position(created="2026-11-21T10:00:00Z", first_seq=1, last_seq=100)
MARK = Mark(HERE.created, 42, "f42", "11" * 32, "22" * 32)


@pytest.fixture
def quota():
    return BY_NAME["quota"]


@pytest.fixture
def state(quota):
    found = quota.new()
    for number in range(3):
        routed = events.TaskRouted(id=f"r{number}", chain="c1", task=f"t{number}", attempt=1, seq=number + 1)
        found = quota.evolve(found, routed)
    return found


def test_a_state_comes_back_as_it_was(tmp_path, quota, state):
    snapshots.save(tmp_path / "snapshots", quota, state, MARK)
    assert snapshots.load(tmp_path / "snapshots", quota, HERE) == (state, MARK)


@pytest.mark.parametrize("name", ["router", "cost", "aggregator"])
def test_every_actor_has_a_state_that_can_be_kept(tmp_path, name):
    actor = BY_NAME[name]
    snapshots.save(tmp_path, actor, actor.new(), MARK)
    assert snapshots.load(tmp_path, actor, HERE) == (actor.new(), MARK)


def test_without_a_snapshot_everything_is_folded(tmp_path, quota):
    assert snapshots.load(tmp_path / "nowhere", quota, HERE) == (quota.new(), Mark())


@pytest.mark.parametrize(
    "position", [msgspec.structs.replace(HERE, created="another"), msgspec.structs.replace(HERE, last_seq=41)]
)
def test_a_snapshot_of_another_log_or_of_a_lost_tail_is_not_believed(tmp_path, quota, state, position):
    snapshots.save(tmp_path, quota, state, MARK)
    assert snapshots.load(tmp_path, quota, position) == (quota.new(), Mark())


def test_a_snapshot_of_other_code_is_not_believed(tmp_path, quota, state):
    import dataclasses

    snapshots.save(tmp_path, quota, state, MARK)
    newer = dataclasses.replace(quota, version=quota.version + 1)
    assert snapshots.load(tmp_path, newer, HERE) == (quota.new(), Mark())


@pytest.mark.parametrize("place", range(0, 200, 9))
def test_a_flipped_bit_is_not_believed(tmp_path, quota, state, place):
    snapshots.save(tmp_path, quota, state, MARK)
    path = tmp_path / "quota.json"
    body = bytearray(path.read_bytes())
    body[place % len(body)] ^= 0x80
    path.write_bytes(body)
    assert snapshots.load(tmp_path, quota, HERE) == (quota.new(), Mark())


def test_a_body_of_another_form_is_not_believed(tmp_path, quota):
    body = b'{"holds": 7}'
    head = snapshots.Head("quota", quota.version, MARK, snapshots._checksum(MARK, body))
    (tmp_path / "quota.json").write_bytes(msgspec.json.encode(head) + b"\n" + body)
    assert snapshots.load(tmp_path, quota, HERE) == (quota.new(), Mark())
