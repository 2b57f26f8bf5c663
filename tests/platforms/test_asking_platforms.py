"""What is sent, what is looked for, which settings are refused: the asking half of every platform."""

import msgspec
import pytest

from actors.platforms import PLATFORMS
from farebox.core.errors import BadSettings
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask, End, Head, HttpCall, InlineCall, ProbeAnswer, ProcessCall
from farebox.core.settings import PlatformSettings

KINDS = {kind.name: kind for kind in PLATFORMS}
URL = "http://127.0.0.1:8000/v1"


def settings(kind="compatible", **more):
    return PlatformSettings(**{"kind": kind, **more})


def ask(of, *, model="", prompt="What?", system="", **task):
    return Ask(platform="p", settings=of, model=model, prompt=prompt, system=system, task=TaskSubmitted(**task))


def sent(of, **more):
    call = KINDS[of.kind].ask(ask(of, **more))
    assert isinstance(call, HttpCall)
    return msgspec.json.decode(call.body)


def test_a_chat_request_streams_and_asks_for_its_usage():
    body = sent(settings(url=URL), model="m", prompt="Hi", system="Be brief.", max_tokens=9, temperature=0.5)
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "temperature": 0.5,
    }


def test_half_a_surrogate_pair_does_not_keep_a_prompt_from_being_sent():
    assert sent(settings(url=URL), prompt="a\ud800b")["messages"] == [{"role": "user", "content": "a?b"}]


def test_a_server_that_cannot_stream_is_asked_for_one_piece():
    of = settings(url=URL, options={"stream": "no", "max_tokens_field": "max_completion_tokens"})
    body = sent(of, max_tokens=3)
    assert (body["stream"], body["max_completion_tokens"], "stream_options" in body) == (False, 3, False)


@pytest.mark.parametrize(
    ("of", "model", "expected"),
    [
        (settings(url=URL, model="own", models=("first",)), "asked", "asked"),
        (settings(url=URL, model="own", models=("first",)), "", "own"),
        (settings(url=URL, models=("first", "second")), "", "first"),
        (settings(url=URL), "", None),
    ],
)
def test_the_model_is_the_routed_one_then_the_platforms_own_then_its_first(of, model, expected):
    assert sent(of, model=model).get("model") == expected


@pytest.mark.parametrize("url", [URL, URL + "/", URL + "/chat/completions", URL + "/chat/completions/"])
def test_an_address_may_be_written_with_or_without_its_path(url):
    call = KINDS["compatible"].ask(ask(settings(url=url, key_env="KEY")))
    assert isinstance(call, HttpCall)
    assert (call.url, call.key_env) == (URL + "/chat/completions", "KEY")


def test_the_local_servers_are_known_by_their_ports():
    found = {name: one.url for name, one in KINDS["compatible"].defaults.items()}
    assert found == {
        "ollama": "http://127.0.0.1:11434/v1",
        "lmstudio": "http://127.0.0.1:1234/v1",
        "llamacpp": "http://127.0.0.1:8080/v1",
        "vllm": "http://127.0.0.1:8000/v1",
    }
    assert {one.billing for one in KINDS["compatible"].defaults.values()} == {"free"}


def test_the_rehearsal_exists_but_is_only_used_by_name():
    (one,) = KINDS["rehearsal"].defaults.values()
    assert (one.open, one.billing) == (False, "rehearsal")


@pytest.mark.parametrize("kind", PLATFORMS, ids=lambda kind: kind.name)
def test_the_defaults_of_a_kind_pass_its_own_check(kind):
    for name, one in kind.defaults.items():
        kind.check(name, one)
        assert one.kind == kind.name


def test_a_program_gets_the_prompt_on_standard_input_and_the_model_as_an_argument():
    of = settings("command", argv=("run", "--model={model}"), key_env="KEY", options={"keep": "A, B", "directory": "/tmp"})
    call = KINDS["command"].ask(ask(of, model="m", prompt="-rf \ud800 ü", system="Be brief."))
    assert call == ProcessCall(
        argv=("run", "--model=m"), stdin="Be brief.\n\n-rf ? ü".encode(), keep=("KEY", "A", "B"), directory="/tmp"
    )


def test_a_program_of_the_rehearsal_is_told_its_model():
    of = settings("rehearsal", billing="rehearsal", argv=("x",), options={"wire": "stream-json"})
    assert KINDS["rehearsal"].ask(ask(of)).argv == ("x", "--model", "rehearsal-small")
    assert KINDS["rehearsal"].ask(ask(of, model="m")).argv == ("x", "--model", "m")


def test_the_chat_wire_of_the_rehearsal_is_the_compatible_one():
    of = settings("rehearsal", billing="rehearsal", url=URL)
    assert KINDS["rehearsal"].ask(ask(of)) == KINDS["compatible"].ask(ask(of))
    assert type(KINDS["rehearsal"].reader(ask(of))) is type(KINDS["compatible"].reader(ask(of)))


def inline(prompt):
    of = settings("rehearsal", billing="rehearsal", options={"wire": "inline"})
    return ask(of, prompt=prompt), KINDS["rehearsal"]


def test_an_inline_answer_is_computed_from_the_text_that_was_asked():
    question, kind = inline("Sparrows count the ships every morning. Nobody knows why they would. 世界")
    call, reader = kind.ask(question), kind.reader(question)
    assert isinstance(call, InlineCall)
    assert list(reader.head(Head(status=0))) == []
    for chunk in call.chunks:
        reader.feed(chunk[:1])
        reader.feed(chunk[1:])
    verdict = reader.end(End(exit_code=0))
    assert verdict.text is not None
    assert verdict.text.startswith("About: Sparrows count the ships every morning.")
    assert verdict.usage is not None
    assert (verdict.ok, verdict.charged, verdict.usage.source) == (True, "known", "computed")


def test_an_inline_answer_that_is_cancelled_costs_nothing():
    question, kind = inline("x")
    verdict = kind.reader(question).end(End(cut="cancelled", sent=False))
    assert verdict.fault is not None
    assert (verdict.ok, verdict.charged, verdict.fault.error_class) == (False, "none", "cancelled")


@pytest.mark.parametrize("kind", ["compatible", "command", "rehearsal"])
@pytest.mark.parametrize(
    ("end", "error_class", "charged"),
    [
        (End(cut="unsent", detail="refused"), "network", "none"),
        (End(cut="no_key", detail="KEY is not set."), "auth_missing", "none"),
        (End(cut="missing"), "unavailable", "none"),
        (End(cut="cancelled", sent=False), "cancelled", "none"),
        (End(cut="cancelled"), "cancelled", "possible"),
        (End(cut="timeout"), "timeout", "possible"),
        (End(cut="first_byte"), "stalled", "possible"),
        (End(cut="stalled"), "stalled", "possible"),
        (End(cut="network"), "network", "possible"),
        (End(cut="overflow"), "invalid", "possible"),
    ],
)
def test_a_call_that_was_cut_says_why_and_whether_it_can_have_cost_something(kind, end, error_class, charged):
    of = settings(kind, url=URL, argv=("x",), options={"wire": "stream-json"} if kind == "rehearsal" else {})
    verdict = KINDS[kind].reader(ask(of)).end(end)
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged, verdict.usage) == (error_class, charged, None)


def test_a_free_program_never_costs_anything():
    reader = KINDS["command"].reader(ask(settings("command", argv=("x",), billing="free")))
    reader.head(Head(status=0))
    reader.feed(b"fine")
    verdict = reader.end(End(exit_code=0))
    assert (verdict.ok, verdict.charged, verdict.text) == (True, "none", "fine")


def test_a_result_that_was_there_before_the_clock_ran_out_counts():
    of = settings("rehearsal", billing="rehearsal", argv=("x",), options={"wire": "stream-json"})
    line = b'{"type":"result","subtype":"success","is_error":false,"result":"fine"}\n'
    for end, ok in ((End(cut="timeout", exit_code=-9), True), (End(exit_code=0), True), (End(exit_code=2), False)):
        reader = KINDS["rehearsal"].reader(ask(of))
        reader.head(Head(status=0))
        reader.feed(line)
        assert reader.end(end).ok == ok


def test_an_interrupted_result_after_a_timeout_is_a_timeout():
    of = settings("rehearsal", billing="rehearsal", argv=("x",), options={"wire": "stream-json"})
    reader = KINDS["rehearsal"].reader(ask(of))
    reader.feed(b'{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_streaming"}')
    verdict = reader.end(End(cut="timeout", exit_code=0))
    assert verdict.fault is not None
    assert verdict.fault.error_class == "timeout"


@pytest.mark.fault(49)
def test_a_line_without_end_is_refused_and_not_kept():
    of = settings("rehearsal", billing="rehearsal", argv=("x",), options={"wire": "stream-json"})
    reader = KINDS["rehearsal"].reader(ask(of))
    for _ in range(17):
        reader.feed(b"x" * 1024 * 1024)
    verdict = reader.end(End(exit_code=0))
    assert verdict.fault is not None
    assert verdict.fault.error_class == "invalid"


def test_an_unstreamed_answer_without_end_is_refused_and_not_kept():
    reader = KINDS["compatible"].reader(ask(settings(url=URL)))
    reader.head(Head(status=200))
    for _ in range(17):
        reader.feed(b'{"x":"' + b"y" * 4 * 1024 * 1024)
    verdict = reader.end(End())
    assert verdict.fault is not None
    assert verdict.fault.error_class == "invalid"


def test_an_event_without_end_is_refused_and_not_kept():
    reader = KINDS["compatible"].reader(ask(settings(url=URL)))
    reader.head(Head(status=200))
    for _ in range(17):
        reader.feed(b"data: " + b"x" * 1024 * 1024)
    verdict = reader.end(End())
    assert verdict.fault is not None
    assert (verdict.fault.error_class, verdict.charged) == ("invalid", "possible")


# ---- probes


def report(of, name="p", **answer):
    return KINDS[of.kind].read_probe(name, of, ProbeAnswer(**answer))


MODELS = b'{"object":"list","data":[{"id":"a"},{"id":"b"},{"nope":1}]}'


def test_a_server_is_found_by_its_list_of_models():
    probe = KINDS["compatible"].probe("p", settings(url=URL, key_env="KEY"))
    assert probe.call == HttpCall(method="GET", url=URL + "/models", key_env="KEY")
    told = report(settings(url=URL), status=200, body=MODELS)
    assert (told.available, told.models, told.detail) == (True, ("a", "b"), "2 models")
    assert report(settings(url=URL), status=200, body=b'{"data":[{"id":"a"}]}').detail == "1 model"


@pytest.mark.parametrize(
    ("of", "name", "answer", "detail", "mend"),
    [
        (settings(), "p", {}, "no address yet", "Set platforms.p.url"),
        (settings(url=URL, key_env="KEY"), "p", {}, "KEY is not set", "export KEY=…"),
        (
            settings(url=URL),
            "ollama",
            {"fault": "refused"},
            f"nobody answers at {URL} (refused)",
            "Start it with: ollama serve",
        ),
        (settings(url=URL), "p", {}, f"nobody answers at {URL}", "Start the server."),
        (settings(url=URL), "p", {"status": 401}, "the key was refused (401)", "Set platforms.p.key_env"),
        (
            settings(url=URL, key_env="KEY"),
            "p",
            {"status": 403, "key_set": True},
            "the key was refused (403)",
            "Check KEY",
        ),
        (settings(url=URL), "p", {"status": 502}, "the server says 502", "Try again later."),
        (settings(url=URL), "p", {"status": 404}, "no list of models (404)", "Set platforms.p.model"),
        (
            settings(url=URL),
            "ollama",
            {"status": 200, "body": b'{"object":"list","data":null}'},
            "no models",
            "ollama pull llama3.2",
        ),
        (settings(url=URL), "p", {"status": 200, "body": b'{"data":[]}'}, "no models", "Load a model."),
        (
            settings(url=URL),
            "p",
            {"status": 200, "body": b"<html>"},
            "something else answers there",
            "Set platforms.p.url, or enabled = false",
        ),
        (settings("command", argv=("nope",)), "p", {}, "no program 'nope' on PATH", "Install it, or correct platforms.p.argv"),
        (
            settings("rehearsal", billing="rehearsal"),
            "p",
            {},
            "its stand-in is not running",
            "The engine starts it: farebox up",
        ),
    ],
)
def test_what_is_missing_is_told_with_what_to_do(of, name, answer, detail, mend):
    told = report(of, name, **answer)
    assert (told.available, told.detail, told.mend) == (False, detail, mend)


def test_a_server_without_a_list_of_models_is_usable_when_the_user_named_one():
    told = report(settings(url=URL, model="m", models=("m",)), status=404)
    assert (told.available, told.models) == (True, ("m",))


def test_a_program_is_found_on_path():
    of = settings("command", argv=("cat",), models=("m",))
    assert KINDS["command"].probe("p", of).program == "cat"
    told = report(of, path="/bin/cat")
    assert (told.available, told.detail, told.models) == (True, "/bin/cat", ("m",))


def test_every_wire_of_the_rehearsal_can_be_looked_for():
    def of(wire, **more):
        return settings("rehearsal", billing="rehearsal", options={"wire": wire}, **more)

    probe = KINDS["rehearsal"].probe
    assert probe("p", of("inline")).call is None
    assert report(of("inline")).available
    assert probe("p", of("stream-json", argv=("x",))).program == "x"
    assert report(of("stream-json", argv=("x",)), path="/x").available
    assert probe("p", of("chat")).call is None
    assert probe("p", of("chat", url=URL)).call is not None
    assert report(of("chat", url=URL), status=200, body=MODELS).available


# ---- settings that cannot work


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (settings(), "needs a url"),
        (settings(url="ftp://x/v1"), "is no address"),
        (settings(url="localhost:8000"), "is no address"),
        (settings(url="http:///v1"), "is no address"),
        (settings(url="http://x:99999/v1"), "is no address"),
        (settings(url="http://[x/v1"), "is no address"),
        (settings(url="http://x/a b"), "is no address"),
        (settings(url="http://me:secret@x/v1"), "no user, password"),
        (settings(url="https://x/v1?key=1"), "no user, password, query"),
        (settings(url="https://x/v1", key_env="sk-123"), "name of an environment variable"),
        (settings(url="http://example.org/v1", key_env="KEY"), "plain http"),
        (settings(url=URL, options={"strem": "no"}), "has no 'strem'"),
        (settings(url=URL, options={"stream": "maybe"}), "cannot be 'maybe'"),
        (settings(url=URL, argv=("x",)), "argv means nothing"),
        (settings("command"), "needs argv"),
        (settings("command", argv=(" ",)), "needs argv"),
        (settings("command", argv=("a\x00b",)), "NUL"),
        (settings("command", argv=("x",), url=URL), "url means nothing"),
        (settings("command", argv=("x",), options={"keep": "A=1"}), "no name of an environment variable"),
        (settings("command", argv=("x",), options={"cwd": "/"}), "It knows: directories, directory, keep, worktrees."),
        (settings("rehearsal", billing="metered"), "cannot bill"),
        (settings("rehearsal", billing="rehearsal", options={"wire": "telex"}), "It can be: chat, stream-json, inline."),
        (settings("rehearsal", billing="rehearsal", options={"wire": "stream-json"}), "needs argv"),
        (settings("rehearsal", billing="rehearsal", url="x"), "is no address"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_one_clear_line(of, words):
    with pytest.raises(BadSettings, match=words) as refused:
        KINDS[of.kind].check("p", of)
    assert "\n" not in str(refused.value)
    assert "platforms.p" in str(refused.value)


@pytest.mark.parametrize(
    "of",
    [
        settings(url="https://api.example.org/v1", key_env="KEY"),
        settings(url="http://localhost:1234/v1", key_env="KEY"),
        settings(url="http://gpu.lan/v1", key_env="KEY", options={"insecure": "yes"}),
        settings("command", argv=("x", "-m", "{model}"), options={"keep": "A,B", "directory": "/tmp"}),
        settings("rehearsal", billing="rehearsal", url=URL),
        settings("rehearsal", billing="rehearsal", argv=("x",), options={"wire": "stream-json"}),
    ],
)
def test_settings_that_can_work_pass(of):
    KINDS[of.kind].check("p", of)
