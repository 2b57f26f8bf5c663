"""Finding the bus: in the order that is written, without showing a password."""

from __future__ import annotations

import json
import os

import pytest

from farebox import contexts, discovery
from farebox.config import Bus
from farebox.core.errors import BadSettings, LogUnfit
from farebox.runtime.store import ClientRecord, EngineRecord, Process, Store


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "config" / "nats" / "context"
    folder.mkdir(parents=True)
    for name, content in {
        "prod": {"url": "nats://prod:4222,nats://prod2:4222", "user": "u", "password": "p", "inbox_prefix": "_IN"},
        "creds": {"url": "", "creds": "/c.creds"},
        "token": {"url": "nats://t:1", "token": "secret"},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "broken.json").write_text("{")
    return tmp_path


@pytest.fixture
def running(tmp_path):
    store = Store(tmp_path / "store")
    store.open()
    me = Process.of(os.getpid())
    store.write("engine.json", EngineRecord(pid=me.pid, born_s=me.born_s, url="nats://e:1", credentials="c", started_ms=1))
    store.write("client.json", ClientRecord(url="nats://e:1", user="client", password="pw", inbox_prefix="_INBOX_client"))
    yield store.path
    store.close()


def found(home, store=None, server=None, context=None, environment=None, **more):
    environment = {"XDG_CONFIG_HOME": str(home / "config"), **(environment or {})}
    return discovery.find(server, context, store or home / "no-store", environment=environment, **more)


def test_nothing_named_and_nothing_running_is_none(home):
    assert found(home) is None


def test_the_order_is_argument_variables_named_contexts_settings_engine_selected_context(home, running):
    (home / "config" / "nats" / "context.txt").write_text("prod\n")
    bus = Bus(server="nats://toml:1")
    variables = {"FAREBOX_SERVER": "nats://fs:1", "NATS_URL": "nats://nu:1", "NATS_CONTEXT": "creds"}
    assert found(home, running, "nats://arg:1", "prod", variables, bus=bus).url == "nats://arg:1"
    assert found(home, running, None, "prod", variables, bus=bus).url == "nats://prod:4222,nats://prod2:4222"
    assert found(home, running, environment=variables, bus=bus).url == "nats://fs:1"
    del variables["FAREBOX_SERVER"]
    assert found(home, running, environment=variables, bus=bus).url == "nats://nu:1"
    del variables["NATS_URL"]
    assert found(home, running, environment=variables, bus=bus).credentials == "/c.creds"
    assert found(home, running, bus=bus).url == "nats://toml:1"
    assert found(home, running, bus=Bus(context="prod")).user == "u"
    assert found(home, running).url == "nats://e:1"
    assert found(home).url == "nats://prod:4222,nats://prod2:4222"
    assert found(home, store_given=True) is None
    assert found(home, running, environment={"NATS_URL": "nats://nu:1"}, store_given=True).url == "nats://e:1"


def test_the_running_engine_gives_its_login_and_a_dead_one_does_not_count(home, running):
    where = found(home, running)
    assert (where.user, where.password, where.inbox_prefix) == ("client", "pw", "_INBOX_client")
    store = Store(running)
    store.write("engine.json", EngineRecord(pid=os.getpid(), born_s=1.0, url="nats://e:1", credentials="c", started_ms=1))
    assert found(home, running) is None
    (running / "engine.json").write_text("{")
    with pytest.raises(LogUnfit):
        found(home, running)


def test_a_context_brings_its_login(home):
    where = found(home, context="prod")
    assert (where.user, where.password, where.inbox_prefix, where.origin) == ("u", "p", "_IN", 'nats context "prod"')


def test_several_servers_of_a_cluster_stand_between_commas_and_the_first_brings_the_login(home):
    where = found(home, server="nats://me:pw@a:1, nats://other:secret@b, c:3")
    assert (where.url, where.user, where.password) == ("nats://a:1,nats://b:4222,nats://c:3", "me", "pw")
    with pytest.raises(BadSettings, match="x is no address"):
        found(home, server="nats://a:1,http://u:secret@x")


def test_user_and_password_leave_the_address_and_later_sources_fill_in(home):
    where = found(home, server="nats://me:s%40cret@h:1")
    assert (where.url, where.user, where.password) == ("nats://h:1", "me", "s@cret")
    assert found(home, server="h").url == "nats://h:4222"
    assert found(home, server="nats://[::1]:5").url == "nats://[::1]:5"
    environment = {"PW": "from-env", "NATS_USER": "nu", "NATS_PASSWORD": "np"}
    bus = Bus(user="bu", password_env="PW")
    where = found(home, server="nats://h:1", environment=environment, bus=bus)
    assert (where.user, where.password) == ("bu", "from-env")
    where = found(home, server="nats://h:1", environment=environment)
    assert (where.user, where.password) == ("nu", "np")
    where = found(home, server="nats://h:1", user="client", password="x")
    assert (where.user, where.password, where.inbox_prefix) == ("client", "x", "_INBOX_client")


@pytest.mark.parametrize(
    ("server", "words"),
    [("http://x", "http://x is no address of a NATS server. nats://HOST:4222"), ("nats://h:port", "is no address"),
     ("nats://", "is no address"), ("http://user:secret@x", "x is no address")],
)  # fmt: skip
def test_a_wrong_address_is_said_without_its_password(home, server, words):
    with pytest.raises(BadSettings) as caught:
        found(home, server=server)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("prd", 'There is no nats context "prd". Did you mean "prod"?'), ("token", "logs in by token"),
     ("../prod", "There is no nats context"), ("broken", "broken.json"), ("zzzzzz", "Known: broken, creds, prod, token.")],
)  # fmt: skip
def test_a_wrong_context_is_named(home, name, words):
    with pytest.raises(BadSettings) as caught:
        found(home, context=name)
    assert words in str(caught.value)


def test_without_contexts_the_command_that_makes_one_is_named(tmp_path):
    with pytest.raises(BadSettings, match="nats context add NAME --server URL"):
        contexts.load("x", {"XDG_CONFIG_HOME": str(tmp_path)})
    assert contexts.selected({"XDG_CONFIG_HOME": str(tmp_path)}) == ""
    assert contexts.folder({}).name == "nats"


def test_the_store_is_the_argument_the_setting_or_the_home(tmp_path):
    assert discovery.store_of("/a", "/b", {}).as_posix() == "/a"
    assert discovery.store_of(None, "/b", {}).as_posix() == "/b"
    assert discovery.store_of(None, "", {"FAREBOX_HOME": str(tmp_path)}) == tmp_path
