"""The directory of a task, as its sender writes it, made whole: from here, or from the folder of a batch file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farebox.core.errors import BadInput


def located(fields: Mapping[str, Any], folder: str | Path = "") -> dict[str, Any]:
    """Return a task's fields with a whole path as `directory`. Raises BadInput for a relative one that is not there.

    A whole path is taken as it is: the machine of the engine, which may be another one, knows whether it is there. Links stay.
    """
    given = fields.get("directory")
    if not isinstance(given, (str, Path)) or not given:
        return dict(fields)
    written = os.path.expanduser(given)  # noqa: PTH111  as the others here: a path as it is written
    whole = os.path.abspath(os.path.join(folder, written))  # noqa: PTH100, PTH118  resolve() would follow links
    if not os.path.isabs(written) and not Path(whole).is_dir():  # noqa: PTH117
        raise BadInput(f"There is no directory {whole}.", hint="For one on another machine write its whole path.")
    return {**fields, "directory": whole}
