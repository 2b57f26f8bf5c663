"""What passes beside the memory log without being kept: live text, questions and answers. Like the server, but at once."""

from __future__ import annotations

from collections.abc import Callable

from farebox.log.names import matches
from farebox.log.port import Handler

Ear = Callable[[str, bytes], None]


class MemoryBus:
    """Ears and handlers of all who share one store."""

    def __init__(self) -> None:
        self._ears: list[tuple[str, Ear]] = []
        self._handlers: list[tuple[str, Handler]] = []

    def say(self, subject: str, body: bytes) -> None:
        """Let all ears hear it."""
        for pattern, ear in tuple(self._ears):
            if matches(pattern, subject):
                ear(subject, body)

    def listen(self, pattern: str, ear: Ear) -> Callable[[], None]:
        """Add an ear; the result takes it away again and may be called twice."""
        return _add(self._ears, (pattern, ear))

    def serve(self, pattern: str, handler: Handler) -> Callable[[], None]:
        """Add one who answers; the result takes it away again and may be called twice."""
        return _add(self._handlers, (pattern, handler))

    def handler_of(self, subject: str) -> Handler | None:
        """Return one of those who answer on `subject`, each in turn; None if nobody does."""
        for place, (pattern, handler) in enumerate(self._handlers):
            if matches(pattern, subject):
                self._handlers.append(self._handlers.pop(place))
                return handler
        return None


def _add[Item](items: list[Item], item: Item) -> Callable[[], None]:
    items.append(item)

    def remove() -> None:
        if item in items:
            items.remove(item)

    return remove
