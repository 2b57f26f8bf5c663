"""Every platform, every case: recorded answers are read as they were meant, however they are cut.

A platform without its recordings fails here. What has no recording says why, in `[not_applicable]` of its expected.toml.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.platforms import PLATFORMS
from farebox import conformance

FOLDER = Path(__file__).parent.parent / "golden" / "platforms"
NO_WIRE = {"interactive": "a person answers, there are no bytes"}
"""Kinds without anything to record."""


@pytest.mark.parametrize("kind", sorted(kind.name for kind in PLATFORMS))
def test_every_kind_has_its_recordings(kind):
    folders = FOLDER.glob("*/")
    kinds = {conformance.expectations(path).get("settings", {}).get("kind", path.name) for path in folders}
    assert kind in kinds or kind in NO_WIRE


def test_every_case_is_recorded_or_says_why_not_and_has_its_meaning_written_down(folder):
    assert list(conformance.unexplained(FOLDER / folder)) == []


def test_a_recording_is_read_as_it_was_meant_and_success_has_text_and_usage(recording):
    assert list(conformance.misread(recording)) == []


@pytest.mark.fault(44)
def test_a_body_cut_at_every_byte_means_the_same(recording):
    assert list(conformance.unlike_when_cut(recording)) == []


@pytest.mark.fault(44)
def test_a_stream_that_breaks_off_anywhere_is_success_only_if_nothing_is_missing(folder, recorded):
    assert list(conformance.succeeds_too_early(recorded(f"{folder}/ok"))) == []


def test_whatever_the_bytes_are_there_is_a_verdict_and_no_exception(folder, recorded):
    assert conformance.breaks(recorded(f"{folder}/ok")) == []
