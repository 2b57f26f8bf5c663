"""What each setting means, in a sentence; docs/generate.py puts them into the page of all settings."""  # noqa: INP001 - no package

from __future__ import annotations

from actors.platforms import PLATFORMS

SETTINGS_SAID: dict[str, str] = {
    "engine.discover": "`false`: only platforms that are written down are used, and those that a task asks for by name; "
    "[none that need no settings](#platforms-that-need-no-settings).",
    "engine.attempts_max": "All attempts of one task together.",
    "engine.billed_attempts_max": "Attempts of one task that may have cost something; then it fails rather than pay again.",
    "engine.retry_wait_max_s": "A platform that asks to wait longer than this is ruled out for the task.",
    "engine.durability": "`always`: every fact is on disk before it counts. `100ms`: faster, at a price: "
    "[operate](guides/operate.md#durability).",
    "engine.on_quota": "What a task does when all that costs nothing more is used up: `wait` for it, `spill` over to what "
    "costs money, or `stop`. Policies and tasks may say otherwise.",
    "engine.last_resort": "`wait`: for whatever has room first; or a platform on a plan whose line is joined "
    "when all is used up.",
    "engine.warn_at_percent": "From this share of a window on it is warned (once a window), and a batch asks before it begins.",
    "engine.estimate_from_tokens": "A prompt from about this size on shows its estimate before it runs.",
    "engine.answer_tokens_max": "The longest answer under a budget, where the task does not say how long it may be.",
    "bus.server": "A NATS server that is already there, `nats://HOST:PORT`. Empty: the embedded engine.",
    "bus.context": "A context of the nats CLI instead.",
    "bus.user": "Who logs in.",
    "bus.log_mib": "What the log may grow to, MiB: a smaller one is made larger when an engine starts, never smaller. 0: 10240 "
    "when it is made, then as it is.",
    "bus.replicas": "On so many servers of a cluster the log is kept (when it is made). 0: 3 in a cluster, else 1.",
    "bus.nkey_file": "A file with the seed of an nkey (SU…), instead of a password; also `NATS_NKEY`.",
    "bus.ca_file": "The authority that signed the server's certificate (PEM), if the system does not know it; also `NATS_CA`.",
    "bus.cert_file": "The client's own certificate (PEM), for a server that wants one; also `NATS_CERT`.",
    "bus.key_file": "The key to it (PEM), if it is not in the same file; also `NATS_KEY`.",
    "bus.password_env": "The *name* of the environment variable that holds the password.",
    "store.dir": "The folder of the embedded engine: log, views, keys, spool.",
    "platforms.NAME.kind": "How it is spoken to: "
    + ", ".join(f"`{kind.name}`" for kind in PLATFORMS)
    + ", or what a plug-in brings.",
    "platforms.NAME.enabled": "Whether it is used at all.",
    "platforms.NAME.billing": "Who pays: `plan` a flat plan; `metered` you, per token; `free` nobody; "
    "`rehearsal` nobody, because no model is behind it.",
    "platforms.NAME.tier": "Order of use, 0 first. Unset: free and rehearsal 0, plan 1, metered 2.",
    "platforms.NAME.url": "Where an HTTP platform listens, with `/v1` if it has one.",
    "platforms.NAME.key_env": "The *name* of the environment variable that holds the key. Never the key.",
    "platforms.NAME.argv": "The program to start and its arguments; `{model}` becomes the model's name.",
    "platforms.NAME.models": "The models it has, where it cannot be asked.",
    "platforms.NAME.model": "The model to use when a task names none.",
    "platforms.NAME.price_model": "The name under which the price list knows its model, if it is another one.",
    "platforms.NAME.limit": "Attempts that run there at once.",
    "platforms.NAME.on_interrupt": "What follows an interrupted attempt that may have been charged: `retry`, `fail` or `ask`. "
    "Unset: `ask` for programs and for tasks with 30 minutes or more, `retry` for all others.",
    "platforms.NAME.first_byte_timeout_s": "So long may the first byte of an answer take.",
    "platforms.NAME.idle_timeout_s": "So long may an answer fall silent.",
    "platforms.NAME.open": "`false`: used only by tasks that ask for it by name.",
    "platforms.NAME.account": "Whose capacity it uses: platforms of one account share its limits. Empty: it has its own.",
    "platforms.NAME.local": "Whether prompts stay on this machine. Unset: as its kind and address say.",
    "platforms.NAME.context_tokens": "The longest prompt it reads, where the price list does not say.",
    "platforms.NAME.capabilities": "What it can do besides what its kind says: words that tasks and policies ask for.",
    "platforms.NAME.options": "What only this kind knows, see below.",
    "quotas.NAME.platform": "Whose limit it is; platforms of the same account share it.",
    "quotas.NAME.window": "`minute`, `hour`, `day`, `week`, `month`, or a duration up to 366d: `90s`, `5h`, `7d`.",
    "quotas.NAME.unit": "What is counted; `calls` are those that run at once.",
    "quotas.NAME.limit": "How many. A whole number, or text with decimals. Unset: unknown.",
    "quotas.NAME.kind": "`fixed` turns with the zone's clock, `rolling` always looks back. Unset: words turn, "
    "durations look back.",
    "quotas.NAME.zone": "The time zone in which it turns.",
    "quotas.NAME.billing": "It holds only while the platform is billed so.",
    "quotas.NAME.source": "Whose word it is. What the provider itself reports comes first, then `published`, then "
    "`configured`; a `configured` one that is lower holds.",
    "quotas.NAME.said": "Where the figure is from, and when.",
    "budgets.NAME.limit_usd": "How many US dollars.",
    "budgets.NAME.scope": "Whose spending counts.",
    "budgets.NAME.key": "Which one: a tag as NAME=VALUE, a platform, a chain. Empty: each has such a budget of its own.",
    "budgets.NAME.window": "As of a quota; `all` never turns.",
    "budgets.NAME.kind": "As of a quota.",
    "budgets.NAME.zone": "The time zone in which it turns.",
    "policies.NAME.types": "For these types of tasks. Empty: for any.",
    "policies.NAME.tags": "For tasks with all of these tags.",
    "policies.NAME.chains": "For tasks of these chains.",
    "policies.NAME.order": "Platforms in the order of use within a tier.",
    "policies.NAME.tiers": "Who may be paid. Empty: anyone.",
    "policies.NAME.allow": "Only these platforms. Empty: all.",
    "policies.NAME.deny": "Not these platforms.",
    "policies.NAME.capabilities": "What a platform must be able to do.",
    "policies.NAME.on_quota": "As `engine.on_quota`.",
    "policies.NAME.last_resort": "As `engine.last_resort`.",
    "policies.NAME.fallback": "`false`: a task that names a platform runs there or nowhere.",
    "policies.NAME.sticky": "A chain stays where it last succeeded.",
    "policies.NAME.local": "Only platforms on this machine.",
    "policies.NAME.max_cost_usd": "The most that one task may cost.",
}
"""One sentence for each setting; a test finds a setting without one."""

OPTIONS_SAID: dict[str, str] = {
    "stream": "`no` for servers that cannot stream.",
    "max_tokens_field": "Which of the two names the server knows.",
    "max_tokens": "The longest answer where the task does not say (default 16384): this API wants a number.",
    "organization": "The organization that pays, where a key belongs to several.",
    "project": "The project that pays, where a key belongs to several.",
    "key_header": "Where the key goes: `api-key` for Azure.",
    "insecure": "`yes` allows a key over plain http to another machine.",
    "keep": "Names of environment variables that the program may see, with commas between them.",
    "directory": "Where the program runs. Empty: where the engine runs; agents then run apart and without tools.",
    "directories": "Where tasks may let the program [work on files](guides/agents.md), and below: whole paths, with commas.",
    "worktrees": "Where git worktrees of tasks are made, a whole path. Unset: `farebox-worktrees` in the user's data folder.",
    "mode": "`app-server` streams and tells quota; `exec` is the fallback, should an app-server not be understood.",
    "system": "`lean`: few words of ours; `own`: what the program brings itself. Unset: `own` with a directory, else `lean`.",
    "sandbox": "What the program may do in its directory, in its own words. Unset: `read-only`.",
    "approvals": "Whether what it asks leave for in the middle of a turn is declined (unset) or accepted.",
    "home": "The program's own home, whole path: one for each account. Unset: the user's.",
    "allowed_tools": "The tools that may be used without asking, as the program writes them: `Read,Edit,Bash(git *)`.",
    "permission_mode": "How the program asks before it does something. Nobody is there to answer it.",
    "approval_mode": "How the program asks before it does something, in its own words. Nobody is there to answer it.",
    "arguments": "More arguments for the program, as a shell would split them.",
    "wire": "What the stand-in speaks: HTTP with streaming, a process with JSON lines, or computed inside the engine.",
}

VARIABLES: tuple[tuple[str, str], ...] = (
    (
        "FAREBOX_HOME",
        "The folder of the user's store and of the user's own `farebox.toml`. Wins over the system's usual places.",
    ),
    (
        "FAREBOX_SECTION__KEY",
        "Any setting above, e.g. `FAREBOX_ENGINE__DURABILITY=100ms`, `FAREBOX_PLATFORMS__OLLAMA__LIMIT=1`.",
    ),
    ("FAREBOX_SERVER, NATS_URL", "The server to use, when no `--server` is given."),
    ("FAREBOX_CONTEXT, NATS_CONTEXT", "The nats CLI's context to use, when none is given."),
    ("NATS_USER, NATS_PASSWORD", "Who logs in there, when nothing else says so."),
    ("NO_COLOR, FORCE_COLOR, TERM=dumb", "Colours off, on, off."),
)
