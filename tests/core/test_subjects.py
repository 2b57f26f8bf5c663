"""The table of subjects and fences: who may say what, where, and which facts guard each other."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core import subjects, wire
from farebox.core.errors import BadFact
from farebox.core.events import (
    FACTS,
    BatchSubmitted,
    ChunkStreamed,
    HandoffCreated,
    PlatformReported,
    QuotaReserved,
    SettingsAdopted,
    TaskCompleted,
    TaskSubmitted,
)
from farebox.core.subjects import TABLE, Guard, Place
from farebox.log.names import matches

EVENTS = Path(__file__).parent.parent / "golden" / "events"
FENCES = {
    Guard.NONE: None,
    Guard.ROUTER: "farebox.log.router.*.*.c1.t1",
    Guard.QUOTA: "farebox.log.quota.>",
    Guard.LANE: "farebox.log.adapter.*.alpha.c1.t1",
    Guard.HANDOFF: "farebox.log.handoff.created.*.c1.t1",
}
PLACES = {
    Place.TASK: "-.c1.t1", Place.LANE_TASK: "alpha.c1.t1", Place.LANE: "alpha.-.-", Place.BATCH: "-.b1.-", Place.ALONE: "-.-.-",
}  # fmt: skip


WISH = TaskSubmitted
"""The platform that it names is a wish, not its lane."""


def golden(row):
    return msgspec.json.decode((EVENTS / f"{row.fact.__name__}.v1.json").read_bytes(), type=row.fact)


def sample(row):
    """Return the golden fact without what its place in the log leaves out."""
    fields = {}
    if row.place not in {Place.TASK, Place.LANE_TASK}:
        fields = {"chain": "-", "task": "-"}
    elif row.place is Place.TASK and hasattr(golden(row), "platform") and row.fact is not WISH:
        fields = {"platform": "-"}
    return msgspec.structs.replace(golden(row), **fields)


def name(row):
    return f"{row.writer}.{row.token}"


@pytest.mark.parametrize("row", TABLE, ids=name)
def test_each_fact_stands_on_its_subject_under_its_fence(row):
    fact = sample(row)
    subject = subjects.subject_of(row.writer, fact)
    assert subject == f"farebox.log.{row.writer}.{row.token}.{PLACES[row.place]}"
    assert subjects.fence_filter(row.writer, fact) == FENCES.get(row.guard, subject)
    assert subjects.verify(subject, fact) is row
    address = subjects.parse(subject)
    assert (address.writer, address.token) == (row.writer, row.token)
    assert subjects.exact(row.writer, row.token, address.chain, address.task, address.lane) == subject


@pytest.mark.parametrize("row", TABLE, ids=name)
def test_what_a_fence_covers_covers_the_fact_itself(row):
    fact = sample(row)
    guard = subjects.fence_filter(row.writer, fact)
    assert guard is None or matches(guard, subjects.subject_of(row.writer, fact))


def test_no_unfenced_fact_matches_the_fence_of_another():
    fences = {subjects.fence_filter(row.writer, sample(row)) for row in TABLE} - {None}
    for row in TABLE:
        if row.guard is Guard.NONE:
            subject = subjects.subject_of(row.writer, sample(row))
            assert not [fence for fence in fences if matches(fence, subject)]


def test_facts_that_guard_each_other_share_one_fence():
    for row in TABLE:
        guard = subjects.fence_filter(row.writer, sample(row))
        for other in TABLE:
            fact = sample(other)
            if guard and matches(guard, subjects.subject_of(other.writer, fact)):
                assert subjects.fence_filter(other.writer, fact) == guard


def test_every_fact_has_a_row_and_every_row_another_subject():
    assert {row.fact for row in TABLE} | {ChunkStreamed} == set(FACTS)
    assert len({(row.writer, row.token) for row in TABLE}) == len(TABLE)
    assert len({(row.writer, row.fact) for row in TABLE}) == len(TABLE)
    assert subjects.WRITERS[0] == "engine"
    assert len(subjects.WRITERS) == len(set(subjects.WRITERS))


def test_only_two_facts_have_two_writers():
    counts = {kind.__name__: [row.writer for row in TABLE if row.fact is kind] for kind in FACTS}
    assert {kind: writers for kind, writers in counts.items() if len(writers) > 1} == {
        "TaskSubmitted": ["client", "handoff"],
        "TaskCompleted": ["router", "adapter"],
    }


def test_nobody_says_what_is_not_his():
    with pytest.raises(BadFact, match="cost may not say TaskSubmitted"):
        subjects.row_of("cost", TaskSubmitted(chain="c", task="t"))


@pytest.mark.parametrize("bad", ["", "-", "a.b", "*", ">", "A"])
def test_no_bad_token_reaches_a_subject(bad):
    makers = [
        lambda: subjects.subject_of("client", msgspec.structs.replace(TaskSubmitted(), chain="c", task=bad)),
        lambda: subjects.subject_of("quota", QuotaReserved(chain="c", task="t", platform=bad)),
        lambda: subjects.subject_of("client", BatchSubmitted(batch=bad, count=1)),
    ]
    if bad != "-":
        makers += [lambda: subjects.task_filter("c", bad), lambda: subjects.lane_filter(bad, "c", "t")]
    for make in makers:
        with pytest.raises(BadFact, match="cannot stand in a subject"):
            make()


def test_the_filters_of_a_task_and_of_its_lane():
    assert subjects.task_filter("c", "t") == "farebox.log.*.*.*.c.t"
    assert subjects.lane_filter("p", "c", "t") == "farebox.log.adapter.*.p.c.t"
    assert subjects.live_filter("c", "t") == "farebox.live.adapter.*.*.c.t"
    chunk = ChunkStreamed(chain="c", task="t", platform="p")
    assert matches(subjects.live_filter("c", "t"), subjects.live_subject(chunk))
    assert subjects.verify(subjects.live_subject(chunk), chunk) is subjects.LIVE_ROW


@pytest.mark.parametrize(
    "subject", ["", "farebox.log", "farebox.log.a.b.c.d.e.f", "other.log.a.b.c.d.e", "farebox.api.a.b.c.d.e"]
)
def test_other_subjects_are_not_taken_apart(subject):
    with pytest.raises(BadFact, match="no subject of the log"):
        subjects.parse(subject)


@pytest.mark.fault(29)
def test_a_fact_whose_subject_writer_and_body_disagree_is_refused():
    done = TaskCompleted(chain="c", task="t", platform="p", status="completed")
    subjects.verify("farebox.log.adapter.completed.p.c.t", done)
    for subject in (
        "farebox.log.adapter.completed.q.c.t",
        "farebox.log.adapter.completed.p.c.u",
        "farebox.log.adapter.completed.p.d.t",
        "farebox.log.adapter.started.p.c.t",
        "farebox.log.client.completed.p.c.t",
        "farebox.live.adapter.completed.p.c.t",
    ):
        with pytest.raises(BadFact):
            subjects.verify(subject, done)
    with pytest.raises(BadFact):
        subjects.verify("farebox.log.adapter.reported.p.-.-", PlatformReported(platform="q"))


def spoken_of(row, fact):
    """Return lane, chain and task that a body speaks of."""
    lane = "-" if row.fact is WISH else getattr(fact, "platform", "-")
    if row.place is Place.BATCH and fact.chain == "-":
        return lane, fact.batch, fact.task
    return lane, fact.chain, fact.task


def has_place(row, lane, chain, task, batch):
    """Say whether a fact of the row may stand there at all."""
    wanted = {
        Place.TASK: (False, True, True),
        Place.LANE_TASK: (True, True, True),
        Place.LANE: (True, False, False),
        Place.BATCH: (False, True, False),
        Place.ALONE: (False, False, False),
    }[row.place]
    return wanted == tuple(token != "-" for token in (lane, chain, task)) and (row.place is not Place.BATCH or chain == batch)


TOKENS = st.sampled_from(["-", "-", "a", "b"])


@given(
    row=st.sampled_from([*TABLE, subjects.LIVE_ROW]),
    body=st.tuples(*[TOKENS] * 4),
    place=st.tuples(*[TOKENS] * 3),
    true=st.booleans(),
)
def test_a_fact_is_believed_where_body_and_subject_agree_in_every_token_and_nowhere_else(row, body, place, true):
    lane, chain, task, batch = body
    told = {"chain": chain, "task": task, "batch": batch} | ({"platform": lane} if hasattr(golden(row), "platform") else {})
    fact = msgspec.structs.replace(golden(row), **told)
    if true:
        place = spoken_of(row, fact)
    subject = ".".join(["farebox", "live" if row is subjects.LIVE_ROW else "log", row.writer, row.token, *place])
    if place == spoken_of(row, fact) and has_place(row, *place, batch):
        assert wire.decode(subject, wire.encode(fact), seq=9).seq == 9
    else:
        with pytest.raises(BadFact):
            wire.decode(subject, wire.encode(fact), seq=9)


def test_what_belongs_to_no_task_stands_alone():
    assert subjects.subject_of("engine", SettingsAdopted()) == "farebox.log.engine.settings.-.-.-"
    assert subjects.fence_filter("handoff", HandoffCreated(chain="c", task="t", memory="m")) == FENCES[Guard.HANDOFF].replace(
        "c1.t1", "c.t"
    )
    assert json.loads((EVENTS / "SettingsAdopted.v1.json").read_bytes())["fact"] == "SettingsAdopted"
