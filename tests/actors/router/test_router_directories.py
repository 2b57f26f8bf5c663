"""Tasks that work on files go to programs that may do so there, and to nobody else."""

import msgspec

from farebox.core.events import TaskCompleted, TaskDecision, TaskRouted

PLATFORMS = {
    "cloud": {"billing": "metered"},
    "shut": {"kind": "codex", "billing": "plan"},
    "agent": {"kind": "claude-code", "billing": "plan", "options": {"directories": "/src"}},
}


def test_a_task_with_a_directory_goes_only_to_an_agent_that_is_allowed_to_work_there(story, routing):
    (said,) = story(PLATFORMS).hear(routing.task(directory="/src/site"))
    assert isinstance(said, TaskRouted)
    assert routing.names(said) == ["agent"]
    assert {one.platform: one.reason for one in said.rejected} == {
        "cloud": "works on no files",
        "shut": "is not allowed to work in /src/site",
    }
    assert said.on_interrupt == "ask"


def test_without_a_directory_agents_take_text_and_repeat_it(story, routing):
    (said,) = story(PLATFORMS).hear(routing.task())
    assert set(routing.names(said)) == {"agent", "shut", "cloud"}
    assert said.on_interrupt == "retry"


def test_the_policy_of_the_task_counts_in_a_directory_too(story, routing):
    (said,) = story(PLATFORMS).hear(routing.task(directory="/src", on_interrupt="retry"))
    assert said.on_interrupt == "retry"


def test_a_directory_that_nobody_may_work_in_ends_the_task_and_says_what_to_write(story, routing):
    (said,) = story(PLATFORMS).hear(routing.task(directory="/src/../etc", platform="agent", fallback=False))
    assert isinstance(said, TaskCompleted)
    assert (said.status, said.fault.error_class) == ("failed", "unavailable")
    assert said.fault.message == (
        "No platform may do this task (agent: is not allowed to work in /src/../etc). "
        'To allow it, write in farebox.toml: [platforms.agent] options = {directories = "/src/../etc"}'
    )


def test_an_interrupted_answer_that_is_accepted_brings_its_worktree(story, routing):
    one = story(PLATFORMS)
    routing.routed(one, directory="/src", worktree=True)
    gone = msgspec.structs.replace(
        routing.interrupted(platform="agent"), partial_output="Half.", worktree="/w/t-1", base_commit="c0ffee"
    )
    assert one.hear(gone) == []
    (said,) = one.hear(TaskDecision(chain="c", task="t", attempt=1, decision="accept"))
    assert (said.status, said.output, said.worktree, said.base_commit) == ("completed", "Half.", "/w/t-1", "c0ffee")
