"""Before a batch: what it would do to every limit and what it would cost; who is asked about it, and who is not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from farebox.cli import cells
from farebox.cli.options import Common
from farebox.cli.output import is_terminal, note
from farebox.cli.quota_table import amount, moment
from farebox.client import Client
from farebox.core.errors import BadInput, NotReachable, SpendingRefused
from farebox.core.terms import OnQuota
from farebox.plan import plan_of
from farebox.tasks import TaskSpec

Plan = Mapping[str, Any]
SHOWN_MAX = 6
ANSWERS: dict[str, OnQuota | None] = {"s": "spill", "w": "wait", "x": None}


async def looked_ahead(client: Client, specs: Sequence[TaskSpec], on_quota: OnQuota | None = None) -> Plan | None:
    """Return what the tasks would do; None where no engine can say it."""
    try:
        return await plan_of(client.log, specs, on_quota)
    except (NotReachable, BadInput):
        return None


async def agreed(
    common: Common, client: Client, specs: Sequence[TaskSpec], *, max_cost: str | None, told: bool
) -> OnQuota | None:
    """Show the plan; where a limit is near ask what to do, and return the answer. `told`: an option answers already.

    Raises SpendingRefused (exit code 5) for "stop", and where nobody is there to be asked. Nothing was sent then.
    """
    plan = await looked_ahead(client, specs)
    if plan is None:
        return None
    for text in lines_of(plan):
        note(common, text)
    if told or not near(plan, max_cost):
        return None
    if common.json or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        said, code = _worst(plan, max_cost)
        raise SpendingRefused(f"{said} Nothing was sent.", hint=HINT, code=code)
    spill, wait = await looked_ahead(client, specs, "spill"), await looked_ahead(client, specs, "wait")
    for text in (*_choice("s", "spill", spill), *_choice("w", "wait", wait), "  x  stop"):
        note(common, text)
    answer = ANSWERS.get(await asyncio.to_thread(_asked, "s" if spill is not None else ""))
    if answer is None:
        raise SpendingRefused("Stopped. Nothing was sent.", hint=HINT)
    return answer


HINT = "Say what to do: --on-quota wait, --on-quota spill or --on-quota stop; or go on as set: --yes"


def _asked(default: str) -> str:
    """Ask until one of the letters comes; Enter means `default`, where there is one. An end of the input stops."""
    while True:
        sys.stderr.write("[s/w/x] › ")
        sys.stderr.flush()
        given = sys.stdin.readline()
        if not given:
            return "x"
        if (letter := given.strip().lower()[:1] or default) in ANSWERS:
            return letter


def near(plan: Plan, max_cost: str | None) -> bool:
    """Say whether a limit would be reached or money be missing, so that a person should know before.

    Tasks that nobody may do for another reason are told of, and not asked about: no money and no window is at stake.
    """
    return bool(plan["windows"]) or _missing(plan) is not None or _beyond(plan, max_cost)


def _missing(plan: Plan) -> Mapping[str, Any] | None:
    """Return the first refusal that quota, a budget or a missing price brings."""
    return next((one for one in plan["refused"] if one.get("code")), None)


def _beyond(plan: Plan, max_cost: str | None) -> bool:
    return max_cost is not None and Decimal(plan["paid_estimate_usd"]) > Decimal(max_cost)


def _worst(plan: Plan, max_cost: str | None) -> tuple[str, str]:
    """Return what stands most in the way, in words, and its code."""
    if plan["windows"]:
        first = plan["windows"][0]
        return _window(first, plan), "FB302" if first["unit"] == "usd" else "FB301"
    if (missing := _missing(plan)) is not None:
        return f"{missing['tasks']} tasks could not run: {missing['reason']}.", str(missing["code"])
    about, most = cells.usd(plan["paid_estimate_usd"]), cells.usd(max_cost)
    return f"It would cost about {about}, and --max-cost is {most}.", "FB302"


def lines_of(plan: Plan) -> list[str]:
    """Return the plan for a person."""
    lines = [f"{plan['tasks']} tasks · {_money(plan)}" + (f" · {shares}" if (shares := _shares(plan)) else "")]
    lines += [_window(one, plan) for one in plan["windows"][:SHOWN_MAX]]
    lines += [f"{one['tasks']} tasks could not run: {one['reason']}" for one in plan["refused"][:SHOWN_MAX]]
    if plan["waits"]:
        until = moment(plan["ends_ms"], plan["now_ms"])
        lines.append(f"{plan['waits']} tasks wait for a window to turn; the last could start about {until} and ends after that")
    return lines


def _shares(plan: Plan) -> str:
    return ", ".join(f"{one['tasks']} on {one['platform']}" for one in plan["platforms"][:SHOWN_MAX])


def _money(plan: Plan) -> str:
    paid = [one for one in plan["platforms"] if one["billing"] in {"metered", "rehearsal"}]
    if not paid:
        return "nothing paid"
    low, high = cells.usd(plan["paid_low_usd"]), cells.usd(plan["paid_bound_usd"])
    unpriced = f", {plan['unpriced']} tasks without a known price" if plan["unpriced"] else ""
    rest = ", rest on plans" if len(paid) < len(plan["platforms"]) else ""
    return f"estimate {low} to {high} paid{rest}{unpriced}"


def _window(one: Plan, plan: Plan) -> str:
    unit = one["unit"]
    used, limit = (amount(Decimal(one[name]), unit) for name in ("used", "limit"))
    reached = [f"{plan['warn_at_percent']} % at task {one['warn_at_task']}"] if one["warn_at_task"] else []
    reached += [f"100 % at task {one['full_at_task']}"] if one["full_at_task"] else []
    resets = f"; it resets {moment(one['resets_at_ms'], plan['now_ms'])}" if one["resets_at_ms"] else ""
    return f"{one['quota']} is at {used} of {limit}; this batch reaches {' and '.join(reached)}{resets}."


def _choice(letter: str, word: str, plan: Plan | None) -> list[str]:
    if plan is None:
        return [f"  {letter}  {word}: what it costs cannot be said now"]
    ends = f", the last starts about {moment(plan['ends_ms'], plan['now_ms'])}" if plan["ends_ms"] else ""
    refused = sum(one["tasks"] for one in plan["refused"])
    short = f", {refused} could not run" if refused else ""
    default = "   (default)" if letter == "s" else ""
    return [f"  {letter}  {word}: {_shares(plan)}, {_about(plan)}{ends}{short}{default}"]


def _about(plan: Plan) -> str:
    """Return the dollars of a choice: what is likely, and the most."""
    about, most = plan["paid_estimate_usd"], plan["paid_bound_usd"]
    parts = [f"about {cells.usd(about)}, at most {cells.usd(most)}"] if Decimal(most) else []
    parts += [f"{plan['unpriced']} tasks without a known price"] if plan["unpriced"] else []
    return ", ".join(parts) or "nothing paid"
