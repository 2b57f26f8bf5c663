"""farebox: AI tasks on the cheapest capacity you already have, and proof of what each one cost.

Importing it loads no engine and no bus: names come in when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from farebox.aggregate import Aggregate, Sum
    from farebox.batch import Batch
    from farebox.client import Client, connect
    from farebox.core.errors import (
        AccessDenied,
        BadInput,
        BadSettings,
        BusError,
        CallerFault,
        FareboxError,
        LogUnfit,
        NotReachable,
        StoreInUse,
    )
    from farebox.core.results import CostShown, ErrorShown, Result, UsageShown
    from farebox.handle import Chunk, Handle, ResultTimeout
    from farebox.tasks import TaskSpec

_HOMES = {
    "farebox.aggregate": ("Aggregate", "Sum"),
    "farebox.batch": ("Batch",),
    "farebox.client": ("Client", "connect"),
    "farebox.core.errors": (
        "AccessDenied", "BadInput", "BadSettings", "BusError", "CallerFault", "FareboxError", "LogUnfit", "NotReachable",
        "StoreInUse",
    ),
    "farebox.core.results": ("CostShown", "ErrorShown", "Result", "UsageShown"),
    "farebox.handle": ("Chunk", "Handle", "ResultTimeout"),
    "farebox.tasks": ("TaskSpec",),
}  # fmt: skip

__all__ = [
    "AccessDenied",
    "Aggregate",
    "BadInput",
    "BadSettings",
    "Batch",
    "BusError",
    "CallerFault",
    "Chunk",
    "Client",
    "CostShown",
    "ErrorShown",
    "FareboxError",
    "Handle",
    "LogUnfit",
    "NotReachable",
    "Result",
    "ResultTimeout",
    "StoreInUse",
    "Sum",
    "TaskSpec",
    "UsageShown",
    "__version__",
    "connect",
]


def __getattr__(name: str) -> object:
    """Bring a public name in when it is first used."""
    import importlib  # noqa: PLC0415 - only for who asks

    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'farebox' has no attribute {name!r}")
