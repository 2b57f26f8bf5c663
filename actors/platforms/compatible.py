"""Any OpenAI-compatible server: the local ones are found by themselves, any other by a section in farebox.toml. Pure.

    [platforms.groq]
    kind = "compatible"
    url = "https://api.groq.com/openai/v1"
    key_env = "GROQ_API_KEY"

Default ports: ollama.com, lmstudio.ai, github.com/ggml-org/llama.cpp, docs.vllm.ai (read 2026-11-21).
"""

from __future__ import annotations

from actors.platforms.chat import ChatReader, request_body
from actors.platforms.checks import is_loopback, key_is_safe, options_are, url_works, without
from actors.platforms.foreign_json import at, items_at, parse, text_at
from farebox.core.errors import BadSettings
from farebox.core.events import PlatformReported
from farebox.core.platform import Ask, HttpCall, PlatformKind, Probe, ProbeAnswer, Reader
from farebox.core.settings import PlatformSettings

OPTIONS = {"stream": ("yes", "no"), "max_tokens_field": ("max_tokens", "max_completion_tokens"), "insecure": ("yes", "no")}
MODELS_MAX = 500
_STARTS = {
    "ollama": "Start it with: ollama serve",
    "lmstudio": "Start its server with: lms server start",
    "llamacpp": "Start it with: llama-server -m MODEL.gguf --port 8080",
    "vllm": "Start it with: vllm serve MODEL",
}


def base_url(settings: PlatformSettings) -> str:
    """Return the address that paths are added to, `/v1` included where the user wrote it."""
    return settings.url.rstrip("/").removesuffix("/chat/completions")


def ask_chat(ask: Ask) -> HttpCall:
    """Return the request for one task."""
    options = ask.settings.options
    stream = options.get("stream", "yes") == "yes"
    body = request_body(ask, model_of(ask), stream=stream, max_tokens_field=options.get("max_tokens_field", "max_tokens"))
    return HttpCall(
        method="POST",
        url=f"{base_url(ask.settings)}/chat/completions",
        headers={"content-type": "application/json", "accept": "text/event-stream" if stream else "application/json"},
        body=body,
        key_env=ask.settings.key_env,
    )


def model_of(ask: Ask) -> str:
    """Return the model to ask for: the routed one, else the platform's own, else its first. Empty lets the server choose."""
    return ask.model or ask.settings.model or next(iter(ask.settings.models), "")


def read_chat(ask: Ask) -> Reader:
    """Return a reader for one answer."""
    return ChatReader(ask)


def probe_models(_name: str, settings: PlatformSettings) -> Probe:
    """Return how to look for the server: its list of models."""
    call = HttpCall(method="GET", url=f"{base_url(settings)}/models", key_env=settings.key_env)
    return Probe(call=call if settings.url else None)


def read_models(name: str, settings: PlatformSettings, answer: ProbeAnswer) -> PlatformReported:
    """Return what the probe found. A server without a list of models is there all the same."""
    if not settings.url:
        return PlatformReported(platform=name, detail="no address yet", mend=f"Set platforms.{name}.url")
    if settings.key_env and not answer.key_set:
        return PlatformReported(platform=name, detail=f"{settings.key_env} is not set", mend=f"export {settings.key_env}=…")
    if answer.fault or not answer.status:
        detail = f"nobody answers at {settings.url}" + (f" ({answer.fault[:200]})" if answer.fault else "")
        return PlatformReported(platform=name, detail=detail, mend=_STARTS.get(name) or _reach(name, settings))
    if answer.status in {401, 403}:
        mend = f"Check {settings.key_env}" if settings.key_env else f"Set platforms.{name}.key_env"
        return PlatformReported(platform=name, detail=f"the key was refused ({answer.status})", mend=mend)
    if answer.status >= 500:
        return PlatformReported(platform=name, detail=f"the server says {answer.status}", mend="Try again later.")
    return _listed(name, settings, answer)


def _reach(name: str, settings: PlatformSettings) -> str:
    return "Start the server." if is_loopback(settings.url) else f"Look at the network, or at platforms.{name}.url"


def _listed(name: str, settings: PlatformSettings, answer: ProbeAnswer) -> PlatformReported:
    if answer.status != 200:
        available = bool(settings.model or settings.models)
        mend = "" if available else f"Set platforms.{name}.model"
        return PlatformReported(
            platform=name, available=available, detail=f"no list of models ({answer.status})", mend=mend, models=settings.models
        )
    listed = parse(answer.body.decode("utf-8", "replace"))
    if at(listed, "data") is None and at(listed, "object") != "list":
        return PlatformReported(
            platform=name, detail="something else answers there", mend=f"Set platforms.{name}.url, or enabled = false"
        )
    models = tuple(text_at(model, "id") for model in items_at(listed, "data")[:MODELS_MAX] if text_at(model, "id"))
    if not models:
        mend = "ollama pull llama3.2" if name == "ollama" else "Load a model."
        return PlatformReported(platform=name, detail="no models", mend=mend)
    return PlatformReported(
        platform=name, available=True, detail=f"{len(models)} model{'s' * (len(models) != 1)}", models=models
    )


def check(name: str, settings: PlatformSettings) -> None:
    """Refuse settings that cannot work. Raises BadSettings."""
    if not settings.url:
        raise BadSettings(f"platforms.{name} needs a url.", hint='Write it like "http://127.0.0.1:8000/v1".')
    url_works(name, settings.url)
    options_are(name, settings, OPTIONS)
    key_is_safe(name, settings)
    without(name, settings, "argv")


def _local(port: int) -> PlatformSettings:
    return PlatformSettings(kind="compatible", billing="free", url=f"http://127.0.0.1:{port}/v1", limit=2)


COMPATIBLE = PlatformKind(
    name="compatible",
    ask=ask_chat,
    reader=read_chat,
    probe=probe_models,
    read_probe=read_models,
    check=check,
    defaults={"ollama": _local(11434), "lmstudio": _local(1234), "llamacpp": _local(8080), "vllm": _local(8000)},
)
