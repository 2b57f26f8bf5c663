"""The small parts that every reader stands on: events, foreign JSON, durations, dates, words of errors, digests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.platforms.chat_quota import duration_ms, learned_from
from actors.platforms.faults import error_in, fault_of_answer
from actors.platforms.foreign_json import at, count_at, items_at, parse, text_at
from actors.platforms.server_sent import Event, ServerSent
from farebox.core.digest import chunks, digest, mark
from farebox.core.retry_after import WAIT_MAX_MS, date_ms, retry_after_ms
from farebox.core.tokens import estimate


def events(*parts):
    decoder = ServerSent()
    return [event for part in parts for event in decoder.feed(part)] + decoder.end()


def test_events_are_told_apart_by_blank_lines_and_keep_their_name():
    stream = b"event: ping\ndata: 1\n\n:comment\n\ndata:2\ndata: 3\nid: 9\n\ndata\n\nevent: lost\n\ndata: open"
    assert events(stream) == [Event("1", "ping"), Event("2\n3"), Event(""), Event("open")]


@given(
    st.lists(st.sampled_from([b"data: x", b"\r", b"\n", b"\r\n", b":", b"event: e", b"\xef\xbb\xbf", "ü".encode()])), st.data()
)
def test_a_stream_of_events_means_the_same_however_it_is_cut(parts, data):
    stream = b"".join(parts)
    place = data.draw(st.integers(0, len(stream)))
    assert events(stream[:place], stream[place:]) == events(stream) == events(*[bytes([byte]) for byte in stream])


def test_an_event_above_the_cap_ends_the_reading():
    decoder = ServerSent(bytes_max=20)
    assert decoder.feed(b"data: fits\n\ndata: does not fit at all\n\ndata: late\n\n") == [Event("fits")]
    assert decoder.overflow
    assert decoder.feed(b"data: more\n\n") == []
    assert decoder.end() == []


@pytest.mark.parametrize("text", ["", "{", "nul", "[" * 100_000, '{"a":"\\ud800', '"\\ud800', "NaN", '{"a":NaN,"b":"\\u0041"}'])
def test_what_is_no_json_is_none(text):
    assert parse(text) is None


def test_half_a_surrogate_pair_does_not_spoil_the_rest():
    assert parse('{"a":"\\ud83d x","b":1.50}') == {"a": "? x", "b": parse("1.5")}


def test_an_amount_beyond_all_numbers_is_nothing():
    assert parse("1e9999999999999999999999") is None


def test_what_is_missing_or_of_another_kind_is_nothing():
    value = parse('{"a":[{"b":"x"}],"n":3,"t":true,"big":99999999999999}')
    assert text_at(value, "a", 0, "b") == "x"
    assert [text_at(value, "n"), text_at(value, "a", 1, "b"), text_at(value, "a", "b")] == ["", "", ""]
    assert [count_at(value, name) for name in ("n", "t", "big", "none")] == [3, None, None, None]
    assert (items_at(value, "a"), items_at(value, "n"), at(value, 0)) == ([{"b": "x"}], [], None)


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("120ms", 120),
        ("6m0s", 360_000),
        ("1s", 1000),
        ("1.5s", 1500),
        ("1h2m", 3_720_000),
        ("", None),
        ("soon", None),
        ("5", None),
    ],
)
def test_durations_are_read_as_providers_write_them(text, millis):
    assert duration_ms(text) == millis


def test_limits_without_a_number_teach_nothing():
    assert learned_from("p", {"x-ratelimit-limit-requests": "many"}) == []
    (fact,) = learned_from("p", {"x-ratelimit-limit-tokens": "10", "x-ratelimit-remaining-tokens": "?"})
    assert (fact.limit, fact.used, fact.resets_at_ms) == (10, None, None)


NOW = "Sat, 21 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "millis"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2000),
        ({"retry-after": "0.5"}, 500),
        ({"retry-after": "2", "retry-after-ms": "1500"}, 1500),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "999999999999"}, WAIT_MAX_MS),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT", "date": NOW}, 30_000),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:30 GMT", "date": NOW}, 0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, None),
        ({"retry-after": "soon", "date": NOW}, None),
    ],
)
def test_a_wait_is_read_in_seconds_in_milliseconds_or_as_a_date(headers, millis):
    assert retry_after_ms(headers) == millis


@pytest.mark.parametrize("text", ["Sat, 31 Feb 2026 12:00:00 GMT", "Sat, 21 Foo 2026 12:00:00 GMT", "2026-11-21", ""])
def test_a_date_that_does_not_exist_is_none(text):
    assert date_ms(text) is None


@pytest.mark.parametrize(
    ("status", "words", "message", "error_class"),
    [
        (400, "", "prompt is too long: 210000 tokens", "context_too_long"),
        (400, "", "Your credit balance is too low", "quota_exhausted"),
        (400, "content_policy_violation", "", "refused"),
        (402, "", "", "quota_exhausted"),
        (403, "", "", "auth_missing"),
        (408, "", "", "server_error"),
        (413, "", "", "context_too_long"),
        (429, "", "slow down", "rate_limited"),
        (500, "invalid_api_key", "", "server_error"),
        (529, "overloaded_error", "", "server_error"),
        (0, "", "Too many requests", "rate_limited"),
        (0, "", "upstream answered 502", "server_error"),
        (0, "", "no idea", "invalid"),
        (418, "", "", "invalid"),
    ],
)
def test_statuses_and_words_become_our_classes(status, words, message, error_class):
    fault = fault_of_answer(status, words, message)
    assert fault.error_class == error_class
    assert fault.message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (None, None),
        ([], None),
        ({"choices": []}, None),
        ({"message": "hi", "choices": []}, None),
        ({"error": None, "choices": []}, None),
        ({"error": "text"}, ("", "text")),
        ({"error": {"type": "t", "code": 3, "message": "m"}}, ("t 3", "m")),
        ([{"error": {"message": "m"}}], ("", "m")),
        ({"object": "error", "message": "m"}, ("", "m")),
        ({"type": "error", "error": {}, "message": "m"}, ("error", "m")),
        ({"message": "m", "code": "c"}, ("c", "m")),
        ({"detail": "Not Found"}, ("", "Not Found")),
        ({"detail": [1]}, ("", "[1]")),
    ],
)
def test_error_objects_are_known_with_and_without_a_wrapper(body, expected):
    assert error_in(body) == expected


@given(st.text())
def test_tokens_are_never_guessed_below_a_quarter_of_the_characters(text):
    assert estimate(text) * 4 >= len(text)
    assert estimate(text) * 3.5 >= len(text.encode("utf-8", "replace"))


def test_a_digest_is_about_the_text_it_was_made_from():
    text = 'Explain this.\n\n<file name="a.py">\ndef sparrow(): return "a sparrow counts ships"\n</file>\n'
    said = digest(text, "Be brief.")
    assert "Files: a.py." in said
    assert "sparrow" in said
    assert mark(text, "Be brief.") in said
    assert mark(text) != mark(text, "Be brief.")
    assert digest(text) == digest(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "\ud800", "!?.", "a" * 300_000, "word " * 50_000, "<file>\n" * 20, "Four words make one sentence. " * 9],
)
def test_a_digest_can_be_made_from_anything(text):
    said = digest(text)
    assert said.startswith("About: ")
    assert "".join(chunks(said)) == said


def test_many_files_are_not_all_listed():
    said = digest("\n".join(f'<file name="f{number}">' for number in range(12)))
    assert "f7 …." in said
    assert "f8" not in said.split("Most used")[0].split("Files:")[1]
