"""The cap of the real calls, without making one."""

from farebox.core.pricing import DatedPrice, ModelPrices, PriceList, ProviderPrices, Rates
from farebox.core.settings import PlatformSettings

RATES = Rates(input="0.000001", output="0.0001")
MODEL = ModelPrices(id="m", match=(("=m",),), prices=(DatedPrice(rates=RATES),))
PRICES = PriceList(list_id="l", providers=(ProviderPrices(id="p", match=(("=m",),), models=(MODEL,)),))


def of(billing="metered", kind="openai", **more):
    return PlatformSettings(kind=kind, billing=billing, **more)


def test_a_call_that_could_cost_more_than_the_cap_is_refused(cap):
    assert cap.refusal("p", of(), "m", PRICES, {}) == ""
    assert "0.0257" in cap.refusal("p", of(), "m", PRICES, {"FAREBOX_LIVE_MAX_USD": "0.02"})
    assert "could cost 0.44" in cap.refusal("p", of(kind="codex"), "m", PRICES, {})


def test_an_unknown_price_is_refused_and_what_is_paid_for_already_is_not(cap):
    assert "could cost anything" in cap.refusal("p", of(), "new", PRICES, {})
    assert "the platform would choose" in cap.refusal("p", of(kind="codex"), "", PRICES, {})
    assert cap.refusal("p", of("plan", "codex"), "", PRICES, {}) == cap.refusal("p", of("free"), "x", PRICES, {}) == ""


def test_the_model_is_the_callers_then_the_settings_then_the_servers(cap):
    assert cap.model_of("my-api", of(model="own"), ("there",), {"FAREBOX_LIVE_MODEL_MY_API": "mine"}) == "mine"
    assert cap.model_of("my-api", of(model="own"), ("there",), {}) == "own"
    assert cap.model_of("p", of(kind="compatible"), ("there",), {}) == "there"
    assert cap.model_of("p", of(kind="codex"), ("there",), {}) == ""
    assert cap.model_of("p", of(kind="gemini"), (), {})
