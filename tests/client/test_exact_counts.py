"""Tokens are counted where somebody installed what counts them, over the very text that is sent."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from farebox import exact_counts
from farebox.core import events, wire
from farebox.tasks import spec_of

TASK = {"prompt": "one two", "system": "be brief", "context": {"k": 1}, "files": [{"name": 'a"b.txt', "content": "three four"}]}


@pytest.fixture
def texts(monkeypatch):
    """What the stand-in for rs_bpe was asked to count: it counts words."""
    seen: list[str] = []

    def count(text):
        seen.append(text)
        return len(text.split())

    stand_in = ModuleType("rs_bpe")
    stand_in.openai = SimpleNamespace(o200k_base=lambda: SimpleNamespace(count=count))
    monkeypatch.setitem(sys.modules, "rs_bpe", stand_in)
    exact_counts._vocabulary.cache_clear()
    yield seen
    exact_counts._vocabulary.cache_clear()


def submitted(store):
    facts = [wire.decode(one.subject, one.body, one.seq, one.at_ms) for one in store.facts]
    return [fact for fact in facts if isinstance(fact, events.TaskSubmitted)]


async def test_a_submission_says_how_many_tokens_its_whole_text_is(fb, store, texts):
    await fb.submit(**TASK)
    (fact,) = submitted(store)
    framed = 'one two\n\n<context format="json">\n{\n "k": 1\n}\n</context>\n\n<file name="a&quot;b.txt">\nthree four\n</file>'
    assert texts == ["be brief", framed]
    assert fact.input_tokens == sum(len(text.split()) for text in texts)


async def test_without_it_nobody_counted_and_the_fact_says_nothing(fb, store, monkeypatch):
    monkeypatch.setitem(sys.modules, "rs_bpe", None)
    exact_counts._vocabulary.cache_clear()
    await fb.submit(**TASK)
    exact_counts._vocabulary.cache_clear()
    assert submitted(store)[0].input_tokens is None
    assert b"input_tokens" not in next(one.body for one in store.facts if ".submitted." in one.subject)


async def test_a_text_that_takes_long_to_count_is_not_counted_and_half_a_character_is(texts, monkeypatch):
    assert exact_counts.counted(spec_of({"prompt": "\ud800 b"})) == 2
    monkeypatch.setattr(exact_counts, "CHARS_MAX", 5)
    assert exact_counts.counted(spec_of({"prompt": "a b c d"})) is None


async def test_who_counts_and_who_does_not_send_the_same_task(fb, store, texts, monkeypatch):
    spec = spec_of(TASK)
    await fb.send(spec, task_id="t1")
    monkeypatch.setattr(exact_counts, "counted", lambda _: None)
    await fb.send(spec, task_id="t1")
    assert len(submitted(store)) == 1
