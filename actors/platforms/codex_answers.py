"""What the codex app-server asks us in the middle of a turn, and what it is told: nothing is left hanging. Pure.

It asks for leave to run a command, to change files, for more rights, for a person's answer. Leave is given only where the
settings say `approvals = "accept"`. Shapes from `codex app-server generate-json-schema`, 0.169.0 (2026-11-21).
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.platforms.foreign_json import at, text_at

_NOT_KNOWN = -32601
"""JSON-RPC: method not found."""


def answer_to(message: Any, *, accept: bool) -> bytes:
    """Return the line that answers a request of the server."""
    result = _result(text_at(message, "method"), at(message, "params"), accept=accept)
    told = {"error": {"code": _NOT_KNOWN, "message": "farebox cannot do that"}} if result is None else {"result": result}
    return msgspec.json.encode({"id": at(message, "id"), **told}) + b"\n"


def _result(method: str, params: Any, *, accept: bool) -> dict[str, Any] | None:
    match method:
        case "item/commandExecution/requestApproval" | "item/fileChange/requestApproval":
            return {"decision": "accept" if accept else "decline"}
        case "execCommandApproval" | "applyPatchApproval":
            return {"decision": "approved" if accept else "denied"}
        case "item/permissions/requestApproval":
            return {"permissions": (at(params, "permissions") if accept else None) or {}}
        case "item/tool/requestUserInput":
            return {"answers": {}}
        case "mcpServer/elicitation/request":
            return {"action": "decline"}
        case "item/tool/call":
            return {"contentItems": [], "success": False}
        case _:
            return None
