"""How a connection proves who it is, and by which certificates it knows the server: what nats-py wants to be told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from farebox.core.errors import BadSettings
from farebox.log.seeds import is_seed

if TYPE_CHECKING:
    import ssl


class Tls(Struct, frozen=True, kw_only=True):
    """Files for TLS, all PEM: the authority that signed the server's certificate, and the client's own, if it needs one."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def __bool__(self) -> bool:
        """Whether anything is set: without it the authorities of the system count."""
        return bool(self.ca_file or self.cert_file or self.key_file)


def login_options(user: str, password: str, credentials: str = "", tls: Tls | None = None) -> dict[str, Any]:
    """Return the options of nats-py. A password that is a seed signs and is never sent.

    Raises BadSettings for a file that is not there or holds nothing of the kind.
    """
    options: dict[str, Any] = {}
    if is_seed(password):
        options["nkeys_seed_str"] = password
    elif user:
        options |= {"user": user, "password": password}
    if credentials:
        options["user_credentials"] = str(_existing(credentials, "The credentials file"))
    if tls:
        options["tls"] = _context(tls)
    return options


def _context(tls: Tls) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415 - only who connects by certificates pays for it

    ca_file = str(_existing(tls.ca_file, "bus.ca_file")) if tls.ca_file else None
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise BadSettings(f"bus.ca_file: {tls.ca_file} holds no certificate in PEM.") from error
    if tls.key_file and not tls.cert_file:
        raise BadSettings("bus.key_file is the key to bus.cert_file, which is not set.")
    if tls.cert_file:
        cert, key = _existing(tls.cert_file, "bus.cert_file"), _existing(tls.key_file or tls.cert_file, "bus.key_file")
        try:
            # Without the empty password OpenSSL would ask on the terminal for that of a protected key.
            context.load_cert_chain(cert, key, password="")
        except ssl.SSLError as error:
            raise BadSettings(f"bus.cert_file, bus.key_file: {cert} and {key} are no certificate with its key.") from error
    return context


def _existing(name: str, what: str) -> Path:
    path = Path(name).expanduser()
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadSettings(f"{what}: {path}: {error.strerror}.") from error
    return path
