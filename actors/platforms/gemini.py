"""The Gemini API of Google AI Studio, with a key: free tier or metered. Pure.

    [platforms.gemini]
    model = "gemini-2.5-flash"
    billing = "free"           # for a key without billing; else metered

POST /v1beta/models/MODEL:streamGenerateContent?alt=sse, the key in the header x-goog-api-key.
Sources: ai.google.dev/api/generate-content, /api/models, /gemini-api/docs/api-key (read 2026-11-21).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from actors.platforms.checks import is_loopback, key_is_safe, options_are, url_works, without
from actors.platforms.foreign_json import at, items_at, parse, text_at
from actors.platforms.gemini_answer import GeminiReader
from actors.platforms.gemini_quota import error_object
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported
from farebox.core.platform import Ask, HttpCall, PlatformKind, Probe, ProbeAnswer, Reader
from farebox.core.quotas import QuotaSettings
from farebox.core.settings import PlatformSettings

OPTIONS = {"stream": ("yes", "no"), "insecure": ("yes", "no")}
URL = "https://generativelanguage.googleapis.com"
MODEL = "gemini-flash-latest"
"""Google's own name for its newest Flash model; the answer says which one it was."""
MODELS_MAX = 500


def base_url(settings: PlatformSettings) -> str:
    """Return the address that paths are added to; the version is put in where the user left it out."""
    url = (settings.url or URL).rstrip("/")
    return url if url.endswith(("/v1beta", "/v1")) else f"{url}/v1beta"


def model_of(ask: Ask) -> str:
    """Return the model to ask for: the routed one, else the platform's own, else its first, else the newest Flash."""
    named = ask.model or ask.settings.model or next(iter(ask.settings.models), "") or MODEL
    return named.removeprefix("models/")


def ask_gemini(ask: Ask) -> HttpCall:
    """Return the request for one task."""
    stream = ask.settings.options.get("stream", "yes") == "yes"
    model = model_of(ask)
    place = quote(model, safe="/") if model.startswith("tunedModels/") else f"models/{quote(model, safe='')}"
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return HttpCall(
        method="POST",
        url=f"{base_url(ask.settings)}/{place}:{method}",
        headers={"content-type": "application/json", "accept": "text/event-stream" if stream else "application/json"},
        body=msgspec.json.encode(_body(ask)),
        key_env=ask.settings.key_env,
        key_header="x-goog-api-key",
        key_prefix="",
    )


def _body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": _sendable(ask.prompt)}]}]}
    if ask.system:
        body["systemInstruction"] = {"parts": [{"text": _sendable(ask.system)}]}
    wanted = {"maxOutputTokens": ask.task.max_tokens, "temperature": ask.task.temperature}
    if limits := {name: value for name, value in wanted.items() if value is not None}:
        body["generationConfig"] = limits
    return body


def _sendable(text: str) -> str:
    """Return `text` with half surrogate pairs, which no wire can carry, as question marks."""
    return text.encode("utf-8", "replace").decode()


def read_gemini(ask: Ask) -> Reader:
    """Return a reader for one answer."""
    return GeminiReader(ask)


def probe_models(_name: str, settings: PlatformSettings) -> Probe:
    """Return how to look: the list of models, which costs nothing."""
    call = HttpCall(
        method="GET",
        url=f"{base_url(settings)}/models?pageSize=1000",
        key_env=settings.key_env,
        key_header="x-goog-api-key",
        key_prefix="",
    )
    return Probe(call=call, timeout_s=4.0)


def read_models(name: str, settings: PlatformSettings, answer: ProbeAnswer) -> PlatformReported:
    """Return what the probe found."""
    key = settings.key_env
    if key and not answer.key_set:
        return PlatformReported(platform=name, detail=f"{key} is not set", mend=f"export {key}=…")
    if answer.fault or not answer.status:
        return PlatformReported(
            platform=name, detail=f"nobody answers at {base_url(settings)} ({answer.fault[:200]})", mend="Check the network."
        )
    listed = parse(answer.body.decode("utf-8", "replace"))
    if answer.status != 200:
        return _refused(name, key, answer.status, error_object(listed))
    models = tuple(_named(model) for model in items_at(listed, "models") if _writes(model))[:MODELS_MAX]
    if not models:
        return PlatformReported(platform=name, detail="no models for this key", mend=f"Check {key or f'platforms.{name}.url'}")
    return PlatformReported(
        platform=name, available=True, detail=f"{len(models)} model{'s' * (len(models) != 1)}", models=models
    )


def _named(model: Any) -> str:
    return text_at(model, "name").removeprefix("models/")


def _writes(model: Any) -> bool:
    return bool(_named(model)) and "generateContent" in items_at(model, "supportedGenerationMethods")


def _refused(name: str, key: str, status: int, error: Any) -> PlatformReported:
    reasons = {text_at(detail, "reason") for detail in items_at(error, "details")}
    if status in {401, 403} or "API_KEY_INVALID" in reasons:
        mend = f"Check {key}" if key else f"Set platforms.{name}.key_env"
        return PlatformReported(platform=name, detail=f"the key was refused ({status})", mend=mend)
    told = f": {text_at(error, 'message')[:200]}" if at(error, "message") else ""
    mend = "Try again later." if status >= 500 or status == 429 else f"Check platforms.{name}.url"
    return PlatformReported(platform=name, detail=f"the server says {status}{told}", mend=mend)


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings."""
    if settings.url:
        url_works(name, settings.url)
    if not settings.key_env and not is_loopback(settings.url):
        raise BadSettings(f"platforms.{name} needs key_env.", hint='Write it like key_env = "GEMINI_API_KEY".')
    options_are(name, settings, OPTIONS)
    key_is_safe(name, settings)
    without(name, settings, "argv")


GEMINI = PlatformKind(
    name="gemini",
    ask=ask_gemini,
    reader=read_gemini,
    probe=probe_models,
    read_probe=read_models,
    check=check,
    defaults={"gemini": PlatformSettings(kind="gemini", billing="metered", url=URL, key_env="GEMINI_API_KEY", limit=2)},
    quotas={
        "gemini-free-day": QuotaSettings(
            platform="gemini",
            window="day",
            limit=250,
            zone="America/Los_Angeles",
            billing="free",
            source="published",
            said="free tier, Flash models: ai.google.dev rate limits, 2026-11",
        )
    },
)
