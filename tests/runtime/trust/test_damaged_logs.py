"""What is damaged at rest is noticed at the next start, with a message of its own, and nothing is written before."""

from __future__ import annotations

import shutil

import pytest

from farebox import engines
from farebox.core.errors import LogBeheaded, LogChanged, LogDamaged, LogMissing, LogReplaced, LogShortened

pytestmark = pytest.mark.timeout(60)


def flip(path, place):
    body = bytearray(path.read_bytes())
    body[place] ^= 0x40
    path.write_bytes(body)


def cut(path, count):
    path.write_bytes(path.read_bytes()[:-count])


async def refused(place, kind, code, *words):
    error = await place.refusal()
    assert type(error) is kind
    assert (error.code, error.exit_code) == (code, 8)
    for word in words:
        assert word in str(error)
    return error


@pytest.mark.fault(10)
async def test_row_10_a_torn_end_after_a_kill_is_a_lost_end(place):
    cut(place.blocks[-1], 7)
    place.forget_index()
    await refused(
        place, LogShortened, "FB806", "was acknowledged", "its end is gone", "farebox log restore", "farebox log accept"
    )


@pytest.mark.fault(10)
async def test_row_10_a_torn_end_after_a_clean_stop_is_a_missing_fact(place):
    cut(place.blocks[-1], 7)
    await refused(place, LogDamaged, "FB801", "1 of the facts 1 to", "are gone")


@pytest.mark.fault(10)
async def test_row_10_a_last_block_that_is_gone_is_a_lost_end(place):
    place.blocks[-1].unlink()
    place.forget_index()
    await refused(place, LogShortened, "FB806", "its end is gone")


@pytest.mark.fault(10)
async def test_row_10_a_flipped_bit_in_the_last_block_takes_all_behind_it(place):
    flip(place.blocks[-1], 1_000_000)
    place.forget_index()
    await refused(place, LogShortened, "FB806", "its end is gone")


@pytest.mark.fault(10)
async def test_row_10_sequences_that_were_used_again_are_not_taken_for_the_old_ones(place):
    cut(place.blocks[-1], 7)
    place.forget_index()
    await place.fill(3, "again")
    await refused(place, LogChanged, "FB807", "is not the one that was acknowledged", "found again-0000", "used again")


@pytest.mark.fault(11)
async def test_row_11_a_flipped_bit_in_an_old_block_is_counted_after_a_kill(place):
    flip(place.blocks[0], 4_000_000)
    place.forget_index()
    await refused(place, LogDamaged, "FB801", "of the facts 1 to", "farebox audit verify names the first")


@pytest.mark.fault(11)
async def test_row_11_a_fact_that_only_a_reader_misses_stops_who_reads(place):
    flip(place.blocks[0], 4_000_000)
    for folder in ("views", "snapshots"):
        shutil.rmtree(place.store / folder)
    await refused(place, LogDamaged, "FB801", "After sequence", "the facts between are gone")
    with pytest.raises(LogDamaged, match="the facts between are gone"):  # farebox status asks like this
        async with engines.offline(place.store, place.config):
            pass


@pytest.mark.fault(13)
async def test_row_13_a_stream_whose_head_cannot_be_read_is_never_made_anew(place):
    head = place.stream / "meta.inf"
    whole = head.read_bytes()
    head.write_bytes(b"")
    sizes = [block.stat().st_size for block in place.blocks]
    await refused(place, LogMissing, "FB804", "its data is still in", str(place.stream), "nats.log")
    await refused(place, LogMissing, "FB804", "its data is still in")
    assert [block.stat().st_size for block in place.blocks] == sizes
    head.write_bytes(whole)
    assert len(await place.run("and on")) == 1


@pytest.mark.fault(13)
async def test_row_13_a_stream_that_is_gone_is_never_made_anew(small):
    shutil.rmtree(small.stream)
    await refused(small, LogMissing, "FB804", "is gone", "never made anew", "farebox log restore")
    with pytest.raises(LogMissing):
        async with engines.offline(small.store, small.config):
            pass
    assert not small.stream.exists()


@pytest.mark.fault(14)
async def test_row_14_a_stream_that_was_deleted_and_made_again_is_another_log(small):
    async with small.as_init() as log:
        await log._streams._api("STREAM.DELETE.FAREBOX", {})
        await log.prepare("always", ["rehearsal"])
    await refused(small, LogReplaced, "FB805", "This is another log", "this store worked with one made")


@pytest.mark.fault(15)
async def test_row_15_a_beginning_that_was_removed_by_hand_is_missed(place):
    place.blocks[0].unlink()
    await refused(place, LogBeheaded, "FB808", "but it began at 1")


@pytest.mark.fault(15)
async def test_row_15_facts_that_expired_by_hand_are_missed(small):
    async with small.as_init() as log:
        config = (await log._streams.info("FAREBOX"))["config"]
        await log._streams._api(
            "STREAM.UPDATE.FAREBOX", {**config, "max_age": 1_000_000_000, "duplicate_window": 1_000_000_000}
        )
        while (await log.position()).first_seq:
            pass
        await log._streams._api("STREAM.UPDATE.FAREBOX", {**config, "max_age": 0})
    await refused(small, LogShortened, "FB806", "its end is gone")


@pytest.mark.fault(73)
async def test_row_73_the_log_of_another_store_is_not_taken_for_ones_own(place, small):
    shutil.rmtree(place.store / "nats")
    shutil.copytree(small.store / "nats", place.store / "nats")
    await refused(place, LogReplaced, "FB805", "This is another log")


@pytest.mark.fault(73)
async def test_row_73_an_old_copy_of_the_files_is_noticed(small, tmp_path):
    old = small.copied(tmp_path / "old")
    await small.run("later")
    shutil.rmtree(small.store / "nats")
    shutil.copytree(old.store / "nats", small.store / "nats")
    await refused(small, LogShortened, "FB806", "was acknowledged")


@pytest.mark.fault(73)
async def test_row_73_an_old_copy_that_went_on_elsewhere_is_noticed(small, tmp_path):
    other = small.copied(tmp_path / "other")
    await small.run("later")
    await other.run("another way", "and longer")
    shutil.rmtree(small.store / "nats")
    shutil.copytree(other.store / "nats", small.store / "nats")
    await refused(small, LogChanged, "FB807", "is not the one that was acknowledged", "an old copy was put in its place")


async def test_without_a_witness_the_views_still_know_their_log(small, tmp_path):
    old = small.copied(tmp_path / "old")
    await small.run("later")
    (small.store / "witness").unlink()
    shutil.rmtree(small.store / "nats")
    shutil.copytree(old.store / "nats", small.store / "nats")
    await refused(small, LogShortened, "FB806", "its views hold")


async def test_views_of_another_store_are_made_anew(small, place, caplog):
    for folder in ("views", "snapshots"):
        shutil.rmtree(small.store / folder)
        shutil.copytree(place.store / folder, small.store / folder)
    assert len(await small.run("and on")) == 1
    assert "the views are another log's" in caplog.text


async def test_what_stopped_an_engine_is_told_until_one_starts_again(small):
    head = small.stream / "meta.inf"
    from farebox.runtime import founding

    founding.note_stop(small.store, LogDamaged("After sequence 3 comes 5."))
    with pytest.raises(LogDamaged, match="After sequence 3 comes 5"):
        async with engines.offline(small.store, small.config):
            pass
    await small.run("and on")
    assert head.exists()
    async with engines.offline(small.store, small.config):
        pass
