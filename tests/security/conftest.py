"""The server with all its users, as tests/runtime has it, for attacks from within."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("users_conftest", Path(__file__).parents[1] / "runtime" / "conftest.py")
_users = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_users)
server, bus = _users.server, _users.bus
