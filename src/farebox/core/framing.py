"""The whole text that a platform reads for a task: its prompt, then context and files as marked data. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from farebox.core.terms import FileInput


def framed(prompt: str, context: Mapping[str, Any], files: Sequence[FileInput]) -> str:
    """Return the whole text to send, but for the system prompt. A file whose content is elsewhere is left out."""
    parts = [prompt]
    if context:
        text = msgspec.json.format(msgspec.json.encode(context, order="sorted"), indent=1).decode()
        parts.append(f'<context format="json">\n{text}\n</context>')
    parts += [f'<file name="{_quoted(file.name)}">\n{file.content}\n</file>' for file in files if file.content is not None]
    return "\n\n".join(parts)


def _quoted(name: str) -> str:
    return name.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace("\n", " ")
