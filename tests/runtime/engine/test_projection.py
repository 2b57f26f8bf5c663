"""The projection: views that follow, questions that see whole commits, a rebuild that loses nothing."""

import asyncio

import pytest

from farebox.core import events
from farebox.core.errors import BusError, LogFull
from farebox.runtime import projection as module
from farebox.runtime.projection import Projection
from farebox.views.desk import Desk


class Book:
    """Views that are a list, to look into; `before` is called before each write."""

    def __init__(self):
        self.rows = []
        self.created = ""
        self.before = lambda _batch: None
        self.closed = 0
        self.aside = {}

    def begin(self, created):
        if created != self.created:
            self.rows, self.created = [], created
        return (self.rows[-1] if self.rows else 0) + 1

    def ingest(self, batch):
        self.before(batch)
        self.rows += [stored.seq for stored in batch]
        return len(batch)

    def put_aside(self, fact, reason):
        self.before([])
        self.rows.append(fact.seq)
        self.aside[fact.seq] = reason

    def forget(self):
        self.rows = []

    def digest(self):
        return ",".join(map(str, self.rows))

    def close(self):
        self.closed += 1


@pytest.fixture
def book():
    return Book()


@pytest.fixture
async def projection(book):
    found = Projection(book)
    assert await found.begin("now") == 1
    yield found
    await found.close()


def facts(tape, count):
    first = len(tape.store.facts)
    for number in range(first, first + count):
        tape.submit(f"t{number}")
    return tape.store.facts[first:]


async def test_facts_come_in_by_a_few_commits_and_in_order(tape, projection, book):
    commits = []
    book.before = lambda batch: commits.append(len(batch))
    for _ in range(50):
        projection.tap(facts(tape, 10))
    assert projection.heard == 500
    assert await projection.wait_for(500, 100)
    assert book.rows == list(range(1, 501))
    assert len(commits) <= 3


async def test_facts_that_the_views_hold_already_are_passed_over(tape, book):
    book.begin("now")
    book.rows = [1, 2, 3]
    projection = Projection(book)
    assert await projection.begin("now") == 4
    projection.tap(facts(tape, 5))
    assert await projection.wait_for(5, 100)
    assert book.rows == [1, 2, 3, 4, 5]
    await projection.close()


async def test_waiting_for_what_does_not_come_ends(projection):
    assert not await projection.wait_for(1, 0.01)


async def test_news_of_a_task_wakes_who_waits_for_it_when_it_can_be_seen(tape, projection, book):
    with projection.watching("t3") as news, projection.watching("t9") as other:
        projection.tap(facts(tape, 5))
        assert await projection.shown(news, 5)
        assert 4 in book.rows
        assert not await projection.shown(other, 0.01)
    assert projection._watched == {}


async def test_two_may_wait_for_one_task(tape, projection):
    with projection.watching("t0") as first:
        with projection.watching("t0"):
            pass
        projection.tap(facts(tape, 1))
        assert await projection.shown(first, 5)
        first.cancel()
        projection.tap(facts(tape, 1))


async def test_an_odd_subject_harms_nobody(tape, projection):
    from farebox.log.port import Entry

    tape.store.append([Entry("farebox.log.client.odd", b"x")])
    with projection.watching("t1"):
        projection.tap(tape.store.facts)
    assert await projection.wait_for(1, 100)


@pytest.mark.fault(60)
async def test_a_rebuild_gives_the_same_and_loses_nothing_that_comes_meanwhile(tape, projection, book):
    """A commit is on its way when it begins, and facts come all the time."""
    projection.tap(facts(tape, 50))
    await projection.wait_for(50, 100)
    going_on = asyncio.Event()
    loop = asyncio.get_running_loop()
    book.before = lambda _batch: loop.call_soon_threadsafe(going_on.set)
    projection.tap(facts(tape, 50))
    await going_on.wait()
    rebuilding = asyncio.ensure_future(projection.rebuild(tape.log()))
    for _ in range(30):
        projection.tap(facts(tape, 5))
        await asyncio.sleep(0)
    rebuilt = await rebuilding
    assert rebuilt.before == rebuilt.after
    assert rebuilt.facts >= 100
    projection.tap(facts(tape, 5))
    assert await projection.wait_for(255, 100)
    assert book.rows == list(range(1, 256))


async def test_two_rebuilds_at_once_come_one_after_the_other(tape, projection, book):
    projection.tap(facts(tape, 30))
    rebuilt = await asyncio.gather(*(projection.rebuild(tape.log()) for _ in range(3)))
    assert [one.facts for one in rebuilt] == [30, 30, 30]
    assert book.rows == list(range(1, 31))


async def test_an_empty_log_is_rebuilt_too(tape, projection):
    assert (await projection.rebuild(tape.log())).facts == 0


async def test_a_large_past_is_folded_in_chunks(tape, projection, book, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_FACTS", 1000)
    projection.tap(facts(tape, 3500))
    await projection.wait_for(3500, 100)
    sizes = []
    book.before = lambda batch: sizes.append(len(batch))
    assert (await projection.rebuild(tape.log())).facts == 3500
    assert len(sizes) >= 4


async def test_a_rebuild_that_fails_can_be_repeated(tape, projection, book, monkeypatch):
    monkeypatch.setattr(module, "AGAIN_S", 0.005)
    projection.tap(facts(tape, 10))
    await projection.wait_for(10, 100)
    book.before = _fails
    with pytest.raises(BusError):
        await projection.rebuild(tape.log())
    book.before = lambda _batch: None
    projection.tap(facts(tape, 10))
    assert (await projection.rebuild(tape.log())).facts == 20
    assert book.rows == list(range(1, 21))


def _fails(_batch):
    raise BusError("The ledger cannot be written.")


@pytest.mark.fault(35)
async def test_views_that_cannot_be_written_for_a_while_catch_up(tape, projection, book, monkeypatch, caplog):
    monkeypatch.setattr(module, "AGAIN_S", 0.02)
    book.before = _fails
    projection.tap(facts(tape, 10))
    assert not await projection.wait_for(1, 0.2)
    projection.tap(facts(tape, 10))
    book.before = lambda _batch: None
    assert await projection.wait_for(20, 100)
    assert book.rows == list(range(1, 21))
    assert "stay behind" in caplog.text


@pytest.mark.fault(27)
@pytest.mark.parametrize("poison", [1, 7, 20])
async def test_a_fact_that_no_table_can_hold_is_put_aside_with_its_reason_and_the_others_are_seen(
    tape, projection, book, monkeypatch, caplog, poison
):
    """Whatever breaks: an error of the file, or one that nobody thought of."""
    monkeypatch.setattr(module, "AGAIN_S", 0.005)

    def breaks(batch):
        if any(stored.seq == poison for stored in batch):
            raise ValueError("no such shape")

    book.before = breaks
    projection.tap(facts(tape, 20))
    assert await projection.wait_for(20, 100)
    assert book.rows == list(range(1, 21))
    assert book.aside == {poison: f"{module.UNSEEN}: ValueError: no such shape"}
    assert f"fact {poison} is in no view" in caplog.text
    book.aside.clear()
    assert (await projection.rebuild(tape.log())).facts == 20
    assert list(book.aside) == [poison], "made anew they hold the same"


async def test_closing_writes_what_waits_and_may_be_done_twice(tape, book):
    projection = Projection(book)
    await projection.begin("now")
    projection.tap(facts(tape, 5))
    await projection.close()
    assert book.rows == [1, 2, 3, 4, 5]
    assert book.closed == 1


async def test_the_real_views_follow_and_are_rebuilt_alike(tape, tmp_path):
    projection = Projection(Desk(tmp_path / "ledger.duckdb"))
    assert await projection.begin("memory") == 1
    projection.tap(facts(tape, 40))
    tape.say("adapter", events.TaskStarted(chain="c1", task="t1", attempt=1, platform="openai"))
    projection.tap(tape.store.facts[40:])
    assert await projection.wait_for(41, 100)
    assert (await projection.ask(lambda: projection.views.result("c1", "t1")))["status"] == "running"
    rebuilt = await projection.rebuild(tape.log())
    assert rebuilt.before == rebuilt.after
    assert rebuilt.facts == 41
    await projection.close()
    again = Projection(Desk(tmp_path / "ledger.duckdb"))
    assert await again.begin("memory") == 42
    await again.close()


async def test_a_trouble_is_said_once_and_its_end_once(tape, projection, book, monkeypatch, caplog):
    monkeypatch.setattr(module, "AGAIN_S", 0.005)
    tries = []

    def fails(batch):
        """Two rounds long: all, a half, a quarter, one, that one again, and putting it aside."""
        tries.append(batch)
        if len(tries) <= 2 * 6:
            _fails(batch)

    book.before = fails
    projection.tap(facts(tape, 10))
    assert await projection.wait_for(10, 100)
    assert book.aside == {}, "where nothing can be written, no fact is to blame"
    projection.tap(facts(tape, 10))
    assert await projection.wait_for(20, 100)
    assert [record.message for record in caplog.records] == [
        "the views stay behind: The ledger cannot be written.",
        "the views are written again",
    ]


async def test_views_that_the_disk_keeps_from_being_written_are_not_to_blame(tape, book, monkeypatch, caplog):
    monkeypatch.setattr(module, "AGAIN_S", 0.005)
    full = LogFull("The disk of the store is full.", hint="Make room there.")
    projection = Projection(book, lambda: full)
    await projection.begin("now")
    book.before = _fails
    projection.tap(facts(tape, 1))
    assert not await projection.wait_for(1, 0.1)
    book.before = lambda _batch: None
    assert await projection.wait_for(1, 100)
    projection.tap(facts(tape, 1))
    assert await projection.wait_for(2, 100)
    await projection.close()
    assert caplog.messages == [
        "the views stay behind: The disk of the store is full. Make room there.",
        "the views are written again",
    ]
