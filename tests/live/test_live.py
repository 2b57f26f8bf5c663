"""One small real call for each platform whose key, login or server is here: `uv run pytest -m live -n 0 -rs`.

The platforms are those of farebox.toml of the folder and of the user, and those that exist by themselves. A call that may cost
more than FAREBOX_LIVE_MAX_USD (default 0.05) is not made; FAREBOX_LIVE_MODEL_<PLATFORM> names another model.
"""

import asyncio
import os

import pytest

from farebox import config
from farebox.core.errors import BadSettings
from farebox.core.events import TaskSubmitted
from farebox.core.platform import Ask
from farebox.runtime import caller, prices

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
KINDS = {kind.name: kind for kind in config.platform_kinds()}
WITHOUT_MODEL = {"interactive", "rehearsal"}


def platforms():
    # Only here tests use what is installed: the variable that keeps all others from it is not heard.
    environment = {name: value for name, value in os.environ.items() if name != "FAREBOX_ENGINE__DISCOVER"}
    try:
        found = config.load(kinds=KINDS.values(), environment=environment).settings.platforms
    except BadSettings:  # said by farebox itself; here it must not keep the other tests from being collected
        found = {name: one for kind in KINDS.values() for name, one in kind.defaults.items()}
    return {name: one for name, one in found.items() if one.kind not in WITHOUT_MODEL}


PLATFORMS = platforms()


@pytest.fixture(scope="module")
def price_list():
    return prices.compile_prices()


@pytest.mark.parametrize(("name", "settings"), list(PLATFORMS.items()), ids=list(PLATFORMS))
async def test_a_real_platform_answers_with_text_usage_and_a_true_end(name, settings, price_list, cap):
    if not settings.enabled:
        pytest.skip("not enabled")
    kind = KINDS[settings.kind]
    told = await caller.probe(kind, name, settings, os.environ)
    if not told.available:
        pytest.skip(f"{told.detail}. {told.mend}")
    model = cap.model_of(name, settings, told.models)
    if why := cap.refusal(name, settings, model, price_list):
        pytest.skip(f"refused: {why}")
    prompt = "Answer with the one word: fox"
    task = TaskSubmitted(prompt=prompt, max_tokens=cap.output_tokens_max)
    ask = Ask(platform=name, settings=settings, model=model, prompt=prompt, task=task)
    try:
        called = await caller.call(
            kind.ask(ask), kind.reader(ask), timeout_s=120, first_byte_timeout_s=60, idle_timeout_s=60,
            on_piece=lambda _text: None, cancelled=asyncio.Event(), environ=os.environ,
        )  # fmt: skip
    finally:
        await caller.close()
    verdict = called.verdict
    assert verdict.ok, verdict.fault
    assert "fox" in called.text.lower()
    assert verdict.usage is not None
    assert verdict.usage.source in {"provider", "estimated"}
    assert verdict.usage.input_tokens
    assert verdict.usage.output_tokens
