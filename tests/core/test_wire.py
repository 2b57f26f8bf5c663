"""Facts to bytes and back: liars, garbage and the future are told apart, and nothing is believed that is not there."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core import wire
from farebox.core.errors import BadFact
from farebox.core.events import FACTS, TaskSubmitted

SUBJECT = "farebox.log.client.submitted.-.c.t"
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def body(**fields):
    return json.dumps({"fact": "TaskSubmitted", "chain": "c", "task": "t", **fields}).encode()


@given(
    prompt=text,
    metadata=st.dictionaries(text, text, max_size=3),
    context=st.dictionaries(
        text, st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text, st.lists, max_leaves=5)
    ),
    priority=st.integers(-1000, 1000),
)
def test_whatever_a_client_may_say_survives_the_wire(prompt, metadata, context, priority):
    fact = TaskSubmitted(chain="c", task="t", id="x", prompt=prompt, metadata=metadata, context=context, priority=priority)
    assert wire.decode(SUBJECT, wire.encode(fact)) == fact


def test_sequence_and_time_are_the_streams_and_never_written():
    fact = TaskSubmitted(chain="c", task="t", id="x", seq=7, at_ms=8)
    assert b"seq" not in wire.encode(fact)
    read = wire.decode(SUBJECT, body(seq=1, at_ms=2, id="x"), seq=7, at_ms=8)
    assert (read.seq, read.at_ms) == (7, 8)
    assert (wire.decode(SUBJECT, body(seq=1, at_ms=2)).seq, fact.seq) == (0, 7)


def test_a_fact_without_an_id_is_called_after_its_sequence():
    assert wire.decode(SUBJECT, body(), seq=12).id == "seq-12"
    assert wire.decode(SUBJECT, body(id="mine"), seq=12).id == "mine"


@pytest.mark.fault(72)
def test_unknown_fields_are_ignored_so_that_fields_can_be_added():
    assert wire.decode(SUBJECT, body(later="field")).chain == "c"


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b'{"fact":1}', b"[" * 100_000, body(priority="high"),
     body(priority=10**9), body(timeout_s=-1), body(chain="A"),
     b'{"fact":"TaskSubmitted","chain":"c","task":"t","prompt":"\xff"}'],
)  # fmt: skip
def test_garbage_is_refused_and_is_not_the_future(raw):
    with pytest.raises(BadFact) as refused:
        wire.decode(SUBJECT, raw)
    assert not isinstance(refused.value, wire.NewerFact)


def test_a_body_larger_than_the_server_would_take_is_refused_unread():
    with pytest.raises(BadFact, match="is larger than"):
        wire.decode(SUBJECT, b" " * (wire.BODY_BYTES_MAX + 1))


def test_a_body_that_speaks_of_another_task_is_refused():
    with pytest.raises(BadFact, match="speaks of another task"):
        wire.decode(SUBJECT, body(task="other"))


DREAMED = "farebox.log.client.dreamed.-.c.t"


@pytest.mark.fault(27)
@pytest.mark.parametrize(
    ("subject", "raw"),
    [(DREAMED, body(fact="TaskDreamed")), (SUBJECT, body(version=2)), (SUBJECT, body(version=2, priority={"new": "shape"}))],
)
def test_what_comes_from_the_future_is_told_apart_so_that_it_can_wait(subject, raw):
    with pytest.raises(wire.NewerFact):
        wire.decode(subject, raw)


@pytest.mark.parametrize(
    ("subject", "raw"),
    [
        (SUBJECT, body(fact="TaskDreamed")),  # a later farebox would not put it where this one knows what stands
        (SUBJECT, body(fact="TaskRouted", version=2)),
        (DREAMED, body(fact="", version=2)),
        ("farebox.log.dreamed", body(fact="TaskDreamed")),
    ],
)
def test_a_name_nobody_knows_is_no_way_past_the_table_of_subjects(subject, raw):
    with pytest.raises(BadFact) as refused:
        wire.decode(subject, raw)
    assert not isinstance(refused.value, wire.NewerFact)


@pytest.fixture
def third_version(monkeypatch):
    """Let this farebox write TaskSubmitted in version 3."""
    monkeypatch.setitem(wire.VERSIONS, "TaskSubmitted", 3)


def test_an_old_version_is_lifted_step_by_step(third_version, monkeypatch):
    monkeypatch.setitem(wire.UPCASTS, ("TaskSubmitted", 1), lambda raw: {**raw, "prompt": raw["question"]})
    monkeypatch.setitem(wire.UPCASTS, ("TaskSubmitted", 2), lambda raw: {**raw, "priority": int(raw["priority"])})
    read = wire.decode(SUBJECT, body(question="?", priority="5"))
    assert (read.prompt, read.priority, read.version) == ("?", 5, 3)


def test_an_old_version_that_still_decodes_is_lifted_too(third_version, monkeypatch):
    for step in (1, 2):
        monkeypatch.setitem(wire.UPCASTS, ("TaskSubmitted", step), lambda raw: {**raw, "prompt": raw["prompt"] + "+"})
    assert wire.decode(SUBJECT, body(prompt="x")).prompt == "x++"


def test_an_old_version_without_its_upcast_or_with_a_bad_one_is_refused(third_version, monkeypatch):
    with pytest.raises(BadFact, match="has no upcast"):
        wire.decode(SUBJECT, body())
    for step in (1, 2):
        monkeypatch.setitem(wire.UPCASTS, ("TaskSubmitted", step), lambda raw: {**raw, "priority": "high"})
    with pytest.raises(BadFact, match="of version 1 does not read"):
        wire.decode(SUBJECT, body())


def test_a_submission_has_one_hash_however_it_came():
    fact = TaskSubmitted(chain="c", task="t", prompt="x")
    same = wire.decode(SUBJECT, wire.encode(msgspec.structs.replace(fact, id="other")), seq=9, at_ms=9)
    assert wire.submission_sha256(fact) == wire.submission_sha256(same)
    assert wire.submission_sha256(fact) != wire.submission_sha256(msgspec.structs.replace(fact, prompt="y"))


def test_the_schema_names_every_fact():
    schema = wire.schema()
    assert {kind.__name__ for kind in FACTS} <= set(schema["$defs"])
    assert len(schema["anyOf"]) == len(FACTS)
    assert "TaskSubmitted" in json.dumps(schema)
