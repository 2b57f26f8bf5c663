"""The platforms, one kind a file: how to ask it, how to read it, what it tells about quota. All pure."""

from actors.platforms.anthropic import ANTHROPIC
from actors.platforms.antigravity import ANTIGRAVITY
from actors.platforms.claude_code import CLAUDE_CODE
from actors.platforms.codex import CODEX
from actors.platforms.command import COMMAND
from actors.platforms.compatible import COMPATIBLE
from actors.platforms.gemini import GEMINI
from actors.platforms.gemini_cli import GEMINI_CLI
from actors.platforms.interactive import INTERACTIVE
from actors.platforms.openai import OPENAI
from actors.platforms.rehearsal import REHEARSAL
from farebox.core.platform import PlatformKind

PLATFORMS: tuple[PlatformKind, ...] = (
    CLAUDE_CODE,
    CODEX,
    GEMINI_CLI,
    ANTIGRAVITY,
    ANTHROPIC,
    OPENAI,
    GEMINI,
    COMPATIBLE,
    COMMAND,
    INTERACTIVE,
    REHEARSAL,
)
"""Every kind that farebox brings; others come through the entry point `farebox.platforms`."""

__all__ = ["PLATFORMS"]
