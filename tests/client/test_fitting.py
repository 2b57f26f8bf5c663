"""A submission fits the bus however its contents look as JSON, and what is put away is found again whole."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.core import wire
from farebox.core.errors import BadInput
from farebox.core.terms import FileInput
from farebox.fitting import fitted
from farebox.log.memory import MemoryLog, MemoryStore
from farebox.posting import submission
from farebox.tasks import spec_of

SIZES = st.integers(0, 90_000)
LETTERS = st.sampled_from(["x", "\x01", "é"])


@settings(max_examples=25, deadline=None)
@given(prompt=SIZES, context=SIZES, files=st.lists(SIZES, max_size=2), letter=LETTERS, system=st.booleans())
async def test_every_task_fits_and_loses_nothing(prompt, context, files, letter, system):
    log = MemoryLog(MemoryStore())
    asked = {"prompt": "?" + letter * prompt, "context": {"k": letter * context}, "system": "\x02" * 60_000 * system}
    asked["files"] = [FileInput(name=f"f{place}", content=letter * size) for place, size in enumerate(files)]
    fact = await fitted(log, await submission(log, spec_of(asked), chain="c", task="t"))
    assert len(wire.encode(fact)) <= wire.BODY_BYTES_MAX
    assert await held(log, fact.prompt, fact.prompt_ref) == asked["prompt"]
    if fact.context_ref is not None:
        assert msgspec.json.decode(await log.get_blob(fact.context_ref)) == asked["context"]
    else:
        assert fact.context == asked["context"]
    for file, given_file in zip(fact.files, asked["files"], strict=True):
        assert await held(log, file.content, file.ref) == given_file.content


async def held(log, text, ref):
    return text if ref is None else (await log.get_blob(ref)).decode()


async def test_what_fits_stays_where_it_is():
    log = MemoryLog(MemoryStore())
    fact = await submission(log, spec_of({"prompt": "\x01" * 100_000}), chain="c", task="t")
    assert await fitted(log, fact) is fact


async def test_what_cannot_be_put_away_is_refused_before_it_is_sent():
    log = MemoryLog(MemoryStore())
    files = [FileInput(name=f"{place:05}" * 50, content="") for place in range(5_000)]
    fact = await submission(log, spec_of({"prompt": "x", "files": files}), chain="c", task="t")
    with pytest.raises(BadInput, match="without its contents"):
        await fitted(log, fact)
