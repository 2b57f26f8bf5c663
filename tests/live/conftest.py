"""What a real call may cost, before it is made: nothing is asked whose price is unknown or above the cap."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from types import SimpleNamespace

import pytest

from actors.platforms import gemini
from farebox.core.pricing import PriceList, upper_bound
from farebox.core.settings import AGENTS, PlatformSettings

CAP = "FAREBOX_LIVE_MAX_USD"
CAP_USD = "0.05"
OUTPUT_TOKENS_MAX = 256
"""Models that think first need some before their first word."""
INPUT_TOKENS = 100
AGENT_TOKENS = (40_000, 4_000)
"""What an agent reads before our prompt, and writes: a lean request is about 3,000, its own one 30,000."""


def model_of(name: str, settings: PlatformSettings, told: tuple[str, ...], environ: Mapping[str, str] = os.environ) -> str:
    """Return the model to ask: of the variable, of the settings, of what the server has; empty lets the platform choose."""
    variable = f"FAREBOX_LIVE_MODEL_{name.upper().replace('-', '_')}"
    own = environ.get(variable) or settings.model or next(iter(settings.models), "")
    return own or (gemini.MODEL if settings.kind == "gemini" else "" if settings.kind in AGENTS else next(iter(told), ""))


def refusal(
    name: str, settings: PlatformSettings, model: str, prices: PriceList, environ: Mapping[str, str] = os.environ
) -> str:
    """Return why the call is not made; empty when it costs nothing more than is paid for, or surely less than the cap."""
    if settings.billing != "metered":
        return ""
    cap_usd = Decimal(environ.get(CAP) or CAP_USD)
    input_tokens, output_tokens = AGENT_TOKENS if settings.kind in AGENTS else (INPUT_TOKENS, OUTPUT_TOKENS_MAX)
    most = upper_bound(prices, settings.price_model or model, input_tokens, output_tokens, provider=name)
    if most is None:
        return f"no price is known of {model or 'the model that the platform would choose'}: it could cost anything"
    if most.total > cap_usd:
        return f"{model} could cost {most.total} US$, more than {CAP} = {cap_usd}"
    return ""


@pytest.fixture(scope="session")
def cap():
    """What a call may cost: `model_of`, `refusal`, and how much is asked for."""
    return SimpleNamespace(model_of=model_of, refusal=refusal, output_tokens_max=OUTPUT_TOKENS_MAX)
