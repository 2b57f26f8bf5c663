"""OpenAI's Responses API: what is sent, what is looked for, what an answer tells beside its text."""

import msgspec
import pytest

from actors.platforms.openai import MODEL, OPENAI
from farebox.core.errors import BadSettings
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, End, Head, HttpCall, ProbeAnswer

(DEFAULT,) = OPENAI.defaults.values()
NOON_MS = 1_795_262_400_000


def settings(**more):
    return msgspec.structs.replace(DEFAULT, **more)


def call(of=DEFAULT, *, model="", prompt="What?", system="", **task) -> HttpCall:
    made = OPENAI.ask(Ask(platform="p", settings=of, model=model, prompt=prompt, system=system, task=TaskSubmitted(**task)))
    assert isinstance(made, HttpCall)
    return made


def sent(of=DEFAULT, **more):
    return msgspec.json.decode(call(of, **more).body)


def reader():
    return OPENAI.reader(Ask(platform="p", settings=DEFAULT, model="", prompt="What?", task=TaskSubmitted()))


def test_a_request_streams_and_nothing_of_it_is_kept_there():
    made = call(prompt="Hi", system="Be brief.", max_tokens=9, temperature=0.5)
    assert (made.method, made.url) == ("POST", "https://api.openai.com/v1/responses")
    assert (made.key_env, made.key_header, made.key_prefix) == ("OPENAI_API_KEY", "authorization", "Bearer ")
    assert msgspec.json.decode(made.body) == {
        "model": MODEL,
        "input": "Hi",
        "stream": True,
        "store": False,
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "temperature": 0.5,
    }
    assert sent().keys() == {"model", "input", "stream", "store"}


def test_an_unstreamed_answer_is_asked_for_as_one_document():
    of = settings(options={"stream": "no"})
    assert (sent(of)["stream"], call(of).headers["accept"]) == (False, "application/json")


def test_half_a_surrogate_pair_does_not_keep_a_prompt_from_being_sent():
    assert sent(prompt="a\ud800b")["input"] == "a?b"


@pytest.mark.parametrize("path", ["", "/", "/responses", "/responses/"])
def test_an_address_may_be_written_with_or_without_its_path(path):
    of = settings(url=f"https://gateway.example/v1{path}")
    assert call(of).url == "https://gateway.example/v1/responses"
    assert OPENAI.probe("p", of).call.url == "https://gateway.example/v1/models"


def test_the_payer_may_be_named_and_a_gateway_may_want_its_key_elsewhere():
    of = settings(options={"organization": "org-1", "project": "proj_1", "key_header": "api-key"})
    for made in (call(of), OPENAI.probe("p", of).call):
        assert (made.headers["openai-organization"], made.headers["openai-project"]) == ("org-1", "proj_1")
        assert (made.key_header, made.key_prefix) == ("api-key", "")
    assert "openai-project" not in call().headers


@pytest.mark.parametrize(
    ("answer", "available", "detail", "mend"),
    [
        (ProbeAnswer(), False, "OPENAI_API_KEY is not set", "export OPENAI_API_KEY=…"),
        (ProbeAnswer(status=401, key_set=True), False, "the key was refused (401)", "Check OPENAI_API_KEY"),
        (ProbeAnswer(status=200, body=b'{"object":"list","data":[{"id":"gpt-6-sol"}]}', key_set=True), True, "1 model", ""),
    ],
)
def test_what_is_there_and_what_is_missing_is_said_with_what_mends_it(answer, available, detail, mend):
    report = OPENAI.read_probe("openai", DEFAULT, answer)
    assert (report.available, report.detail, report.mend) == (available, detail, mend)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (settings(url=""), "needs a url"),
        (settings(model=""), "needs a model"),
        (settings(url="http://gateway.example/v1"), "plain http"),
        (settings(options={"organization": "a\nb"}), "fits into no header"),
        (settings(options={"project": "ü"}), "fits into no header"),
        (settings(options={"key_header": "cookie"}), "cannot be 'cookie'"),
        (settings(argv=("x",)), "argv means nothing"),
    ],
)
def test_settings_that_cannot_work_are_refused(of, words):
    with pytest.raises(BadSettings, match=words):
        OPENAI.check("openai", of)


def test_an_api_is_metered_and_begins_with_two_calls_at_once():
    OPENAI.check("openai", DEFAULT)
    OPENAI.check("mine", settings(model="", models=("gpt-6-luna",)))
    assert (DEFAULT.billing, DEFAULT.limit, DEFAULT.key_env) == ("metered", 2, "OPENAI_API_KEY")


def test_a_stream_reads_like_the_whole_answer(recorded):
    streamed, whole = (recorded(f"openai/{name}").read() for name in ("ok", "unstreamed"))
    assert streamed.verdict == whole.verdict
    assert (streamed.pieces, whole.pieces) == ("The quick brown fox.", "")
    assert streamed.learned == whole.learned


def test_a_success_teaches_limits_with_the_answers_own_clock(recorded):
    learned = recorded("openai/ok").read([]).learned
    assert [(fact.unit, fact.limit, fact.used, fact.resets_at_ms) for fact in learned] == [
        ("requests", 500, 1, NOON_MS + 120),
        ("tokens", 30_000, 1_000, NOON_MS + 360_000),
    ]


def test_the_whole_answer_counts_where_it_differs_from_its_pieces():
    one = reader()
    one.head(Head(status=200))
    one.feed(
        b'data: {"type":"response.output_text.delta","delta":"a"}\n\n'
        b'data: {"type":"response.completed","response":{"output":[{"content":[{"type":"output_text","text":"ab"}]}]}}\n\n'
        b'data: {"type":"response.output_text.delta","delta":"c"}\n\n'
    )
    verdict = one.end(End())
    assert (verdict.ok, verdict.text, verdict.usage.source) == (True, "ab", "estimated")


def test_a_final_event_without_output_leaves_what_was_streamed():
    one = reader()
    one.head(Head(status=200))
    one.feed(
        b'data: {"type":"response.output_text.delta","delta":"a"}\n\n'
        b'data: {"type":"response.output_text.delta"}\n\n'
        b'data: {"type":"response.completed","response":{"usage":{"output_tokens":1}}}\n\n'
    )
    verdict = one.end(End())
    assert (verdict.ok, verdict.text, verdict.usage.input_tokens, verdict.usage.output_tokens) == (True, "a", None, 1)


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


def test_a_document_cut_off_is_no_answer(recorded):
    recording = recorded("openai/unstreamed")
    assert recording.read([recording.body[:100]], End(cut="stalled")).verdict.fault.error_class == "stalled"


def test_an_answer_in_the_background_has_not_ended(recorded):
    assert not recorded("openai/not_ended_yet").read().verdict.ok
