"""farebox log: a copy of the log elsewhere, its way back, and a person's word that a log is to be believed as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from farebox.cli import cells, session
from farebox.cli.audit import named_server
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line
from farebox.core.errors import BadInput
from farebox.nearest import did_you_mean

ACTIONS = ("backup", "restore", "accept")


def command(
    action: str,
    folder: Path | None = None,
    /,
    *,
    prove: Annotated[bool, Parameter(negative=())] = False,
    common: Common = DEFAULT,
) -> int:
    """Keep a copy of the log elsewhere, put one back into an empty store, or accept a log that was found changed.

    Examples: farebox log backup /mnt/disk/farebox    |    farebox log restore /mnt/disk/farebox --store NEW

    Parameters
    ----------
    action
        backup: make the copy in FOLDER or bring it up to date, while an engine runs or not; what is copied is read and
        verified. restore: make the log of an empty store from it, with the same sequences and times, and verify it.
        accept: go on with the log as it stands; what this store knew of it before is forgotten, views are made anew.
    folder
        Where the copy is. It holds prompts, answers and the store's key: keep it as safe as the store.
    prove
        After a backup: put it back into a store of its own there, read all of it, and remove that store again.
    """
    if action not in ACTIONS:
        near = did_you_mean(action, ACTIONS)
        raise BadInput(f'"{action[:40]}" cannot be done to a log.', hint=f"{near} Choose: {', '.join(ACTIONS)}.".strip())
    if (action == "accept") == (folder is not None):
        raise BadInput(
            f"{action} takes {'no' if folder else 'a'} folder.", hint=f"farebox log {action}{'' if folder else ' DIR'}"
        )
    if folder is None:
        return session.run(lambda: _accepted(common))
    place = folder.expanduser().absolute()
    return session.run(lambda: _copied(common, place, prove) if action == "backup" else _put_back(common, place))


async def _copied(common: Common, folder: Path, prove: bool) -> int:
    from farebox import engines, keeping  # noqa: PLC0415 - the whole engine

    config = engines.full(common.settings())
    async with keeping.opened(common.place(config), config, named_server(common, config)) as kept:
        made = await keeping.copied(kept, folder)
    if prove:
        await keeping.proven(folder, config)
    mark = made.manifest.mark
    if common.json:
        document({
            "schema": "farebox.backup/1", "folder": str(folder), "last": mark.seq, "digest": mark.digest,
            "new_facts": made.facts, "new_contents": made.contents, "bytes": made.manifest.bytes,
            "not_believed": len(made.faults), "proven": prove,
        })  # fmt: skip
    else:
        line(f"✓ facts 1 to {cells.count(mark.seq)} are in {folder} ({cells.count(made.facts)} new), digest {mark.digest}")
        if prove:
            line("✓ put back beside it, read, and found the same")
    return 0


async def _put_back(common: Common, folder: Path) -> int:
    from farebox import engines, keeping  # noqa: PLC0415 - the whole engine

    config = engines.full(common.settings())
    store = common.place(config)
    manifest = await keeping.put_back(folder, store, config, named_server(common, config))
    mark = manifest.mark
    if common.json:
        document({"schema": "farebox.restore/1", "store": str(store), "last": mark.seq, "digest": mark.digest})
    else:
        line(f"✓ facts 1 to {cells.count(mark.seq)} are in {store} again, digest {mark.digest}")
        line("What came after the copy is forgotten here, but not by providers: compare their bills for that time.")
    return 0


async def _accepted(common: Common) -> int:
    from farebox import engines, keeping  # noqa: PLC0415 - the whole engine

    config = engines.full(common.settings())
    async with keeping.opened(common.place(config), config, named_server(common, config)) as kept:
        position = await keeping.accepted(kept)
    if common.json:
        document({"schema": "farebox.accept/1", "created": position.created, "last": position.last_seq, "gone": position.gone})
    else:
        line(f"The log with facts {position.first_seq} to {position.last_seq} is believed from now on; views are made anew.")
    return 0
