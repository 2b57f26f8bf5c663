"""The Gemini API: what is sent, what a refusal tells about quota, what a probe finds, which settings are refused."""

import msgspec
import pytest

from actors.platforms.gemini import GEMINI, check
from actors.platforms.gemini_quota import delay_ms, fault_of, midnight_pacific_ms
from farebox.core.errors import BadSettings
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, End, Head, HttpCall, ProbeAnswer
from farebox.core.settings import PlatformSettings

URL = "http://127.0.0.1:8000"
OWN = GEMINI.defaults["gemini"]


def settings(**more):
    return PlatformSettings(**{"kind": "gemini", "key_env": "GEMINI_API_KEY", **more})


def ask(of, *, model="", prompt="What?", system="", **task):
    return Ask(platform="p", settings=of, model=model, prompt=prompt, system=system, task=TaskSubmitted(**task))


def sent(of, **more):
    call = GEMINI.ask(ask(of, **more))
    assert isinstance(call, HttpCall)
    return call, msgspec.json.decode(call.body)


def test_the_platform_exists_by_itself_metered_with_a_key():
    assert (OWN.billing, OWN.key_env, OWN.limit, OWN.enabled) == ("metered", "GEMINI_API_KEY", 2, True)
    check("gemini", OWN)


def test_a_request_streams_with_the_key_in_its_own_header():
    call, body = sent(OWN, model="gemini-2.5-pro", prompt="Hi", system="Be brief.", max_tokens=9, temperature=0.5)
    assert call.url == "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
    assert (call.method, call.key_env, call.key_header, call.key_prefix) == ("POST", "GEMINI_API_KEY", "x-goog-api-key", "")
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"maxOutputTokens": 9, "temperature": 0.5},
    }


def test_a_bare_request_holds_nothing_but_the_prompt_and_half_a_surrogate_pair_is_sent_as_a_question_mark():
    assert sent(OWN, prompt="a\ud800b")[1] == {"contents": [{"role": "user", "parts": [{"text": "a?b"}]}]}


def test_an_answer_in_one_piece_is_asked_for_elsewhere():
    call, _ = sent(settings(url=URL, options={"stream": "no"}), model="m")
    assert (call.url, call.headers["accept"]) == (f"{URL}/v1beta/models/m:generateContent", "application/json")


@pytest.mark.parametrize(
    ("of", "model", "place"),
    [
        (settings(), "models/asked", "models/asked"),
        (settings(model="own", models=("first",)), "", "models/own"),
        (settings(models=("first",)), "", "models/first"),
        (settings(), "", "models/gemini-flash-latest"),
        (settings(), "tunedModels/mine", "tunedModels/mine"),
        (settings(), "../x?y", "models/..%2Fx%3Fy"),
    ],
)
def test_the_model_is_the_routed_one_then_the_platforms_own_then_its_first_then_the_newest_flash(of, model, place):
    assert sent(of, model=model)[0].url.split("/v1beta/")[1].partition(":")[0] == place


@pytest.mark.parametrize("url", [URL, f"{URL}/", f"{URL}/v1beta", f"{URL}/v1beta/"])
def test_an_address_may_be_written_with_or_without_its_version(url):
    assert sent(settings(url=url), model="m")[0].url.startswith(f"{URL}/v1beta/models/m:")


def test_streamed_and_unstreamed_answers_come_to_the_same(recorded):
    streamed, whole, array = (recorded(f"gemini/{name}").read().verdict for name in ("ok", "unstreamed", "array"))
    assert streamed == whole == array


def test_thoughts_are_no_text_of_the_answer(recorded):
    heard = recorded("gemini/thoughts").read()
    assert heard.pieces == "The quick brown fox."


# ---- quota


def test_a_minutes_limits_are_learned_with_their_units(recorded):
    learned = recorded("gemini/rate_limited").read().learned
    assert [(fact.window_s, fact.unit, fact.limit, fact.used, fact.resets_at_ms) for fact in learned] == [
        (60, "requests", 10, 10, None),
        (60, "tokens_in", 250_000, 250_000, None),
    ]
    assert learned[0].evidence == "429 GenerateRequestsPerMinutePerProjectPerModel-FreeTier gemini-2.5-flash"


def test_a_days_limit_is_over_until_midnight_pacific_time_whatever_the_retry_delay_says(recorded):
    heard = recorded("gemini/quota_exhausted").read()
    assert [(fact.window_s, fact.limit, fact.resets_at_ms) for fact in heard.learned] == [
        (60, 10, None),
        (86_400, 250, 1_795_334_400_000),
    ]
    assert heard.verdict.retry_after_ms == 20 * 3_600_000
    assert heard.verdict.fault is not None
    assert "PerDay" in heard.verdict.fault.message


def test_without_a_date_nobody_knows_when_the_day_ends(recorded):
    heard = recorded("gemini/quota_without_date").read()
    assert (heard.verdict.retry_after_ms, [fact.resets_at_ms for fact in heard.learned]) == (None, [None])


@pytest.mark.parametrize(
    ("date", "midnight"),
    [
        ("Sat, 21 Nov 2026 07:59:59 GMT", "2026-11-21T08:00:00+00:00"),
        ("Sat, 21 Nov 2026 08:00:00 GMT", "2026-11-22T08:00:00+00:00"),
        ("Sat, 21 Nov 2026 23:59:59 GMT", "2026-11-22T08:00:00+00:00"),
        ("Wed, 01 Jul 2026 06:59:59 GMT", "2026-07-01T07:00:00+00:00"),
        ("Wed, 01 Jul 2026 07:00:00 GMT", "2026-07-02T07:00:00+00:00"),
        ("Sat, 07 Mar 2026 20:00:00 GMT", "2026-03-08T08:00:00+00:00"),  # the clocks change at two that night
        ("Sun, 08 Mar 2026 20:00:00 GMT", "2026-03-09T07:00:00+00:00"),
        ("Sat, 31 Oct 2026 20:00:00 GMT", "2026-11-01T07:00:00+00:00"),
        ("Sun, 01 Nov 2026 20:00:00 GMT", "2026-11-02T08:00:00+00:00"),
        ("Thu, 31 Dec 2026 20:00:00 GMT", "2027-01-01T08:00:00+00:00"),
    ],
)
def test_midnight_pacific_time_is_known_in_summer_and_winter(date, midnight):
    from datetime import datetime

    found = midnight_pacific_ms({"date": date})
    assert found is not None
    assert found == round(datetime.fromisoformat(midnight).timestamp() * 1000)


def test_a_limit_is_learned_as_soon_as_the_refusal_is_whole(recorded):
    recording = recorded("gemini/rate_limited")
    reader = recording.reader()
    reader.head(recording.head)
    body = recording.body.rstrip()
    assert list(reader.feed(body[:-1])) == []
    assert len(reader.feed(body[-1:])) == 2
    assert list(reader.feed(b"\n")) == []


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        ({"details": [{"retryDelay": "7s"}]}, 7000),
        ({"details": [{"retryDelay": "0.5s"}]}, 500),
        ({"details": [{"retryDelay": "soon"}], "message": "Please retry in 3.5s."}, 3500),
        ({"details": [{"retryDelay": "999999999s"}]}, 32 * 86_400_000),
        ({"message": "later"}, None),
        (None, None),
    ],
)
def test_a_delay_is_read_from_details_or_words(error, delay):
    assert delay_ms(error) == delay


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        ({"code": 403, "message": "x", "details": [{"reason": "SERVICE_DISABLED"}]}, "auth_missing"),
        ({"code": 403, "message": "x", "details": [{"reason": "BILLING_DISABLED"}]}, "quota_exhausted"),
        ({"code": 429, "message": "Your prepayment credits are depleted."}, "quota_exhausted"),
        ({"code": 429, "message": "x", "details": [{"violations": [{"quotaId": "Odd"}]}]}, "rate_limited"),
        ({"code": 429, "message": "x", "details": [{"violations": [{"quotaMetric": "m"}]}]}, "rate_limited"),
        ({"code": "x", "message": "Please try again."}, "invalid"),
        ({"code": 9, "message": "Too many requests"}, "rate_limited"),
    ],
)
def test_an_error_inside_a_stream_is_known_by_its_own_code_and_details(error, error_class):
    assert fault_of(0, error).error_class == error_class


def test_a_quota_without_a_name_teaches_nothing_and_a_token_limit_counts_tokens():
    reader = GEMINI.reader(ask(OWN))
    reader.head(Head(status=429))
    body = {
        "error": {
            "code": 429,
            "details": [
                {
                    "violations": [
                        {"quotaMetric": "x"},
                        {"quotaId": "TokensPerModelPerDay", "quotaMetric": "token_count", "quotaValue": "many"},
                    ]
                }
            ],
        }
    }
    (learned,) = reader.feed(msgspec.json.encode(body))
    assert (learned.unit, learned.limit, learned.window_s) == ("tokens", None, 86_400)


# ---- too large


@pytest.mark.parametrize("start", [b'{"x":"', b"data: "])
def test_an_answer_without_end_is_refused_and_not_kept(start):
    reader = GEMINI.reader(ask(OWN))
    reader.head(Head(status=200))
    reader.feed(start)
    for _ in range(17):
        reader.feed(b"y" * 4 * 1024 * 1024)
    verdict = reader.end(End())
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged) == ("invalid", "possible")


@pytest.mark.parametrize(
    ("end", "error_class", "charged"),
    [
        (End(cut="unsent"), "network", "none"),
        (End(cut="no_key"), "auth_missing", "none"),
        (End(cut="cancelled", sent=False), "cancelled", "none"),
        (End(cut="cancelled"), "cancelled", "possible"),
        (End(cut="timeout"), "timeout", "possible"),
        (End(cut="stalled"), "stalled", "possible"),
        (End(cut="first_byte"), "stalled", "possible"),
    ],
)
def test_a_call_that_was_cut_says_why_and_whether_it_can_have_cost_something(end, error_class, charged):
    verdict = GEMINI.reader(ask(OWN)).end(end)
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged, verdict.usage) == (error_class, charged, None)


def test_text_without_usage_that_is_cut_may_have_cost_something():
    reader = GEMINI.reader(ask(OWN))
    reader.head(Head(status=200))
    reader.feed(b'data: {"candidates":[{"content":{"parts":[{"text":"Fox"}]}}]}\n\n')
    verdict = reader.end(End(cut="network"))
    assert (verdict.ok, verdict.text, verdict.charged, verdict.usage) == (False, "Fox", "possible", None)


def test_a_document_that_is_cut_says_why_it_was_cut():
    reader = GEMINI.reader(ask(OWN))
    reader.head(Head(status=200))
    reader.feed(b'{"candidates":[')
    verdict = reader.end(End(cut="cancelled"))
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged) == ("cancelled", "possible")


def test_after_an_error_a_stream_says_nothing_more():
    reader = GEMINI.reader(ask(OWN))
    reader.head(Head(status=200))
    assert not reader.feed(b'data: {"error":{"code":500,"message":"Internal."}}\n\n')
    assert not reader.feed(b'data: {"candidates":[{"content":{"parts":[{"text":"no"}]},"finishReason":"STOP"}]}\n\n')
    verdict = reader.end(End())
    assert (verdict.ok, verdict.text, verdict.charged, verdict.usage) == (False, "", "possible", None)


# ---- probes and settings

MODELS = msgspec.json.encode(
    {
        "models": [
            {"name": "models/gemini-2.5-flash", "supportedGenerationMethods": ["generateContent", "countTokens"]},
            {"name": "models/embedding-001", "supportedGenerationMethods": ["embedContent"]},
            {"supportedGenerationMethods": ["generateContent"]},
        ]
    }
)
BAD_KEY = b'{"error":{"code":400,"message":"API key not valid.","details":[{"reason":"API_KEY_INVALID"}]}}'


def test_the_list_of_models_is_asked_for_with_the_key():
    probe = GEMINI.probe("p", settings(url=URL))
    assert probe.call == HttpCall(
        method="GET",
        url=f"{URL}/v1beta/models?pageSize=1000",
        key_env="GEMINI_API_KEY",
        key_header="x-goog-api-key",
        key_prefix="",
    )


def report(of=OWN, **answer):
    return GEMINI.read_probe("p", of, ProbeAnswer(**{"key_set": True, **answer}))


def test_models_that_write_are_listed_by_their_short_names():
    told = report(status=200, body=MODELS)
    assert (told.available, told.models, told.detail) == (True, ("gemini-2.5-flash",), "1 model")
    two = MODELS.replace(b"embedContent", b"generateContent")
    assert report(status=200, body=two).detail == "2 models"


@pytest.mark.parametrize(
    ("answer", "detail", "mend"),
    [
        ({"key_set": False}, "GEMINI_API_KEY is not set", "export GEMINI_API_KEY=…"),
        (
            {"fault": "refused"},
            "nobody answers at https://generativelanguage.googleapis.com/v1beta (refused)",
            "Check the network.",
        ),
        ({"status": 400, "body": BAD_KEY}, "the key was refused (400)", "Check GEMINI_API_KEY"),
        ({"status": 403}, "the key was refused (403)", "Check GEMINI_API_KEY"),
        ({"status": 500}, "the server says 500", "Try again later."),
        (
            {"status": 429, "body": b'{"error":{"message":"Slow down."}}'},
            "the server says 429: Slow down.",
            "Try again later.",
        ),
        ({"status": 404}, "the server says 404", "Check platforms.p.url"),
        ({"status": 200, "body": b"{}"}, "no models for this key", "Check GEMINI_API_KEY"),
    ],
)
def test_what_is_missing_is_told_with_what_to_do(answer, detail, mend):
    told = report(**answer)
    assert (told.available, told.detail, told.mend) == (False, detail, mend)


def test_a_server_of_ones_own_may_want_no_key():
    of = settings(url=URL, key_env="")
    check("p", of)
    assert report(of, status=401).mend == "Set platforms.p.key_env"
    assert report(of, status=200, body=MODELS).available


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"key_env": ""}, "needs key_env"),
        ({"key_env": "AIza-123"}, "name of an environment variable"),
        ({"url": "ftp://x"}, "is no address"),
        ({"url": "http://example.org"}, "plain http"),
        ({"options": {"stream": "maybe"}}, "cannot be 'maybe'"),
        ({"argv": ("x",)}, "argv means nothing"),
    ],
)
def test_settings_that_cannot_work_are_refused(more, words):
    with pytest.raises(BadSettings, match=words):
        check("p", settings(**more))
