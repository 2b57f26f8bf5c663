"""Every platform, every case: recorded answers are read as they were meant, however they are cut.

A platform without its recordings fails here. What has no recording says why, in `[not_applicable]` of its expected.toml.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from actors.platforms import PLATFORMS
from farebox.core.platform import End
from farebox.core.terms import Usage

FOLDER = Path(__file__).parent.parent / "golden" / "platforms"
CASES = {
    "ok", "unicode", "no_usage", "unknown_events", "huge_line", "empty", "refused", "truncated", "cut", "bad_key", "no_key",
    "no_model", "rate_limited", "quota_exhausted", "server_error", "overloaded", "context_too_long", "interrupted", "garbage",
}  # fmt: skip
NO_WIRE = {"interactive": "a person answers, there are no bytes"}
"""Kinds without anything to record."""
SMALL = 20_000
"""Above so many bytes a body is not cut at every one of them."""


def expectations(folder):
    return tomllib.loads((FOLDER / folder / "expected.toml").read_text("utf-8"))


@pytest.mark.parametrize("kind", sorted(kind.name for kind in PLATFORMS))
def test_every_kind_has_its_recordings(kind):
    kinds = {expectations(path.name).get("settings", {}).get("kind", path.name) for path in FOLDER.glob("*/")}
    assert kind in kinds or kind in NO_WIRE


def test_every_case_is_recorded_or_says_why_not(folder):
    recorded = {path.stem for path in (FOLDER / folder).glob("*.txt")}
    excused = expectations(folder).get("not_applicable", {})
    assert CASES - recorded - set(excused) == set()
    assert recorded & set(excused) == set()
    assert all(len(reason) > 10 for reason in excused.values())


def test_every_recording_has_its_meaning_written_down(folder):
    recorded = {path.stem for path in (FOLDER / folder).glob("*.txt")}
    assert set(expectations(folder)) - {"settings", "not_applicable"} == recorded


def test_a_recording_is_read_as_it_was_meant(recording):
    means, heard = recording.means, recording.read()
    verdict = heard.verdict
    assert (verdict.fault.error_class if verdict.fault else "") == means["class"], verdict.fault
    assert verdict.ok == (means["class"] == "")
    assert verdict.charged == means["charged"]
    assert verdict.usage == (msgspec.convert(means["usage"], Usage) if "usage" in means else None)
    if "text" in means:
        assert verdict.text == means["text"]
    for name in {"model", "finish_reason", "retry_after_ms", "provider_usd"} & set(means):
        assert getattr(verdict, name) == means[name], name
    assert means.get("words", "") in (verdict.fault.message if verdict.fault else "")
    if "learned" in means:
        assert len(heard.learned) == means["learned"], heard.learned


def test_success_has_text_and_usage_with_its_source(recording):
    verdict = recording.read().verdict
    if verdict.ok:
        assert verdict.text
        assert verdict.usage is not None
        assert verdict.usage.output_tokens
        assert verdict.charged == "known"


@pytest.mark.fault(44)
def test_a_body_cut_at_every_byte_means_the_same(recording):
    whole, body = recording.read(), recording.body
    if len(body) <= SMALL:
        assert recording.read([bytes([byte]) for byte in body]) == whole
    for place in {*range(0, len(body) + 1, max(1, len(body) // 40)), len(body)}:
        assert recording.read([body[:place], b"", body[place:]]) == whole, place


@pytest.mark.fault(44)
def test_a_stream_that_breaks_off_anywhere_is_success_only_if_nothing_is_missing(folder, recorded):
    recording = recorded(f"{folder}/ok")
    whole, body = recording.read(), recording.body
    cut = End(cut="network", detail="reset", exit_code=None)
    for place in {*range(0, len(body), max(1, len(body) // 300)), *range(max(0, len(body) - 200), len(body))}:
        heard = recording.read([body[:place]], cut)
        if heard.verdict.ok:
            assert heard.verdict.text == whole.verdict.text, place
        elif heard.pieces:
            assert heard.verdict.text.startswith(heard.pieces)
            assert heard.verdict.charged != "none"


@pytest.mark.fault(44)
def test_a_program_that_ends_well_without_its_final_word_has_not_succeeded(folder, recorded):
    recording = recorded(f"{folder}/ok")
    if recording.head is not None or recording.settings.kind == "command":
        return  # a request has no exit code, and of a command it is all there is
    whole, body = recording.read(), recording.body
    for place in {*range(0, len(body), max(1, len(body) // 300)), *range(max(0, len(body) - 200), len(body))}:
        verdict = recording.read([body[:place]], End(exit_code=0)).verdict
        assert not verdict.ok or verdict.text == whole.verdict.text, place


def test_whatever_the_bytes_are_there_is_a_verdict_and_no_exception(folder, recorded):
    recording = recorded(f"{folder}/ok")
    for body in (
        b"\x00" * 100,
        b"\xff\xfe\n",
        b"{}\n" * 50,
        b"[" * 2000,
        b"null\ntrue\n1e999\n",
        b'{"type":{"type":[]}}\n',
        b"data: \n\n",
    ):
        assert not recording.read([body], End(cut="network")).verdict.ok
