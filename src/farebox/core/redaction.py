"""Striking out secrets: exact values that are known, and what looks like a key. Pure; the same however a text is cut.

Shapes of keys: OpenAI, Anthropic and kin `sk-`, Google `AIza`, GitHub `ghp_` and kin, Slack `xox?-`, AWS `AKIA`, Groq,
Hugging Face, xAI, seeds of NATS nkeys, private keys in PEM, bearer tokens (GitHub's list of supported secret scanning patterns,
read 2026-11-21).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

STRUCK = "[key]"
"""What stands in the place of a secret."""
CHARS_MIN = 8
"""Shorter values are no keys; striking them out would spoil honest words."""
HELD_CHARS_MAX = 64 * 1024
"""A stream that holds back more says nothing more: live text may be lost, the whole answer is struck out at its end."""

_WORD = "A-Za-z0-9_-"
_SHAPES: dict[str, tuple[str, int]] = {
    "sk-": (_WORD, 20),
    "AIza": (_WORD, 30),
    "github_pat_": ("A-Za-z0-9_", 30),
    **{f"gh{kind}_": ("A-Za-z0-9", 30) for kind in "pousr"},
    **{f"xox{kind}-": ("A-Za-z0-9-", 10) for kind in "abeoprs"},
    "AKIA": ("A-Z0-9", 16),
    "ASIA": ("A-Z0-9", 16),
    "gsk_": ("A-Za-z0-9", 20),
    "hf_": ("A-Za-z0-9", 20),
    "xai-": (_WORD, 20),
    **{f"S{kind}": ("A-Z2-7", 56) for kind in "ACNOUX"},
}
"""How a key begins, which characters follow, and how many at least. None begins in the middle of a word."""
_TOKEN = "A-Za-z0-9._~+/=-"
_PEM = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----"
_BEARERS = ("Bearer", "bearer", "BEARER")
_STARTS = (*_SHAPES, "-----BEGIN ", *_BEARERS)
_START_CHARS_MAX = max(map(len, _STARTS))
_BEGUN = tuple({start[:length] for start in _STARTS for length in range(1, len(start))})

_KEYS = "|".join(rf"(?<![A-Za-z0-9]){start}[{follow}]{{{least},}}" for start, (follow, least) in _SHAPES.items())
_BEARER = rf"(?P<head>(?<![A-Za-z0-9])(?:{'|'.join(_BEARERS)})[ \t]{{1,8}})(?=[{_TOKEN}]*[0-9])[{_TOKEN}]{{16,}}"
_BLOCK = rf"{_PEM}(?s:.*?)(?:-----END [A-Z0-9 ]{{0,40}}PRIVATE KEY-----|\Z)"
_HINT = "sk-|AIza|gh[pousr]_|github_pat_|xox[abeoprs]-|A[KS]IA|gsk_|hf_|xai-|S[ACNOUX]|-----BEGIN |[Bb]earer|BEARER"
_LOOKS_LIKE = f"{_BLOCK}|{_BEARER}|{_KEYS}"
# What reaches the end of a text and may become a secret when more of it comes.
_OPEN = re.compile(
    rf"(?:-----BEGIN [A-Z0-9 ]{{0,60}}-{{0,5}}|(?<![A-Za-z0-9])(?:{'|'.join(_BEARERS)})(?:[ \t]{{1,8}}[{_TOKEN}]*)?"
    + "".join(rf"|(?<![A-Za-z0-9]){start}[{follow}]*" for start, (follow, _) in _SHAPES.items())
    + r")\Z"
)


class Redactor:
    """Knows exact values, longest first, and the shapes of keys."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values = tuple(sorted({value for value in values if len(value) >= CHARS_MIN}, key=lambda one: (-len(one), one)))
        self._hint = re.compile("|".join([*map(re.escape, self.values), _HINT]))
        self.secret = re.compile("|".join([*map(re.escape, self.values), _LOOKS_LIKE]))

    def text(self, text: str) -> str:
        """Return `text` with each secret struck out."""
        return self.secret.sub(_strike, text) if self.suspects(text) else text

    def of_bytes(self) -> Redactor:
        """Return the same for texts whose characters are the bytes of UTF-8."""
        return Redactor(value.encode().decode("latin-1") for value in self.values)

    def cut_text(self, text: str) -> str:
        """Return `text`, of which somebody may have cut off beginning or end, without secrets and what is left of one."""
        text = self.text(text)
        opened = _OPEN.search(text)
        if opened is not None and opened.end() - opened.start() >= CHARS_MIN:
            text = text[: opened.start()] + STRUCK
        for value in self.values:
            for length in range(len(value) - 1, CHARS_MIN - 1, -1):
                if text.endswith(value[:length]):
                    text = text[:-length] + STRUCK
                if text.startswith(value[-length:]):
                    text = STRUCK + text[length:]
        return text

    def holds(self, text: str) -> bool:
        """Say whether one of the exact values stands in `text`."""
        return any(value in text for value in self.values)

    def suspects(self, text: str) -> bool:
        """Say whether `text` may hold a secret: quick, and never wrongly no."""
        return self._hint.search(text) is not None


class Flow:
    """Strikes secrets out of a text that comes in pieces: what goes out is what `text` makes of the whole."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._left = ""
        self._from = 0
        self._mute = False

    def feed(self, piece: str) -> str:
        """Take a piece and return what can be said by now; the rest is held back."""
        if self._mute:
            return ""
        self._left += piece
        if len(self._left) - self._from > HELD_CHARS_MAX and self._cut(suspicious=True) == self._from:
            self._mute, self._left, self._from = True, "", 0
            return ""
        suspicious = self._redactor.suspects(self._left)
        return self._said(self._cut(suspicious), suspicious)

    def end(self) -> str:
        """Return what is left."""
        return self._said(len(self._left), suspicious=True)

    def _said(self, cut: int, suspicious: bool) -> str:
        """Strike out up to `cut`; one character before it stays, for what looks back."""
        left, begun = self._left, self._from
        kept = max(cut - 1, 0)
        self._left, self._from = left[kept:], cut - kept
        if not suspicious:
            return left[begun:cut]
        said: list[str] = []
        for found in self._redactor.secret.finditer(left, begun):
            if found.end() > cut:
                break
            said += left[begun : found.start()], _strike(found)
            begun = found.end()
        return "".join(said) + left[begun:cut]

    def _cut(self, suspicious: bool) -> int:
        """Return up to where nothing can become a secret any more, whatever comes."""
        left, begun = self._left, self._from
        cut = min(self._unfinished(value) for value in self._redactor.values) if self._redactor.values else len(left)
        if left.endswith(_BEGUN):
            cut = min(cut, _begun_at(left, begun))
        if not suspicious:
            return max(cut, begun)
        opened = _OPEN.search(left, begun)
        cut = min(cut, opened.start() if opened else cut)
        for found in self._redactor.secret.finditer(left, begun):
            if found.end() == len(left) or found.start() < cut < found.end():
                cut = min(cut, found.start())
        return max(cut, begun)

    def _unfinished(self, value: str) -> int:
        """Return where at the end of what is left `value` begins without being whole."""
        left = self._left
        at = left.find(value[0], max(len(left) - len(value) + 1, self._from))
        while at >= 0 and not value.startswith(left[at:]):
            at = left.find(value[0], at + 1)
        return at if at >= 0 else len(left)


def _begun_at(left: str, begun: int) -> int:
    """Return where the beginning of a key stands at the end of `left`, its length if there is none."""
    for at in range(max(len(left) - _START_CHARS_MAX, begun), len(left)):
        bounded = at == 0 or left[at] == "-" or not (left[at - 1].isascii() and left[at - 1].isalnum())
        if bounded and left[at:] in _BEGUN:
            return at
    return len(left)


def _strike(found: re.Match[str]) -> str:
    return (found["head"] or "") + STRUCK
