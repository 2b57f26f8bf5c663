"""What a task allows: money, platforms, what happens without room. In Python, in lines of a batch, on the command line."""

from __future__ import annotations

import pytest

from farebox import amounts
from farebox.cli.allowed_options import Allowed, with_batch
from farebox.cli.task_options import TaskOptions
from farebox.core.errors import BadInput
from farebox.core.terms import Constraints
from farebox.inputs import read_batch
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.posting import submission
from farebox.tasks import spec_of


async def test_what_a_task_allows_is_in_its_submission():
    spec = spec_of({"prompt": "x", "max_cost_usd": 0.5, "allow": ["a"], "tier": "plan", "on_quota": "stop", "local": True})
    fact = await submission(MemoryLog(MemoryStore()), spec, chain="c", task="t")
    assert fact.constraints == Constraints(max_cost_usd="0.5", allow=("a",), tier="plan", on_quota="stop", local=True)
    plain = await submission(MemoryLog(MemoryStore()), spec_of({"prompt": "x"}), chain="c", task="t")
    assert plain.constraints == Constraints()


def test_a_line_of_a_batch_may_use_the_short_words(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "x", "max_cost": "$0.10", "need": "files", "deny": ["a", "b"]}\n')
    (spec,) = read_batch(str(path)).tasks
    assert (spec.max_cost_usd, spec.capabilities, spec.deny) == ("0.1", ("files",), ("a", "b"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_cost": -1}, 'field "max_cost" is \'-1\'; it is an amount of US dollars. Write it like "0.25".'),
        ({"chain_max_cost_usd": "much"}, "field \"chain_max_cost_usd\" is 'much'; it is an amount"),
        ({"max_cost": True}, "is 'True'; it is an amount"),
        ({"tier": "cheap"}, "field \"tier\": Invalid enum value 'cheap'"),
        ({"on_quota": "beg"}, "field \"on_quota\": Invalid enum value 'beg'"),
        ({"allow": ["a b"]}, "platform 'a b' is not usable"),
        ({"allow": ["a"], "deny": ["a"]}, "a is allowed and denied."),
    ],
)
def test_what_cannot_be_allowed_is_refused_with_its_field(fields, words):
    with pytest.raises(BadInput) as caught:
        spec_of({"prompt": "x", **fields})
    assert words in str(caught.value)


def test_the_options_of_the_command_line_say_the_same():
    allowed = Allowed(tier="free", deny=("a",), need=("files",), chain_max_cost="2usd", allow_unpriced=True, tag=("team=x",))
    spec = TaskOptions(max_cost="0.2").spec("x", allowed)
    assert spec.constraints == Constraints(
        max_cost_usd="0.2", chain_max_cost_usd="2", tier="free", deny=("a",), capabilities=("files",), allow_unpriced=True
    )
    assert spec.tags == {"team": "x"}


def test_what_holds_for_a_batch_holds_for_each_task_unless_its_line_says_otherwise():
    told = Allowed(on_quota="spill", allow=("a",), deny=("b",), tag=("team=x", "run=1")).of_batch("3")
    assert told["batch_max_cost_usd"] == "3"
    line = {"prompt": "x", "on_quota": "stop", "allow": ["c"], "deny": ["d", "b"], "tags": {"team": "y"}}
    spec = with_batch(spec_of(line), told)
    assert (spec.on_quota, spec.allow, spec.deny, spec.tags) == ("stop", ("c",), ("d", "b"), {"team": "y", "run": "1"})
    bare = with_batch(spec_of({"prompt": "x"}), told)
    assert (bare.on_quota, bare.allow, bare.batch_max_cost_usd) == ("spill", ("a",), "3")
    assert with_batch(bare, Allowed().of_batch(None)) is bare


def test_a_bound_that_is_no_money_is_named_by_its_option():
    with pytest.raises(BadInput, match="--max-cost is 'much'"):
        Allowed().of_batch("much")
    assert [amounts.exact(one) for one in (5, 0.1, "0.1", None)] == ["5", "0.1", "0.1", None]
