"""The memory log lies about nothing: one random list of appends on it and on a real server, the answers compared."""

import random

import pytest

from farebox.core.errors import AppendRefused
from farebox.log.jetstream import JetStreamLog
from farebox.log.memory import MemoryStore
from farebox.log.port import Entry, Fence

WRITERS = ("quota.reserved", "quota.settled", "adapter.started", "adapter.completed", "router.routed")
LANES = ("openai", "ollama")
TASKS = ("c.t1", "c.t2", "d.t1")
STEPS = 300


def subject(dice):
    return f"farebox.log.{dice.choice(WRITERS)}.{dice.choice(LANES)}.{dice.choice(TASKS)}"


def pattern(dice):
    writer, token = dice.choice(WRITERS).split(".")
    lane, task = dice.choice(LANES), dice.choice(TASKS)
    return dice.choice([
        f"farebox.log.{writer}.{token}.{lane}.{task}",
        f"farebox.log.{writer}.*.{lane}.{task}",
        f"farebox.log.{writer}.*.*.{task}",
        f"farebox.log.*.*.*.{task}",
        f"farebox.log.{writer}.>",
        "farebox.log.>",
        "farebox.log.nobody.>",
    ])  # fmt: skip


def entries(dice, model):
    count = 1 if dice.random() < 0.7 else dice.randint(2, 5)
    made = []
    for _ in range(count):
        fence = None
        over = pattern(dice)
        if dice.random() < 0.8 and over not in {entry.subject for entry in made}:
            known = model.last_below(over)
            fence = Fence(over, known if dice.random() < 0.8 else dice.randint(0, known + 1))
        made.append(Entry(subject(dice), b"%d" % dice.randint(0, 99), fence))
    return made


async def said_of(append):
    try:
        return await append
    except AppendRefused as refusal:
        return ("refused", refusal.last_seq)


@pytest.mark.parametrize("seed", [1, 2])
async def test_memory_and_server_answer_alike_whatever_is_appended(account, seed):
    dice = random.Random(seed)
    model = MemoryStore()
    real = await JetStreamLog.connect(account.url, user=account.user, password=account.password)
    await real.prepare("always", [])

    async def in_memory(batch):
        return model.append(batch)

    for step in range(STEPS):
        batch = entries(dice, model)
        expected, found = await said_of(in_memory(batch)), await said_of(real.append(batch))
        assert found == expected, f"seed {seed}, step {step}: {batch}"
    for place in {fact.subject for fact in model.facts}:
        one, other = model.last(place), await real.last(place)
        assert (one.seq, one.body) == (other.seq, other.body)
    assert (await real.position()).last_seq == model.position().last_seq > STEPS // 3
    await real.close()
