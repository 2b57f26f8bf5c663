"""The stand-in for an agent program, started and read the way a real one is."""

import json
import sys

import pytest

from farebox.core.settings import PlatformSettings


def agent(*arguments, **options):
    argv = (sys.executable, "-m", "farebox.rehearsal.program", *arguments)
    return PlatformSettings(kind="rehearsal", billing="rehearsal", argv=argv, options={"wire": "stream-json", **options})


async def test_a_stand_in_of_an_agent_answers_tells_its_window_and_keeps_books(call, tmp_path):
    books = tmp_path / "books.jsonl"
    of = agent("--books", str(books), "--prices", "rehearsal-small=0.25/2", "--turns-max", "10", "--turns-used", "8")
    first = await call(of, prompt="Sparrows count the ships.")
    second = await call(of, prompt="Sparrows count the ships again.")
    third = await call(of, prompt="And again the sparrows count.")
    assert first.text.startswith("About: Sparrows count the ships.")
    assert [called.learned[0].used for called in (first, second, third)] == [80, 90, 100]
    assert third.verdict.fault is not None
    assert third.verdict.fault.error_class == "quota_exhausted"
    lines = [json.loads(line) for line in books.read_text().splitlines()]
    assert [line["outcome"] for line in lines] == ["ok", "ok", "429"]
    assert [called.verdict.provider_usd for called in (first, second)] == [line["usd"] for line in lines[:2]]


async def test_a_stand_in_of_an_agent_keeps_its_partial_text_on_a_cancel(cancel_after_first_piece, signals):
    called = await cancel_after_first_piece(agent("--delay-ms", "8000"))
    assert called.verdict.fault is not None
    assert (called.verdict.fault.error_class, called.verdict.charged) == ("cancelled", "possible")
    assert called.text.startswith("About: S")
    assert signals == ["SIGINT", "SIGCONT", "SIGKILL"]


@pytest.mark.parametrize(
    ("fault", "error_class"),
    [
        ("429", "rate_limited"),
        ("500", "server_error"),
        ("503", "server_error"),
        ("error", "server_error"),
        ("cut", "crashed"),
        ("garbage", "crashed"),
        ("refuse", "refused"),
        ("stall", "stalled"),
        ("endless", "timeout"),
        ("no_usage", None),
    ],
)
@pytest.mark.usefixtures("from_first_byte")
async def test_a_stand_in_of_an_agent_goes_wrong_as_told(call, fault, error_class):
    cut = {"stall": {"idle_timeout_s": 0.3}, "endless": {"timeout_s": 0.3}}
    called = await call(agent("--faults", fault), **cut.get(fault, {}))
    assert (called.verdict.fault.error_class if called.verdict.fault else None) == error_class


async def test_a_stand_in_of_an_agent_that_goes_wrong_once_succeeds_the_next_time(call, tmp_path):
    of = agent("--faults", "500", "--fault-attempts", "1", "--books", str(tmp_path / "books"))
    assert not (await call(of)).verdict.ok
    assert (await call(of)).verdict.ok


async def test_a_stand_in_refuses_arguments_that_mean_nothing(call):
    called = await call(agent("--faults", "fire=0.5"))
    assert called.verdict.fault is not None
    assert "There is no fault 'fire'" in called.verdict.fault.message
