"""What a rehearsal answers: a digest computed from the real input, so that a person recognises his own text. Pure.

No model is behind it: first sentences, counts, the words that are used most, and a mark of the whole input's sha256.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter

SENTENCES_MAX = 3
SENTENCE_CHARS_MIN = 12
SENTENCE_CHARS_MAX = 240
WORDS_MAX = 5
CHUNK_CHARS = 24
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")  # linear on any input
_WORD = re.compile(r"[^\W\d_]{4,}")
_FILE = re.compile(r'^<file name="([^"\n]{1,200})">$', re.MULTILINE)
READ_CHARS_MAX = 200_000
"""So much of the input is read for sentences and words; the counts and the mark are about all of it."""


def digest(text: str, system: str = "") -> str:
    """Return the digest of one task's text: the same text gives the same digest."""
    seen = text[:READ_CHARS_MAX]
    sentences = _sentences(seen)
    opening = sentences[0] if sentences else " ".join(seen.split())[:SENTENCE_CHARS_MAX] or "nothing"
    lines = [f"About: {opening}", f"Size: {_sizes(text)}."]
    files = _FILE.findall(seen)
    if files:
        lines.append(f"Files: {', '.join(files[:8])}{' …' if len(files) > 8 else ''}.")
    lines += [f"- {sentence}" for sentence in sentences[1:]]
    common = Counter(word.lower() for word in _WORD.findall(seen)).most_common(WORDS_MAX)
    if common:
        lines.append("Most used: " + ", ".join(f"{word} ({count})" for word, count in common) + ".")
    lines.append(f"Mark: {mark(text, system)} (a rehearsal: computed, no model behind it)")
    return "\n".join(lines)


def mark(text: str, system: str = "") -> str:
    """Return twelve hex digits that stand for the whole input."""
    return hashlib.sha256(f"{system}\x00{text}".encode("utf-8", "replace")).hexdigest()[:12]


def chunks(text: str, chars: int = CHUNK_CHARS) -> list[str]:
    """Return `text` in pieces as a model would stream it."""
    return [text[start : start + chars] for start in range(0, len(text), chars)]


def _sentences(text: str) -> list[str]:
    """Return the first real sentences, markup left out, each on one line."""
    found: list[str] = []
    for match in _SENTENCE.finditer(text):
        sentence = " ".join(match[0].split()).lstrip("#*>-\"'` ")
        if len(sentence) >= SENTENCE_CHARS_MIN and len(_WORD.findall(sentence)) >= 3 and not sentence.startswith("<"):
            found.append(sentence[:SENTENCE_CHARS_MAX])
        if len(found) == SENTENCES_MAX:
            break
    return found


def _sizes(text: str) -> str:
    lines, words = text.count("\n") + bool(text), len(text.split())
    return f"{lines:,} lines, {words:,} words, {len(text):,} characters"
