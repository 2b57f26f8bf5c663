"""What a client writes: fenced, read back when the outcome is unknown, large contents by reference."""

from __future__ import annotations

import msgspec
import pytest

from farebox.client import Client
from farebox.core import events, subjects, wire
from farebox.core.errors import AppendUnknown, BadInput, LogFull, NotReachable
from farebox.log.memory import Fate, MemoryLog, MemoryStore
from farebox.posting import keep, say_cancel, say_first, say_submission, submission
from farebox.tasks import REPLACED, spec_of


def stored(store, kind=events.TaskSubmitted):
    facts = [wire.decode(one.subject, one.body, one.seq, one.at_ms) for one in store.facts]
    return [fact for fact in facts if isinstance(fact, kind)]


@pytest.mark.parametrize("fates", [[Fate.ANSWER_LOST], [Fate.LOST], [Fate.BUSY], [Fate.LOST, Fate.ANSWER_LOST]])
async def test_an_unknown_outcome_is_read_back_and_the_fact_stands_once(fates):
    waiting = list(fates)
    store = MemoryStore(fate=lambda _: waiting.pop(0) if waiting else Fate.ARRIVES)
    await Client(MemoryLog(store)).submit("hello")
    assert len(stored(store)) == 1


async def test_a_bus_that_never_answers_is_not_waited_for_without_end():
    store = MemoryStore(fate=lambda _: Fate.LOST)
    with pytest.raises(AppendUnknown):
        await say_first(MemoryLog(store), events.TaskCancelRequested(chain="c", task="t"), patience_s=0.1)


async def test_a_full_log_is_said_at_once():
    with pytest.raises(LogFull):
        await Client(MemoryLog(MemoryStore(bytes_max=10))).submit("hello")


async def test_sending_the_same_task_again_is_harmless_and_another_one_is_refused(store):
    log = MemoryLog(store)
    same = [await submission(log, spec_of({"prompt": "hello"}), chain="c", task="t") for _ in range(2)]
    for fact in same:
        await say_submission(log, fact)
    with pytest.raises(BadInput, match="submitted before with other contents"):
        await say_submission(log, await submission(log, spec_of({"prompt": "other"}), chain="c", task="t"))
    assert len(store.facts) == 1


async def test_a_cancel_is_written_once(store):
    for _ in range(3):
        await say_cancel(MemoryLog(store), "c", "t", "x" * 1000)
    (fact,) = stored(store, events.TaskCancelRequested)
    assert len(fact.reason) == 500


@pytest.mark.fault(32)
async def test_ten_megabytes_travel_through_the_object_store(fb, store, engine):
    prompt = "big " + "x" * 10_000_000
    handle = await fb.submit(prompt, context={"a": 1})
    (fact,) = stored(store)
    assert (fact.prompt, fact.prompt_ref.bytes, fact.bytes) == ("", len(prompt), len(prompt))
    assert fact.context == {"a": 1}
    assert (await handle.result()).output == prompt.upper()


async def test_contents_that_are_small_each_but_large_together_are_split(store):
    log = MemoryLog(store)
    files = [{"name": f"f{number}", "content": "y" * 100_000} for number in range(8)]
    fact = await submission(log, spec_of({"prompt": "p", "files": files, "context": {"k": "z" * 90_000}}), chain="c", task="t")
    assert len(wire.encode(fact)) < 300_000
    assert sum(file.ref is not None for file in fact.files) >= 6
    assert all((file.ref is None) != (file.content is None) for file in fact.files)
    large = await submission(log, spec_of({"prompt": "p", "context": {"k": "z" * 300_000}}), chain="c", task="u")
    assert (large.context, large.context_ref.bytes) == ({}, 300_008)


@pytest.mark.fault(33)
@pytest.mark.parametrize("prompt", ["nul \x00 inside", "🎫 fare", "ünï\u2028code"])
async def test_strange_but_sound_text_arrives_as_it_is(fb, store, prompt):
    await fb.submit(prompt)
    assert stored(store)[0].prompt == prompt


@pytest.mark.fault(33)
async def test_lone_surrogates_are_replaced_and_the_metadata_says_how_many(fb, store):
    await fb.submit("a\ud800b\udfff🎫", metadata={"k": "\udc80"}, context={"\ud801": ["\ud802"]})
    (fact,) = stored(store)
    assert (fact.prompt, fact.metadata) == ("a\ufffdb\ufffd🎫", {"k": "\ufffd", REPLACED: "5"})
    await fb.submit("a pair \ud83c\udfab becomes one")
    assert stored(store)[1].prompt == "a pair 🎫 becomes one"
    assert stored(store)[1].metadata == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"platform": "rehersal"}, 'There is no platform "rehersal". Did you mean "rehearsal"?'),
        ({"model": "parot"}, 'No platform has the model "parot". Did you mean "parrot"?'),
        ({"platform": "rehearsal", "model": "gpt"}, 'rehearsal has no model "gpt".'),
        ({"type": "reserch"}, "'reserch' is no task type. Did you mean \"research\"? Choose one of: code_generation"),
        ({"promt": "x"}, 'unknown field "promt". Did you mean "prompt"?'),
        ({"priority": 5000}, 'field "priority": Expected int <= 1000'),
        ({"timeout_s": 0}, 'field "timeout_s"'),
        ({"metadata": {"a": 1}}, 'field "metadata[...]": Expected str, got int.'),
        ({"context": {"a": object()}}, 'field "context" is no JSON'),
        ({"system": "s" * 70_000}, "system has 70000 bytes; the most is 65536."),
        ({"needs": ["a.b"]}, "needs 'a.b' is not usable."),
        ({"platform": "a.b"}, "platform 'a.b' is not usable."),
    ],
)
async def test_a_wrong_option_is_one_clear_line_and_nothing_is_sent(fb, store, options, words):
    with pytest.raises(BadInput) as caught:
        await fb.submit("hello", **options)
    assert words in str(caught.value)
    assert store.facts == []


@pytest.mark.parametrize("prompt", ["", "  \n\t "])
async def test_an_empty_prompt_is_refused(fb, store, prompt):
    with pytest.raises(BadInput, match="the prompt is empty"):
        await fb.submit(prompt)
    assert store.facts == []


async def test_a_model_is_free_where_the_platform_lists_none(fb, store):
    await fb.submit("hello", platform="ollama", model="whatever")
    assert stored(store)[0].model == "whatever"


FULL = {"code": "FB113", "message": "The disk of the store is full.", "hint": "Make room there."}


async def answering(store, trouble):
    """Serve an engine's word about itself."""
    log = MemoryLog(store)

    async def info(_body):
        return msgspec.json.encode({"schema": "farebox.info/1", "trouble": trouble})

    await log.serve(f"{subjects.API}.info", info)
    return log


async def test_a_log_that_answers_nothing_because_its_disk_is_full_is_waited_for_and_then_said():
    store = MemoryStore(fate=lambda _: Fate.LOST)
    log = await answering(store, FULL)
    fact = events.TaskCancelRequested(chain="c", task="t")
    with pytest.raises(LogFull, match="The disk of the store is full") as caught:
        await say_first(log, fact, patience_s=0.1)
    assert (caught.value.code, caught.value.exit_code, caught.value.hint) == ("FB113", 3, "Mend that, then send it again.")
    assert store.facts == []


async def test_where_the_engine_knows_of_no_trouble_the_silence_itself_is_said():
    log = await answering(MemoryStore(fate=lambda _: Fate.LOST), None)
    with pytest.raises(AppendUnknown):
        await say_first(log, events.TaskCancelRequested(chain="c", task="t"), patience_s=0.1)


class SilentBucket(MemoryLog):
    """A bucket that does not answer the first times."""

    silences = 2

    async def put_blob(self, body):
        if self.silences:
            self.silences -= 1
            raise NotReachable("The server does not say that it has stored a large content.")
        return await super().put_blob(body)


async def test_a_large_content_waits_for_the_log_as_a_fact_does(store):
    log = SilentBucket(store)
    fact = await submission(log, spec_of({"prompt": "x" * 300_000}), chain="c", task="t")
    assert await log.get_blob(fact.prompt_ref) == b"x" * 300_000
    log.silences = 1000
    with pytest.raises(NotReachable, match="large content"):
        await keep(log, b"y", patience_s=0.1)
