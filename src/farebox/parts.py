"""What `farebox up --only` and `--without` name, checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from farebox.core.errors import BadInput
from farebox.log.names import durable_of
from farebox.nearest import did_you_mean
from farebox.runtime.parts import Parts


def chosen(only: Iterable[str], without: Iterable[str], actors: Iterable[str], platforms: Iterable[str]) -> Parts:
    """Return the parts that were asked for. Raises BadInput for a name that is none, or for both kinds at once."""
    parts = Parts(frozenset(only), frozenset(without))
    if parts.only and parts.without:
        raise BadInput("--only and --without exclude each other.", hint="Name what runs here, or what runs elsewhere.")
    known = (*(name for name in actors if name != "adapter"), *(durable_of(platform) for platform in platforms))
    for name in sorted(parts.only | parts.without):
        _check(name, known)
    return parts


def _check(name: str, known: Collection[str]) -> None:
    if name not in known:
        choose = f"Choose from: {', '.join(known)}."
        raise BadInput(f"There is no actor {name[:60]!r}.", hint=f"{did_you_mean(name, known)} {choose}".strip())
