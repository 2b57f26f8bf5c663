"""farebox quota: what is used of every limit, how it is known, when it turns; setting limits; what was learned of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from farebox.cli import session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, note, width
from farebox.cli.quota_table import lines_of
from farebox.core.errors import BadInput, FareboxError
from farebox.nearest import did_you_mean

ACTIONS = ("show", "set", "unset", "learn")
NOT_IN_FORCE = 3
"""The exit code of a limit that is written, and not held by the engine that answers."""
WHERE = "Set it where that engine runs, with its --config if it has one."


def command(
    action: str = "show",
    platform: str | None = None,
    window: str | None = None,
    limit: str | None = None,
    /,
    *,
    unit: str | None = None,
    kind: Literal["fixed", "rolling"] | None = None,
    zone: str | None = None,
    common: Common = DEFAULT,
) -> int:
    """Show what is used of every quota and budget, set limits, or find out what platforms tell about theirs.

    Examples: farebox quota    |    farebox quota set gemini day 250    |    farebox quota set all month 50usd

    Limits that are set go into limits.toml beside your farebox.toml, and a running engine takes them at once.

    Parameters
    ----------
    action
        show; set PLATFORM WINDOW LIMIT; unset PLATFORM WINDOW; learn (asks what can be asked without cost, and tells what
        the log knows).
    platform
        A platform; `all`, or the name of a budget, for US dollars.
    window
        minute, hour, day, week, month, a duration like 5h, or all (never turns).
    limit
        60, 100000tokens, 80%, 60usd.
    unit
        requests, tokens, tokens_in, tokens_out, percent, usd or calls, where LIMIT does not say.
    kind
        fixed turns with the clock, rolling looks back.
    zone
        The time zone in which it turns, like America/Los_Angeles.
    """
    if action not in ACTIONS:
        near = did_you_mean(action, ACTIONS)
        raise BadInput(f'"{action[:40]}" cannot be done.', hint=f"{near} Choose one of: {', '.join(ACTIONS)}.".strip())
    given = sum(one is not None for one in (platform, window, limit))
    wanted = {"set": 3, "unset": 2}.get(action, 0)
    if given != wanted:
        usage = {"set": " PLATFORM WINDOW LIMIT", "unset": " PLATFORM WINDOW"}.get(action, "")
        raise BadInput(f"{action} takes {wanted or 'no'} words.", hint=f"farebox quota {action}{usage}")
    if platform is None or window is None:
        return session.run(lambda: _learned(common) if action == "learn" else _shown(common))
    extra = {name: value for name, value in {"kind": kind, "zone": zone}.items() if value is not None}
    return _changed(common, platform, window, limit, unit, extra)


async def _shown(common: Common) -> int:
    async with session.opened(common, "answers") as client:
        found = await client.quota()
    if common.json:
        document(found)
        return 0
    for text in lines_of(found, width()):
        line(text)
    return 0


async def _learned(common: Common) -> int:
    """Ask every platform that can tell without cost, then say what the log knows of each."""
    async with session.opened(common, "engine") as client:
        await client.platforms(look=True)
        found = await client.quota()
    learned = [one for one in found["quotas"] if one.get("source") == "learned" or one.get("evidence_ms")]
    if common.json:
        document({**found, "schema": "farebox.quota-learned/1", "quotas": learned})
        return 0
    for text in lines_of({**found, "quotas": learned}, width()) if learned else ("No provider has told anything yet.",):
        line(text)
    unknown = sorted({one["quota"] for one in found["quotas"] if one.get("limit") is None})
    for quota in unknown:
        owner, window, unit = quota.rsplit("/", 2)
        line(f"unknown: {quota}. If you know it: farebox quota set {owner} {window} LIMIT --unit {unit}")
    note(common, "Providers tell their limits in the answers to work that is paid for; none is sent only to learn them.")
    return 0


def _changed(common: Common, platform: str, window: str, limit: str | None, unit: str | None, extra: dict[str, Any]) -> int:
    from farebox import config, quota_setting  # noqa: PLC0415 - the platforms' code, only where it is needed

    whole = config.load(file=common.config, kinds=config.platform_kinds())
    path = config.limits_file()
    parsed = quota_setting.parsed(limit, unit) if limit is not None else None
    place = quota_setting.place_of(whole.settings, platform, window, parsed, unit)
    if parsed is None:
        if not quota_setting.take_away(path, place):
            raise BadInput(f"{place.shown} was not set by command.", hint=f"It is not in {path}. See: farebox quota")
    else:
        place.keys.update(extra)
        quota_setting.put(path, place, file=common.config)
    return session.run(lambda: _told(common, place, str(path), removed=parsed is None))


async def _told(common: Common, place: Any, path: str, *, removed: bool) -> int:
    """Let a running engine take the new limits, say whether it did, and what is in use beyond them."""
    from farebox import quota_setting  # noqa: PLC0415 - the platforms' code, only where it is needed

    try:
        async with session.opened(common, "running") as client:
            adopted = await client.reload_settings()
            over = [one for one in (await client.quota())["quotas"] if _over(one)]
    except FareboxError as error:
        if error.code != "FB101":
            note(common, f"{place.shown} is in {path}, but the engine did not take it: {error}")
            return error.exit_code
        adopted, over = {}, []
    held = quota_setting.in_force(place, adopted, file=common.config, removed=removed) if adopted else None
    said = {"section": place.section, "name": place.name, "keys": place.keys, "file": path, "removed": removed}
    if common.json:
        more = {name: adopted.get(name) for name in ("adopted_seq", "needs_restart")}
        document({"schema": "farebox.quota-set/1", **said, **more, "in_force": held, "over": over})
        return NOT_IN_FORCE if held is False else 0
    line(f"{place.shown} {'removed from' if removed else 'written to'} {path}")
    line(_force(common, adopted, held))
    if held is False:
        line(f"The engine holds {quota_setting.held(place, adopted)}, and that counts: it reads other files. {WHERE}")
    if adopted.get("needs_restart"):
        line("Platforms changed in its files, too: that counts after a restart. farebox down, farebox up")
    for one in over:
        line(
            f"{one['quota']}: {one['used']} of {one['limit']} is in use. Nothing is cancelled, nothing more granted until then."
        )
    return NOT_IN_FORCE if held is False else 0


def _force(common: Common, adopted: Mapping[str, Any], held: bool | None) -> str:
    if not adopted:
        reads = " that reads this file" if common.server or common.nats_context else ""
        return f"in force as soon as an engine{reads} runs"
    if held is None:
        return "The engine took its settings anew, but does not say what it holds: compare with farebox quota"
    return f"in force from fact {adopted['adopted_seq']} on" if held else "NOT in force."


def _over(one: dict[str, Any]) -> bool:
    from decimal import Decimal  # noqa: PLC0415 - only here

    return one.get("limit") is not None and Decimal(one.get("used", "0")) > Decimal(one["limit"])
