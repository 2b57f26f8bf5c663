"""Settings: who wins, where each value came from, and what is said about mistakes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farebox import config
from farebox.config import load
from farebox.core.errors import BadSettings
from farebox.core.platform import PlatformKind
from farebox.core.settings import PlatformSettings


def refuse(name, settings):
    if settings.kind == "stub" and not settings.url:
        raise BadSettings(f"platforms.{name}: url is missing.")


def unused(*_):
    raise AssertionError("settings ask no platform")


KIND = PlatformKind(
    name="stub", ask=unused, reader=unused, probe=unused, read_probe=unused, check=refuse,
    defaults={"my-llm": PlatformSettings(kind="stub", url="http://127.0.0.1:1", billing="free")},
)  # fmt: skip


@pytest.fixture
def place(tmp_path):
    (tmp_path / "project" / "deep").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    return tmp_path


def loaded(place, project="", user="", environment=None, flags=None, kinds=(KIND,)):
    if project:
        (place / "project" / "farebox.toml").write_text(project)
    if user:
        (place / "home" / "farebox.toml").write_text(user)
    environment = {"FAREBOX_HOME": str(place / "home"), **(environment or {})}
    return load(folder=place / "project" / "deep", environment=environment, flags=flags, kinds=kinds)


def test_without_any_file_what_is_built_in_holds(place):
    found = loaded(place)
    assert found.settings.platforms["my-llm"].billing == "free"
    assert found.origins["platforms.my-llm.url"] == "built in"
    assert found.settings.durability == "always"
    assert found.files == ()


def test_flags_win_over_variables_over_the_project_over_the_user(place):
    user = '[engine]\ndurability = "always"\nattempts_max = 3\nbilled_attempts_max = 1\nretry_wait_max_s = 1.5\n'
    project = "[engine]\nattempts_max = 4\nbilled_attempts_max = 2\n"
    environment = {"FAREBOX_ENGINE__ATTEMPTS_MAX": "5", "FAREBOX_SERVER": "not a setting"}
    found = loaded(place, project, user, environment, {"engine.durability": "100ms", "engine.attempts_max": None})
    settings = found.settings
    assert (settings.durability, settings.attempts_max, settings.billed_attempts_max) == ("100ms", 5, 2)
    assert settings.retry_wait_max_s == 1.5
    assert found.origins["engine.durability"] == "--durability"
    assert found.origins["engine.attempts_max"] == "FAREBOX_ENGINE__ATTEMPTS_MAX"
    assert found.origins["engine.billed_attempts_max"] == str(place / "project" / "farebox.toml")
    assert found.origins["engine.retry_wait_max_s"] == str(place / "home" / "farebox.toml")
    assert len(found.files) == 2


def test_a_section_changes_only_what_it_says_of_a_built_in_platform(place):
    environment = {"FAREBOX_PLATFORMS__MY_LLM__LIMIT": "3", "FAREBOX_PLATFORMS__MY_LLM__MODELS": '["a", "b"]'}
    found = loaded(place, '[platforms.my-llm]\nmodel = "b"\n', environment=environment)
    llm = found.settings.platforms["my-llm"]
    assert (llm.kind, llm.url, llm.model, llm.limit, llm.models) == ("stub", "http://127.0.0.1:1", "b", 3, ("a", "b"))


def test_a_variable_may_name_a_new_platform(place):
    environment = {"FAREBOX_PLATFORMS__OTHER__KIND": "stub", "FAREBOX_PLATFORMS__OTHER__URL": "http://x"}
    assert loaded(place, environment=environment).settings.platforms["other"].url == "http://x"


def test_bus_and_store_stay_on_this_machine(place):
    found = loaded(place, '[bus]\nserver = "nats://h:1"\npassword_env = "P"\n[store]\ndir = "/s"\n')
    assert (found.bus.server, found.bus.password_env, found.store.dir) == ("nats://h:1", "P", "/s")


def test_a_client_does_not_look_into_platforms(place):
    found = loaded(place, '[platforms.my-llm]\nmodel = "b"\n', kinds=())
    assert found.settings.platforms == {}


def test_a_file_that_is_named_is_the_only_one(place):
    (place / "other.toml").write_text("[engine]\nattempts_max = 9\n")
    found = load(folder=place, environment={"FAREBOX_HOME": str(place)}, file=place / "other.toml", kinds=())
    assert (found.settings.attempts_max, found.file) == (9, str(place / "other.toml"))
    with pytest.raises(BadSettings, match="there is no such file"):
        load(folder=place, environment={}, file=place / "missing.toml")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[engin]\n", 'unknown section [engin]. Did you mean "engine"?'),
        ("engine = 1\n", "engine must be a section: [engine]."),
        ("[engine]\natempts_max = 1\n", "[engine] has no setting 'atempts_max'. Did you mean \"attempts_max\"?"),
        ("[engine]\nattempts_max = 0\n", "attempts_max: Expected int >= 1"),
        ('[engine]\ndurability = "never"\n', "durability: Invalid enum value 'never'"),
        ("[bus]\nserver = 5\n", "bus.server: Expected str, got int"),
        ("[platforms]\nx = 1\n", "platforms.x must be a section: [platforms.x]."),
        ('[platforms."a.b"]\nkind = "stub"\n', "platform 'a.b' is not usable."),
        ("[platforms.new]\nurl = 'x'\n", '[platforms.new] needs kind, for example kind = "compatible".'),
        ('[platforms.new]\nkind = "stubb"\n', "platforms.new: there is no kind 'stubb'. Did you mean \"stub\"?"),
        ('[platforms.new]\nkind = "stub"\n', "platforms.new: url is missing."),
        ('[platforms.new]\nkind = "stub"\nlimit = 0\n', "platforms.new.limit: Expected int >= 1"),
        ("[platforms.new]\nulr = 'x'\n", "[platforms.new] has no setting 'ulr'. Did you mean \"url\"?"),
        ("not toml", "Expected"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(place, toml, words):
    with pytest.raises(BadSettings) as caught:
        loaded(place, toml)
    assert words in str(caught.value)
    assert caught.value.exit_code == 3
    if "url is missing" not in words:
        assert "farebox.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("FAREBOX_ENGIN__X", 'FAREBOX_ENGIN__X is no setting. Did you mean "engine"?'),
        ("FAREBOX_ENGINE__DURABILTY", "has no setting 'durabilty'. Did you mean \"durability\"?"),
        ("FAREBOX_PLATFORMS__X", "FAREBOX_PLATFORMS__X is no setting."),
        ("FAREBOX_PLATFORMS___X__URL", "platform '_x' is not usable."),
        ("FAREBOX_ENGINE__ATTEMPTS_MAX", "FAREBOX_ENGINE__ATTEMPTS_MAX: engine.attempts_max: Expected int, got str"),
    ],
)
def test_a_wrong_variable_is_named(place, name, words):
    with pytest.raises(BadSettings) as caught:
        loaded(place, environment={name: "value"})
    assert words in str(caught.value)


def test_the_usual_folders_are_used_without_FAREBOX_HOME(tmp_path, monkeypatch):  # noqa: N802
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert config.home({}) == tmp_path / "data" / "farebox"
    assert config.user_file({}) == tmp_path / "config" / "farebox" / "farebox.toml"
    assert config.home({"FAREBOX_HOME": "/x"}).as_posix() == "/x"


def test_the_installed_platforms_pass_their_own_checks(place):
    kinds = config.platform_kinds()
    assert {kind.name for kind in kinds} >= {"rehearsal", "compatible", "command"}
    assert loaded(place, kinds=kinds).settings.platforms


def test_without_discovery_there_is_only_what_somebody_wrote_down(place):
    assert loaded(place, environment={"FAREBOX_ENGINE__DISCOVER": "false"}).settings.platforms == {}
    by_name = {"rehearsed": PlatformSettings(kind="stub", url="http://127.0.0.1:1", open=False)}
    kinds = (replace(KIND, defaults=by_name),)
    assert set(loaded(place, environment={"FAREBOX_ENGINE__DISCOVER": "false"}, kinds=kinds).settings.platforms) == {
        "rehearsed"
    }
    assert loaded(place, "[engine]\ndiscover = false\n").settings.platforms == {}
    found = loaded(place, '[engine]\ndiscover = false\n[platforms.my-llm]\nmodel = "b"\n').settings.platforms["my-llm"]
    assert (found.model, found.url) == ("b", "http://127.0.0.1:1")
