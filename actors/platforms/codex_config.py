"""The settings that `codex` gets from us, each a line of its config.toml: no tools and few words for a task of text. Pure.

A prompt of two letters is a request of 1.7 KB in this lean form (gpt-5; 11 KB where the model has code mode, as gpt-6-sol) and
39 KB as codex comes. `features.unbounded_connection_retries` is on by default and waits for ever for a server that is not
there. The retries of the built-in provider cannot be switched off, those of ours can.
Nor can be what the home of a login brings: its AGENTS.md, and in a talk its MCP servers (`codex exec` passes over its
config.toml); a `home` with nothing but a login has none. All of it is accepted by `--strict-config`; 0.169.0, 2026-11-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

from farebox.core.settings import PlatformSettings

OPENAI = "https://api.openai.com/v1"
PROVIDER = "farebox"
_ALWAYS = (
    "features.unbounded_connection_retries=false",
    "check_for_update_on_startup=false",
    "analytics.enabled=false",
    "feedback.enabled=false",
    "shell_environment_policy.ignore_default_excludes=false",  # What codex runs does not see keys.
)
_FEATURES = (
    "plugins", "apps", "remote_plugin", "shell_tool", "unified_exec", "goals", "image_generation", "view_image",
    "code_mode_host", "sleep_tool", "skill_search", "tool_suggest", "hooks",
)  # fmt: skip
_TOOLS_OFF = (
    *(f"features.{name}=false" for name in _FEATURES),
    'web_search="disabled"',
    "agents.enabled=false",
    "tools.experimental_request_user_input.enabled=false",
    "tools.update_plan.enabled=false",
)
_LEAN = (
    "include_environment_context=false",
    "include_permissions_instructions=false",
    "include_collaboration_mode_instructions=false",
    "include_apps_instructions=false",
    "skills.include_instructions=false",
    "project_doc_max_bytes=0",
    'developer_instructions=""',
    "notify=[]",
)


def own_provider(settings: PlatformSettings) -> bool:
    """Say whether a provider of ours is used instead of the user's login."""
    return bool(settings.url) or settings.billing == "metered"


def is_lean(settings: PlatformSettings) -> bool:
    """Say whether our few instructions replace those of codex."""
    return settings.options.get("system", "own" if settings.options.get("directory") else "lean") == "lean"


def config(settings: PlatformSettings) -> tuple[str, ...]:
    """Return the settings of codex, each as a line of its config.toml."""
    lines = [*_ALWAYS]
    if not settings.options.get("directory"):
        lines += _TOOLS_OFF
    if is_lean(settings):
        lines += _LEAN
    if own_provider(settings):
        lines += _provider(settings)
    elif settings.billing == "plan":
        lines.append('model_provider="openai"')
    return tuple(lines)


def _provider(settings: PlatformSettings) -> list[str]:
    table = {
        "name": PROVIDER,
        "base_url": settings.url or OPENAI,
        "wire_api": "responses",
        "request_max_retries": 0,
        "stream_max_retries": 0,
        "supports_websockets": False,
    }
    if settings.key_env:
        table["env_key"] = settings.key_env
    lines = [f"model_providers.{PROVIDER}.{name}={_toml(value)}" for name, value in table.items()]
    return [f'model_provider="{PROVIDER}"', *lines]


def _toml(value: Any) -> str:
    """Return a text, a number or a truth in TOML; JSON writes these alike, but for one character that no URL holds."""
    return msgspec.json.encode(value).decode()
