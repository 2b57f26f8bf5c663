"""The whole way of a task on a real server, from outside: plain nats-py and JSON as in docs/bus.md, nothing of farebox."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nats
import pytest


class Bus:
    """What a stranger has: the file with the credentials, and a NATS client."""

    def __init__(self, credentials):
        self.login = json.loads(Path(credentials).read_text())
        self.link = None
        self.heard = {}

    async def open(self):
        self.link = await nats.connect(
            self.login["url"],
            nkeys_seed_str=self.login["password"],
            inbox_prefix=self.login["inbox_prefix"].encode(),
            allow_reconnect=False,
        )

    async def hear(self, subject):
        return await self.link.subscribe(subject)

    async def say(self, subject, **fact):
        headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
        return json.loads((await self.link.request(subject, json.dumps(fact).encode(), timeout=25, headers=headers)).data)

    async def ask(self, name, **question):
        return json.loads((await self.link.request(f"farebox.api.{name}", json.dumps(question).encode(), timeout=25)).data)


async def heard(subscription, timeout_s=25):
    message = await subscription.next_msg(timeout=timeout_s)
    return message.subject, json.loads(message.data)


@pytest.fixture
async def bus(tmp_path):
    """A running engine with its own server over a fresh store; the bus knows only what stands in client.json."""
    from farebox.config import load, platform_kinds
    from farebox.engines import embedded

    (tmp_path / "farebox.toml").write_text('[platforms.rehearsal]\nkind = "rehearsal"\nbilling = "rehearsal"\n')
    config = load(kinds=platform_kinds(), file=tmp_path / "farebox.toml")
    async with embedded(tmp_path / "store", config) as hosted:
        found = Bus(hosted.credentials)
        await found.open()
        yield found
        await found.link.close()


async def test_one_task_from_its_submission_to_its_cost_by_a_stranger(bus):
    ends = await bus.hear("farebox.log.*.completed.*.c1.t1")
    costs = await bus.hear("farebox.log.cost.recorded.*.c1.t1")
    live = await bus.hear("farebox.live.adapter.chunk.*.c1.t1")
    ack = await bus.say(
        "farebox.log.client.submitted.-.c1.t1",
        fact="TaskSubmitted", chain="c1", task="t1", prompt="Where do eels go to spawn?", platform="rehearsal",
    )  # fmt: skip
    assert (ack["stream"], ack["seq"] > 0) == ("FAREBOX", True)
    subject, end = await heard(ends)
    assert subject == "farebox.log.adapter.completed.rehearsal.c1.t1"
    assert (end["fact"], end["status"], end["platform"], end["charged"]) == ("TaskCompleted", "completed", "rehearsal", "known")
    assert "Where do eels go to spawn?" in end["output"]
    _, chunk = await heard(live)
    assert end["output"].startswith(chunk["text"])
    assert chunk["number"] == 1
    _, cost = await heard(costs)
    assert (cost["fact"], cost["cause"], cost["attempt"]) == ("CostRecorded", end["id"], 1)
    assert cost["billing"] == "rehearsal"
    result = await bus.ask("result", chain="c1", task="t1", wait_s=20)
    assert (result["schema"], result["status"], result["output"]) == ("farebox.result/1", "completed", end["output"])


async def test_the_same_submission_again_is_stored_once(bus):
    task = {"fact": "TaskSubmitted", "chain": "c1", "task": "t1", "prompt": "Twice.", "platform": "rehearsal"}
    ends = await bus.hear("farebox.log.*.completed.>")
    assert (await bus.say("farebox.log.client.submitted.-.c1.t1", **task))["seq"]
    assert (await bus.say("farebox.log.client.submitted.-.c1.t1", **task))["error"]["err_code"] == 10071
    await heard(ends)
    with pytest.raises(nats.errors.TimeoutError):
        await heard(ends, timeout_s=0.3)


async def test_who_has_no_ids_to_make_asks_the_engine_to_submit(bus):
    said = await bus.ask("submit", prompt="An id, please.", platform="rehearsal", tags={"from": "a stranger"})
    assert said["schema"] == "farebox.submitted/1"
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", said["task"])
    result = await bus.ask("result", chain=said["chain"], task=said["task"], wait_s=20)
    assert (result["task_id"], result["status"]) == (said["task"], "completed")
    refused = await bus.ask("submit", prompt="")
    assert refused["error"]["code"] == "FB401"
    assert refused["error"]["message"]


async def test_a_lie_of_a_stranger_is_quarantined_and_its_task_ends(bus):
    ends = await bus.hear("farebox.log.*.completed.>")
    await bus.say("farebox.log.client.submitted.-.c1.t1", fact="TaskSubmitted", chain="c1", task="another", prompt="x")
    subject, end = await heard(ends)
    assert subject == "farebox.log.router.completed.-.c1.t1"
    assert (end["status"], end["fault"]["error_class"]) == ("failed", "quarantined")


async def test_a_cancel_of_a_stranger_is_obeyed(bus):
    ends = await bus.hear("farebox.log.*.completed.>")
    await bus.say("farebox.log.client.cancel_requested.-.c1.t1", fact="TaskCancelRequested", chain="c1", task="t1")
    await bus.say("farebox.log.client.submitted.-.c1.t1", fact="TaskSubmitted", chain="c1", task="t1", prompt="x")
    _, end = await heard(ends)
    assert end["status"] == "cancelled"
