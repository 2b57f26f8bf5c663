"""Claude by its own API, per token: Anthropic's Messages API. It exists without any setting. Pure.

    [platforms.anthropic]
    model = "claude-haiku-5-5"
    options = { max_tokens = "4096" }   # where the task does not say; this API wants a number

POST /v1/messages, version 2023-06-01, the key in the header x-api-key. Gateways that speak the same: `url`.
Source: docs.anthropic.com/en/api/messages and /models-list (read 2026-11-21).
"""

from __future__ import annotations

import re

import msgspec

from actors.platforms.checks import counts_are, key_is_safe, options_are, url_works, without
from actors.platforms.compatible import model_of, read_models
from actors.platforms.messages import MessagesReader, request_body
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported
from farebox.core.platform import Ask, HttpCall, PlatformKind, Probe, ProbeAnswer, Reader
from farebox.core.settings import PlatformSettings

VERSION = "2023-06-01"
URL = "https://api.anthropic.com"
MODEL = "claude-sonnet-5-5"
MAX_TOKENS = 16_384
"""The longest answer where neither task nor setting says one: this API wants a number."""
OPTIONS: dict[str, tuple[str, ...]] = {"stream": ("yes", "no"), "max_tokens": (), "insecure": ("yes", "no")}
_DATED = re.compile(r"-20\d{6}\Z", re.ASCII)


def base_url(settings: PlatformSettings) -> str:
    """Return the address that `/v1/...` is added to, however much of the path the user wrote."""
    return settings.url.rstrip("/").removesuffix("/messages").removesuffix("/v1")


def ask_messages(ask: Ask) -> HttpCall:
    """Return the request for one task."""
    options = ask.settings.options
    stream = options.get("stream", "yes") == "yes"
    max_tokens = ask.task.max_tokens or int(options.get("max_tokens", MAX_TOKENS))
    return HttpCall(
        method="POST",
        url=f"{base_url(ask.settings)}/v1/messages",
        headers={
            "content-type": "application/json",
            "accept": "text/event-stream" if stream else "application/json",
            "anthropic-version": VERSION,
        },
        body=request_body(ask, model_of(ask), stream=stream, max_tokens=max_tokens),
        key_env=ask.settings.key_env,
        key_header="x-api-key",
        key_prefix="",
    )


def read_messages(ask: Ask) -> Reader:
    """Return a reader for one answer."""
    return MessagesReader(ask)


def probe_models(_name: str, settings: PlatformSettings) -> Probe:
    """Return how to look for the service: its list of models, which costs nothing."""
    call = HttpCall(
        method="GET",
        url=f"{base_url(settings)}/v1/models?limit=1000",
        headers={"anthropic-version": VERSION},
        key_env=settings.key_env,
        key_header="x-api-key",
        key_prefix="",
    )
    return Probe(call=call)


def read_found(name: str, settings: PlatformSettings, answer: ProbeAnswer) -> PlatformReported:
    """Return what the probe found. A dated model also answers to its name without the date, which no list shows."""
    report = read_models(name, settings, answer)
    undated = (_DATED.sub("", model) for model in report.models)
    return msgspec.structs.replace(report, models=tuple(dict.fromkeys((*report.models, *undated))))


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings."""
    if not settings.url:
        raise BadSettings(f"platforms.{name} needs a url.", hint=f'Write it like "{URL}".')
    if not (settings.model or settings.models):
        raise BadSettings(f"platforms.{name} needs a model.", hint=f'Write it like model = "{MODEL}".')
    url_works(name, settings.url)
    options_are(name, settings, OPTIONS)
    counts_are(name, settings, "max_tokens")
    key_is_safe(name, settings)
    without(name, settings, "argv")


ANTHROPIC = PlatformKind(
    name="anthropic",
    ask=ask_messages,
    reader=read_messages,
    probe=probe_models,
    read_probe=read_found,
    check=check,
    defaults={"anthropic": PlatformSettings(kind="anthropic", url=URL, key_env="ANTHROPIC_API_KEY", model=MODEL, limit=2)},
)
