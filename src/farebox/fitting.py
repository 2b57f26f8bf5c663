"""A submission that is small as text may be too large as JSON, where a control character takes six bytes: it is made to fit.

What is small enough stays in the fact (posting.py); this looks at the body as it will stand on the bus.
"""

from __future__ import annotations

import msgspec

from farebox.core import wire
from farebox.core.errors import BadInput
from farebox.core.events import TaskSubmitted
from farebox.core.terms import FileInput
from farebox.log.port import Log
from farebox.posting import keep


async def fitted(log: Log, fact: TaskSubmitted) -> TaskSubmitted:
    """Return the submission with a body that the bus takes: what takes most room as JSON goes into the object store.

    Raises BadInput when what cannot go there is too large, and what the log raises.
    """
    while (size := len(wire.encode(fact))) > wire.BODY_BYTES_MAX:
        sizes = _sizes(fact)
        if not sizes:
            raise BadInput(f"A task of {size} bytes without its contents; the most is {wire.BODY_BYTES_MAX}.", code="FB403")
        fact = await _without(log, fact, max(sizes, key=lambda name: (sizes[name], name)))
    return fact


def _sizes(fact: TaskSubmitted) -> dict[str, int]:
    """Return how many bytes of JSON each content takes that still stands in the fact."""
    contents = {"prompt": fact.prompt, "context": fact.context}
    contents |= {str(place): file.content or "" for place, file in enumerate(fact.files)}
    return {name: len(msgspec.json.encode(content)) for name, content in contents.items() if content}


async def _without(log: Log, fact: TaskSubmitted, name: str) -> TaskSubmitted:
    """Put one content away."""
    match name:
        case "prompt":
            return msgspec.structs.replace(fact, prompt="", prompt_ref=await keep(log, fact.prompt.encode()))
        case "context":
            ref = await keep(log, msgspec.json.encode(fact.context))
            return msgspec.structs.replace(fact, context={}, context_ref=ref)
        case _:
            files = list(fact.files)
            file = files[int(name)]
            files[int(name)] = FileInput(name=file.name, ref=await keep(log, (file.content or "").encode()))
            return msgspec.structs.replace(fact, files=tuple(files))
