"""status, cancel, costs, platforms, replay, schema and the frame around all commands."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal

import pytest

from farebox import __version__
from farebox.cli import cells, main, output, status
from farebox.cli.costs import report
from farebox.cli.options import Common
from farebox.cli.table import Column, render
from farebox.core import events
from farebox.core.events import FACTS


def test_status_shows_the_engine_and_its_tasks_newest_first(cli):
    assert "No task yet." in cli("status").out
    task = cli("submit", "hello", "--detach").out.strip()
    cli("submit", "fail please")
    out = cli("status").out
    assert out.splitlines()[0].startswith("engine 0.1.0 · pid 1 · bus memory")
    assert task in out
    assert "server_error" in out
    assert cli("status", "--json").json["schema"] == "farebox.status/1"
    assert len(cli("status", "--json", "--state", "failed").json["tasks"]) == 1
    assert len(cli("status", "--json", "-n", "1").json["tasks"]) == 1


def test_status_of_a_task_is_its_card(cli):
    task = json.loads(cli("submit", "hello world " * 30, "--json").out)["task_id"]
    card = cli("status", task).out
    assert f"task {task} · completed" in card
    assert "platform: rehearsal" in card
    assert "cost: status priced, paid $0.0125" in card
    assert card.rstrip().endswith("…")
    assert cli("status", task, "--output").out.rstrip().endswith(("HELLO WORLD " * 30).rstrip())
    assert cli("status", task, "--json").json["schema"] == "farebox.task/1"


def test_a_card_shows_lists_and_cleans_what_others_wrote():
    result = {"task_id": "t", "status": "failed", "tags": {"a": "b"}, "partial_output": "\x1b[31mred", "error": None}
    attempts = [{"platform": "a", "paid_usd": "0.5", "x": None, "duration_ms": 1500}]
    found = {"schema": "s", "result": result, "attempts": attempts, "models": ["m1", "m2"], "nothing": {"a": None}}
    assert status.card(found) == [
        "task t · failed", "  tags: a b", "  attempts:", "    - platform a, paid $0.5000, duration 1.5 s", "  models:",
        "    - m1", "    - m2", "", "�[31mred",
    ]  # fmt: skip
    due = status.card({"result": {"task_id": "t", "status": "pending"}, "due_ms": 0})
    assert due == ["task t · pending"]
    assert status.card({"result": {"task_id": "t", "status": "pending"}, "due_ms": 1})[1].startswith("  due: 19")
    assert status.engine({}) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "--state", "runing"], 'There is no state "runing". Did you mean "running"? Choose one of: pending'),
        (["status", "a.b"], "task 'a.b' is not usable."),
        (["status", "unknown-1"], "There is no task unknown-1."),
        (["cancel"], "Which task?"),
        (["cancel", "x" * 10_240], "is not usable."),
        (["cancel", "unknown-1"], "There is no task unknown-1."),
        (["costs", "--by", "modle"], 'Costs cannot be grouped by "modle". Did you mean "model"?'),
        (["costs", "--since", "yesterdayish"], "'yesterdayish' is no moment. Write 7d, 12h, or a date"),
        (["stauts"], 'There is no command "stauts". Did you mean "status"?'),
        (["zzz"], "See: farebox --help"),
        (["status", "--server", "http://x"], "--server: http://x is no address of a NATS server."),
    ],
)
def test_a_mistake_is_one_line(cli, arguments, words):
    ran = cli(*arguments) if "http://x" not in arguments else None
    if ran is not None:
        assert ran.code == 2
        assert words in ran.err
        assert ran.err.count("\n") == 1


def test_cancel_says_what_it_cancelled_and_what_was_spent(cli, needs):
    slow = cli("submit", "slow one", "--detach").out.strip()
    done = json.loads(cli("submit", "hello", "--json").out)["task_id"]
    assert cli("cancel", slow, done).out == "cancelled 1 (1 had already ended); spent so far $0.0125\n"
    found = cli("cancel", slow, "--json").json
    assert (found["cancelled"], found["already_ended"], found["waiting"], found["paid_usd"]) == (0, 1, [], None)
    assert needs[-1] == "running"


def test_costs_come_from_the_log_and_rehearsals_stand_apart(cli, needs, monkeypatch):
    cli("submit", "hello")
    monkeypatch.setenv("COLUMNS", "120")
    out = cli("costs").out
    assert (
        "  ".join(out.splitlines()[0].split()) == "platform  billing  tasks  ok  %  tokens  in/out  paid  plan  value  p50  p95"
    )
    assert "Rehearsal dollars. You were charged nothing." in out
    assert needs[-1] == "answers"
    assert cli("costs", "--by", "model", "--since", "7d", "--json").json["by"] == ["model"]
    assert cli("costs", "--until", "2026-11-01", "--json").json["until"] == "2026-11-01"


def row(key, billing, **values):
    empty = dict.fromkeys(("paid_usd", "plan_value_usd", "possible_usd", "rehearsal_usd", "p50_ms", "p95_ms"))
    zeros = dict.fromkeys(("tasks", "completed", "input_tokens", "output_tokens", "unpriced", "possible", "estimated"), 0)
    zeros["possible_unknown"] = 0
    return {"key": key, "billing": billing, **empty, **zeros, **values}


ROWS = [
    row(
        "claude-code", "plan", tasks=212, completed=209, input_tokens=1_204_000, output_tokens=88_000, paid_usd="0",
        plan_value_usd="4.932", p50_ms=4100, p95_ms=21_700,
    ),
    row(
        "openai", "metered", tasks=57, completed=55, input_tokens=190_000, output_tokens=22_000, paid_usd="12345.0915",
        p50_ms=1900, p95_ms=4400, unpriced=3, possible=5, possible_unknown=3, estimated=1,
    ),
]  # fmt: skip
TOTAL = row("total", "", paid_usd="12345.0915", plan_value_usd="4.932", possible_usd="1", tasks=400)


@pytest.mark.parametrize("width", range(60, 201, 7))
def test_no_width_cuts_a_money_cell(width):
    rehearsal = row("rehearsal", "rehearsal", tasks=131, completed=131, rehearsal_usd="0.0125")
    found = {"rows": [*ROWS, rehearsal], "total": TOTAL, "unpriced_models": ["openai/glm"]}
    lines = report(found, "platform", width)
    assert all(len(line) <= width for line in lines)
    assert any("$12345.0915*" in line for line in lines)
    assert "paid" in lines[0]
    total = next(line for line in lines if line.startswith("total"))
    assert "$12345.0915*" in total
    if "plan value" in lines[0]:
        assert "$4.9320" in total
    assert "269" in total
    assert "* without 3 attempts that have no price: openai/glm" in lines
    assert "+ 2 attempts possibly charged, at most $1.0000" in lines
    assert "+ 3 attempts possibly charged, nobody knows how much" in lines
    assert "1 attempts are estimates" in lines
    assert any(line.startswith("rehearsal") and "$0.0125" in line for line in lines)
    assert lines[-1] == "Rehearsal dollars. You were charged nothing."


def test_the_wide_table_has_everything_and_the_narrow_one_drops_plan_value_first():
    found = {"rows": ROWS, "total": TOTAL}
    assert "plan value" in report(found, "platform", 110)[0]
    rows = [*ROWS, row("rehearsal", "rehearsal", tasks=1, p50_ms=1, p95_ms=1)]
    timed = {"rows": rows, "total": {**TOTAL, "p50_ms": 1000, "p95_ms": 9000}}
    total = next(line for line in report(timed, "platform", 110) if line.startswith("total"))
    assert "1.0 s" not in total, "a median over rehearsals says nothing about what was paid for"
    assert "plan value" not in report(found, "platform", 80)[0]
    assert report({"rows": [], "total": {}}, "platform", 80) == ["Nothing was spent yet."]


def test_a_table_shortens_free_text_before_it_drops_columns():
    columns = (Column("id", flexible=True), Column("paid", right=True), Column("note", drop=1, flexible=True))
    rows = [["x" * 30, "$1.00", "y" * 30], ["日本語のとても長い識別子", "$22.00", "z"]]
    assert render(columns, rows, 100)[1].startswith("x" * 30)
    narrow = render(columns, rows, 40)
    assert all(len(line) <= 40 for line in narrow)
    assert "note" in narrow[0]
    assert "note" not in render(columns, rows, 20)[0]
    assert render(columns, rows, 5)[1].endswith("$1.00")


def test_platforms_say_what_is_missing_and_how_to_get_it(cli):
    out = cli("platforms").out
    assert "✓" in out
    assert "ollama: not available — ollama serve" in out
    assert "rehearsal: parrot, owl" in cli("platforms", "--models").out
    assert cli("platforms", "--json").json["schema"] == "farebox.platforms/1"


def test_replay_prints_counts_and_digest(cli):
    cli("submit", "hello")
    out = cli("replay").out
    assert "facts replayed in 0.1 s" in out
    assert "ab" * 32 in out
    assert "✓ the same as before" in out
    assert cli("replay", "--json").json["schema"] == "farebox.replay/1"


def test_schema_has_every_fact_and_can_go_to_a_file(cli, tmp_path):
    assert cli("schema", "--json").json["schema"] == "farebox.schema/1"
    found = cli("schema").json
    assert {kind.__name__ for kind in FACTS} <= set(found["$defs"])
    assert cli("schema", "-o", "facts.json").code == 0
    assert json.loads((tmp_path / "facts.json").read_text()) == found
    assert cli("schema", "-o", "no/such/file.json").code == 2
    assert events.TaskSubmitted.__name__ in found["$defs"]


def test_without_arguments_there_are_three_examples(cli):
    out = cli().out
    assert "farebox demo" in out
    assert "farebox submit" in out


@pytest.mark.parametrize(
    "command", ["submit", "batch", "status", "cancel", "costs", "platforms", "up", "down", "replay", "schema", "demo"]
)
def test_every_command_has_help_and_json(cli, command):
    out = cli(command, "--help").out
    assert "--json" in out
    assert "--empty-" not in out


def test_version_loads_nothing_heavy():
    code = (
        "import sys; from farebox.cli import main; main(['--version']);"
        "heavy = ('duckdb', 'httpx2', 'nats', 'cyclopts', 'rich', 'asyncio', 'msgspec');"
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == f"farebox {__version__}\n[]\n"


def test_importing_farebox_loads_no_engine_and_gives_every_public_name():
    code = (
        "import sys, farebox; print([name for name in ('duckdb', 'httpx2', 'nats', 'asyncio') if name in sys.modules]);"
        "assert all(getattr(farebox, name) for name in farebox.__all__); print(hasattr(farebox, 'nonsense'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\nFalse\n"


def test_a_closed_pipe_is_no_trace():
    command = f"{sys.executable} -m farebox schema | head -c 10"
    ran = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stderr == ""


def test_the_version_is_the_one_of_the_package():
    from importlib.metadata import version

    assert version("farebox") == __version__


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(None, "–"), ("0", "$0.0000"), ("1.5", "$1.5000"), ("0.00061", "$0.00061"), ("0.000000000001", "$0.0000000000010"),
     (Decimal("12345.67891"), "$12345.6789")],
)  # fmt: skip
def test_money_is_readable_and_never_zero_when_it_is_not(amount, shown):
    assert cells.usd(amount) == shown


def test_other_cells_read_well():
    assert [cells.seconds(value) for value in (None, 1.94, 75, 4000)] == ["–", "1.9 s", "1:15 min", "1:06:40"]
    assert [cells.tokens(value) for value in (None, 812, 41_208, 1_204_000)] == ["–", "812", "41 208", "1 204 k"]
    assert (cells.percent(None), cells.percent(0.986), cells.text(""), cells.text(3)) == ("–", "98.6", "–", "3")


def test_colours_follow_the_usual_variables(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert not output.colourful(Common(), sys.stdout)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert output.colourful(Common(), sys.stdout)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.colourful(Common(), sys.stdout)
    assert output.colourful(Common(color="always"), sys.stdout)


def test_main_takes_the_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["farebox", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"farebox {__version__}\n"


def test_our_own_mistake_is_one_line_and_the_trace_with_verbose(capsys):
    from farebox.cli.app import broken, say_error

    error = broken(TypeError("a\nb"))
    say_error([], error.code, error.message, error.hint)
    assert capsys.readouterr().err.startswith("FB000 farebox broke: TypeError: a b. This is our mistake.")


def test_a_batch_report_keeps_rehearsals_apart_and_says_what_is_unknown():
    from farebox.aggregate import aggregate
    from farebox.cli.summary import lines_of
    from farebox.core.results import CostShown, Result

    def result(platform, billing, **cost):
        cost = CostShown(**cost)
        return Result(task_id="t", chain_id="c", status="completed", platform=platform, billing=billing, attempts=1, cost=cost)

    total = aggregate(
        [
            result("rehearsal", "rehearsal", paid_usd="5", status="priced"),
            result("openai", "metered", paid_usd="0.5", status="priced"),
            result("openai", "metered", status="unpriced"),
            result("openai", "metered", possible_usd="0.25", status="possible"),
            result("openai", "metered", paid_usd="0", status="possible"),
        ],
        "b1",
    )
    lines = lines_of(total)
    assert " $0.5000* " in next(line for line in lines if line.startswith("total"))
    assert "rehearsal apart: $5.0000. Rehearsal dollars. You were charged nothing." in lines
    assert "* without 1 tasks that have no price" in lines
    assert "+ at most $0.2500 possibly charged" in lines
    assert "+ 1 tasks possibly charged, nobody knows how much" in lines
    assert "tokens without 5 tasks whose platform did not say" in lines


def test_help_loads_neither_the_client_nor_what_reads_markdown():
    script = (
        "import sys; from farebox.cli import main; main(['submit', '--help']);"
        "heavy = ('duckdb', 'httpx2', 'nats', 'asyncio', 'rich.markdown', 'farebox.client');"
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
