"""What the runtime counts on when a fact breaks `evolve`: at pace "task", wherever it breaks, no other task is touched."""

import copy
import sys

import msgspec
import pytest

from actors import aggregator, cost, router
from farebox.core import events as e
from farebox.core.settings import PlatformSettings, Settings, canonical
from farebox.core.terms import Candidate, Fault, Usage

TOOL = 4
PLAIN, SHA256 = canonical(Settings(platforms={"p": PlatformSettings(kind="test", model="m")}))


class BreakError(Exception):
    """Raised at a line of an actor."""


class Breaker:
    """Lets a call break before the n-th line that it runs in a file."""

    def __init__(self, module):
        self._file = module.__file__
        self._left = 0

    def __enter__(self):
        sys.monitoring.use_tool_id(TOOL, "breaker")
        sys.monitoring.register_callback(TOOL, sys.monitoring.events.LINE, self._line)
        return self

    def __exit__(self, *_):
        sys.monitoring.register_callback(TOOL, sys.monitoring.events.LINE, None)
        sys.monitoring.free_tool_id(TOOL)

    def breaks(self, line, call):
        """Return whether the call broke: False once it has no such line."""
        self._left = line
        sys.monitoring.set_events(TOOL, sys.monitoring.events.LINE)
        try:
            call()
        except BreakError:
            return True
        finally:
            sys.monitoring.set_events(TOOL, 0)
        return False

    def _line(self, code, _number):
        if code.co_filename != self._file:
            return
        self._left -= 1
        if self._left == 0:
            raise BreakError


def life(task, batch):
    """Return all that may be said about one task."""
    about = {"chain": f"c-{task}", "task": task, "batch": batch}
    tried = {**about, "platform": "p", "model": "m", "charged": "known", "usage": Usage(input_tokens=1, output_tokens=1)}
    fault = Fault(error_class="network", message="cut")
    return [
        e.BatchSubmitted(batch=batch, count=1, id=f"b-{task}"),
        e.TaskCancelRequested(chain=f"c-{task}", task=task),
        e.TaskSubmitted(**about, prompt="?", max_tokens=5, id=f"s-{task}"),
        e.TaskRouted(**about, attempt=1, candidates=(Candidate(platform="p"),)),
        e.QuotaRefused(**about, fault=fault),
        e.TaskRouted(**about, attempt=1, candidates=(Candidate(platform="p"),)),
        e.TaskStarted(**about, attempt=1, platform="p", input_tokens_estimate=3),
        e.AttemptFailed(**tried, attempt=1, fault=fault, id=f"f-{task}"),
        e.CostRecorded(**about, attempt=1, platform="p", cause=f"f-{task}"),
        e.TaskRouted(**about, attempt=2, candidates=(Candidate(platform="p"),), on_interrupt="ask"),
        e.AttemptInterrupted(**tried, attempt=2, fault=fault, id=f"i-{task}", partial_output="half"),
        e.TaskDecision(chain=f"c-{task}", task=task, attempt=2, decision="accept"),
        e.LateResult(**tried, attempt=2, output="x", id=f"l-{task}"),
        e.TaskCompleted(**tried, attempt=3, status="completed", id=f"e-{task}"),
        e.BatchCompleted(batch=batch, count=1),
    ]


def history():
    """Return two lives, one a step behind the other, after what both need."""
    begin = [e.SettingsAdopted(settings=PLAIN, sha256=SHA256), e.PlatformReported(platform="p", available=True)]
    woven = [fact for pair in zip(life("aaaa", "batch-aaaa"), [*life("bbbb", "batch-bbbb")[-1:], *life("bbbb", "batch-bbbb")],
                                  strict=False) for fact in pair]  # fmt: skip
    return [msgspec.structs.replace(fact, seq=seq, at_ms=seq) for seq, fact in enumerate([*begin, *woven], 1)]


def without(value, name):
    """Return plain data without the entries of one task."""
    if isinstance(value, dict):
        return {key: without(one, name) for key, one in value.items() if name not in str(key)}
    return value


@pytest.mark.parametrize("module", [router, cost, aggregator])
def test_a_fact_that_is_folded_by_half_touches_its_own_key_alone(module):
    actor = module.ACTOR
    state, broken = actor.new(), 0
    with Breaker(module) as breaker:
        for fact in history():
            if type(fact) not in actor.folded():
                continue
            name = "aaaa" if "aaaa" in fact.task + fact.batch else "bbbb"
            before = without(msgspec.to_builtins(state), name)
            line = 1
            while fact.task != "-" or fact.batch:
                half = copy.deepcopy(state)
                if not breaker.breaks(line, lambda half=half, fact=fact: actor.evolve(half, fact)):
                    break
                assert without(msgspec.to_builtins(half), name) == before, f"{type(fact).__name__}, line {line}"
                line, broken = line + 1, broken + 1
            state = actor.evolve(state, fact)
    assert broken > 50
