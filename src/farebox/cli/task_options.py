"""The options of one task on the command line, and the task they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from farebox.cli.allowed_options import ANYTHING, Allowed
from farebox.core.terms import OnInterrupt
from farebox.inputs import file_input, json_option, pairs_option
from farebox.places import located
from farebox.tasks import TIMEOUT_S, TaskSpec, spec_of


@Parameter(name="*")
@dataclass(frozen=True)
class TaskOptions:
    """What `submit` can say about a task beside its prompt."""

    file: Annotated[tuple[str, ...], Parameter(name=("--file", "-f"))] = ()
    """A text file to send along (repeatable)."""
    system: Annotated[str, Parameter(name=("--system", "-s"))] = ""
    """A system prompt."""
    type: Annotated[str, Parameter(name=("--type", "-t"))] = "general"
    """code_generation, research, data_analysis, review or general."""
    platform: Annotated[str, Parameter(name=("--platform", "-p"))] = ""
    """A hint: this platform if it can, another one otherwise."""
    fallback: bool = True
    """With --no-fallback only the platform that was asked for."""
    model: Annotated[str, Parameter(name=("--model", "-m"))] = ""
    """The model to use."""
    chain: str = ""
    """The chain that the task belongs to."""
    priority: int = 0
    """Higher goes first, -1000 to 1000."""
    context: str = ""
    """Context as a JSON object, or @FILE."""
    metadata: tuple[str, ...] = ()
    """NAME=VALUE kept with the task (repeatable)."""
    timeout: float = TIMEOUT_S
    """Seconds that an attempt may take."""
    max_tokens: int | None = None
    """The longest answer, in tokens."""
    temperature: float | None = None
    """As the model takes it."""
    directory: Annotated[str, Parameter(name=("--directory", "-d"))] = ""
    """Where an agent works on files; its platform must allow it (options.directories)."""
    worktree: Annotated[bool, Parameter(negative=())] = False
    """In a git worktree of its own, made from the directory's last commit."""
    on_interrupt: OnInterrupt | None = None
    """After an interruption that may have been charged: retry, fail, or ask you (farebox decide)."""
    max_cost: str | None = None
    """The most US dollars that the task may cost with all its attempts."""

    def spec(self, prompt: str, allowed: Allowed = ANYTHING) -> TaskSpec:
        """Return the task. Raises BadInput that names the option or field."""
        return spec_of(
            {
                "prompt": prompt,
                "system": self.system,
                "files": [file_input(path) for path in self.file],
                "type": self.type,
                "platform": self.platform,
                "fallback": self.fallback,
                "model": self.model,
                "chain": self.chain,
                "priority": self.priority,
                "context": json_option(self.context, "--context") if self.context else {},
                "metadata": pairs_option(self.metadata, "--metadata"),
                "timeout_s": self.timeout,
                "max_tokens": self.max_tokens,
                "temperature": self.temperature,
                "on_interrupt": self.on_interrupt,
                **located({"directory": self.directory}),
                "worktree": self.worktree,
                "max_cost_usd": self.max_cost,
                **allowed.fields(),
            }
        )


NO_OPTIONS = TaskOptions()
