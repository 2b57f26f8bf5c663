"""The certificate of quotas: each kind of breach is found at its sequence, and what is right is certified."""

from __future__ import annotations

import pytest

from farebox.certificate.fold import LAG_MS_MAX
from farebox.certificate.report import document
from farebox.core.events import AttemptFailed, QuotaRefused, QuotaReserved, QuotaSettled, TaskCompleted
from farebox.core.quotas import QuotaSettings
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Fault

DAY = QuotaSettings(platform="p", window="day", limit=2, zone="Europe/Berlin")
ROLL = QuotaSettings(platform="p", window="60s", kind="rolling", limit=2)
D, R = "p/day/requests", "p/minute/requests"


def test_grants_up_to_the_limit_are_certified(book, of):
    log = book(d=DAY)
    log.grant("a", of(D, 1, 2))
    log.settle("a", of(D, None, None))
    log.grant("b", of(D, 2, 2))
    found = log.certificate()
    assert found.holds
    line = next(line for line in found.lines if line.id == D)
    assert (line.grants, line.settled, line.expired, line.open) == (2, 1, 0, 1)
    assert line.peak is not None
    assert (str(line.peak.used), line.peak.seq, line.peak.limit.seq, line.peak.limit.source) == ("2", 6, 1, "configured")
    assert [(one.task, one.quotas) for one in found.open] == [("b", ("p/now/calls", D))]


def test_one_above_the_limit_is_a_breach_with_the_word_of_who_said_the_limit(book, of):
    log = book(d=DAY)
    log.grant("a", of(D, 1, 2))
    log.grant("b", of(D, 2, 2), in_use=2)
    seq = log.grant("c", of(D, 3, 2), in_use=3)
    (breach,) = log.certificate().breaches
    assert (breach.seq, breach.kind, breach.quota) == (seq, "over", D)
    assert breach.word is not None
    assert (breach.word.amount, breach.word.seq, breach.word.writer, breach.word.source) == (2, 1, "engine", "configured")
    assert breach.text == f"Fact {seq} makes 3 of {D}; the limit is 2, configured by fact 1 of the engine."


def test_a_quota_that_a_grant_leaves_out_is_a_breach(book):
    log = book(d=DAY)
    seq = log.grant("a")
    assert log.kinds() == [(seq, "left_out")]


def test_a_quota_that_does_not_apply_is_a_breach(book, of):
    log = book()
    seq = log.grant("a", of(D, 1, None))
    assert log.kinds() == [(seq, "foreign")]


def test_a_forged_use_is_a_breach(book, of):
    log = book(d=DAY)
    log.grant("a", of(D, 1, 2))
    seq = log.grant("b", of(D, 1, 2), in_use=2)
    assert log.kinds() == [(seq, "used")]


def test_a_forged_limit_is_a_breach(book, of):
    log = book(d=DAY)
    seq = log.grant("a", of(D, 1, 3))
    assert log.kinds() == [(seq, "limit")]


def test_more_slots_than_the_settings_allow_are_a_breach_fewer_are_not(book):
    log = book()
    for number in range(1, 6):
        log.grant(f"t{number}", in_use=number, limit=5)
    assert log.certificate().holds
    seq = log.grant("t6", in_use=6, limit=6)
    assert log.kinds() == [(seq, "over"), (seq, "limit")]
    few = book()
    few.grant("a", in_use=1, limit=1)
    assert few.certificate().holds
    seq = few.grant("b", in_use=1, limit=1)
    assert few.kinds() == [(seq, "used")]


def test_a_grant_is_judged_by_the_limit_that_its_writer_had_read(book, of):
    log = book(d=DAY)
    log.grant("a", of(D, 1, 2))
    log.route("b")
    before = len(log.facts)
    log.limit("d", 1)
    log.grant("b", of(D, 2, 2), in_use=2, as_of=before, routed=False)
    found = log.certificate()
    assert found.holds
    assert (found.lag.facts, found.lag.seq) == (1, len(log.facts))
    seq = log.grant("c", of(D, 3, 1), in_use=3)
    assert log.kinds() == [(seq, "over")]


def test_knowledge_older_than_a_grant_may_be_is_a_breach(book):
    log = book()
    log.route("a")
    log.adopt()
    log.now_ms += LAG_MS_MAX + 1
    seq = log.grant("a", as_of=2, routed=False)
    assert log.kinds() == [(seq, "stale")]


def test_nobody_knows_the_future_or_forgets_what_he_knew(book):
    log = book()
    future = log.grant("a", as_of=99)
    past = log.grant("b", as_of=1, in_use=2)
    silent = log.grant("c", as_of=0, in_use=3)
    assert log.kinds() == [(future, "stale"), (past, "stale"), (silent, "stale")]


def test_an_attempt_is_granted_once(book):
    log = book()
    log.grant("a")
    held = log.grant("a", routed=False, in_use=2)
    log.settle("a")
    again = log.grant("a", routed=False)
    assert log.kinds() == [(held, "twice"), (again, "unasked")]


def test_nobody_is_granted_who_was_not_routed_was_refused_or_has_ended(book):
    log = book()
    log.route("refused")
    log.say(QuotaRefused(chain="c", task="refused", attempt=1, fault=Fault(error_class="policy")))
    log.route("ended")
    log.say(TaskCompleted(chain="c", task="ended", status="cancelled"))
    found = [log.grant(task, routed=False, in_use=1 + at) for at, task in enumerate(("nobody", "refused", "ended"))]
    assert log.kinds() == [(seq, "unasked") for seq in found]


def test_a_hold_is_settled_once_and_only_where_it_was_granted(book, of):
    log = book(d=DAY)
    log.grant("a", of(D, 1, 2))
    log.settle("a", of(D, None, None))
    twice = log.settle("a", of(D, None, None))
    nobody = log.settle("b")
    log.grant("c", of(D, 2, 2))
    elsewhere = log.say(QuotaSettled(chain="c", task="c", attempt=1, platform="q"))
    assert log.kinds() == [(twice, "settled"), (nobody, "settled"), (elsewhere, "settled")]


def test_what_was_never_taken_is_not_settled(book, of):
    log = book()
    granted = log.grant("a")
    log.settle("a", of(D, None, None))
    assert log.kinds() == [(granted, "settled")]


def test_an_expired_hold_is_booked_whole_and_its_late_end_replaces_that(book, of):
    log = book(t=QuotaSettings(platform="p", window="day", unit="tokens", limit=150))
    name = "p/day/tokens"
    log.grant("a", of(name, 100, 150, 100))
    log.settle("a", of(name, None, None, 100), expired=True)
    log.settle("a", of(name, None, None, 30))
    log.grant("b", of(name, 130, 150, 100))
    assert log.certificate().holds
    line = next(line for line in log.certificate().lines if line.id == name)
    assert (line.settled, line.expired) == (0, 1)
    again = log.settle("a", of(name, None, None, 30))
    assert log.kinds() == [(again, "settled")]


def test_less_than_the_estimate_may_not_be_reserved(book, of):
    log = book(t=QuotaSettings(platform="p", window="day", unit="tokens", limit=150))
    seq = log.grant("a", of("p/day/tokens", 40, 150, 40))
    assert log.kinds() == [(seq, "amount")]


def test_a_rolling_window_forgets_a_start_exactly_when_it_is_as_long_ago(book, of):
    log = book(r=ROLL)
    for number in (1, 2):
        log.grant(f"t{number}", of(R, number, 2))
        log.settle(f"t{number}", of(R, None, None))
    log.now_ms += 59_999
    early = log.grant("early", of(R, 3, 2))
    assert log.kinds() == [(early, "over")]
    late = book(r=ROLL)
    for number in (1, 2):
        late.grant(f"t{number}", of(R, number, 2))
        late.settle(f"t{number}", of(R, None, None))
    late.now_ms += 60_000
    late.grant("late", of(R, 1, 2))
    assert late.certificate().holds


def test_a_use_of_the_moment_of_the_decision_is_right_though_the_log_stamps_it_later(book, of):
    log = book(r=ROLL)
    log.grant("a", of(R, 1, 2))
    log.settle("a", of(R, None, None))
    log.now_ms += 59_000
    as_of = log.route("b")
    log.now_ms += 2_000
    log.grant("b", of(R, 2, 2), as_of=as_of, routed=False)
    assert log.certificate().holds


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_a_day_in_berlin_ends_at_its_own_midnight_also_when_clocks_are_set(book, of, day, hours):
    log = book(d=DAY)
    log.at(f"{day}T00:00:00")
    for number in (1, 2):
        log.grant(f"t{number}", of(D, number, 2), in_use=number)
    for number in (1, 2):
        log.settle(f"t{number}", of(D, None, None))
    log.now_ms += hours * 3_600_000 - 1
    early = log.grant("early", of(D, 3, 2))
    assert log.kinds() == [(early, "over")]
    log.settle("early", of(D, None, None, 0))
    log.now_ms += 1
    log.grant("next", of(D, 1, 2))
    assert log.kinds() == [(early, "over")]


def test_an_hour_that_comes_twice_is_two_hours(book, of):
    name = "p/hour/requests"
    log = book(h=QuotaSettings(platform="p", window="hour", limit=1, zone="Europe/Berlin"))
    log.at("2026-10-25T02:30:00")
    log.grant("a", of(name, 1, 1))
    log.settle("a", of(name, None, None))
    log.at("2026-10-25T02:10:00", fold=1)
    log.grant("b", of(name, 1, 1))
    assert log.certificate().holds


@pytest.mark.parametrize(("window", "first", "second"), [
    ("week", "2026-03-29T23:59:59", "2026-03-30T00:00:00"),
    ("month", "2026-03-31T23:59:59", "2026-04-01T00:00:00"),
])  # fmt: skip
def test_weeks_begin_on_monday_and_months_on_their_first(book, of, window, first, second):
    name = f"p/{window}/requests"
    log = book(w=QuotaSettings(platform="p", window=window, limit=1, zone="Europe/Berlin"))
    log.at(first)
    log.grant("a", of(name, 1, 1))
    log.settle("a", of(name, None, None))
    log.at(second)
    log.grant("b", of(name, 1, 1))
    assert log.certificate().holds


def test_what_a_provider_reported_counts_until_its_window_resets(book, of):
    name = "p/5h/requests"
    log = book()
    log.learn(window_s=18_000, limit=10, used=9, resets_at_ms=log.now_ms + 60_000)
    log.grant("a", of(name, 10, 10))
    over = log.grant("b", of(name, 11, 10), in_use=2)
    (breach,) = log.certificate().breaches
    assert (breach.seq, breach.kind) == (over, "over")
    assert breach.word is not None
    assert (breach.word.writer, breach.word.source, breach.word.seq) == ("adapter of p", "learned", 2)
    log.now_ms += 60_000
    log.grant("c", of(name, 3, 10), in_use=3)
    assert log.kinds() == [(over, "over")]


def test_a_smaller_limit_that_the_user_wrote_stays_below_a_learned_one(book, of):
    log = book(d=QuotaSettings(platform="p", window="day", limit=2))
    log.learn(window_s=86_400, limit=10)
    log.grant("a", of(D, 1, 2))
    assert log.certificate().holds
    log.learn(window_s=86_400, limit=1)
    over = log.grant("b", of(D, 2, 1), in_use=2)
    assert log.kinds() == [(over, "over")]


def test_a_budget_holds_what_a_grant_may_cost_until_its_cost_is_known(book, of):
    name = "budget:month/month/usd"
    log = book()
    log.budget("month", limit_usd="1", window="month")
    log.grant("a", of(name, "0.6", "1", "0.6"), bound="0.6")
    log.settle("a")
    over = log.grant("b", of(name, "1.2", "1", "0.6"), bound="0.6")
    log.settle("a", of(name, None, None, "0.1"))
    log.settle("b", of(name, None, None, "0"))
    log.grant("c", of(name, "0.7", "1", "0.6"), bound="0.6")
    log.settle("a", of(name, None, None, "0.4"))
    late = log.grant("d", of(name, "1.6", "1", "0.6"), bound="0.6", in_use=2)
    assert log.kinds() == [(over, "over"), (late, "over")]


def test_a_plan_takes_nothing_of_a_budget(book):
    log = book()
    log.budget("all", limit_usd="0")
    log.grant("a", billing="plan")
    assert log.certificate().holds


def test_the_smallest_bound_of_a_chain_counts(book, of):
    name = "budget:chain=c/all/usd"
    log = book()
    log.route("x", chain_max_cost_usd="3")
    log.route("y", chain_max_cost_usd="1")
    log.route("z", chain_max_cost_usd="2")
    log.grant("a", of(name, "1", "1", "1"), bound="1")
    over = log.grant("b", of(name, "2", "1", "1"), bound="1", in_use=2)
    assert log.kinds() == [(over, "over")]


def test_accounts_share_their_quotas(book, of):
    log = book(d=DAY)
    platform = PlatformSettings(kind="compatible", limit=5, account="org")
    log.adopt(platforms={"p": platform, "q": platform})
    log.grant("a", of("org/day/requests", 1, 2))
    log.route("b")
    wrong = QuotaReserved(chain="c", task="b", attempt=1, platform="q", in_use=1, limit=5, as_of=len(log.facts))
    left_out = log.say(wrong)
    assert log.kinds() == [(left_out, "left_out")]


def test_grants_of_before_say_no_knowledge_and_only_their_slots_are_judged(book):
    log = book(d=DAY)
    log.grant("a", as_of=0)
    found = log.certificate()
    assert found.holds
    assert found.unsaid == 1


def test_the_next_attempt_is_granted_after_the_first_failed(book):
    log = book()
    log.grant("a")
    log.say(AttemptFailed(chain="c", task="a", attempt=1, platform="p", fault=Fault(error_class="server_error")))
    log.settle("a")
    log.grant("a", attempt=2)
    assert log.certificate().holds


def test_the_document_says_all_of_it_with_amounts_as_text(book, of):
    log = book(d=DAY)
    log.grant("a", of(D, 1, 2))
    log.grant("b", of(D, 3, 2), in_use=2)
    plain = document(log.certificate())
    assert (plain["schema"], plain["ok"], plain["grants"]) == ("farebox.audit-quota/1", False, 2)
    line = next(line for line in plain["quotas"] if line["quota"] == D)
    assert line["peak"] == {
        "used": "2", "at_ms": log.now_ms, "seq": 5,
        "limit": "2", "limit_seq": 1, "limit_writer": "engine", "limit_source": "configured",
    }  # fmt: skip
    assert plain["breaches"][0]["kind"] == "used"
