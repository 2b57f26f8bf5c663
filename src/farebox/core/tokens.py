"""How many tokens a text is, before anybody counted: a rule of thumb that never guesses low for English, code or Russian.

Checked 2026-11-21 against the o200k vocabulary: 4.0 to 4.6 characters a token in English and code, 3.75 in JSON.
"""

from __future__ import annotations

import msgspec

from farebox.core.events import TaskSubmitted

FRAME_CHARS = 32
"""What marks a file or a context as data, beside its name."""


def estimate(text: str) -> int:
    """Return about how many tokens `text` is: UTF-8 bytes / 3.5 or characters / 4, the larger, rounded up."""
    size = len(text.encode("utf-8", "replace"))
    return max(-(-size * 2 // 7), -(-len(text) // 4))


def of_task(task: TaskSubmitted) -> int:
    """Return about how many tokens a platform reads for a task: as its client counted them, else by the rule of thumb.

    A client may be wrong, or lie: half of what the rule says counts at least. So the most that a task is taken to read, twice
    that (forecast.INPUT_MARGIN), never falls below what the rule says.
    """
    rule = by_rule(task)
    return rule if task.input_tokens is None else max(task.input_tokens, -(-rule // 2))


def by_rule(task: TaskSubmitted) -> int:
    """Return about how many tokens a platform reads for a task: prompt, system prompt, context and files.

    Contents in the object store count by their bytes.
    """
    size = _bytes(task.prompt) + _bytes(task.system)
    refs = [task.prompt_ref, task.context_ref]
    if task.context:
        size += FRAME_CHARS + len(msgspec.json.encode(task.context))
    for file in task.files:
        size += FRAME_CHARS + _bytes(file.name) + _bytes(file.content or "")
        refs.append(file.ref)
    size += sum(ref.bytes for ref in refs if ref is not None)
    return -(-size * 2 // 7)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
