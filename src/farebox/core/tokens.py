"""How many tokens a text is, before anybody counted: a rule of thumb that never guesses low for English, code or Russian.

Checked 2026-11-21 against the o200k vocabulary: 4.0 to 4.6 characters a token in English and code, 3.75 in JSON.
"""

from __future__ import annotations


def estimate(text: str) -> int:
    """Return about how many tokens `text` is: UTF-8 bytes / 3.5 or characters / 4, the larger, rounded up."""
    size = len(text.encode("utf-8", "replace"))
    return max(-(-size * 2 // 7), -(-len(text) // 4))
