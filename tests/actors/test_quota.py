"""Quota: never more than the limit, nobody waits beside a free slot, the line goes by priority, then by age."""

import copy

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import quota
from farebox.core import subjects
from farebox.core.actor import Wake
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    QuotaDeferred,
    QuotaRefused,
    QuotaReserved,
    QuotaSettled,
    TaskCancelRequested,
    TaskCompleted,
    TaskRouted,
)
from farebox.core.terms import CallRecord, Candidate, Fault, Usage


@pytest.fixture
def story(told):
    def tell(**limits):
        one = told.Story(quota.ACTOR)
        one.tell(told.adopted({name: {"limit": limit} for name, limit in limits.items()}))
        return one

    return tell


def routed(task, *candidates, attempt=1, priority=0, **fields):
    """Return a route; a candidate is a name or (name, not_before_ms)."""
    listed = tuple(
        Candidate(platform=c, model="m", billing="plan", lane_seq=3)
        if isinstance(c, str)
        else Candidate(platform=c[0], not_before_ms=c[1])
        for c in candidates
    )
    return TaskRouted(chain="c", task=task, attempt=attempt, candidates=listed, priority=priority, **fields)


def completed(task, platform="p", attempt=1, **fields):
    return TaskCompleted(chain="c", task=task, platform=platform, attempt=attempt, status="completed", **fields)


def cancel(task):
    return TaskCancelRequested(chain="c", task=task)


def grants(said):
    return [(fact.task, fact.platform) for fact in said if isinstance(fact, QuotaReserved)]


def test_the_first_candidate_with_a_free_slot_gets_the_task(story):
    one = story(p=1, q=1)
    (said,) = one.hear(routed("a", "p", "q", timeout_s=5.0, on_interrupt="ask", batch="b", traceparent="00-x"))
    assert said == QuotaReserved(
        chain="c", task="a", cause=one.facts[-1].id, attempt=1, batch="b", traceparent="00-x", platform="p", model="m",
        billing="plan", lane_seq=3, timeout_s=5.0, on_interrupt="ask", in_use=1, limit=1, as_of=2,
        start_by_ms=one.now_ms + 600_000,
    )  # fmt: skip
    one.tell(said)
    assert grants(one.hear(routed("b", "p", "q"))) == [("b", "q")]


def test_where_all_slots_are_taken_a_task_waits_without_a_word(story):
    one = story(p=1)
    one.all_said(one.tell(routed("a", "p")))
    assert one.hear(routed("b", "p")) == []
    assert list(one.state.waiting) == ["c.b"]


@pytest.mark.parametrize(
    "ending",
    [
        completed("a"),
        AttemptFailed(chain="c", task="a", platform="p", attempt=1, fault=Fault(error_class="server_error")),
        AttemptInterrupted(chain="c", task="a", platform="p", attempt=1, fault=Fault(error_class="crashed")),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_an_ending_is_settled_and_its_slot_goes_to_the_next_in_line(story, ending):
    one = story(p=1)
    one.all_said(one.tell(routed("a", "p")))
    one.tell(routed("b", "p"))
    ended = one.tell(ending)
    settled, reserved = one.all_said(ended)
    assert (type(settled), settled.task, settled.cause, settled.platform) == (QuotaSettled, "a", ended.id, "p")
    assert grants([reserved]) == [("b", "p")]
    assert one.answer(ended) == []


def test_what_was_used_is_settled_and_unknown_stays_unknown(story):
    for usage, tokens in ((Usage(input_tokens=2, output_tokens=3), 5), (Usage(input_tokens=2), None), (None, None)):
        one = story(p=1)
        one.all_said(one.tell(routed("a", "p")))
        (said,) = one.hear(completed("a", usage=usage, calls=(CallRecord(), CallRecord())))
        assert (said.tokens, said.requests) == (tokens, 2)


def test_an_ending_of_another_attempt_or_lane_frees_nothing(story):
    one = story(p=1)
    one.all_said(one.tell(routed("a", "p")))
    for ending in (completed("a", attempt=2), completed("a", platform="q"), completed("z")):
        assert one.hear(ending) == []
    assert one.state.holds.keys() == {"c.a"}


def test_the_line_goes_by_priority_then_by_age(story):
    one = story(p=1)
    one.all_said(one.tell(routed("first", "p")))
    one.tell(routed("old", "p"), routed("young", "p"), routed("urgent", "p", priority=5), routed("last", "p", priority=-5))
    order = ["first"]
    while one.state.holds:
        order += [task for task, _ in grants(one.all_said(one.tell(completed(order[-1]))))]
        if order[-1] == "last":
            break
    assert order == ["first", "urgent", "old", "young", "last"]


def test_a_task_routed_in_the_same_moment_as_a_slot_is_freed_does_not_overtake_the_line(story):
    one = story(p=1)
    one.all_said(one.tell(routed("a", "p")))
    one.tell(routed("waits", "p"))
    late = one.tell(routed("comes", "p"))
    one.tell(completed("a"))  # folded before anybody asks about `comes`
    assert grants(one.all_said(late)) == [("waits", "p")]


def test_who_waits_gets_his_first_free_candidate_whichever_slot_woke_him(story):
    one = story(p=1, q=1)
    one.all_said(one.tell(routed("a", "p")))
    one.all_said(one.tell(routed("b", "q")))
    one.tell(routed("waits", "p", "q"))
    ended = one.tell(completed("b", platform="q"))
    one.tell(completed("a"))
    assert grants(one.all_said(ended)) == [("waits", "p")]


def test_a_raised_limit_lets_in_as_many_as_it_allows(story, told):
    one = story(p=1)
    for name in "abcd":
        one.all_said(one.tell(routed(name, "p")))
    said = one.all_said(one.tell(told.adopted({"p": {"limit": 3}})))
    assert grants(said) == [("b", "p"), ("c", "p")]
    assert [fact.in_use for fact in said] == [2, 3]


def test_a_lowered_limit_grants_nothing_until_enough_have_ended(story, told):
    one = story(p=2)
    for name in "abc":
        one.all_said(one.tell(routed(name, "p")))
    one.all_said(one.tell(told.adopted({"p": {"limit": 1}})))
    assert grants(one.all_said(one.tell(completed("a")))) == []
    assert grants(one.all_said(one.tell(completed("b")))) == [("c", "p")]


def test_a_cancel_in_line_is_refused_so_that_the_router_can_end_it(story):
    one = story(p=1)
    one.all_said(one.tell(routed("a", "p")))
    route = one.tell(routed("b", "p", batch="x"))
    (said,) = one.hear(cancel("b"))
    fault = Fault(error_class="cancelled", message="Cancelled while waiting.")
    assert said == QuotaRefused(chain="c", task="b", cause=route.id, attempt=1, batch="x", fault=fault)
    one.tell(said)
    assert one.answer(one.facts[-2]) == []
    assert grants(one.all_said(one.tell(completed("a")))) == []


def test_a_cancel_that_came_before_the_route_is_sticky_until_the_task_ends(story):
    one = story(p=1)
    assert one.hear(cancel("a")) == []
    (said,) = one.hear(routed("a", "p"))
    assert isinstance(said, QuotaRefused)
    one.tell(said)
    assert list(one.state.cancels) == ["c.a"]
    one.tell(completed("a", platform="-"))
    assert not one.state.cancels


@pytest.mark.fault(69)
def test_a_cancel_that_crosses_a_grant_is_the_same_in_either_order(story, told):
    before, after = story(p=1), story(p=1)
    route = before.tell(routed("a", "p"))
    (grant,) = before.answer(route)
    before.tell(cancel("a"), grant)
    after.tell(routed("a", "p"), grant, cancel("a"))
    for one in (before, after):
        (hold,) = one.state.holds.values()
        one.state.holds = {"c.a": msgspec.structs.replace(hold, seq=0, at_ms=0, id="")}  # but for its place in the log
    assert told.same(before.state, after.state)


def test_only_so_many_cancels_are_remembered(story):
    one = story(p=1)
    for number in range(quota.CANCELS_MAX + 3):
        one.state = quota.evolve(one.state, cancel(f"t{number}"))
    assert len(one.state.cancels) == quota.CANCELS_MAX


def test_a_task_whose_platforms_are_all_gone_is_refused_and_not_forgotten_in_line(story, told):
    one = story(p=1, q=1)
    one.all_said(one.tell(routed("a", "p")))
    one.all_said(one.tell(routed("b", "p")))
    one.all_said(one.tell(routed("c", "p", "q")))
    (said,) = one.all_said(one.tell(told.adopted({"p": {"enabled": False}, "q": {}})))
    assert (type(said), said.task, said.fault.error_class) == (QuotaRefused, "b", "unavailable")
    (said,) = one.all_said(one.tell(routed("d", "p")))
    assert (type(said), said.task) == (QuotaRefused, "d")


def test_a_candidate_that_asked_to_wait_gets_its_task_when_the_time_has_come(story):
    one = story(p=1)
    route = one.tell(routed("a", ("p", 9_000)))
    (said,) = one.answer(route)
    assert said == QuotaDeferred(
        chain="c", task="a", cause=route.id, attempt=1, routed_seq=route.seq, due_ms=9_000, reason="p asked to wait"
    )
    one.tell(said)
    assert one.answer(route) == []
    assert quota.due(one.state) == 9_000
    assert one.answer(Wake(8_999)) == []
    assert grants(one.all_said(Wake(9_000))) == [("a", "p")]
    assert quota.due(one.state) == one.state.holds["c.a"].deadline_ms


def test_another_candidate_may_do_it_meanwhile(story):
    one = story(p=1, q=1)
    assert grants(one.all_said(one.tell(routed("a", ("p", 9_000), "q")))) == [("a", "q")]
    assert quota.due(one.state) == one.state.holds["c.a"].deadline_ms


def test_a_wait_that_is_over_when_the_route_is_heard_is_no_wait(story):
    one = story(p=1)
    assert grants(one.hear(routed("a", ("p", 5)))) == [("a", "p")]


def test_the_deferral_of_an_older_route_is_not_that_of_the_newer(story):
    one = story(p=1)
    one.tell(routed("a", ("p", 9_000)), QuotaDeferred(chain="c", task="a", routed_seq=99))
    assert not one.state.waiting["c.a"].deferred
    one.tell(QuotaDeferred(chain="c", task="other", routed_seq=2))
    old = one.facts[1]
    one.tell(routed("a", ("p", 9_000), attempt=2))
    assert one.answer(old) == []
    one.state = quota.evolve(one.state, completed("a"))
    assert quota.due(one.state) is None
    assert one.answer(Wake(9_000)) == []


def test_those_who_were_let_in_meanwhile_do_not_come_due_again(story):
    one = story(p=1, q=1)
    one.tell(routed("a", ("p", 9_000)), routed("b", ("p", 9_500)))
    one.tell(completed("a", platform="-"))
    assert grants(one.all_said(Wake(10_000))) == [("b", "p")]


def test_after_a_start_one_wake_does_all_that_was_left_undone(story):
    one = story(p=1)
    one.tell(routed("a", "p"), routed("b", "p"), routed("gone", "p"))
    one.tell(QuotaReserved(chain="c", task="a", attempt=1, platform="p"), cancel("gone"), completed("a"))
    said = one.all_said(Wake(99))
    assert [type(fact).__name__ for fact in said] == ["QuotaSettled", "QuotaRefused", "QuotaReserved"]
    assert one.answer(Wake(99)) == []


def test_a_state_from_a_snapshot_and_a_copy_decide_like_the_original(story):
    one = story(p=1)
    one.all_said(one.tell(routed("a", "p")))
    one.tell(routed("b", ("p", 5_000)), routed("c", "p", priority=1), cancel("x"), completed("a"))
    read = msgspec.json.decode(msgspec.json.encode(one.state), type=quota.Quota)
    copied = copy.deepcopy(one.state)
    wanted = list(quota.decide(one.state, Wake(6_000)))
    assert list(quota.decide(read, Wake(6_000))) == wanted
    assert list(quota.decide(copied, Wake(6_000))) == wanted
    assert quota.due(msgspec.json.decode(msgspec.json.encode(one.state), type=quota.Quota)) == 5_000


def test_a_platform_nobody_adopted_grants_nothing(story):
    one = story(p=1)
    assert grants(one.all_said(one.tell(routed("a", "nowhere", "p")))) == [("a", "p")]


def test_all_that_quota_says_stands_under_one_fence(story):
    one = story(p=1)
    (reserved,) = one.hear(routed("a", "p"))
    (refused,) = one.hear(cancel("a")) or [None]
    assert subjects.subject_of("quota", reserved) == "farebox.log.quota.reserved.p.c.a"
    assert subjects.subject_of("quota", refused) == "farebox.log.quota.refused.-.c.a"
    assert {subjects.fence_filter("quota", fact) for fact in (reserved, refused)} == {"farebox.log.quota.>"}


PLATFORMS = ("p", "q", "r")
moves = st.lists(
    st.one_of(
        st.tuples(
            st.just("route"),
            st.lists(st.tuples(st.sampled_from(PLATFORMS), st.sampled_from([0, 0, 0, 1_010, 1_050])), min_size=1, max_size=3,
                     unique_by=lambda pair: pair[0]),
            st.integers(-1, 1),
        ),
        st.tuples(st.just("end"), st.integers(0, 20), st.sampled_from(["completed", "failed"])),
        st.tuples(st.just("cancel"), st.integers(0, 20), st.none()),
        st.tuples(st.just("limits"), st.lists(st.integers(0, 3), min_size=3, max_size=3), st.none()),
        st.tuples(st.just("time"), st.integers(1, 60), st.none()),
    ),
    max_size=25,
)  # fmt: skip


def play(told, one, kind, what, more):
    """Let the world make one move and return what quota is asked about."""
    state = one.state
    if kind == "route":
        candidates = [(name, at_ms) for name, at_ms in what]
        return one.tell(routed(f"t{len(one.facts)}", *candidates, priority=more))
    if kind == "limits":
        limits = {name: {"limit": max(limit, 1), "enabled": limit > 0} for name, limit in zip(PLATFORMS, what, strict=True)}
        return one.tell(told.adopted(limits))
    if kind == "time":
        one.now_ms += what
        return Wake(one.now_ms)
    if kind == "end" and state.holds:
        name, hold = sorted(state.holds.items())[what % len(state.holds)]
        fields = {"chain": "c", "task": name.split(".")[1], "platform": hold.platform, "attempt": hold.attempt}
        if more == "completed":
            return one.tell(TaskCompleted(**fields, status="completed"))
        return one.tell(AttemptFailed(**fields, fault=Fault(error_class="server_error")))
    names = sorted({**state.holds, **state.waiting})
    return one.tell(cancel(names[what % len(names)].split(".")[1] if names else "unknown"))


@settings(max_examples=150, deadline=None)
@given(moves=moves, batch=st.integers(1, 4))
def test_laws_of_the_line(told, moves, batch):
    """Several moves are folded before the first of them is decided, as happens under load."""
    one = told.Story(quota.ACTOR)
    one.tell(told.adopted({name: {"limit": 1} for name in PLATFORMS}))
    asked = []
    for place, (kind, what, more) in enumerate(moves):
        asked.append(play(told, one, kind, what, more))
        if place % batch:
            continue
        for heard in asked:
            while said := one.answer(heard):
                (fact,) = said
                if isinstance(fact, QuotaReserved):
                    check_grant(one, fact)
                one.tell(fact)
        for heard in asked:
            assert one.answer(heard) == [], "what was answered is answered"
        asked = []
        check_line(one)
    assert told.same(one.state, one.replayed()), "live state equals replayed state"
    again = msgspec.json.decode(msgspec.json.encode(one.state), type=quota.Quota)
    assert list(quota.decide(again, Wake(one.now_ms))) == list(quota.decide(one.state, Wake(one.now_ms)))


def check_grant(one, grant):
    """Within the limit, and nobody of higher priority, or older, could have had this slot."""
    state = one.state
    used = sum(hold.platform == grant.platform for hold in state.holds.values())
    assert grant.in_use == used + 1 <= state.limits[grant.platform] == grant.limit
    mine = state.waiting[f"{grant.chain}.{grant.task}"]
    for other in state.waiting.values():
        if any(c.platform == grant.platform and c.not_before_ms <= state.now_ms for c in other.candidates):
            assert (-mine.priority, mine.seq) <= (-other.priority, other.seq)


def check_line(one):
    """Nobody waits while a slot he may use is free; nobody waits in vain."""
    state = one.state
    for waiting in state.waiting.values():
        assert not waiting.cancelled
        assert any(candidate.platform in state.limits for candidate in waiting.candidates)
        for candidate in waiting.candidates:
            if candidate.not_before_ms <= state.now_ms and candidate.platform in state.limits:
                used = sum(hold.platform == candidate.platform for hold in state.holds.values())
                assert used >= state.limits[candidate.platform]


def test_under_settings_of_a_later_farebox_nothing_is_granted_and_nobody_is_sent_away(story, told):
    one = story(p=1)
    later = told.adopted({"p": {"limit": 1}})
    later.settings["platforms"]["p"]["budget_usd"] = "5"
    one.tell(later)
    assert one.hear(routed("a", "p")) == []
    (said,) = one.hear(TaskCancelRequested(chain="c", task="a"))
    assert (said.task, said.fault.error_class) == ("a", "cancelled")
    one.tell(said)
    assert one.hear(routed("b", "p")) == []
    (granted,) = one.hear(told.adopted({"p": {"limit": 1}}))
    assert (type(granted), granted.task) == (QuotaReserved, "b")
