"""Anthropic's Messages API: what is sent, what is looked for, what an answer tells beside its text."""

import msgspec
import pytest

from actors.platforms import messages_quota
from actors.platforms.anthropic import ANTHROPIC, MODEL
from farebox.core.errors import BadSettings
from farebox.core.events import QuotaLearned, TaskSubmitted
from farebox.core.platform import Ask, End, Head, HttpCall, Piece, ProbeAnswer

(DEFAULT,) = ANTHROPIC.defaults.values()
NOON_MS = 1_795_262_400_000


def settings(**more):
    return msgspec.structs.replace(DEFAULT, **more)


def call(of=DEFAULT, *, model="", prompt="What?", system="", **task) -> HttpCall:
    made = ANTHROPIC.ask(Ask(platform="p", settings=of, model=model, prompt=prompt, system=system, task=TaskSubmitted(**task)))
    assert isinstance(made, HttpCall)
    return made


def sent(of=DEFAULT, **more):
    return msgspec.json.decode(call(of, **more).body)


def reader():
    return ANTHROPIC.reader(Ask(platform="p", settings=DEFAULT, model="", prompt="What?", task=TaskSubmitted()))


def test_a_request_streams_names_the_version_and_carries_its_key_in_its_own_header():
    made = call(prompt="Hi", system="Be brief.", max_tokens=9, temperature=0.5)
    assert (made.method, made.url) == ("POST", "https://api.anthropic.com/v1/messages")
    assert made.headers["anthropic-version"] == "2023-06-01"
    assert (made.key_env, made.key_header, made.key_prefix) == ("ANTHROPIC_API_KEY", "x-api-key", "")
    assert msgspec.json.decode(made.body) == {
        "model": MODEL,
        "max_tokens": 9,
        "stream": True,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5,
    }


def test_the_longest_answer_is_the_tasks_then_the_settings_then_a_default():
    of = settings(options={"max_tokens": "4096"})
    assert [sent(of, max_tokens=9)["max_tokens"], sent(of)["max_tokens"], sent()["max_tokens"]] == [9, 4096, 16_384]


def test_an_unstreamed_answer_is_asked_for_as_one_document():
    of = settings(options={"stream": "no"})
    assert (sent(of)["stream"], call(of).headers["accept"]) == (False, "application/json")


def test_half_a_surrogate_pair_does_not_keep_a_prompt_from_being_sent():
    assert sent(prompt="a\ud800b")["messages"][0]["content"] == "a?b"


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/messages", "/v1/messages/"])
def test_an_address_may_be_written_with_or_without_its_path(path):
    of = settings(url=f"https://gateway.example/llm{path}")
    assert call(of).url == "https://gateway.example/llm/v1/messages"
    assert ANTHROPIC.probe("p", of).call.url == "https://gateway.example/llm/v1/models?limit=1000"


def test_looking_for_it_asks_for_the_list_of_models_with_the_same_key():
    probe = ANTHROPIC.probe("anthropic", DEFAULT).call
    assert (probe.method, probe.body, probe.key_header, probe.key_prefix) == ("GET", b"", "x-api-key", "")
    assert probe.headers["anthropic-version"] == "2023-06-01"


def test_a_dated_model_answers_to_its_name_without_the_date_too():
    body = b'{"data":[{"type":"model","id":"claude-sonnet-4-5-20250929"},{"type":"model","id":"claude-opus-5-5"}]}'
    report = ANTHROPIC.read_probe("anthropic", DEFAULT, ProbeAnswer(status=200, body=body, key_set=True))
    assert (report.available, report.detail) == (True, "2 models")
    assert report.models == ("claude-sonnet-4-5-20250929", "claude-opus-5-5", "claude-sonnet-4-5")


@pytest.mark.parametrize(
    ("answer", "detail", "mend"),
    [
        (ProbeAnswer(), "ANTHROPIC_API_KEY is not set", "export ANTHROPIC_API_KEY=…"),
        (ProbeAnswer(status=401, key_set=True), "the key was refused (401)", "Check ANTHROPIC_API_KEY"),
        (ProbeAnswer(status=529, key_set=True), "the server says 529", "Try again later."),
        (
            ProbeAnswer(fault="ConnectError", key_set=True),
            "nobody answers at https://api.anthropic.com (ConnectError)",
            "Look at the network, or at platforms.anthropic.url",
        ),
    ],
)
def test_what_is_missing_is_said_with_what_mends_it(answer, detail, mend):
    report = ANTHROPIC.read_probe("anthropic", DEFAULT, answer)
    assert (report.available, report.detail, report.mend) == (False, detail, mend)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (settings(url=""), "needs a url"),
        (settings(model=""), "needs a model"),
        (settings(url="ftp://x"), "is no address"),
        (settings(url="http://gateway.example"), "plain http"),
        (settings(options={"max_tokens": "many"}), "must be a count from 1 on, not 'many'"),
        (settings(options={"max_tokens": "0"}), "must be a count"),
        (settings(options={"mode": "x"}), "has no 'mode'"),
        (settings(argv=("x",)), "argv means nothing"),
    ],
)
def test_settings_that_cannot_work_are_refused(of, words):
    with pytest.raises(BadSettings, match=words):
        ANTHROPIC.check("anthropic", of)


def test_an_api_is_metered_and_begins_with_two_calls_at_once():
    ANTHROPIC.check("anthropic", DEFAULT)
    ANTHROPIC.check("mine", settings(model="", models=("claude-haiku-5-5",)))
    assert (DEFAULT.billing, DEFAULT.limit, DEFAULT.key_env) == ("metered", 2, "ANTHROPIC_API_KEY")


def test_a_stream_reads_like_the_whole_answer(recorded):
    streamed, whole = (recorded(f"anthropic/{name}").read() for name in ("ok", "unstreamed"))
    assert streamed.verdict == whole.verdict
    assert (streamed.pieces, whole.pieces) == ("The quick brown fox.", "")
    assert streamed.learned == whole.learned


def test_a_success_teaches_all_four_limits(recorded):
    learned = recorded("anthropic/ok").read([]).learned
    assert [(fact.unit, fact.limit, fact.used) for fact in learned] == [
        ("requests", 50, 1),
        ("tokens", 80_000, 2_000),
        ("tokens_in", 60_000, 1_000),
        ("tokens_out", 20_000, 1_000),
    ]
    assert {(fact.window_s, fact.resets_at_ms) for fact in learned} == {(60, NOON_MS + 30_000)}


def test_headers_that_say_nothing_usable_teach_nothing_wrong():
    headers = {
        "anthropic-ratelimit-requests-limit": "lots",
        "anthropic-ratelimit-tokens-limit": "10",
        "anthropic-ratelimit-tokens-reset": "soon",
    }
    (fact,) = messages_quota.learned_from("p", headers)
    assert fact == QuotaLearned(platform="p", window_s=60, unit="tokens", limit=10, evidence="anthropic-ratelimit-tokens")


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-11-21T12:00:00Z", NOON_MS),
        ("2026-11-21T13:00:00+01:00", NOON_MS),
        ("2026-11-21T12:00:00.5Z", NOON_MS + 500),
        ("2026-11-21T12:00:00", None),
        ("2026-13-21T12:00:00Z", None),
        ("", None),
    ],
)
def test_a_reset_is_a_moment_with_its_zone(text, at_ms):
    assert messages_quota.moment_ms(text) == at_ms


@pytest.mark.parametrize(
    ("message", "headers", "wait_ms"),
    [
        ("You will regain access on 2026-11-21 at 13:00 UTC.", {"date": "Sat, 21 Nov 2026 12:00:00 GMT"}, 3_600_000),
        ("You will regain access on 2026-11-21 at 11:00 UTC.", {"date": "Sat, 21 Nov 2026 12:00:00 GMT"}, 0),
        ("You will regain access on 2029-11-21 at 11:00 UTC.", {"date": "Sat, 21 Nov 2026 12:00:00 GMT"}, 32 * 86_400_000),
        ("You will regain access on 2026-11-21 at 13:00 UTC.", {}, None),
        ("You will regain access on 2026-11-41 at 13:00 UTC.", {"date": "Sat, 21 Nov 2026 12:00:00 GMT"}, None),
        ("No.", {"date": "Sat, 21 Nov 2026 12:00:00 GMT"}, None),
    ],
)
def test_an_accounts_own_limit_says_in_words_until_when(message, headers, wait_ms):
    assert messages_quota.regained_in_ms(message, headers) == wait_ms


@pytest.mark.parametrize("place", ["message_start", "content_block_start", "content_block_delta", "message_delta"])
def test_events_without_their_parts_are_no_text_and_no_success(place):
    one = reader()
    one.head(Head(status=200))
    assert list(one.feed(f'data: {{"type":"{place}"}}\n\n'.encode())) == []
    assert not one.end(End()).ok


def test_what_comes_after_the_last_word_is_not_read():
    one = reader()
    one.head(Head(status=200))
    said = one.feed(
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n'
        b'data: {"type":"message_stop"}\n\n'
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"b"}}\n\n'
    )
    assert [piece.text for piece in said if isinstance(piece, Piece)] == ["a"]
    verdict = one.end(End())
    assert (verdict.ok, verdict.text) == (True, "a")
    assert (verdict.usage.input_tokens, verdict.usage.output_tokens) == (None, 1), "what nobody said is unknown"


def test_what_was_thought_before_an_error_may_have_been_billed():
    one = reader()
    one.head(Head(status=200))
    one.feed(b'data: {"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"Hm."}}\n\n')
    one.feed(b'data: {"type":"error","error":{"type":"rate_limit_error","message":"Slow down."}}\n\n')
    verdict = one.end(End())
    assert (verdict.fault.error_class, verdict.charged) == ("rate_limited", "possible")


@pytest.mark.parametrize(
    ("end", "error_class", "charged"),
    [
        (End(cut="unsent"), "network", "none"),
        (End(cut="no_key"), "auth_missing", "none"),
        (End(cut="cancelled", sent=False), "cancelled", "none"),
        (End(cut="cancelled"), "cancelled", "possible"),
        (End(cut="first_byte"), "stalled", "possible"),
    ],
)
def test_a_call_without_an_answer_cost_nothing_only_if_it_was_not_sent(end, error_class, charged):
    verdict = reader().end(end)
    assert (verdict.fault.error_class, verdict.charged, verdict.usage) == (error_class, charged, None)


def test_a_cancelled_stream_keeps_its_text_the_input_that_was_told_and_a_guess_of_the_rest(recorded):
    recording = recorded("anthropic/cut")
    verdict = recording.read(end=End(cut="cancelled")).verdict
    assert (verdict.fault.error_class, verdict.charged) == ("cancelled", "possible")
    assert (verdict.usage.input_tokens, verdict.usage.cached_tokens, verdict.usage.source) == (1200, 1000, "estimated")


def test_a_document_larger_than_the_cap_or_cut_off_is_no_answer(recorded):
    recording = recorded("anthropic/unstreamed")
    assert recording.read([recording.body[:100]], End(cut="overflow")).verdict.fault.error_class == "invalid"
    assert recording.read([recording.body[:100]], End(cut="stalled")).verdict.fault.error_class == "stalled"
