"""The nearest word: "did you mean", for fields, platforms, models, types and commands."""

from __future__ import annotations

from collections.abc import Iterable

CUTOFF = 0.6


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return the choice most like `word`, "" if none is near."""
    import difflib  # noqa: PLC0415 - 10 ms, for mistakes only

    found = difflib.get_close_matches(word[:200].lower(), list(choices), n=1, cutoff=CUTOFF)
    return found[0] if found else ""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return 'Did you mean "x"?' or ""."""
    found = nearest(word, choices)
    return f'Did you mean "{found}"?' if found else ""
