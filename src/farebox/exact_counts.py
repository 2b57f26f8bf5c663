"""How many tokens a task's text is, counted: where the extra `tokens` (rs-bpe) is installed. Without it nobody counts.

It counts with the vocabulary o200k of OpenAI; others differ by some ten percent, which the router's margins hold.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Protocol

from farebox.core.framing import framed
from farebox.tasks import TaskSpec

CHARS_MAX = 1_000_000
"""Longer texts are not counted: that would hold up the caller for long."""


class Vocabulary(Protocol):
    """What counts tokens."""

    def count(self, text: str) -> int:
        """Return how many tokens a text is."""
        ...


def counted(spec: TaskSpec) -> int | None:
    """Return how many tokens a platform reads for a task: system prompt, prompt, context, files. None: nobody counted."""
    vocabulary = _vocabulary()
    if vocabulary is None:
        return None
    text = framed(spec.prompt, spec.context, spec.files)
    if len(text) + len(spec.system) > CHARS_MAX:
        return None
    return sum(vocabulary.count(one.encode("utf-8", "replace").decode()) for one in (spec.system, text) if one)


@cache
def _vocabulary() -> Vocabulary | None:
    try:
        return importlib.import_module("rs_bpe").openai.o200k_base()  # its file openai.py alone does not load (0.1.0)
    except ImportError:
        return None
