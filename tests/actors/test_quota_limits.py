"""Quota counts: windows, what providers report, budgets, deadlines; what it says of them, and to whom it gives what is left."""

import copy

import msgspec
import pytest

from actors import quota
from farebox.core.actor import Stored, Wake
from farebox.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    CostRecorded,
    QuotaDeferred,
    QuotaLearned,
    QuotaRefused,
    QuotaReserved,
    QuotaSettled,
    QuotaWarned,
    TaskCompleted,
    TaskRouted,
    TaskStarted,
)
from farebox.core.quotas import BudgetSettings, QuotaSettings
from farebox.core.terms import Allowance, CallRecord, Candidate, Fault, Usage

HOUR_MS = 3_600_000
FULL = {"input_tokens_max": 10, "output_tokens_max": 10, "bound_usd": "0.5"}


@pytest.fixture
def story(told):
    def tell(platforms, **more):
        one = told.Story(quota.ACTOR)
        one.now_ms = 1_774_741_500_000
        one.tell(told.adopted(platforms, **more))
        return one

    return tell


def limited(limit, unit="requests", window="hour", platform="p", **more):
    return QuotaSettings(platform=platform, window=window, unit=unit, limit=limit, **more)


def routed(task, *platforms, billing="plan", chain="c", attempt=1, batch="", priority=0, fields=FULL, **allowed):
    candidates = tuple(
        one if isinstance(one, Candidate) else Candidate(platform=one, billing=billing, **fields) for one in platforms
    )
    return TaskRouted(
        chain=chain, task=task, attempt=attempt, batch=batch, candidates=candidates, priority=priority,
        allowance=Allowance(**allowed),
    )  # fmt: skip


def metered(name, **fields):
    return Candidate(platform=name, billing="metered", **{**FULL, **fields})


def done(task, platform="p", chain="c", attempt=1, calls=1, **fields):
    records = (CallRecord(status=200),) * calls
    told = {"chain": chain, "task": task, "platform": platform, "attempt": attempt, "calls": records, "charged": "known"}
    return TaskCompleted(**{**told, "status": "completed", **fields})


def bill(ended, paid="0.1", status="priced", **fields):
    return CostRecorded(
        chain=ended.chain, task=ended.task, attempt=ended.attempt, platform=ended.platform, cause=ended.id, paid_usd=paid,
        status=status, **fields,
    )  # fmt: skip


def names(said):
    return [(type(fact).__name__, fact.task) for fact in said]


def grants(said):
    return [(fact.task, fact.platform) for fact in said if isinstance(fact, QuotaReserved)]


def test_a_window_gives_its_limit_and_no_more_until_it_turns(story):
    one = story({"p": {"limit": 9}}, quotas={"q": limited(2)}, warn_at_percent=100)
    for name in "abc":
        one.tell(routed(name, "p"))
    assert grants(one.all_said(Wake(one.now_ms))) == [("a", "p")], "half of what is left is in flight at once"
    assert grants(one.all_said(one.tell(done("a")))) == [("b", "p")]
    said = one.all_said(one.tell(done("b")))
    assert names(said) == [("QuotaSettled", "b"), ("QuotaDeferred", "c")] or "QuotaWarned" in str(said)
    (deferred,) = (fact for fact in said if isinstance(fact, QuotaDeferred))
    assert (deferred.quota, deferred.due_ms) == ("p/hour/requests", 1_774_742_400_000)
    assert deferred.reason == "p/hour/requests: 2 of 2 used, 1 more needed; room from 2026-03-29T00:00:00Z"
    assert quota.due(one.state) == deferred.due_ms
    assert one.all_said(Wake(deferred.due_ms - 1)) == []
    one.now_ms = deferred.due_ms
    (grant,) = one.all_said(Wake(deferred.due_ms))
    (take,) = grant.takes
    assert (grant.task, take.quota, take.amount, take.used, take.limit, take.source) == (
        "c", "p/hour/requests", "1", "1", "2", "configured",
    )  # fmt: skip


def test_a_rolling_window_gives_back_what_began_a_window_ago(story):
    one = story({"p": {"limit": 9}}, quotas={"q": limited(1, window="5h")}, warn_at_percent=100)
    one.all_said(one.tell(routed("a", "p")))
    granted_ms = one.state.holds["c.a"].at_ms
    one.tell(routed("b", "p"))
    said = one.all_said(one.tell(done("a")))
    (deferred,) = (fact for fact in said if isinstance(fact, QuotaDeferred))
    assert deferred.due_ms == granted_ms + 5 * HOUR_MS
    assert one.all_said(Wake(deferred.due_ms - 1)) == []
    assert grants(one.all_said(Wake(deferred.due_ms))) == [("b", "p")]


def test_what_a_provider_reports_counts_with_what_was_granted_since_until_its_reset(story):
    one = story({"p": {"limit": 9}})
    one.tell(QuotaLearned(platform="p", window_s=3600, unit="requests", limit=10, used=9, resets_at_ms=one.now_ms + 5_000,
                          evidence="told"))  # fmt: skip
    one.tell(routed("a", "p"), routed("b", "p"))
    said = one.all_said(Wake(one.now_ms))
    assert [type(fact) for fact in said] == [QuotaWarned, QuotaReserved]
    assert (said[0].used, said[0].limit, said[0].evidence) == ("9", "10", "told 0.0 s ago")
    (take,) = said[1].takes
    assert (take.used, take.limit, take.source) == ("10", "10", "learned")
    one.tell(done("a"))
    one.all_said(Wake(one.now_ms))
    assert quota.due(one.state) == one.state.uses.learned["p/hour/requests"].until_ms
    assert grants(one.all_said(Wake(quota.due(one.state)))) == [("b", "p")]


def test_nonsense_that_a_provider_reports_breaks_nothing(story):
    one = story({"p": {"limit": 9}})
    one.tell(
        QuotaLearned(platform="p", window_s=2**53, unit="requests", limit=3),
        QuotaLearned(platform="p", window_s=0, unit="requests", limit=2**53, used=2**53),
        QuotaLearned(platform="p", window_s=60, unit="tokens", limit=None, used=2**53, resets_at_ms=0),
        QuotaLearned(platform="nowhere", window_s=60, unit="usd", limit=0, used=0),
    )
    assert grants(one.all_said(one.tell(routed("a", "p")))) == [("a", "p")]
    one.tell(QuotaLearned(platform="p", window_s=60, unit="requests", limit=0))
    (said,) = (fact for fact in one.all_said(one.tell(routed("b", "p"))) if isinstance(fact, QuotaRefused))
    assert said.fault == Fault(error_class="quota_exhausted", message="p: p/minute/requests: 1 needed, the limit is 0")


def test_percent_are_learned_from_two_reports_of_one_turn(story):
    one = story({"p": {"limit": 9}}, warn_at_percent=100)
    reset_ms = one.now_ms + 4 * HOUR_MS
    for used in (10, 40):
        one.tell(QuotaLearned(platform="p", window_s=18_000, unit="percent", used=used, resets_at_ms=reset_ms))
        for name in "ab":
            one.all_said(one.tell(routed(f"{name}{used}", "p")))
            one.all_said(one.tell(done(f"{name}{used}")))
    assert one.state.uses.learned["p/5h/percent"].percent == 15 * 10**12
    (said,) = one.all_said(one.tell(routed("z", "p")))
    assert [(take.amount, take.limit) for take in said.takes] == [("15", "100")]
    one.all_said(one.tell(done("z", calls=0, charged="none")))


def test_tokens_settle_as_used_and_as_reserved_where_nobody_knows(story):
    quotas = {unit: limited(1000, unit=unit) for unit in ("tokens", "tokens_in", "tokens_out", "calls")}
    one = story({"p": {"limit": 9}}, quotas=quotas)
    known = {"usage": Usage(input_tokens=3, output_tokens=4)}
    for fields, wanted in ((known, "0 7 3 4"), ({}, "0 20 10 10"), ({"charged": "none"}, "0 0 0 0")):
        one.all_said(one.tell(routed("a", "p")))
        (said,) = one.all_said(one.tell(done("a", **fields)))
        assert [take.quota for take in said.takes] == [
            f"p/hour/{unit}" for unit in ("calls", "tokens", "tokens_in", "tokens_out")
        ]
        assert [take.amount for take in said.takes] == wanted.split()


def test_who_waits_never_spends_who_spills_does_and_who_stops_ends(story):
    platforms = {"p": {"limit": 9}, "m": {"billing": "metered", "limit": 9}}
    one = story(platforms, quotas={"q": limited(1)}, warn_at_percent=100)
    one.all_said(one.tell(routed("first", "p")))
    cheap = Candidate(platform="p", billing="plan", **FULL)
    assert grants(one.all_said(one.tell(routed("waits", cheap, metered("m"))))) == []
    assert grants(one.all_said(one.tell(routed("spills", cheap, metered("m"), on_quota="spill")))) == [("spills", "m")]
    assert one.all_said(one.tell(routed("stops", cheap, metered("m"), on_quota="stop"))) == [], (
        "something that runs may end yet"
    )
    said = one.all_said(one.tell(done("first")))
    assert names(said)[0] == ("QuotaSettled", "first")
    (refused,) = (fact for fact in said if isinstance(fact, QuotaRefused))
    assert (refused.task, refused.fault.error_class) == ("stops", "quota_exhausted")
    assert "--on-quota wait|spill" in refused.fault.message
    failed = msgspec.structs.replace(cheap, not_before_ms=one.now_ms + 900_000)
    assert grants(one.all_said(one.tell(routed("failed-there", metered("m"), failed)))) == [("failed-there", "m")]
    assert grants(one.all_said(one.tell(routed("had-failed", failed, metered("m"))))) == [("had-failed", "m")]


def test_the_last_resort_is_joined_alone_once_all_is_used_up(story):
    platforms = {"p": {"limit": 9}, "q": {"limit": 9}}
    quotas = {"p": limited(1, window="hour"), "q": limited(1, platform="q", window="week")}
    one = story(platforms, quotas=quotas, warn_at_percent=100)
    for name, platform in (("a", "p"), ("b", "q")):
        one.all_said(one.tell(routed(name, platform)))
        one.all_said(one.tell(done(name, platform)))
    (deferred,) = one.all_said(one.tell(routed("c", "p", "q", last_resort="q")))
    assert one.state.waiting["c.c"].alone == "q"
    assert grants(one.all_said(Wake(deferred.due_ms))) == [], "p has room, and it waits for q"
    assert grants(one.all_said(Wake(quota.due(one.state)))) == [("c", "q")]
    assert one.all_said(one.tell(routed("d", "p", last_resort="nowhere"))) != []


def test_a_hold_that_nobody_ends_is_booked_at_its_deadline_and_corrected_by_a_late_end(story):
    one = story({"p": {"limit": 1}}, quotas={"q": limited(100, unit="tokens"), "c": limited(5, unit="calls")})
    (grant,) = one.all_said(one.tell(routed("a", "p")))
    grant = one.facts[-1]
    one.tell(TaskStarted(chain="c", task="a", attempt=1, platform="p", timeout_s=60))
    assert quota.due(one.state) == one.now_ms + 180_000
    one.tell(TaskStarted(chain="c", task="a", attempt=7, platform="p"))
    one.tell(routed("b", "p"))
    one.now_ms = quota.due(one.state)
    said = one.all_said(Wake(one.now_ms))
    assert names(said) == [("QuotaSettled", "a"), ("QuotaReserved", "b")]
    assert (said[0].expired, said[0].cause, said[0].takes[1].amount) == (True, grant.id, "20")
    late = one.tell(done("a", usage=Usage(input_tokens=1, output_tokens=1)))
    (settled,) = one.all_said(late)
    assert (settled.expired, [take.amount for take in settled.takes]) == (False, ["0", "2"])
    assert one.all_said(one.tell(msgspec.structs.replace(late))) == []
    assert one.state.uses.use("p/hour/tokens", one.now_ms) == (22 * 10**12, 20 * 10**12)


def test_a_second_settlement_of_a_deadline_that_somebody_else_saw_counts_once(story):
    one = story({"p": {"limit": 1}})
    one.all_said(one.tell(routed("a", "p")))
    one.tell(QuotaSettled(chain="c", task="a", attempt=4, platform="p", expired=True))
    assert one.state.used == {"p": 1}
    one.tell(done("a"), QuotaSettled(chain="c", task="a", attempt=1, platform="p", expired=True))
    assert one.state.used == {"p": 0}


def test_chains_take_turns(story):
    one = story({"p": {"limit": 1}})
    one.all_said(one.tell(routed("running", "p", chain="z")))
    for number in range(20):
        one.tell(routed(f"big{number}", "p", chain="big"))
    one.tell(routed("single", "p", chain="single"))
    order = ["running"]
    while one.state.holds:
        (name,) = one.state.holds
        order += [task for task, _ in grants(one.all_said(one.tell(done(name.split(".")[1], chain=name.split(".")[0]))))]
    assert order.index("single") <= 2
    assert not one.state.turns, "nobody is further than the round"


def test_a_platform_that_refuses_for_rate_is_given_half_and_slowly_more(story):
    one = story({"p": {"limit": 8}})
    for number in range(8):
        one.all_said(one.tell(routed(f"t{number}", "p")))
    for number in range(2):
        one.all_said(one.tell(AttemptFailed(chain="c", task=f"t{number}", attempt=1, platform="p",
                                            fault=Fault(error_class="rate_limited"))))  # fmt: skip
    assert one.state.paces["p"].calls == 4.0, "those of before the cut do not cut again"
    for number in range(2, 8):
        one.all_said(one.tell(done(f"t{number}", duration_ms=10)))
    assert one.state.paces["p"].calls > 5
    for number in range(40):
        one.all_said(one.tell(routed(f"u{number}", "p")))
        one.all_said(one.tell(done(f"u{number}", duration_ms=10)))
    assert one.state.paces["p"].calls == 0.0
    for number in range(60):
        one.all_said(one.tell(routed(f"v{number}", "p")))
        one.all_said(one.tell(done(f"v{number}", duration_ms=10 if number < 40 else 900)))
        if one.state.paces["p"].calls:
            break
    assert (one.state.paces["p"].calls, number) == (7.0, 40), "as soon as the mean of the last eight is twice as long"
    one.all_said(one.tell(routed("w", "p")))
    one.all_said(one.tell(AttemptInterrupted(chain="c", task="w", attempt=1, platform="p", fault=Fault(error_class="crashed"))))
    one.all_said(one.tell(routed("x", "p")))
    told = one.state.paces["p"].calls
    one.all_said(one.tell(done("x", status="failed", fault=Fault(error_class="timeout"), calls=0)))
    assert one.state.paces["p"].calls == told


def test_what_is_guessed_becomes_what_is_stored(story, told):
    one = story({"p": {"limit": 2}}, quotas={"q": limited(9, window="5h")})
    one.tell(routed("a", "p"))
    ahead = copy.deepcopy(one.state)
    (said,) = quota.decide(ahead, Wake(one.now_ms))
    guessed = msgspec.structs.replace(said, id="g")
    ahead = quota.evolve(ahead, guessed)
    assert quota.due(ahead) is None, "no deadline before it stands in the log"
    between = one.tell(routed("b", "p", chain="d"))
    ahead = quota.evolve(ahead, between)
    learned = one.tell(QuotaLearned(platform="p", window_s=18_000, unit="requests", limit=9, used=1))
    ahead = quota.evolve(ahead, learned)
    stored = one.tell(guessed)
    ahead = quota.evolve(ahead, Stored(stored))
    ahead = quota.evolve(ahead, Stored(QuotaDeferred(chain="c", task="x")))
    ahead = quota.evolve(ahead, Stored(msgspec.structs.replace(stored, id="other")))
    assert told.same(ahead, one.state)


def test_settings_that_do_not_read_grant_nothing_and_a_changed_window_goes_on_counting(story, told):
    one = story({"p": {"limit": 9}}, quotas={"q": limited(2), "x": limited(70, window="minute", unit="tokens")})
    one.all_said(one.tell(routed("a", "p")))
    one.all_said(one.tell(done("a")))
    for kind in ("rolling", "fixed", "rolling"):
        one.tell(told.adopted({"p": {"limit": 9}}, quotas={"q": limited(2, kind=kind, zone="Europe/Berlin")}))
        assert one.state.uses.use("p/hour/requests", one.now_ms)[0] == 10**12
    one.tell(told.adopted({"p": {"limit": 9}}, quotas={"q": limited(2, window="fortnight")},
                          budgets={"b": BudgetSettings(limit_usd="1", window="never")}))  # fmt: skip
    assert one.all_said(one.tell(routed("b", "p"))) == []
    one.tell(told.adopted({"p": {"limit": 9}}))
    assert grants(one.all_said(Wake(one.now_ms))) == [("b", "p")]


def test_of_two_entries_about_one_quota_the_smaller_limit_counts_and_each_only_under_its_billing(story):
    quotas = {
        "a": limited(7),
        "b": limited(None, billing="plan"),
        "c": limited(3, billing="plan"),
        "d": limited(1, billing="free"),
    }
    one = story({"p": {"limit": 9}}, quotas=quotas)
    (said,) = one.all_said(one.tell(routed("a", "p")))
    assert [take.limit for take in said.takes] == ["3"]


def test_a_limit_that_shrinks_below_what_runs_lets_nobody_in_and_nobody_knows_until_when(story):
    one = story({"p": {"limit": 9}}, quotas={"q": limited(1000, unit="tokens")}, warn_at_percent=100)
    for name in "abc":
        one.all_said(one.tell(routed(name, "p")))
        if name == "a":
            one.all_said(one.tell(done("a")))
    one.tell(QuotaLearned(platform="p", window_s=3600, unit="tokens", limit=30))
    said = one.all_said(one.tell(routed("d", "p")))
    (deferred,) = (fact for fact in said if isinstance(fact, QuotaDeferred))
    assert (deferred.due_ms, "at a time that nobody knows" in deferred.reason) == (0, True)
