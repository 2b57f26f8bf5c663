"""OpenAI by its own API, per token: the Responses API. It exists without any setting. Pure.

    [platforms.openai]
    model = "gpt-6-luna"
    options = { project = "proj_1" }

    [platforms.azure]
    kind = "openai"
    url = "https://NAME.openai.azure.com/openai/v1"
    model = "my-deployment"
    key_env = "AZURE_OPENAI_API_KEY"
    options = { key_header = "api-key" }

POST /v1/responses; nothing is kept at the provider.
Source: platform.openai.com/docs/api-reference/responses and /models, learn.microsoft.com/azure (read 2026-11-21).
"""

from __future__ import annotations

from actors.platforms.checks import headers_are, key_is_safe, options_are, url_works, without
from actors.platforms.compatible import model_of, read_models
from actors.platforms.responses import ResponsesReader, request_body
from farebox.core.errors import BadSettings
from farebox.core.platform import Ask, HttpCall, PlatformKind, Probe, Reader
from farebox.core.settings import PlatformSettings

URL = "https://api.openai.com/v1"
MODEL = "gpt-6-sol"
OPTIONS: dict[str, tuple[str, ...]] = {
    "stream": ("yes", "no"),
    "organization": (),
    "project": (),
    "key_header": ("authorization", "api-key"),
    "insecure": ("yes", "no"),
}


def base_url(settings: PlatformSettings) -> str:
    """Return the address that paths are added to, `/v1` included as the user wrote it."""
    return settings.url.rstrip("/").removesuffix("/responses")


def ask_responses(ask: Ask) -> HttpCall:
    """Return the request for one task."""
    stream = ask.settings.options.get("stream", "yes") == "yes"
    headers = {"content-type": "application/json", "accept": "text/event-stream" if stream else "application/json"}
    return _keyed(ask.settings, "POST", "responses", headers=headers, body=request_body(ask, model_of(ask), stream=stream))


def read_responses(ask: Ask) -> Reader:
    """Return a reader for one answer."""
    return ResponsesReader(ask)


def probe_models(_name: str, settings: PlatformSettings) -> Probe:
    """Return how to look for the service: its list of models, which costs nothing."""
    return Probe(call=_keyed(settings, "GET", "models"))


def _keyed(
    settings: PlatformSettings, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes = b""
) -> HttpCall:
    named = {"openai-organization": settings.options.get("organization"), "openai-project": settings.options.get("project")}
    key_header = settings.options.get("key_header", "authorization")
    return HttpCall(
        method="POST" if method == "POST" else "GET",
        url=f"{base_url(settings)}/{path}",
        headers=(headers or {}) | {name: value for name, value in named.items() if value},
        body=body,
        key_env=settings.key_env,
        key_header=key_header,
        key_prefix="Bearer " if key_header == "authorization" else "",
    )


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings."""
    if not settings.url:
        raise BadSettings(f"platforms.{name} needs a url.", hint=f'Write it like "{URL}".')
    if not (settings.model or settings.models):
        raise BadSettings(f"platforms.{name} needs a model.", hint=f'Write it like model = "{MODEL}".')
    url_works(name, settings.url)
    options_are(name, settings, OPTIONS)
    headers_are(name, settings, "organization", "project")
    key_is_safe(name, settings)
    without(name, settings, "argv")


OPENAI = PlatformKind(
    name="openai",
    ask=ask_responses,
    reader=read_responses,
    probe=probe_models,
    read_probe=read_models,
    check=check,
    defaults={"openai": PlatformSettings(kind="openai", url=URL, key_env="OPENAI_API_KEY", model=MODEL, limit=2)},
)
