"""Group commit: what goes together, what never does, and that everybody gets an answer."""

import asyncio

import pytest

from farebox.core.errors import AppendBusy, AppendRefused, AppendUnknown, BadFact
from farebox.log.memory import Fate
from farebox.log.port import Entry
from farebox.runtime import committer as module
from farebox.runtime.committer import Committer


def subject(number, task="t"):
    return f"farebox.log.client.submitted.-.c.{task}{number}"


async def test_a_single_decision_goes_at_once(tape, fenced):
    committer = Committer(tape.log())
    assert await committer.append([fenced(subject(1))], ("c", "t1")) == (1,)
    assert tape.fates.appends == [("submitted",)]


async def test_fifteen_go_as_singles_and_sixteen_as_one_batch_under_always(tape, fenced):
    committer = Committer(tape.log(), "always")
    await asyncio.gather(*(committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(15)))
    assert len(tape.fates.appends) == 15
    await asyncio.gather(*(committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(15, 31)))
    assert len(tape.fates.appends) == 16
    assert len(tape.fates.appends[-1]) == 16


async def test_under_100ms_thirty_one_go_as_singles_and_thirty_two_as_one_batch(tape, fenced):
    committer = Committer(tape.log(), "100ms")
    seqs = await asyncio.gather(*(committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(31)))
    assert sorted(seqs) == [(n,) for n in range(1, 32)]
    assert all(len(tokens) == 1 for tokens in tape.fates.appends)
    await asyncio.gather(*(committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(31, 63)))
    assert len(tape.fates.appends[-1]) == 32


async def test_no_batch_holds_more_than_the_server_takes(tape, fenced):
    committer = Committer(tape.log())
    await asyncio.gather(*(committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(2500)))
    assert max(map(len, tape.fates.appends)) == 1000
    assert len(tape.store.facts) == 2500


async def test_a_batch_holds_one_decision_of_a_task_only(tape):
    committer = Committer(tape.log())
    entries = [Entry(subject(n % 20), b"{}") for n in range(40)]
    await asyncio.gather(*(committer.append([entry], ("c", entry.subject)) for entry in entries))
    for batch in _batches(tape):
        assert len(set(batch)) == len(batch)


def _batches(tape):
    start, batches = 0, []
    for tokens in tape.fates.appends:
        batches.append([fact.subject for fact in tape.store.facts[start : start + len(tokens)]])
        start += len(tokens)
    return batches


async def test_a_decision_of_several_facts_stays_whole_and_apart(tape, fenced):
    committer = Committer(tape.log())
    pair = [fenced(subject(100)), fenced(subject(101))]
    others = [committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(20)]
    assert len(await committer.append(pair, ("c", "t100"))) == 2
    await asyncio.gather(*others)
    assert ("submitted", "submitted") in tape.fates.appends


async def test_one_refused_member_does_not_hold_up_its_batch(tape, fenced):
    tape.store.append([fenced(subject(7))])
    committer = Committer(tape.log())
    futures = [committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(20)]
    done = await asyncio.gather(*futures, return_exceptions=True)
    assert [n for n, one in enumerate(done) if isinstance(one, AppendRefused)] == [7]
    assert done[7].last_seq == 1
    assert len(tape.store.facts) == 20


async def test_one_fact_that_cannot_be_stored_does_not_hold_up_its_batch(tape, fenced):
    committer = Committer(tape.log())
    bodies = [b"x" * (2_000_000 if n == 3 else 2) for n in range(20)]
    futures = [committer.append([fenced(subject(n), body)], ("c", f"t{n}")) for n, body in enumerate(bodies)]
    done = await asyncio.gather(*futures, return_exceptions=True)
    assert [n for n, one in enumerate(done) if isinstance(one, BadFact)] == [3]
    assert len(tape.store.facts) == 19


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.ANSWER_LOST])
async def test_an_unknown_batch_is_unknown_to_each_member_and_never_repeated(tape, fenced, fate):
    tape.fates.of["submitted"] = [fate]
    committer = Committer(tape.log())
    done = await asyncio.gather(
        *(committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(20)), return_exceptions=True
    )
    assert all(isinstance(one, AppendUnknown) for one in done)
    assert len(tape.fates.appends) == 1


async def test_what_a_cluster_calls_too_early_is_tried_again(tape, fenced):
    tape.fates.of["submitted"] = [Fate.BUSY, Fate.BUSY]
    assert await Committer(tape.log()).append([fenced(subject(1))], ("c", "t1")) == (1,)
    tape.fates.of["submitted"] = [Fate.BUSY]
    committer = Committer(tape.log())
    await asyncio.gather(*(committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(2, 22)))
    assert len(tape.store.facts) == 21


async def test_what_stays_too_early_is_given_up_in_the_end(tape, fenced, monkeypatch):
    monkeypatch.setattr(module, "BUSY_TRIES", 3)
    tape.fates.of["submitted"] = [Fate.BUSY] * 9
    with pytest.raises(AppendBusy):
        await Committer(tape.log()).append([fenced(subject(1))], ("c", "t1"))
    assert len(tape.fates.appends) == 3


async def test_who_was_cancelled_gets_no_answer_and_harms_nobody(tape, fenced):
    tape.fates.of["submitted"] = [Fate.LOST]
    committer = Committer(tape.log())
    lost, stored = (committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in (1, 2))
    lost.cancel()
    stored.cancel()
    await committer.close()
    assert [fact.subject for fact in tape.store.facts] == [subject(2)]


async def test_closing_waits_for_what_is_on_its_way(tape, fenced):
    committer = Committer(tape.log())
    futures = [committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(300)]
    await committer.close()
    assert all(future.done() for future in futures)
    assert len(tape.store.facts) == 300


async def test_closing_over_a_log_that_is_away_ends_and_says_unknown(tape, fenced):
    tape.fates.of["submitted"] = [Fate.BUSY] * 1000
    committer = Committer(tape.log())
    futures = [committer.append([fenced(subject(n))], ("c", f"t{n}")) for n in range(40)]
    await committer.close(deadline_s=0.05)
    done = await asyncio.gather(*futures, return_exceptions=True)
    assert all(isinstance(one, AppendUnknown) for one in done)
