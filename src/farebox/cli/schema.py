"""farebox schema: the JSON Schema of every fact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import line
from farebox.core import wire
from farebox.core.errors import BadInput


def command(*, output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None, common: Common = DEFAULT) -> int:
    """Print the JSON Schema (2020-12) of every fact.

    Parameters
    ----------
    output
        Write it to a file.
    """
    named = {"schema": "farebox.schema/1", **wire.schema()} if common.json else wire.schema()
    body = msgspec.json.format(msgspec.json.encode(named), indent=0 if common.json else 2).decode()
    if output is None:
        line(body)
        return 0
    try:
        output.write_text(body + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{output}: cannot be written: {error.strerror}.", code="FB406") from error
    return 0
