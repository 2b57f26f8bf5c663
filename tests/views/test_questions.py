"""What the ledger answers about tasks, batches and money."""

from decimal import Decimal
from typing import Any

import pytest

from farebox.core import events as e
from farebox.core import subjects, wire
from farebox.core.terms import Candidate, Fault, Ref, Rejected, Usage
from farebox.log.port import Stored
from farebox.views import questions
from farebox.views.ledger import Ledger

DAY_MS = 86_400_000
AT_MS = 20_000 * DAY_MS
USAGE = Usage(input_tokens=100, output_tokens=10, cached_tokens=5)
FAULT = Fault(error_class="server_error", message="503")


class Story:
    """A log told fact by fact into a ledger, a second after each other."""

    def __init__(self) -> None:
        self.ledger = Ledger.open(":memory:")
        self.ledger.begin("log-1")
        self.seq = 0
        self.at_ms = AT_MS

    def tell(self, writer: str, fact: e.Fact) -> "Story":
        self.seq += 1
        self.at_ms += 1000
        body = wire.encode(fact)
        self.ledger.ingest([Stored(subjects.subject_of(writer, fact), body, self.seq, self.at_ms)])
        return self

    def submitted(self, task: str, **more: Any) -> "Story":
        return self.tell("client", e.TaskSubmitted(**{"chain": task, "task": task, "prompt": "p"} | more))

    def routed(self, task: str, **more: Any) -> "Story":
        return self.tell("router", e.TaskRouted(chain=task, task=task, attempt=1, **more))

    def started(self, task: str, attempt: int = 1, platform: str = "p1", **more: Any) -> "Story":
        return self.tell(
            "adapter", e.TaskStarted(chain=task, task=task, attempt=attempt, platform=platform, model="m1", **more)
        )

    def completed(self, task: str, attempt: int = 1, platform: str = "p1", **more: Any) -> "Story":
        fields: dict[str, Any] = {"status": "completed", "charged": "known", "usage": USAGE, "duration_ms": 1500} | more
        return self.tell(
            "adapter",
            e.TaskCompleted(**{"chain": task, "task": task, "attempt": attempt, "platform": platform, "model": "m1"} | fields),
        )

    def charged(self, task: str, attempt: int = 1, platform: str = "p1", **more: Any) -> "Story":
        fields: dict[str, Any] = {"status": "priced", "paid_usd": "0.01", "usage": USAGE, "model": "m1"} | more
        return self.tell(
            "cost", e.CostRecorded(**{"chain": task, "task": task, "attempt": attempt, "platform": platform} | fields)
        )

    def result(self, task: str) -> Any:
        found = questions.result(self.ledger, task, task)
        assert found is not None
        return found


def trees(story: Story, task: str) -> list[str]:
    found = questions.attempts_of(story.ledger, [f"{task}.{task}.{n}" for n in (1, 2)])
    return [one.worktree for _, one in sorted(found.items())]


def test_what_happened_to_files_stands_in_the_result_and_each_worktree_with_its_attempt() -> None:
    story = Story().submitted("t1", directory="/p", worktree=True).started("t1", worktree="/w/1")
    assert trees(story, "t1") == ["/w/1"]
    gone = e.AttemptInterrupted(chain="t1", task="t1", attempt=1, platform="p1", fault=FAULT, worktree="/w/1")
    story.tell("adapter", gone).started("t1", attempt=2, worktree="/w/2")
    files: dict[str, Any] = {"files_created": ("a",), "files_changed": ("b", "c"), "files_more": True}
    ended = story.completed("t1", attempt=2, worktree="/w/2", base_commit="c0ffee", **files).result("t1")
    assert {name: getattr(ended, name) for name in files} == files
    assert (ended.worktree, ended.base_commit) == ("/w/2", "c0ffee")
    assert (trees(story, "t1"), trees(story.started("t2", worktree="/w").completed("t2"), "t2")) == (["/w/1", "/w/2"], [""])


def test_a_task_goes_from_pending_over_running_to_its_end() -> None:
    story = Story().submitted("t1", label="first", batch="b1", type="review")
    assert (story.result("t1").status, story.result("t1").label, story.result("t1").batch_id) == ("pending", "first", "b1")
    assert story.result("t1").cost.paid_usd is None
    story.started("t1", billing="plan")
    running = story.result("t1")
    assert (running.status, running.platform, running.model, running.billing) == ("running", "p1", "m1", "plan")
    assert running.duration_s is None
    story.completed("t1", output="done", files_created=("a.txt",), billing="plan")
    ended = story.result("t1")
    assert (ended.status, ended.output, ended.files_created, ended.attempts) == ("completed", "done", ("a.txt",), 1)
    assert (ended.duration_s, ended.cost.status) == (1.5, "pending")
    assert (ended.usage.input_tokens, ended.usage.source) == (100, "provider")
    story.charged("t1", billing="plan", paid_usd="0", plan_value_usd="0.25")
    paid = story.result("t1").cost
    assert (paid.status, paid.paid_usd, paid.plan_value_usd, paid.possible_usd) == ("priced", "0", "0.25", None)


def test_nobody_knows_an_unknown_task() -> None:
    ledger = Story().ledger
    assert questions.result(ledger, "t1", "t1") is None
    assert questions.task_card(ledger, "t1", "t1") is None
    assert questions.find(ledger, "t1") is None
    assert questions.batch(ledger, "b1") is None
    assert questions.blobs(ledger, "t1", "t1") == {}


def test_a_task_is_found_by_its_id_or_a_beginning_that_is_its_own() -> None:
    story = Story().submitted("abc1").submitted("abc12").submitted("xyz", chain="c9")
    assert questions.find(story.ledger, "abc1") == ("abc1", "abc1")
    assert questions.find(story.ledger, "abc") is None
    assert questions.find(story.ledger, "xy") == ("c9", "xyz")


def test_a_task_that_cannot_run_says_why_and_costs_nothing() -> None:
    story = Story().submitted("t1")
    story.tell("router", e.TaskCompleted(chain="t1", task="t1", status="failed", fault=Fault(error_class="unavailable")))
    found = story.result("t1")
    assert (found.status, found.platform, found.attempts, found.duration_s) == ("failed", "", 0, None)
    assert found.error.error_class == "unavailable"
    assert (found.cost.status, found.cost.paid_usd) == ("none", "0")


def test_an_end_without_submission_is_a_task_too() -> None:
    story = Story().completed("t1", batch="b1")
    assert story.result("t1").batch_id == "b1"
    assert questions.find(story.ledger, "t1") == ("t1", "t1")


def test_all_attempts_of_a_task_are_summed_and_the_worst_status_shown() -> None:
    story = Story().submitted("t1").started("t1")
    story.tell(
        "adapter",
        e.AttemptFailed(chain="t1", task="t1", attempt=1, platform="p1", charged="known", usage=USAGE, fault=FAULT),
    )
    assert story.result("t1").status == "pending"
    story.charged("t1").started("t1", 2, "p2").completed("t1", 2, "p2").charged("t1", 2, "p2", paid_usd="0.02")
    found = story.result("t1")
    assert (found.attempts, found.platform, found.cost.status, found.cost.paid_usd) == (2, "p2", "priced", "0.03")
    assert found.usage.input_tokens == 200
    story.charged("t1", 2, "p2", status="unpriced", paid_usd=None)
    assert (story.result("t1").cost.status, story.result("t1").cost.paid_usd) == ("unpriced", "0.01")
    story.charged("t1", 2, "p2", status="estimated", paid_usd="0.5")
    assert (story.result("t1").cost.status, story.result("t1").cost.paid_usd) == ("estimated", "0.51")


def test_what_nobody_can_bound_is_counted_apart_and_never_hidden_in_an_at_most() -> None:
    story = Story()
    for task, amounts in (("t1", ("0.9", None)), ("t2", ("0.5",))):
        story.submitted(task)
        for attempt, paid_usd in enumerate(amounts, 1):
            story.started(task, attempt)
            story.charged(task, attempt, status="possible", paid_usd=paid_usd, usage=None)
    assert (story.result("t1").cost.possible_usd, story.result("t2").cost.possible_usd) == (None, "0.5")
    total = questions.costs(story.ledger).total
    assert (total.possible, total.possible_unknown, total.possible_usd) == (3, 1, "1.4")


def test_a_late_result_replaces_what_was_possible() -> None:
    story = Story().submitted("t1").started("t1")
    lost: dict[str, Any] = {"chain": "t1", "task": "t1", "attempt": 1, "platform": "p1", "charged": "possible"}
    story.tell("adapter", e.AttemptInterrupted(**lost, fault=Fault(error_class="crashed")))
    assert story.result("t1").cost.status == "pending"
    story.charged("t1", status="possible", paid_usd="0.9", usage=None)
    cost = story.result("t1").cost
    assert (cost.status, cost.paid_usd, cost.possible_usd) == ("possible", None, "0.9")
    spent = questions.costs(story.ledger).total
    assert (spent.paid_usd, spent.possible_usd, spent.possible) == (None, "0.9", 1)
    story.tell("late", e.LateResult(**lost | {"charged": "known"}, usage=USAGE, output="late"))
    story.charged("t1", late=True, paid_usd="0.3")
    cost = story.result("t1").cost
    assert (cost.status, cost.paid_usd, cost.possible_usd) == ("priced", "0.3", None)
    card = questions.task_card(story.ledger, "t1", "t1")
    assert card is not None
    (attempt,) = card.attempts
    assert (attempt.outcome, attempt.late, attempt.cost_status, attempt.paid_usd) == ("interrupted", True, "priced", "0.3")


def test_play_money_is_shown_and_never_summed_with_real_money() -> None:
    story = Story().submitted("t1").completed("t1", billing="rehearsal")
    story.charged("t1", billing="rehearsal", paid_usd="7")
    assert (story.result("t1").billing, story.result("t1").cost.paid_usd) == ("rehearsal", "7")
    total = questions.costs(story.ledger).total
    assert (total.paid_usd, total.rehearsal_usd) == ("0", "7")
    story.submitted("t2").completed("t2", 2).charged("t2", billing="rehearsal", paid_usd="5").charged("t2", 2)
    assert story.result("t2").cost.paid_usd == "0.01"
    total = questions.costs(story.ledger).total
    assert (total.paid_usd, total.rehearsal_usd) == ("0.01", "12")


def test_large_texts_are_named_by_reference() -> None:
    ref = Ref(ref="a" * 64, sha256="b" * 64, bytes=300_000)
    story = Story().submitted("t1").completed("t1", output_ref=ref)
    assert questions.blobs(story.ledger, "t1", "t1") == {"output": ref}


def test_a_card_says_why_a_task_went_where_it_went() -> None:
    story = Story().submitted("t1", type="research")
    story.routed(
        "t1",
        candidates=(Candidate(platform="p1", tier=1),),
        rejected=(Rejected(platform="p2", reason="no key"),),
    )
    story.started("t1").completed("t1")
    story.tell("client", e.TaskCancelRequested(chain="t1", task="t1"))
    card = questions.task_card(story.ledger, "t1", "t1")
    assert card is not None
    assert card.candidates == [{"billing": "metered", "platform": "p1", "tier": 1}]
    assert card.rejected == [{"platform": "p2", "reason": "no key"}]
    assert (card.type, card.waiting, card.due_ms, card.cancel_requested) == ("research", "", None, True)
    assert (card.submitted_ms, card.ended_ms) == (AT_MS + 1000, AT_MS + 4000)
    assert [(one.platform, one.outcome, one.cost_status) for one in card.attempts] == [("p1", "completed", "pending")]


def test_a_card_says_what_a_task_waits_for() -> None:
    story = Story().submitted("t1")

    def waiting() -> tuple[str, int | None]:
        card = questions.task_card(story.ledger, "t1", "t1")
        assert card is not None
        return card.waiting, card.due_ms

    assert waiting() == ("for the router", None)
    story.routed("t1")
    assert waiting() == ("for capacity", None)
    story.tell("quota", e.QuotaDeferred(chain="t1", task="t1", due_ms=123, reason="p1 is full"))
    assert waiting() == ("p1 is full", 123)
    story.tell("quota", e.QuotaDeferred(chain="t1", task="t1", due_ms=124))
    assert waiting() == ("for capacity", 124)
    story.tell("quota", e.QuotaReserved(chain="t1", task="t1", platform="p1"))
    assert waiting() == ("for p1 to start it", None)
    story.started("t1")
    assert waiting() == ("", None)


def test_tasks_come_newest_first_and_can_be_chosen() -> None:
    story = Story()
    for number in range(1, 6):
        story.submitted(f"t{number}", batch="b1" if number > 3 else "")
    story.completed("t2", platform="p2").completed("t4", status="failed", fault=FAULT)

    def ids(**chosen: Any) -> list[str]:
        return [row.result.task_id for row in questions.tasks(story.ledger, **chosen)]

    assert ids() == ["t5", "t4", "t3", "t2", "t1"]
    assert ids(limit=2) == ["t5", "t4"]
    assert ids(state="failed") == ["t4"]
    assert ids(state="pending") == ["t5", "t3", "t1"]
    assert ids(platform="p2") == ["t2"]
    assert ids(batch="b1") == ["t5", "t4"]
    assert ids(chain="t1") == ["t1"]
    assert ids(since_ms=AT_MS + 4000) == ["t5", "t4"]


def test_costs_say_what_is_known_and_what_is_not() -> None:
    story = Story()
    story.submitted("t1").completed("t1", platform="openai", duration_ms=1000)
    story.charged("t1", platform="openai", paid_usd="0.1")
    story.submitted("t2").completed("t2", platform="openai", status="failed", duration_ms=3000, fault=FAULT)
    story.charged("t2", platform="openai", status="unpriced", paid_usd=None, model="glm", usage=None)
    story.submitted("t3").completed("t3", platform="claude", billing="plan")
    story.charged("t3", platform="claude", billing="plan", paid_usd="0", plan_value_usd="4")
    story.submitted("t4").completed("t4", platform="ollama", billing="free")
    story.charged("t4", platform="ollama", billing="free", paid_usd="0")
    found = questions.costs(story.ledger, "platform")
    rows = {row.key: row for row in found.rows}
    assert list(rows) == ["claude", "ollama", "openai"]
    metered = rows["openai"]
    assert (metered.tasks, metered.completed, metered.ok_percent, metered.charges) == (2, 1, 50.0, 2)
    assert (metered.paid_usd, metered.plan_value_usd, metered.unpriced) == ("0.1", None, 1)
    assert (metered.p50_ms, metered.p95_ms, metered.input_tokens) == (1000, 3000, 100)
    assert (rows["claude"].paid_usd, rows["claude"].plan_value_usd, rows["claude"].billing) == ("0", "4", "plan")
    assert (rows["ollama"].paid_usd, rows["ollama"].plan_value_usd) == ("0", None)
    assert (found.total.paid_usd, found.total.plan_value_usd, found.total.tasks) == ("0.1", "4", 4)
    assert found.total.key == "total"
    assert found.unpriced_models == ["openai/glm"]


def test_without_any_task_there_is_a_total_of_nothing() -> None:
    found = questions.costs(Story().ledger, "day")
    assert found.rows == []
    assert (found.total.paid_usd, found.total.tasks, found.total.ok_percent, found.total.p50_ms) == ("0", 0, None, None)


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("platform", ["p1", "p2"]),
        ("model", ["m1", "m2"]),
        ("chain", ["c1", "t1"]),
        ("task", ["c1/t2", "t1/t1"]),
        ("batch", ["", "b1"]),
        ("day", ["2024-10-04"]),
    ],
)
def test_costs_can_be_grouped_by_anything_that_matters(by: questions.By, keys: list[str]) -> None:
    story = Story().submitted("t1").completed("t1").charged("t1")
    story.completed("t2", chain="c1", batch="b1", platform="p2", model="m2")
    story.charged("t2", chain="c1", batch="b1", platform="p2", model="m2")
    found = questions.costs(story.ledger, by)
    assert [row.key for row in found.rows] == keys
    assert sum(row.tasks for row in found.rows) == found.total.tasks == 2
    assert found.total.paid_usd == "0.02"


def test_costs_of_a_time_and_a_batch_only() -> None:
    story = Story().completed("t1").charged("t1")
    story.at_ms += DAY_MS
    story.completed("t2", batch="b1").charged("t2", batch="b1", paid_usd="0.5").charged("t1", paid_usd="0.04", late=True)
    days = questions.costs(story.ledger, "day")
    assert [(row.key, row.paid_usd) for row in days.rows] == [("2024-10-04", "0.04"), ("2024-10-05", "0.5")]
    assert questions.costs(story.ledger, until_ms=AT_MS + DAY_MS).total.paid_usd == "0.04", "booked on the first day"
    assert questions.costs(story.ledger, since_ms=AT_MS + DAY_MS).total.paid_usd == "0.5"
    assert questions.costs(story.ledger, batch="b1").total.paid_usd == "0.5"


def test_a_batch_knows_how_far_it_is() -> None:
    story = Story()
    story.tell("client", e.BatchSubmitted(batch="b1", count=3, parallel=2, fail_fast=True, source="x.jsonl"))
    for number in (1, 2, 3):
        story.submitted(f"b1-{number}", chain="b1", batch="b1")
    story.completed("b1-2", chain="b1", batch="b1").charged("b1-2", chain="b1", batch="b1")
    story.completed("b1-1", chain="b1", batch="b1", status="failed", fault=FAULT, charged="none", usage=None)
    found = questions.batch(story.ledger, "b1")
    assert found is not None
    assert (found.count, found.parallel, found.fail_fast, found.source) == (3, 2, True, "x.jsonl")
    assert found.statuses == {"completed": 1, "failed": 1, "pending": 1}
    assert (found.ended, found.charges_due, found.closed_ms) == (["b1-2", "b1-1"], 1, None)
    assert (found.total.paid_usd, [row.key for row in found.platforms]) == ("0.01", ["p1"])
    story.tell("aggregator", e.BatchCompleted(batch="b1", count=3))
    closed = questions.batch(story.ledger, "b1")
    assert closed is not None
    assert closed.closed_ms == story.at_ms


def test_a_batch_that_nobody_announced_is_known_by_its_tasks() -> None:
    found = questions.batch(Story().submitted("t1", batch="b9").ledger, "b9")
    assert found is not None
    assert (found.count, found.statuses, found.submitted_ms) == (None, {"pending": 1}, None)


def test_results_of_a_batch_come_in_the_order_of_their_ends() -> None:
    story = Story()
    for number in (1, 2, 3):
        story.submitted(f"t{number}", batch="b1")
    for number in (3, 1, 2):
        story.completed(f"t{number}", batch="b1", output=f"text {number}")
    first = questions.results(story.ledger, "b1", limit=2)
    assert [one.output for _, one, _ in first] == ["text 3", "text 1"]
    rest = questions.results(story.ledger, "b1", after=first[-1][0])
    assert [one.output for _, one, _ in rest] == ["text 2"]
    assert rest[0][1] == story.result("t2")


def test_a_large_partial_output_comes_as_where_it_is_also_from_the_attempt_before_the_router_ended_the_task() -> None:
    large = Ref(ref="a" * 64, sha256="b" * 64, bytes=300_000)
    story = Story().submitted("t1", batch="b1")
    story.tell("adapter", e.AttemptInterrupted(chain="t1", task="t1", attempt=1, platform="p1", fault=FAULT, partial_ref=large))
    story.tell("router", e.TaskCompleted(chain="t1", task="t1", batch="b1", status="failed", fault=FAULT))
    assert questions.blobs(story.ledger, "t1", "t1") == {"partial_output": large}
    ((_, result, refs),) = questions.results(story.ledger, "b1")
    assert (result.partial_output, refs) == ("", {"partial_output": large})


def test_a_task_without_an_end_is_unfinished() -> None:
    story = Story().submitted("t1").submitted("t2").started("t2").completed("t3")
    assert questions.unfinished(story.ledger) == 2
    assert questions.unfinished(story.completed("t2").ledger) == 1


def test_success_is_counted_per_platform_and_day() -> None:
    story = Story().completed("t1").completed("t2", status="failed", fault=FAULT).completed("t3", status="cancelled")
    with story.ledger.snapshot() as now:
        (rows,) = now.stream("SELECT platform, day, tasks, completed, failed, cancelled FROM success")
    assert rows == [("p1", "2024-10-04", 3, 1, 1, 1)]


def test_a_task_that_was_given_up_is_a_failure_of_the_platform_that_failed_it() -> None:
    story = Story().submitted("t1").completed("t2")
    story.tell("adapter", e.AttemptFailed(chain="t1", task="t1", attempt=1, platform="p1", fault=FAULT, duration_ms=2500))
    story.tell("router", e.TaskCompleted(chain="t1", task="t1", status="failed", fault=FAULT))
    story.tell("router", e.TaskCompleted(chain="t3", task="t3", status="failed", fault=FAULT))
    with story.ledger.snapshot() as now:
        (rows,) = now.stream("SELECT platform, tasks, completed, failed FROM success ORDER BY platform")
    assert rows == [("-", 1, 0, 1), ("p1", 2, 1, 1)]
    found = {row.key: (row.tasks, row.completed) for row in questions.costs(story.ledger, by="platform").rows}
    assert found == {"-": (1, 0), "p1": (2, 1)}
    assert story.result("t1").duration_s == 2.5


def test_chains_sum_their_tasks() -> None:
    story = Story()
    for task in ("t1", "t2"):
        story.submitted(task, chain="c1").completed(task, chain="c1").charged(task, chain="c1")
    with story.ledger.snapshot() as now:
        (rows,) = now.stream("SELECT chain, tasks, completed, paid_usd FROM chains")
    assert rows == [("c1", 2, 2, Decimal("0.02"))]
