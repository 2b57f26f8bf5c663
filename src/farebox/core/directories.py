"""Where tasks may let programs work on files: a right that a platform's section gives, held against paths as text. Pure.

    [platforms.claude-code]
    options = {directories = "/home/me/project, /srv/site"}

A task's `directory` must be one of these or lie below one; the option `directory` counts too. Links are not followed here: the
runtime looks again, at the places that the paths lead to.
"""

from __future__ import annotations

import msgspec

from farebox.core.settings import AGENTS, PlatformSettings

NO_PROGRAM = "works on no files"
FORBIDDEN = "is not allowed to work in "


def roots(settings: PlatformSettings) -> tuple[str, ...]:
    """Return the directories in which tasks may let this platform work."""
    written = f"{settings.options.get('directories', '')},{settings.options.get('directory', '')}"
    return tuple(part for part in (one.strip() for one in written.split(",")) if part)


def is_whole(path: str) -> bool:
    """Whether a path names a place by itself: from the root on, without `..`, without characters that no path has."""
    return path.startswith("/") and not path.startswith("//") and ".." not in path.split("/") and path.isprintable()


def why_not(settings: PlatformSettings, directory: str) -> str:
    """Return why a platform may not work in `directory`, empty if it may (or none is asked for)."""
    if not directory:
        return ""
    if settings.kind not in AGENTS and settings.kind != "command":
        return NO_PROGRAM
    if is_whole(directory) and any(_is_below(directory, root) for root in roots(settings) if is_whole(root)):
        return ""
    return FORBIDDEN + directory[:500]


def _is_below(directory: str, root: str) -> bool:
    names, of_root = ([name for name in path.split("/") if name not in {"", "."}] for path in (directory, root))
    return names[: len(of_root)] == of_root


def placed(settings: PlatformSettings, directory: str) -> PlatformSettings:
    """Return the settings as if `directory` were their own."""
    return msgspec.structs.replace(settings, options={**settings.options, "directory": directory})
