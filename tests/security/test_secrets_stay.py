"""A key of the environment goes to its platform and nowhere else: not into the log, the live text, the spool or a log line."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farebox import engines
from farebox.client import joined
from farebox.config import load, platform_kinds
from farebox.core.errors import BadInput, BadSettings
from farebox.core.platform import End, Head, Verdict
from farebox.core.redaction import STRUCK
from farebox.core.terms import Fault
from farebox.discovery import of_store
from farebox.runtime.intake import Intake
from farebox.runtime.secrecy import Hiding, hide_in_logs, redactor, refuse_secrets, secret_values
from farebox.tasks import spec_of

KEY = "sesame-0pen-the-d00r"
TOKEN = "ghp_" + "a1B2" * 9
SAYS = f"""
import os, sys, time
sys.stdin.read()
key = os.environ["SESAME_API_KEY"]
for piece in ("the key is ", key[:7], key[7:], " and {TOKEN[:9]}", "{TOKEN[9:]}."):
    sys.stdout.write(piece); sys.stdout.flush(); time.sleep(0.06)
sys.stderr.write("failed with " + os.environ["SESAME_API_KEY"] + " and {TOKEN}")
sys.exit(int(sys.argv[1]))
"""


def everything_in(folder: Path) -> bytes:
    """All bytes of the store but the client's own login."""
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


@pytest.mark.parametrize("code", [0, 3])
async def test_a_program_that_tells_its_key_tells_nobody_else(tmp_path, monkeypatch, capfd, code):
    monkeypatch.setenv("SESAME_API_KEY", KEY)
    (tmp_path / "says.py").write_text(SAYS)
    (tmp_path / "farebox.toml").write_text(
        f'[platforms.teller]\nkind = "command"\nargv = ["{sys.executable}", "{tmp_path}/says.py", "{code}"]\n'
        'billing = "free"\nkey_env = "SESAME_API_KEY"\n[engine]\nattempts_max = 2\n'
    )
    config = load(file=tmp_path / "farebox.toml", kinds=platform_kinds())
    store = tmp_path / "store"
    async with engines.embedded(store, config), joined(of_store(store)) as client:
        handle = await client.submit("tell me", platform="teller")
        live = "".join([chunk.text async for chunk in handle.chunks()])
        result = await handle.result()
    said = result.output or result.partial_output
    assert said == f"the key is {STRUCK} and {STRUCK}."
    assert live == said * result.attempts
    assert (result.status == "completed") == (code == 0)
    if code:
        assert f"failed with {STRUCK} and {STRUCK}" in result.error.message
    out, err = capfd.readouterr()
    for secret in (KEY, TOKEN):
        assert secret not in out + err
        assert secret.encode() not in everything_in(store)


async def test_a_task_that_holds_a_key_is_refused_before_it_is_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("SESAME_API_KEY", KEY)
    store = tmp_path / "store"
    async with engines.embedded(store), joined(of_store(store)) as client:
        with pytest.raises(BadInput, match="holds the value of SESAME_API_KEY") as caught:
            await client.submit(f"what is {KEY}?", platform="rehearsal")
        assert (caught.value.code, caught.value.exit_code) == ("FB416", 2)
        answer = json.loads(await client.log.request("farebox.api.submit", json.dumps({"prompt": KEY}).encode(), 25))
        assert answer["error"]["code"] == "FB416"
        kept = await (await client.submit(f"the key in the docs is {TOKEN}", platform="rehearsal")).result()
        assert kept.status == "completed"
    assert KEY.encode() not in everything_in(store)


@pytest.mark.parametrize("task", [
    {"prompt": KEY}, {"prompt": "p", "label": KEY}, {"prompt": "p", "context": {"a": [{"b": KEY}]}},
    {"prompt": "p", "metadata": {KEY: "x"}},
])  # fmt: skip
def test_every_text_of_a_task_is_looked_at(task):
    with pytest.raises(BadInput, match="the value of A_TOKEN"):
        refuse_secrets(spec_of(task), {"A_TOKEN": KEY})
    refuse_secrets(spec_of(task), {"A_NAME": KEY})


def test_what_counts_as_a_secret_of_an_environment(tmp_path):
    (tmp_path / "key.pem").touch()
    environ = {
        "OPENAI_API_KEY": KEY, "gh_token": "12345678", "DB_PASSWORD": " spaced-secret ", "A_KEY": "short",
        "PATH": "/usr/bin:/bin",        "TLS_KEY": str(tmp_path / "key.pem"), "OTHER": "named-secret",
    }  # fmt: skip
    found = secret_values(environ, ("OTHER", "MISSING"))
    assert found == {"OPENAI_API_KEY": KEY, "gh_token": "12345678", "DB_PASSWORD": "spaced-secret", "OTHER": "named-secret"}


def test_log_lines_and_their_traces_hold_no_secret(monkeypatch, capsys):
    monkeypatch.setenv("SESAME_API_KEY", KEY)
    hide_in_logs()
    hide_in_logs()
    assert sum(isinstance(one, Hiding) for one in logging.lastResort.filters) == 1
    error = ValueError(KEY)
    record = logging.LogRecord("farebox", logging.ERROR, "f", 1, "broke: %s", (KEY,), (ValueError, error, None))
    assert Hiding().filter(record)
    said = logging.Formatter().format(record)
    assert KEY not in said
    assert said.startswith(f"broke: {STRUCK}\nValueError: ")


@pytest.mark.parametrize("extra", [(), ("--json",), ("-v",)])
def test_an_error_of_the_command_line_holds_no_secret(tmp_path, extra):
    environ = {**os.environ, "SESAME_TOKEN": KEY, "FAREBOX_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "farebox", "status", "--server", f"nats://x:{KEY}@no-such-host-{KEY}.invalid:1", *extra]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert done.returncode != 0
    assert KEY not in done.stdout + done.stderr
    assert "FB1" in done.stderr


async def test_a_redactor_is_made_once_for_the_same_secrets():
    assert redactor({"A_KEY": KEY}) is redactor({"B_KEY": KEY})
    assert await asyncio.to_thread(redactor, {"A_KEY": KEY}) is redactor({"A_KEY": KEY})


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_a_refusal_is_read_without_its_secrets_before_anybody_shortens_it(cut):
    class Short:
        def __init__(self):
            self.body = b""

        def head(self, _head):
            return ()

        def feed(self, data):
            self.body += data
            return ()

        def end(self, _end):
            return Verdict(ok=False, fault=Fault(error_class="invalid", message=self.body.decode()[:22]))

    body = f'{{"error":"wrong key Ω {KEY}"}}'.encode()
    intake = Intake(Short(), lambda _piece: None, redactor({"A_KEY": KEY}))
    intake.head(Head(status=401))
    for at in range(0, len(body), cut):
        assert intake.feed(body[at : at + cut])
    assert intake.end(End()).fault.message == '{"error":"wrong key Ω [key]"}'[:22]


@pytest.mark.parametrize("line", [
    f'url = "https://far.example/v1?key={KEY}"', f'options = {{insecure = "{TOKEN}"}}', f'models = ["{TOKEN}"]',
    f'key_env = "{TOKEN}"',
])  # fmt: skip
def test_a_key_among_the_settings_is_refused_before_the_log_keeps_it(tmp_path, monkeypatch, line):
    monkeypatch.setenv("SESAME_API_KEY", KEY)
    file = tmp_path / "farebox.toml"
    file.write_text(f'[platforms.far]\nkind = "compatible"\n{line}\n')
    with pytest.raises(BadSettings, match="holds a key, which the log would keep") as caught:
        load(file=file, kinds=platform_kinds())
    assert str(file) in str(caught.value)
    assert KEY not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_changed_environment_is_noticed(monkeypatch):
    before = redactor()
    assert redactor() is before
    monkeypatch.setenv("ANOTHER_TOKEN", KEY)
    assert redactor().text(KEY) == STRUCK
    monkeypatch.delenv("ANOTHER_TOKEN")
    assert redactor().text(KEY) == KEY
