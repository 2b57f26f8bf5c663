"""A mind before a fact that its actor cannot take in: what the fact concerns stops, what is known stays, all else goes on."""

import copy
import dataclasses
from typing import get_type_hints

import msgspec
import pytest

from actors import aggregator, cost, quota, router
from farebox.core import events
from farebox.core.actor import Parked
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.runtime.mind import Mind
from farebox.runtime.stopped import Unchained

SECRET = b"secret"


def sick(actor, breaks):
    """Return an actor whose evolve does half of its work and then breaks over facts for which `breaks` says so."""

    def evolve(state, fact):
        state = actor.evolve(state, fact)
        if breaks(fact):
            raise KeyError(type(fact).__name__)
        return state

    evolve.__annotations__ = get_type_hints(actor.evolve)
    return dataclasses.replace(actor, evolve=evolve)


def plain(state):
    return msgspec.json.encode(state, order="sorted")


def settled(limit):
    plain_settings, sha256 = canonical(Settings(platforms={"p": PlatformSettings(kind="test", limit=limit, model="m")}))
    return events.SettingsAdopted(settings=plain_settings, sha256=sha256, id=f"settings-{limit}")


def about(task, kind):
    return lambda fact: isinstance(fact, kind) and fact.task == task


def test_a_task_whose_fact_cannot_be_folded_is_not_decided_about_and_the_others_are(desk):
    for name in ("a", "b"):
        desk.put("client", desk.task(name))
    mind = desk.mind(sick(router.ACTOR, about("a", events.TaskSubmitted)))
    assert [fact.task for fact in desk.all(mind)] == ["b"]
    assert {seq: (left.reason, left.heard.task) for seq, left in mind.stopped.unfolded.items()} == {
        3: ("KeyError: 'TaskSubmitted'", "a")
    }
    assert (mind.idle, mind.whole) == (True, False)
    assert mind.stopped.news == [(3, "cannot be taken in, its task stops: KeyError: 'TaskSubmitted'")]


def test_what_comes_later_of_such_a_task_is_not_answered_either(desk):
    mind = desk.mind(sick(router.ACTOR, about("a", events.TaskSubmitted)))
    desk.put("client", desk.task("a"))
    desk.put("client", events.TaskCancelRequested(chain="c", task="a"))
    desk.put("client", desk.task("b"))
    desk.read(mind)
    assert [fact.task for fact in desk.all(mind)] == ["b"]


def test_a_batch_with_an_end_that_cannot_be_folded_is_not_summed_up_and_another_is(desk):
    for batch in ("x", "y"):
        desk.put("client", events.BatchSubmitted(batch=batch, count=1, id=batch))
    mind = desk.mind(sick(aggregator.ACTOR, lambda fact: isinstance(fact, events.TaskCompleted) and fact.batch == "x"))
    for batch in ("x", "y"):
        desk.put("router", events.TaskCompleted(chain=batch, task=f"{batch}-1", batch=batch, status="failed"))
    desk.read(mind)
    assert [fact.batch for fact in desk.all(mind)] == ["y"]


def test_an_own_word_that_cannot_be_folded_frees_nothing_and_ends_nothing(desk):
    desk.put("client", desk.task("a"))
    mind = desk.mind(sick(router.ACTOR, about("a", events.TaskRouted)))
    (said,) = desk.all(mind)
    assert (said.task, list(mind.stopped.unfolded)) == ("a", [4])
    desk.put("client", events.TaskCancelRequested(chain="c", task="a"))
    desk.read(mind)
    assert desk.all(mind) == []


def test_settings_that_cannot_be_folded_stop_the_actor_until_others_are_adopted(desk):
    broken = settled(7).sha256
    for actor in (router.ACTOR, cost.ACTOR):
        mind = desk.mind(sick(actor, lambda fact: getattr(fact, "sha256", "") == broken))
        seq = desk.put("engine", settled(7))
        desk.put("client", desk.task(f"a-{actor.name}"))
        desk.read(mind)
        assert list(mind.decisions()) == []
        assert (mind.stopped.halted, mind.idle, mind.due()) == (True, True, None)
        assert [halt.seq for halt in mind.stopped.halts()] == [seq]
        desk.put("engine", settled(8))
        desk.read(mind)
        assert not mind.stopped.halted
        assert len(desk.all(mind)) == (actor is router.ACTOR)
        assert not mind.whole, "no snapshot may hide what was not taken in"


# A whole writer: quota, one state for all.


def running(desk, mind, *names):
    for name in names:
        desk.put("router", desk.route(name, id=f"route-{name}"))
    desk.read(mind)
    return desk.all(mind)


def test_quota_goes_on_without_a_task_that_it_cannot_take_in_and_its_state_is_as_it_was(make_desk):
    desk = make_desk(limit=5)
    healthy, mind = desk.mind(quota.ACTOR), desk.mind(sick(quota.ACTOR, about("bad", events.TaskRouted)))
    assert [fact.task for fact in running(desk, mind, "a", "bad", "b")] == ["a", "b"]
    assert plain(mind.state) == plain(mind.ahead)
    assert sorted(mind.state.holds) == ["c.a", "c.b"]
    assert (mind.state.used, "c.bad" in mind.state.waiting) == ({"p": 2}, False)
    desk.read(healthy)
    assert healthy.state.used == mind.state.used
    assert [left.heard.task for left in mind.stopped.unfolded.values()] == ["bad"]


@pytest.mark.fault(61)
def test_a_slot_whose_end_quota_cannot_take_in_stays_counted(desk):
    mind = desk.mind(sick(quota.ACTOR, about("a", events.TaskCompleted)))
    assert [fact.task for fact in running(desk, mind, "a", "b")] == ["a"]
    desk.put("adapter", desk.done("a"))
    desk.read(mind)
    assert desk.all(mind) == [], "above the limit nobody gets anything"
    assert mind.state.used == {"p": 1}


def test_while_a_grant_is_on_its_way_a_fact_that_breaks_takes_nothing_of_it_away(make_desk):
    desk = make_desk(limit=1)
    mind = desk.mind(sick(quota.ACTOR, about("bad", events.TaskRouted)))
    desk.put("router", desk.route("a", id="route-a"))
    desk.read(mind)
    (decision,) = mind.decisions()
    for name in ("bad", "b"):
        desk.put("router", desk.route(name, id=f"route-{name}"))
    desk.read(mind)
    assert (mind.ahead.used, mind.state.used) == ({"p": 1}, {})
    assert desk.append(mind, decision)
    assert list(mind.decisions()) == [], "the one slot is taken already"
    desk.read(mind)
    assert desk.all(mind) == []
    assert plain(mind.state) == plain(mind.ahead)


def test_a_task_put_aside_is_not_granted_however_often_it_is_routed_and_frees_its_slot_in_the_end(make_desk):
    desk = make_desk(limit=1)
    mind = desk.mind(sick(quota.ACTOR, lambda fact: isinstance(fact, events.TaskCancelRequested)))
    assert [fact.task for fact in running(desk, mind, "a")] == ["a"]
    desk.put("client", events.TaskCancelRequested(chain="c", task="a"))
    desk.read(mind)
    assert mind.state.used == {"p": 1}
    desk.put("router", desk.route("b", id="route-b"))
    desk.put("adapter", desk.done("a"))
    desk.read(mind)
    assert [(type(fact).__name__, fact.task) for fact in desk.all(mind)] == [("QuotaSettled", "a"), ("QuotaReserved", "b")]
    desk.put("adapter", desk.done("b"))
    assert [fact.task for fact in running(desk, mind, "a")] == ["b"], "settled, and a gets nothing"


@pytest.mark.parametrize("kind", [events.QuotaReserved, events.QuotaSettled])
def test_without_a_word_of_its_own_quota_gives_nobody_a_slot_any_more(make_desk, kind):
    desk = make_desk(limit=1)
    one = desk.mind(quota.ACTOR)
    running(desk, one, "a", "b")
    desk.put("adapter", desk.done("a"))
    running(desk, one, "d")
    mind = desk.mind(sick(quota.ACTOR, lambda fact: isinstance(fact, kind)))
    assert mind.stopped.halted
    assert (list(mind.decisions()), mind.due(), mind.idle, mind.whole) == ([], None, True, False)
    assert not mind.retry(next(mind.stopped.halts()).seq), "it needs an update, not a retry"


def test_a_word_that_quota_could_not_fold_itself_is_never_said(desk):
    mind = desk.mind(sick(quota.ACTOR, lambda fact: isinstance(fact, events.QuotaReserved)))
    desk.put("router", desk.route("a", id="route-a"))
    desk.read(mind)
    with pytest.raises(KeyError):
        list(mind.decisions())
    assert list(mind.decisions()) == []
    assert plain(mind.ahead) == plain(mind.state)
    (halt,) = mind.stopped.halts()
    assert halt.reason == "KeyError: 'QuotaReserved'"
    desk.put("client", events.TaskCancelRequested(chain="c", task="a"))
    desk.read(mind)
    assert [type(fact).__name__ for fact in desk.all(mind)] == ["QuotaRefused"], "what came next mended it"
    assert list(mind.stopped.halts()) == []


def test_settings_that_quota_cannot_take_in_stop_it_until_others_are_adopted(desk):
    mind = desk.mind(sick(quota.ACTOR, lambda fact: getattr(fact, "sha256", "") == settled(7).sha256))
    desk.put("engine", settled(7))
    assert running(desk, mind, "a") == []
    assert mind.state.limits == {"p": 1}, "what it knew is as it was"
    desk.put("engine", settled(2))
    desk.read(mind)
    assert [fact.limit for fact in desk.all(mind)] == [2]


@pytest.mark.parametrize("where", ["parking", "state"])
def test_where_quota_cannot_be_sure_of_its_count_it_stops(desk, where):
    """It cannot put the task aside; or what breaks is not the guess but what the log says."""
    states = []

    def breaks(fact):
        if where == "parking":
            return isinstance(fact, Parked) or about("a", events.TaskRouted)(fact)
        states.append(fact)
        return isinstance(fact, events.TaskRouted) and sum(one is fact for one in states) == 2

    mind = desk.mind(sick(quota.ACTOR, breaks))
    assert running(desk, mind, "a", "b") == []
    assert mind.stopped.halted


def test_an_actor_that_cannot_put_tasks_aside_stops(desk):
    actor = sick(quota.ACTOR, about("a", events.TaskRouted))
    kinds = [kind for kind in actor.folded() if kind is not Parked]

    def evolve(state, fact):
        return actor.evolve(state, fact)

    union = kinds[0]
    for kind in kinds[1:]:
        union |= kind
    evolve.__annotations__ = {"state": quota.Quota, "fact": union, "return": quota.Quota}
    mind = desk.mind(dataclasses.replace(actor, evolve=evolve))
    assert running(desk, mind, "a", "b") == []
    assert mind.stopped.halted


def test_a_guess_that_cannot_be_made_again_stops_the_actor(desk):
    mind = desk.mind(quota.ACTOR)
    mind._folding.guessed["x"] = events.QuotaReserved(chain="c", task="a", platform="p", id="x", seq=1)
    mind._folding._actor = sick(quota.ACTOR, lambda fact: isinstance(fact, events.QuotaReserved))
    mind._folding.guess_anew()
    assert mind.stopped.halted


def test_after_a_restart_the_same_comes_out(make_desk):
    """Also from a snapshot of before, and whatever was on its way when the fact came."""
    desk = make_desk(limit=3)
    actor = sick(quota.ACTOR, about("bad", events.TaskRouted))
    mind = desk.mind(actor)
    running(desk, mind, "a")
    before = Mind(actor, SECRET, copy.deepcopy(mind.state), mind.seq)
    running(desk, mind, "bad", "b")
    again = desk.mind(actor)
    desk.read(before)
    assert plain(mind.state) == plain(again.state) == plain(before.state)
    assert [list(one.stopped.unfolded) for one in (mind, again, before)] == [list(mind.stopped.unfolded)] * 3
    assert not any(one.whole for one in (mind, again, before))


def test_what_would_fold_now_is_said_without_folding_it(desk):
    desk.put("client", desk.task("a"))
    mind = desk.mind(sick(router.ACTOR, about("a", events.TaskSubmitted)))
    state = plain(mind.state)
    assert mind.folds(desk.task("a")) == "KeyError: 'TaskSubmitted'"
    assert mind.folds(desk.task("b")) == ""
    assert plain(mind.state) == state


def test_a_moment_that_cannot_be_named_stops_the_writer_and_not_who_drives_it(desk):
    def due(state):
        raise ZeroDivisionError

    mind = desk.mind(dataclasses.replace(quota.ACTOR, due=due))
    assert mind.due() is None or mind.stopped.stuck
    desk.all(mind)
    assert mind.due() is None
    assert [halt.reason for halt in mind.stopped.halts()] == ["ZeroDivisionError: "]


# Facts out of their chain.


def unchained(fact, subject="x"):
    return Unchained(fact, subject, "it follows what is not there")


def test_a_task_whose_chain_broke_is_not_decided_about(desk):
    desk.put("client", desk.task("a"))
    mind = desk.mind(router.ACTOR, live=False)
    mind.hear(unchained(events.TaskStarted(chain="c", task="a", platform="p", seq=mind.seq + 1)), "adapter")
    mind.go_live(1)
    assert list(mind.decisions()) == []
    assert (mind.stopped.parked, mind.whole) == ({("c", "a"): 4}, False)


def test_what_was_granted_out_of_chain_counts_all_the_same(desk):
    desk.put("router", desk.route("a"))
    desk.put("router", desk.route("b"))
    mind = desk.mind(quota.ACTOR, live=False)
    mind.hear(unchained(events.QuotaReserved(chain="c", task="a", platform="p", attempt=1, seq=mind.seq + 1)), "quota")
    mind.go_live(1)
    assert list(mind.decisions()) == [], "the one slot may be in use"
    assert mind.state.used == mind.ahead.used == {"p": 1}
