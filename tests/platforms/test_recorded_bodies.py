"""Recorded answers, as they come over the wire, read by the platform that gets them; cut anywhere, they mean the same."""

from pathlib import Path

import pytest

from actors.platforms import PLATFORMS
from farebox.core.events import QuotaLearned, TaskSubmitted
from farebox.core.platform import Ask, End, Head, Piece, Verdict
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Usage

FOLDER = Path(__file__).parent.parent / "golden" / "platforms"
KINDS = {kind.name: kind for kind in PLATFORMS}
RECORDED = sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.txt"))
SETTINGS = {
    "compatible": PlatformSettings(kind="compatible", url="http://127.0.0.1:1/v1"),
    "command": PlatformSettings(kind="command", argv=("x",)),
    "rehearsal": PlatformSettings(kind="rehearsal", billing="rehearsal", argv=("x",), options={"wire": "stream-json"}),
}
FOX = "The quick brown fox."
TOLD = Usage(input_tokens=1200, output_tokens=340, cached_tokens=1000, reasoning_tokens=120)
AGENT = Usage(input_tokens=1200, output_tokens=340, cached_tokens=1000, cache_write_tokens=50, reasoning_tokens=20)


def guess(output_tokens: int) -> Usage:
    return Usage(input_tokens=2, output_tokens=output_tokens, source="estimated")


# name: (error class or "" for success, charged, text, usage)
EXPECTED = {
    "compatible/ok": ("", "known", FOX, TOLD),
    "compatible/streamed": ("", "known", FOX, TOLD),
    "compatible/rate_limited": ("rate_limited", "none", None, None),
    "compatible/quota_exhausted": ("quota_exhausted", "none", None, None),
    "compatible/bad_key": ("auth_missing", "none", None, None),
    "compatible/bad_key_400": ("auth_missing", "none", None, None),
    "compatible/no_model": ("unavailable", "none", None, None),
    "compatible/context_vllm": ("context_too_long", "none", None, None),
    "compatible/context_llamacpp": ("context_too_long", "none", None, None),
    "compatible/bad_request": ("invalid", "none", None, None),
    "compatible/server_error": ("server_error", "possible", None, None),
    "compatible/overloaded": ("server_error", "none", None, None),
    "compatible/moved": ("invalid", "none", None, None),
    "compatible/refused": ("refused", "known", FOX, TOLD),
    "compatible/refused_by_model": ("refused", "known", "", TOLD),
    "compatible/broken": ("network", "possible", FOX, None),
    "compatible/no_usage": ("", "known", FOX, guess(6)),
    "compatible/no_end_but_reason": ("", "known", FOX, guess(6)),
    "compatible/done_only": ("", "known", FOX, guess(6)),
    "compatible/error_in_200": ("server_error", "possible", "", None),
    "compatible/busy_in_200": ("rate_limited", "none", "", None),
    "compatible/error_in_stream": ("server_error", "possible", FOX, None),
    "compatible/error_as_reason": ("server_error", "possible", FOX, None),
    "compatible/unicode": ("", "known", "Grüße, 世界 🦊\u2028é", guess(8)),
    "compatible/unicode_escaped": ("", "known", "🦊 half ? whole", guess(5)),
    "compatible/invalid_utf8": ("", "known", "a\ufffdb", guess(2)),
    "compatible/multi_line_data": ("", "known", "a", guess(1)),
    "compatible/length": ("", "known", FOX, TOLD),
    "compatible/length_without_text": ("truncated", "known", "", TOLD),
    "compatible/reasoning": ("", "known", "Fox.", guess(8)),
    "compatible/reasoning_then_cut": ("network", "possible", "", None),
    "compatible/tool_calls": ("unsupported", "known", "", TOLD),
    "compatible/empty": ("invalid", "known", "", TOLD),
    "compatible/parts": ("", "known", "The quick fox.", TOLD),
    "compatible/usage_in_every_chunk": ("", "known", "Foxes.", Usage(input_tokens=9, output_tokens=2, cached_tokens=5)),
    "compatible/usage_absurd": ("", "known", FOX, guess(6)),
    "compatible/html": ("invalid", "possible", "", None),
    "compatible/not_an_object": ("invalid", "possible", FOX, None),
    "compatible/truncated_json": ("network", "possible", "", None),
    "compatible/nothing": ("invalid", "possible", "", None),
    "compatible/array": ("invalid", "possible", "", None),
    "compatible/after_the_end": ("", "known", FOX, TOLD),
    "command/ok": ("", "known", "The answer is 42.", guess(5)),
    "command/unicode": ("", "known", "Grüße, 世界 🦊", guess(6)),
    "command/invalid_utf8": ("", "known", "a\ufffdb\ufffd", guess(3)),
    "command/broken": ("crashed", "possible", "half an ans", None),
    "command/killed": ("crashed", "possible", "half", None),
    "command/silent": ("invalid", "possible", "", None),
    "rehearsal/ok": ("", "known", FOX, AGENT),
    "rehearsal/streamed": ("", "known", FOX, AGENT),
    "rehearsal/unicode": ("", "known", "Grüße, 世界 🦊", AGENT),
    "rehearsal/rate_limited": ("rate_limited", "none", "", None),
    "rehearsal/quota_exhausted": ("quota_exhausted", "none", "", None),
    "rehearsal/refused": ("refused", "known", FOX, AGENT),
    "rehearsal/broken": ("crashed", "possible", FOX, None),
    "rehearsal/not_logged_in": ("auth_missing", "none", "", None),
    "rehearsal/bad_key": ("auth_missing", "none", "", None),
    "rehearsal/prompt_too_long": ("context_too_long", "none", "", None),
    "rehearsal/overloaded": ("server_error", "possible", "", None),
    "rehearsal/cut_upstream": ("network", "possible", FOX, None),
    "rehearsal/output_limit": ("truncated", "known", FOX, AGENT),
    "rehearsal/interrupted": ("cancelled", "possible", FOX, None),
    "rehearsal/turn_limit": ("invalid", "possible", "", None),
    "rehearsal/no_usage": ("", "known", FOX, guess(6)),
    "rehearsal/odd_amount": ("", "known", FOX, AGENT),
    "rehearsal/empty": ("invalid", "known", "", AGENT),
    "rehearsal/success_but_exit_1": ("crashed", "known", FOX, AGENT),
    "rehearsal/garbage": ("crashed", "possible", "The quick ", None),
    "rehearsal/after_the_end": ("", "known", FOX, AGENT),
    "rehearsal/unknown_kinds": ("", "known", FOX, AGENT),
}


def load(name: str) -> tuple[Head | None, End, bytes]:
    raw = (FOLDER / f"{name}.txt").read_bytes()
    top, _, body = raw.partition(b"\n\n")
    first, *lines = top.decode().split("\n")
    told = dict(line.split(": ", 1) for line in lines)
    if first.startswith("HTTP/"):
        return Head(status=int(first.split()[1]), headers=told), End(), body
    return None, End(exit_code=int(first.split()[1]), stderr_tail=told.get("stderr", "")), body


def ask_of(name: str) -> Ask:
    settings = SETTINGS[name.split("/", maxsplit=1)[0]]
    return Ask(platform="p", settings=settings, model="", prompt="What?", task=TaskSubmitted())


def read(name: str, parts: list[bytes], end: End) -> tuple[Verdict, str, list[QuotaLearned]]:
    ask = ask_of(name)
    reader = KINDS[ask.settings.kind].reader(ask)
    head = load(name)[0]
    said = list(reader.head(head)) if head else []
    for part in parts:
        said += reader.feed(part)
    pieces = "".join(item.text for item in said if isinstance(item, Piece))
    return reader.end(end), pieces, [item for item in said if isinstance(item, QuotaLearned)]


def test_every_recorded_body_has_its_meaning_written_down():
    assert sorted(EXPECTED) == RECORDED


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_bodies_that_matter(kind):
    assert {"ok", "unicode", "broken"} <= {name.split("/")[1] for name in RECORDED if name.startswith(f"{kind}/")}


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_body_is_read_as_it_was_meant(name):
    error_class, charged, text, usage = EXPECTED[name]
    _, end, body = load(name)
    verdict, _, _ = read(name, [body], end)
    assert (verdict.fault.error_class if verdict.fault else "") == error_class
    assert verdict.ok == (error_class == "")
    assert verdict.charged == charged
    assert verdict.text == text
    assert verdict.usage == usage


@pytest.mark.fault(44)
@pytest.mark.parametrize("name", RECORDED)
def test_a_body_cut_at_every_byte_gives_the_same_verdict(name):
    _, end, body = load(name)
    whole = read(name, [body], end)
    assert read(name, [bytes([byte]) for byte in body], end) == whole
    for place in range(len(body) + 1):
        assert read(name, [body[:place], b"", body[place:]], end) == whole, place


@pytest.mark.fault(44)
@pytest.mark.parametrize("name", RECORDED)
def test_a_stream_that_breaks_off_is_never_success_without_the_final_word(name):
    head, _, body = load(name)
    final = b"result" if head is None else b"stop"
    for place in range(len(body)):
        verdict, pieces, _ = read(name, [body[:place]], End(cut="network", detail="reset"))
        if name.startswith("command/"):
            assert not verdict.ok
        if verdict.ok:
            seen = body[:place].replace(b"\\", b"")
            assert final in seen or b"length" in seen or b"[DONE]" in seen
            assert verdict.text
        elif head is not None and head.status == 200 and pieces:
            assert verdict.text.startswith(pieces)
            assert verdict.charged != "none"


def test_a_stream_reads_like_the_whole_answer():
    streamed, whole = (read(f"compatible/{name}", [load(f"compatible/{name}")[2]], End()) for name in ("streamed", "ok"))
    assert streamed[0] == whole[0]
    assert (streamed[1], whole[1]) == (FOX, "")
    assert streamed[2] == whole[2]


def test_headers_teach_limits_with_the_answers_own_clock():
    _, _, learned = read("compatible/ok", [b"{}"], End())
    noon_ms = 1_795_262_400_000
    assert [(fact.unit, fact.limit, fact.used, fact.resets_at_ms) for fact in learned] == [
        ("requests", 500, 1, noon_ms + 120),
        ("tokens", 30_000, 1_000, noon_ms + 360_000),
    ]


@pytest.mark.parametrize(("name", "wait_ms"), [("rate_limited", 19_500), ("overloaded", 90_000), ("server_error", None)])
def test_a_rejection_says_how_long_to_wait(name, wait_ms):
    _, end, body = load(f"compatible/{name}")
    assert read(f"compatible/{name}", [body], end)[0].retry_after_ms == wait_ms


@pytest.mark.fault(45)
def test_the_model_that_answered_is_named_and_not_the_one_that_was_asked_for():
    assert read("compatible/streamed", [load("compatible/streamed")[2]], End())[0].model == "gpt-5-mini-2026-08-07"
    _, end, body = load("rehearsal/streamed")
    assert read("rehearsal/streamed", [body], end)[0].model == "claude-sonnet-5-5-20260801"


def test_a_truncated_answer_counts_and_says_so():
    verdict = read("compatible/length", [load("compatible/length")[2]], End())[0]
    assert (verdict.ok, verdict.finish_reason) == (True, "length")


def test_a_plan_tells_its_windows_in_percent():
    _, end, body = load("rehearsal/streamed")
    learned = read("rehearsal/streamed", [body], end)[2]
    assert [(fact.window_s, fact.unit, fact.used, fact.resets_at_ms) for fact in learned] == [
        (18_000, "percent", 93, 1_795_258_409_000),
        (604_800, "percent", 41, 1_795_800_000_000),
    ]


def test_paid_overage_of_a_plan_is_told_at_once():
    _, end, body = load("rehearsal/quota_exhausted")
    (learned,) = read("rehearsal/quota_exhausted", [body], end)[2]
    assert learned.evidence == "rate_limit_event rejected, paid overage, five_hour"
    assert (learned.used, learned.resets_at_ms) == (None, 1_795_258_409_000)


def test_a_figure_of_the_program_itself_is_kept_exactly_and_an_odd_one_dropped():
    verdicts = {}
    for name in ("ok", "odd_amount", "no_usage"):
        _, end, body = load(f"rehearsal/{name}")
        verdicts[name] = read(f"rehearsal/{name}", [body], end)[0].provider_usd
    assert verdicts == {"ok": "0.0060375", "odd_amount": None, "no_usage": None}


def test_no_message_of_a_fault_is_long_or_holds_control_characters():
    body = b'{"error":{"message":"' + b"\\u0007x" * 5000 + b'","type":"server_error"}}'
    verdict = read("compatible/server_error", [body], End())[0]
    assert verdict.fault is not None
    assert len(verdict.fault.message) == 1000
    assert "\x07" not in verdict.fault.message
