"""The ledger takes what stands in the log, whole or not at all, and survives whatever is wrong with it or its file."""

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farebox.core import events as e
from farebox.core import subjects, wire
from farebox.core.errors import BusError, LogFull, StoreInUse
from farebox.core.terms import Usage
from farebox.log.port import Stored
from farebox.views import ledger as ledgers
from farebox.views import questions
from farebox.views.ledger import Ledger

AT_MS = 1_790_000_000_000


def put(writer: str, fact: e.Fact, seq: int) -> Stored:
    return Stored(subjects.subject_of(writer, fact), wire.encode(fact), seq, AT_MS + seq)


def submitted(task: str, seq: int, **more: Any) -> Stored:
    return put("client", e.TaskSubmitted(chain=task, task=task, prompt="p", **more), seq)


def completed(task: str, seq: int, **more: Any) -> Stored:
    fields: dict[str, Any] = {"attempt": 1, "platform": "p1", "charged": "known", "status": "completed", "output": "x"}
    return put("adapter", e.TaskCompleted(chain=task, task=task, **fields | more), seq)


def charged(task: str, seq: int, paid: str = "0.5", **more: Any) -> Stored:
    fields: dict[str, Any] = {"attempt": 1, "platform": "p1", "status": "priced", "paid_usd": paid}
    return put("cost", e.CostRecorded(chain=task, task=task, **fields | more), seq)


def memory(*facts: Stored) -> Ledger:
    ledger = Ledger.open(":memory:")
    ledger.begin("log-1")
    ledger.ingest(facts)
    return ledger


def held(ledger: Ledger) -> tuple[str, int]:
    return ledger.checkpoint.created, ledger.checkpoint.seq


def quarantined(ledger: Ledger) -> dict[int, str]:
    with ledger.snapshot() as now:
        return {seq: reason for rows in now.stream("SELECT seq, reason FROM quarantine") for seq, reason in rows}


def test_the_mark_of_the_views_is_the_same_however_the_facts_came() -> None:
    facts = [submitted("t1", 1), completed("t1", 2), charged("t1", 3)]
    whole, piecewise = memory(*facts), memory()
    for fact in facts:
        piecewise.ingest([fact])
    assert whole.checkpoint == piecewise.checkpoint
    last = facts[-1]
    assert whole.checkpoint.fits(last.seq, last.at_ms, last.subject, last.body)
    assert not whole.checkpoint.fits(last.seq, last.at_ms + 1, last.subject, last.body)
    assert memory(facts[0], completed("t1", 2, output="y"), facts[2]).checkpoint.digest != whole.checkpoint.digest


def test_the_checkpoint_moves_with_the_facts() -> None:
    ledger = memory()
    assert held(ledger) == ("log-1", 0)
    assert ledger.ingest([submitted("t1", 1), completed("t1", 4)]) == 2
    assert held(ledger) == ("log-1", 4)
    assert ledger.begin("log-1") == 5
    assert ledger.ingest([]) == 0


def test_a_fact_that_was_already_taken_is_passed_over() -> None:
    facts = [submitted("t1", 1), completed("t1", 2), charged("t1", 3)]
    once, twice = memory(*facts), memory(*facts)
    assert twice.ingest(facts[1:]) == 0
    assert twice.ingest([*facts, submitted("t2", 4)]) == 1
    once.ingest([submitted("t2", 4)])
    assert once.digest() == twice.digest()


def test_another_log_is_another_ledger() -> None:
    ledger = memory(submitted("t1", 1))
    assert ledger.begin("log-2") == 1
    assert held(ledger) == ("log-2", 0)
    assert ledger.digest() == memory().digest()


def test_forgetting_leaves_nothing() -> None:
    ledger = memory(submitted("t1", 1), completed("t1", 2))
    ledger.forget()
    assert held(ledger) == ("", 0)
    assert ledger.digest() == memory().digest()


def test_a_file_keeps_what_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "views" / "ledger.duckdb"
    first = Ledger.open(path)
    first.begin("log-1")
    first.ingest([submitted("t1", 1), completed("t1", 2)])
    said = first.digest()
    first.close()
    first.close()
    again = Ledger.open(path)
    assert (held(again), again.notices) == (("log-1", 2), ())
    assert again.digest() == said
    again.close()


def test_tables_of_another_version_are_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.duckdb"
    first = Ledger.open(path)
    first.begin("log-1")
    first.ingest([submitted("t1", 1)])
    first.close()
    monkeypatch.setitem(wire.VERSIONS, "TaskSubmitted", 2)
    ledgers.shape.cache_clear()
    again = Ledger.open(path)
    monkeypatch.undo()
    ledgers.shape.cache_clear()
    assert held(again) == ("", 0)
    again.close()


@pytest.mark.fault(57)
@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_a_damaged_file_is_moved_aside_and_said(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.duckdb"
    for number in (1, 2):
        good = Ledger.open(path)
        good.begin("log-1")
        good.ingest([submitted("t1", 1)])
        good.close()
        path.write_bytes(b"no database" * 999 if damage == "garbage" else path.read_bytes()[:5000])
        path.with_name("ledger.duckdb.wal").write_bytes(b"")
        ledger = Ledger.open(path)
        assert held(ledger) == ("", 0)
        assert f"ledger.duckdb.damaged-{number}" in ledger.notices[0]
        assert (tmp_path / f"ledger.duckdb.damaged-{number}").exists()
        ledger.close()


def test_a_damaged_file_without_journal_is_moved_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    path.write_bytes(b"no database" * 999)
    Ledger.open(path).close()
    names = ["ledger.duckdb", "ledger.duckdb.damaged-1", "ledger.duckdb.sha256"]
    assert sorted(one.name for one in tmp_path.iterdir()) == names


def _hold(path: str, ready: Any, done: Any) -> None:
    held = Ledger.open(path)
    ready.set()
    done.wait(20)
    held.close()


@pytest.mark.fault(56)
def test_a_file_that_another_process_has_open_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(str(path), ready, done))
    other.start()
    try:
        assert ready.wait(20)
        with pytest.raises(StoreInUse, match="another process"):
            Ledger.open(path)
    finally:
        done.set()
        other.join(20)
    Ledger.open(path).close()


def test_a_file_that_cannot_be_written_is_an_error_and_takes_nothing() -> None:
    ledger = memory(submitted("t1", 1))
    with ledger.snapshot():
        pass
    ledger._connection.execute("DROP TABLE endings CASCADE")
    with pytest.raises(BusError, match="cannot be written"):
        ledger.ingest([submitted("t2", 2), completed("t2", 3)])
    assert held(ledger) == ("log-1", 1)
    assert ledger.ingest([submitted("t2", 2)]) == 1
    with ledger.snapshot() as now:
        assert list(now.stream("SELECT task FROM submissions")) == [[("t1",), ("t2",)]]


GOOD = submitted("t1", 1)
LIES = {
    "garbage": Stored(GOOD.subject, b"{no json", 9, AT_MS),
    "empty": Stored(GOOD.subject, b"", 9, AT_MS),
    "an array": Stored(GOOD.subject, b"[1]", 9, AT_MS),
    "null": Stored(GOOD.subject, b"null", 9, AT_MS),
    "no text": Stored(GOOD.subject, b'{"fact":"TaskSubmitted","prompt":"\xff"}', 9, AT_MS),
    "a line feed inside a string": Stored(GOOD.subject, GOOD.body.replace(b'"p"', b'"a\nb"'), 9, AT_MS),
    "a lone surrogate": Stored(GOOD.subject, GOOD.body.replace(b'"p"', b'"\\ud800"'), 9, AT_MS),
    "too large": Stored(GOOD.subject, GOOD.body.replace(b'"p"', b'"%s"' % (b"x" * 1_000_001)), 9, AT_MS),
    "an unknown fact": Stored(GOOD.subject, GOOD.body.replace(b"TaskSubmitted", b"TaskImagined"), 9, AT_MS),
    "a fact of tomorrow": Stored(GOOD.subject, GOOD.body.replace(b'"prompt"', b'"version":9,"prompt"'), 9, AT_MS),
    "another task": Stored(GOOD.subject.replace("t1", "t2"), GOOD.body, 9, AT_MS),
    "another writer": Stored(completed("t1", 9).subject, GOOD.body, 9, AT_MS),
    "another lane": Stored(completed("t1", 9).subject.replace(".p1.", ".p2."), completed("t1", 9).body, 9, AT_MS),
    "a lane where its subject has none": Stored(
        completed("t1", 9).subject.replace(".adapter.completed.p1.", ".router.completed.-."), completed("t1", 9).body, 9, 1
    ),
    "a report that speaks of a task": Stored(
        "farebox.log.adapter.reported.p1.-.-", b'{"fact":"PlatformReported","platform":"p1","task":"t1"}', 9, AT_MS
    ),
    "settings that speak of a chain": Stored(
        "farebox.log.engine.settings.-.-.-", b'{"fact":"SettingsAdopted","chain":"c1","batch":"c1"}', 9, AT_MS
    ),
    "a batch in another chain": Stored(
        "farebox.log.client.batch_submitted.-.b1.-", b'{"fact":"BatchSubmitted","chain":"c1","batch":"b1","count":1}', 9, AT_MS
    ),
    "no place in the log": Stored("farebox.elsewhere", GOOD.body, 9, AT_MS),
    "a status that is none": Stored(completed("t1", 9).subject, completed("t1", 9).body.replace(b'"completed"', b'"x"'), 9, 1),
    "money as a float": Stored(charged("t1", 9).subject, charged("t1", 9).body.replace(b'"0.5"', b'"5e-1"'), 9, AT_MS),
    "negative money": Stored(charged("t1", 9).subject, charged("t1", 9).body.replace(b'"0.5"', b'"-1"'), 9, AT_MS),
    "13 places": Stored(charged("t1", 9).subject, charged("t1", 9).body.replace(b"0.5", b"0.1234567890123"), 9, AT_MS),
    "negative tokens": Stored(
        completed("t1", 9).subject, completed("t1", 9).body.replace(b'"output"', b'"usage":{"input_tokens":-1},"output"'), 9, 1
    ),
}  # fmt: skip


@pytest.mark.fault(28)
@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_fact_is_counted_and_harms_nobody(lie: str) -> None:
    ledger = memory(GOOD, LIES[lie], completed("t1", 10))
    assert list(quarantined(ledger)) == [9]
    assert quarantined(ledger)[9]
    found = questions.result(ledger, "t1", "t1")
    assert found is not None
    assert (found.status, found.output) == ("completed", "x")
    assert ledger.checkpoint.seq == 10
    assert questions.counts(ledger)["views"]["quarantined"] == 1


def test_the_verdict_about_a_fact_does_not_depend_on_its_neighbours() -> None:
    facts = [Stored(one.subject, one.body, seq, AT_MS) for seq, one in enumerate(LIES.values(), 1)]
    together, alone = memory(*facts), memory()
    for fact in facts:
        alone.ingest([fact])
    assert quarantined(together) == quarantined(alone)
    assert together.digest() == alone.digest()


def test_a_fact_may_be_written_in_any_way_that_json_allows() -> None:
    pretty = msgspec.json.format(GOOD.body, indent=2)
    assert b"\n" in pretty
    ledger = memory(Stored(GOOD.subject, pretty, 1, AT_MS), completed("t1", 2, output="a\nb\x00c\u2028 😀 \t"))
    assert quarantined(ledger) == {}
    found = questions.result(ledger, "t1", "t1")
    assert found is not None
    assert found.output == "a\nb\x00c\u2028 😀 \t"


def test_a_batch_may_be_named_as_the_chain_of_its_tasks() -> None:
    body = b'{"fact":"BatchSubmitted","chain":"b1","batch":"b1","count":1}'
    ledger = memory(Stored("farebox.log.client.batch_submitted.-.b1.-", body, 1, AT_MS))
    assert quarantined(ledger) == {}
    assert questions.counts(ledger)["views"]["batches"] == 1


def test_a_fact_of_yesterday_is_read_through_its_upcasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(wire.VERSIONS, "TaskSubmitted", 2)
    monkeypatch.setitem(
        wire.UPCASTS, ("TaskSubmitted", 1), lambda raw: {k: v for k, v in raw.items() if k != "old"} | {"label": raw["old"]}
    )
    body = GOOD.body.replace(b'"prompt"', b'"old":"was here","prompt"')
    ledgers.shape.cache_clear()
    ledger = memory(Stored(GOOD.subject, body, 1, AT_MS))
    monkeypatch.undo()
    ledgers.shape.cache_clear()
    assert quarantined(ledger) == {}
    assert questions.tasks(ledger)[0].result.label == "was here"


def test_a_full_disk_is_said_and_no_rebuild_is_advised() -> None:
    refused = memory()._blamed(OSError('Could not write file "ledger.duckdb.wal": No space left on device'))
    assert isinstance(refused, LogFull)
    assert "replay" not in str(refused)


def test_a_file_that_may_not_be_read_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    path.mkdir()
    with pytest.raises(BusError, match="cannot be opened"):
        Ledger.open(path)
    assert path.is_dir()


def test_facts_that_no_view_is_made_of_are_counted() -> None:
    reported = put("adapter", e.PlatformReported(platform="p1", available=True), 1)
    assert questions.counts(memory(reported))["facts"] == {"PlatformReported": 1}


def test_every_fact_of_the_table_of_subjects_is_taken() -> None:
    """One of each, so that a new fact cannot be forgotten here."""
    place: dict[str, Any] = {"chain": "c1", "task": "t1", "attempt": 1, "batch": "b1"}
    extra: dict[type, dict[str, Any]] = {
        e.QuotaRefused: {"fault": {"error_class": "policy"}},
        e.TaskCompleted: {"status": "completed"},
        e.AttemptFailed: {"fault": {"error_class": "network"}},
        e.AttemptInterrupted: {"fault": {"error_class": "crashed"}},
        e.BatchSubmitted: {"count": 1},
        e.TaskDecision: {"decision": "retry"},
        e.PriceListAdopted: {"list_id": "l"},
        e.HandoffCreated: {"memory": "m"},
    }
    facts: list[Stored] = []
    for row in subjects.TABLE:
        raw = place | extra.get(row.fact, {}) | {"fact": row.fact.__name__}
        if "platform" in row.fact.__struct_fields__:
            raw["platform"] = "p1" if "LANE" in row.place.name else "-"
        if row.place is subjects.Place.BATCH:
            raw |= {"chain": "-", "task": "-"}
        if row.place in {subjects.Place.LANE, subjects.Place.ALONE}:
            raw |= {"chain": "-", "task": "-"}
        fact = msgspec.convert(raw, row.fact)
        facts.append(put(row.writer, fact, len(facts) + 1))
    ledger = memory(*facts)
    assert quarantined(ledger) == {}
    assert sum(questions.counts(ledger)["facts"].values()) == len(subjects.TABLE)


@pytest.mark.fault(68)
def test_a_second_end_of_a_task_is_an_alarm_and_changes_nothing() -> None:
    ledger = memory(submitted("t1", 1), completed("t1", 2), completed("t1", 3, status="failed", output="no"))
    found = questions.result(ledger, "t1", "t1")
    assert found is not None
    assert (found.status, found.output) == ("completed", "x")
    with ledger.snapshot() as now:
        assert next(now.stream("SELECT seq, task, alarm FROM alarms")) == [(3, "t1", "ended_twice")]
    assert questions.counts(ledger)["views"]["alarms"] == 1


def test_large_batches_go_in_as_several_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = [submitted(f"t{seq}", seq) for seq in range(1, 30)]
    whole = memory(*facts)
    monkeypatch.setattr(ledgers, "CHUNK_FACTS_MAX", 4)
    by_count = memory(*facts)
    monkeypatch.setattr(ledgers, "CHUNK_BYTES_MAX", 300)
    by_bytes = memory(*facts)
    assert whole.digest() == by_count.digest() == by_bytes.digest()


def test_questions_are_answered_from_other_threads_while_facts_come_in() -> None:
    ledger = memory()
    seen: list[str] = []
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            while not seen or seen[-1] != "50":
                found = questions.costs(ledger, "task")
                rows = sum(row.charges for row in found.rows)
                assert rows == found.total.charges, "rows and total are of one moment"
                seen.append(str(rows))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failed.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    for seq in range(1, 51):
        ledger.ingest([charged(f"t{seq}", seq)])
    asker.join(20)
    assert failed == []
    assert seen[-1] == "50"


def test_what_a_cache_keeps_for_an_hour_is_a_column_and_null_in_older_facts() -> None:
    usage = Usage(input_tokens=9, output_tokens=1, cache_write_tokens=5, cache_write_1h_tokens=3)
    older = Usage(input_tokens=9, output_tokens=1, cache_write_tokens=5)
    ledger = memory(completed("t1", 1, usage=usage), charged("t1", 2, usage=usage), charged("t2", 3, usage=older))
    with ledger.snapshot() as now:
        tables = ("endings", "charges")
        kept = [
            row for table in tables for rows in now.stream(f"SELECT usage.cache_write_1h_tokens FROM {table}") for row in rows
        ]
    assert kept == [(3,), (3,), (None,)]


def test_usage_and_money_keep_every_digit() -> None:
    usage = Usage(input_tokens=10**12, output_tokens=1, cached_tokens=0, reasoning_tokens=7, source="estimated")
    paid = "12345678901234567890.123456789012"
    ledger = memory(submitted("t1", 1), completed("t1", 2, usage=usage), charged("t1", 3, paid, usage=usage))
    found = questions.result(ledger, "t1", "t1")
    assert found is not None
    assert found.cost.paid_usd == paid
    assert (found.usage.input_tokens, found.usage.cached_tokens, found.usage.reasoning_tokens) == (10**12, 0, 7)
    assert found.usage.source == "estimated"
