"""Where tasks may let programs work on files, held against paths as text."""

import pytest

from actors.platforms.checks import options_are
from farebox.core.directories import FORBIDDEN, NO_PROGRAM, is_whole, placed, roots, why_not
from farebox.core.errors import BadSettings
from farebox.core.rejections import BY_NAME, explained
from farebox.core.settings import PlatformSettings
from farebox.core.terms import Rejected


def agent(kind="claude-code", **options):
    return PlatformSettings(kind=kind, billing="plan", options=options)


@pytest.mark.parametrize("directory", ["/a/b", "/a/b/", "/a/b/c/d", "/x y"])
@pytest.mark.parametrize("kind", ["claude-code", "codex", "gemini-cli", "antigravity", "command"])
def test_a_task_may_work_in_what_its_platform_names_and_below(kind, directory):
    assert why_not(agent(kind, directories="/a/b, /x y ,"), directory) == ""


NEVER = ["/a", "/a/bc", "/a/b/../c", "/a/b/..", "a/b", "~/b", "/a/b\x00", "/A/b", "//a/b", "/", "/a/./bc"]


@pytest.mark.parametrize("directory", NEVER)
def test_it_may_not_work_beside_or_above_or_by_a_detour(directory):
    assert why_not(agent(directories="/a/b"), directory) == FORBIDDEN + directory


def test_without_a_directory_nothing_is_asked_and_without_a_right_nothing_is_allowed():
    assert why_not(agent(), "") == ""
    assert why_not(agent(), "/a") == FORBIDDEN + "/a"
    assert why_not(agent(directories="relative"), "/a") == FORBIDDEN + "/a"
    assert why_not(PlatformSettings(kind="compatible", options={"directories": "/a"}), "/a") == NO_PROGRAM


def test_the_directory_of_the_section_is_a_right_too():
    of = agent(directory="/p", directories="/q")
    assert (roots(of), why_not(of, "/p/sub")) == (("/q", "/p"), "")


def test_a_tasks_directory_stands_in_for_that_of_the_section():
    of = agent(directory="/p", directories="/q")
    assert placed(of, "/q/x").options == {"directory": "/q/x", "directories": "/q"}


@pytest.mark.parametrize(("path", "whole"), [("/a b/ü", True), ("/", True), ("", False), ("a", False), ("/a\n", False)])
def test_a_whole_path_begins_at_the_root_and_can_be_printed(path, whole):
    assert is_whole(path) is whole


@pytest.mark.parametrize("option", ["directories", "worktrees"])
@pytest.mark.parametrize("path", ["~/x", "x", "/x,../y", "/a/../b"])
def test_a_section_that_names_no_whole_path_is_refused(option, path):
    with pytest.raises(BadSettings, match="is no whole path"):
        options_are("p", agent(**{option: path}), {option: ()})


def test_words_about_nobody_leave_out_what_nobody_meant_and_say_what_to_write():
    reasons = {"play": BY_NAME, "cloud": NO_PROGRAM, "claude": FORBIDDEN + '/a "b"'}
    rejected = [Rejected(platform=name, reason=reason) for name, reason in reasons.items()]
    assert explained(rejected, directory='/a "b"') == (
        'No platform may do this task (claude: is not allowed to work in /a "b"). '
        'To allow it, write in farebox.toml: [platforms.claude] options = {directories = "/a \\"b\\""}'
    )
    assert explained(rejected[:2]).startswith("No platform may do this task (play: ")
    assert explained(rejected, asked_for="cloud") == "No platform may do this task (cloud: works on no files)."
    assert explained(rejected, hint=rejected[-1].platform).startswith(
        f"No platform may do this task ({rejected[-1].platform}: "
    )
    assert explained([]) == "No platform may do this task (none is set up)."
