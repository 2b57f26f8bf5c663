"""Golden files: facts and whole histories that must decode, and be decided the same way, for ever.

A file here is never changed. A fact that changes its meaning gets a new version, an upcast in core/wire.py and a new file
beside the old one; a decision that must change looks at a new field, so that old histories replay as they were. What facts say
besides since then (`LATER`) is no part of those decisions and is left out of the comparison, field by field.
"""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from actors import ACTORS
from farebox.core import subjects, wire
from farebox.core.actor import Wake
from farebox.core.events import FACTS, ChunkStreamed, Fact, SettingsAdopted, TaskRouted
from farebox.core.subjects import Place
from farebox.core.terms import Allowance
from farebox.log.names import matches

GOLDEN = Path(__file__).parent.parent / "golden"
EVENTS = {
    "AttemptFailed.v1.json": "2843e0b05c805f797044dafaff4c6535c49a29918d71d11b2d9d29c8cd950322",
    "AttemptInterrupted.v1.json": "5d5b3c05c9174a98282eff2c5d077425c64aa334006191b8e8438721a0ffa5b2",
    "BatchCompleted.v1.json": "5da8e0f8b0b13edbc2aa38287790974406f741306806aece1bd08d17e0bb7bbf",
    "BatchSubmitted.v1.json": "bf4aa18e5dc2e433149ff9856ac68f8da0ef6ce30d22c0e20390514ae853e603",
    "ChunkStreamed.v1.json": "7b3dc98ca19b1c11e2f0e3904c9417bc56ecea59db165f1f25e635eaf2e3dd86",
    "CostRecorded.v1.json": "f76e0f863d456cd9b1cfc269ea58ee28143a65f13b9660dd45bae14fe7fe560f",
    "HandoffCreated.v1.json": "940c0c930d3b801c1abd739ab1c3c98995f626e6fd1b64e4b4539e20c7f6877c",
    "LateResult.v1.json": "abdf2224ae4dd6122ce8516dbab25779fd0963474012522817de2f09938a862d",
    "PlatformReported.v1.json": "b6dc864994bb5af8e8c755674cb039fdfe047b20cdc3e200c694c972b4b095e4",
    "PriceListAdopted.v1.json": "6836ae0e464f34f9585c59cf49c2c5cec6c44f037d5e169bf117d840245545dd",
    "QuotaDeferred.v1.json": "db32978fa0b1fd932e9754b4eee3d75707781a768fb148aa2f9e018472200e9e",
    "QuotaLearned.v1.json": "1a4700caace01e95f9c1e2a0b97f57c8c9c5febe1e21dfee1903f574b02920d5",
    "QuotaRefused.v1.json": "0b7328b7e9ca276c28615ed79f138b9213cb2f71997a90c342d393205110c9a6",
    "QuotaReserved.v1.json": "7b7f1687ee56463e4cca60c7368c6d8ad3b5bfa890d4ba055f7914c3583732b9",
    "QuotaSettled.v1.json": "ab2636b58f35ef1bd4dd16d7e3b66d27f1bfd8b6ef8994f9677725a89f9a74aa",
    "QuotaWarned.v1.json": "3db1d7e491602248f6d1e697dd88311b4964ae1a53c59fa8787fab2be5aa4bc0",
    "SettingsAdopted.v1.json": "ca2af95eefddd7003342bc5b1ccaeec85093431fa393680dc905af8902285a21",
    "TaskAnswered.v1.json": "7b6fbeee5059fb1eebb11b5e51ccfafe49dea78292d76270ef5ab7625210d9ce",
    "TaskCancelRequested.v1.json": "430b1c1ec91812636450b5ca437950719544a9ec40f50913b1810a46b78fcfcf",
    "TaskCompleted.v1.json": "b7066e7d0696e922489e46a1efefca6e63250034d44de60535100291d06186b4",
    "TaskDecision.v1.json": "d581e51eee6576de0191c48bf5f133075b460a742b358c173e72932a28bf8e97",
    "TaskReady.v1.json": "dceaddbce5a99c37693db9fcbfee71c5125b67e7a7abf2d3d4f613a3e148e95c",
    "TaskRouted.v1.json": "e4af01d23d93be4fde9cd07a3f63d594ac4cf4f0de624f57460242a8b4361cc4",
    "TaskStarted.v1.json": "f7ceac0d18116b10c81a0064868a82d385540c9e3186a4b1324c0e8f7e186cc6",
    "TaskSubmitted.v1.json": "0aaea129192c234e40c0e13ea2363f70eacd47389c2aa81ab66c34b4c93d12a1",
}
HISTORIES = {
    "a_batch.jsonl": "69524d985e0f357eb794b0ede927c376cc39a108eb595cf5aad1904edba69ea8",
    "cancelled_and_disabled.jsonl": "76a4aa746c216b10cda031316694c1979f5a174f2c74b45d201d32bd9025467f",
    "failures_until_nobody_is_left.jsonl": "89d51c8399d2aabe2cad3b557a8e90edd6efbe7e0879fc302b39a68bd6676b35",
    "interrupted_and_retried.jsonl": "fb09458c665ca07f6ed8937cc000948cb0fd75fa0d8c13638c37963ae176a7bc",
}
LATER = {
    "Candidate": (
        *("input_tokens", "input_tokens_max", "output_tokens", "output_tokens_max"),
        *("low_usd", "estimate_usd", "bound_usd", "health", "latency_ms"),
    ),
    "QuotaReserved": ("takes", "as_of", "start_by_ms", "output_tokens_max"),
}
"""Fields that came after the histories were recorded, and that no decision in them is about."""
FOLLOWERS = {actor.name: actor for actor in ACTORS if actor.perform is None}
(ADAPTER,) = (actor for actor in ACTORS if actor.perform is not None)


def pinned(folder, name, sha256):
    data = (GOLDEN / folder / name).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    assert found == sha256, f"{folder}/{name} was changed. Golden files stay as they are: add a new one for a new version."
    return data


@pytest.mark.fault(72)
@pytest.mark.parametrize(("name", "sha256"), EVENTS.items(), ids=EVENTS)
def test_a_golden_fact_decodes_for_ever(name, sha256):
    body = pinned("events", name, sha256)
    plain = json.loads(body)
    kind, version = name.removesuffix(".json").split(".v")
    row = next((row for row in reversed(subjects.TABLE) if row.fact.__name__ == kind), subjects.LIVE_ROW)
    if row.place not in {Place.TASK, Place.LANE_TASK}:
        # The files fill every field; a fact that belongs to no task is believed only when its body names none.
        plain = {name: value for name, value in plain.items() if name not in {"chain", "task"}}
        body = json.dumps(plain).encode()
    fact = msgspec.json.decode(body, type=row.fact)
    subject = subjects.live_subject(fact) if kind == "ChunkStreamed" else subjects.subject_of(row.writer, fact)
    read = wire.decode(subject, body, seq=5, at_ms=6)
    assert (type(read).__name__, read.seq, read.at_ms) == (kind, 5, 6)
    if int(version) == wire.VERSIONS[kind]:
        written = json.loads(wire.encode(read))
        assert plain.items() <= (written | {"version": wire.VERSIONS[kind]}).items()


def test_every_version_of_every_fact_has_its_golden_file_and_every_old_one_its_upcast():
    wanted = {f"{kind}.v{version}.json" for kind, last in wire.VERSIONS.items() for version in range(1, last + 1)}
    assert wanted == set(EVENTS)
    assert {path.name for path in (GOLDEN / "events").iterdir()} == set(EVENTS)
    assert {path.name for path in (GOLDEN / "histories").iterdir()} == set(HISTORIES)
    for kind, last in wire.VERSIONS.items():
        for version in range(1, last):
            assert (kind, version) in wire.UPCASTS, f"{kind} {version} needs an upcast to {version + 1}"


def test_golden_facts_use_every_field_of_their_first_version():
    for kind in FACTS:
        plain = json.loads((GOLDEN / "events" / f"{kind.__name__}.v1.json").read_bytes())
        assert len(plain) > 10 or kind is ChunkStreamed


def history(name):
    """Return [(writer, fact)] of a recorded history."""
    told = []
    for line in pinned("histories", name, HISTORIES[name]).splitlines():
        stored = json.loads(line)
        fact = wire.decode(stored["subject"], json.dumps(stored["body"]).encode(), stored["seq"], stored["at_ms"])
        told.append((stored["subject"].split(".")[2], fact))
    return told


def folded(actor, facts):
    state = actor.new()
    for fact in facts:
        if type(fact) in actor.folded():
            state = actor.evolve(state, fact)
    return state


def bare(fact):
    plain = msgspec.structs.replace(fact, id="", cause="", prev=0, seq=0, at_ms=0)
    if isinstance(plain, TaskRouted):
        plain = msgspec.structs.replace(plain, candidates=tuple(map(as_then, plain.candidates)))
    return as_then(plain)


def as_then(value):
    """Return a fact, or a part of one, without what only later facts say."""
    later = LATER.get(type(value).__name__, ())
    defaults = {field.name: field.default for field in msgspec.structs.fields(type(value)) if field.name in later}
    assert set(defaults) == set(later)
    return msgspec.structs.replace(value, **defaults)


def spilled(fact):
    """Return settings and routes as they were meant before tasks could wait for what costs nothing more."""
    if isinstance(fact, SettingsAdopted):
        return msgspec.structs.replace(fact, settings={**fact.settings, "on_quota": "spill"})
    if isinstance(fact, TaskRouted) and fact.allowance == Allowance():
        return msgspec.structs.replace(fact, allowance=Allowance(on_quota="spill"))
    return fact


def unspilled(fact):
    """Return a route as the log holds it."""
    return msgspec.structs.replace(fact, allowance=Allowance()) if isinstance(fact, TaskRouted) else fact


@pytest.mark.fault(72)
@pytest.mark.parametrize("name", HISTORIES)
def test_followers_still_decide_as_they_did(name):
    told = [(writer, spilled(fact)) for writer, fact in history(name)]
    facts = [fact for _, fact in told]
    by_id = {fact.id: fact for fact in facts}
    replayed = 0
    for place, (writer, fact) in enumerate(told):
        if writer not in FOLLOWERS:
            continue
        actor = FOLLOWERS[writer]
        heard = by_id[fact.cause] if type(by_id[fact.cause]) in actor.heard() and writer != "quota" else Wake(fact.at_ms)
        if type(fact).__name__ == "QuotaDeferred":
            heard = by_id[fact.cause]
        (said,) = actor.decide(folded(actor, facts[:place]), heard)
        assert bare(unspilled(said)) == bare(unspilled(fact))
        replayed += 1
    assert replayed > 8


@pytest.mark.parametrize("name", HISTORIES)
def test_the_adapter_still_begins_as_it_did(name):
    told = history(name)
    by_id = {fact.id: fact for _, fact in told}
    for place, (_, fact) in enumerate(told):
        if type(fact).__name__ != "TaskStarted":
            continue
        reserved = by_id[fact.cause]
        lane = [one for _, one in told[:place] if one.key == fact.key and type(one) in ADAPTER.folded()]
        (said,) = ADAPTER.decide(folded(ADAPTER, [*lane, reserved]), reserved)
        assert bare(said) == bare(msgspec.structs.replace(fact, adapter="", boot=""))


@pytest.mark.parametrize("name", HISTORIES)
def test_recorded_histories_stand_under_their_fences(name):
    told = history(name)
    for place, (writer, fact) in enumerate(told):
        guard = subjects.fence_filter(writer, fact)
        if guard is None or writer in {"engine", "client"}:
            continue
        below = [
            (one.seq, one.prev)
            for other, one in told[:place]
            if isinstance(one, Fact) and matches(guard, subjects.subject_of(other, one))
        ]
        last, its_prev = below[-1] if below else (0, 0)
        assert fact.prev in {last, its_prev}
