"""farebox doctor: what is here, who would pay, what is wrong, and the command that mends it."""

from __future__ import annotations

import os
import platform
import textwrap

import msgspec

from farebox import __version__, config, discovery, doctor
from farebox.cli import attention, session
from farebox.cli.options import DEFAULT, Common
from farebox.cli.output import document, line, one_line, width
from farebox.config import BUILT_IN, Config
from farebox.core.errors import FareboxError
from farebox.doctor import Finding

MARKS = {"ok": "✓", "warning": "!", "problem": "✗", "absent": "–"}
EXIT_PROBLEM = 3
WHAT_WIDTH = 14


def command(*, common: Common = DEFAULT) -> int:
    """Look at the engine, its log and every platform: what is fine, who would pay, what is wrong and what to type.

    Nothing is sent to a model. Exit code 3 with a problem, 8 when the log is not to be believed.
    """
    return session.run(lambda: _looked(common))


async def _looked(common: Common) -> int:
    settings = common.settings()
    here = Finding(mark="ok", what="farebox", detail=f"{__version__} · python {platform.python_version()}")
    found, code = await _engine(common, settings)
    findings = [here, *found, *await _platforms(common, settings)]
    problems = sum(one.mark == "problem" for one in findings)
    code = code or (EXIT_PROBLEM if problems else 0)
    if common.json:
        document({"schema": "farebox.doctor/1", "problems": problems, "findings": msgspec.to_builtins(findings)})
    else:
        for text in report(findings):
            line(text)
    return code


async def _engine(common: Common, settings: Config) -> tuple[list[Finding], int]:
    """Look at the log through the engine that runs, or by reading it; return what was found, and the exit code it asks for."""
    place = common.place(settings)
    if _where(common, settings) is None and not (place / "nats").exists():
        return [Finding(mark="absent", what="log", detail=f"none in {place} yet", mend="farebox up --detach")], 0
    try:
        async with session.opened(common, "answers") as client:
            status = await client.status(limit=1)
    except FareboxError as error:
        return [doctor.of_error("log", error)], error.exit_code
    found = doctor.of_engine(status["engine"], _free_bytes(place))
    said = (text.removeprefix("! ") for text in attention.lines(status))
    return found + [Finding(mark="warning", what="waits", detail=text) for text in said], 0


async def _platforms(common: Common, settings: Config) -> list[Finding]:
    """Ask the engine that runs, which calls them from where it is; without one, look from here."""
    named = {
        key.split(".")[1] for key, origin in settings.origins.items() if key.startswith("platforms.") and origin != BUILT_IN
    }
    try:
        if _where(common, settings) is not None:
            async with session.opened(common, "running") as client:
                return doctor.of_platforms((await client.platforms())["platforms"], named, os.environ)
        from farebox import looking  # noqa: PLC0415 - the platforms' code, only where it is needed

        whole = config.load(file=common.config, kinds=config.platform_kinds())
        return doctor.of_platforms(await looking.look(whole), named, os.environ)
    except FareboxError as error:
        return [doctor.of_error("platforms", error)]


def _where(common: Common, settings: Config) -> discovery.Where | None:
    given = common.store is not None
    return discovery.find(common.server, common.nats_context, common.place(settings), store_given=given, bus=settings.bus)


def report(findings: list[Finding]) -> list[str]:
    """Return a line for each finding, its remedy below it, and the sum of what is wrong."""
    room = max(40, width() - WHAT_WIDTH - 4)
    lines: list[str] = []
    for one in findings:
        pays = f" · pays: {one.pays}" if one.pays else ""
        first, *rest = textwrap.wrap(one_line(one.detail, 600) + pays, room) or [""]
        lines.append(f" {MARKS[one.mark]} {one.what:{WHAT_WIDTH}} {first}")
        remedy = textwrap.wrap(one_line(one.mend, 400), room) if one.mark != "ok" else []
        lines += [" " * (WHAT_WIDTH + 4) + text for text in (*rest, *remedy)]
    counts = {mark: sum(one.mark == mark for one in findings) for mark in ("warning", "problem")}
    told = [f"{count} {mark}{'s' * (count != 1)}" for mark, count in counts.items() if count]
    return [*lines, f" {', '.join(told)}" if told else " nothing is wrong"]


def _free_bytes(place: os.PathLike[str]) -> int | None:
    """Return the room where the store is; None where there is none on this machine."""
    try:
        found = os.statvfs(place)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
