"""A stand-in on its own: `python -m farebox.rehearsal --seed 7 --models a,b --delay-ms 20 --faults 429=0.1,cut=0.05`.

It prints its address as one JSON line and ends with SIGTERM, SIGINT or its parent.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec

from farebox.core.errors import BadInput
from farebox.rehearsal.books import prices
from farebox.rehearsal.faults import Faults, parse
from farebox.rehearsal.server import MODELS, StandIn
from farebox.runtime.launcher import die_with


def options() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="farebox.rehearsal", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--faults", default="", help="KIND=SHARE,...")
    parser.add_argument("--fault-attempts", type=int, default=1_000_000, help="only the first so many attempts go wrong")
    parser.add_argument("--retry-after-s", type=float, default=1.0)
    parser.add_argument("--requests-max", type=int, default=10_000, help="requests in a minute")
    parser.add_argument("--key-env", default="", help="environment variable with the key that callers must send")
    parser.add_argument("--books", type=Path, default=None)
    parser.add_argument("--prices", default="", help="MODEL=IN/OUT, US dollars for a million tokens")
    return parser


def made_from(arguments: argparse.Namespace) -> StandIn:
    """Return the stand-in that the arguments describe. Raises BadInput."""
    return StandIn(
        models=tuple(name.strip() for name in arguments.models.split(",") if name.strip()),
        seed=arguments.seed,
        faults=Faults(parse(arguments.faults), attempts_max=arguments.fault_attempts),
        delay_ms=arguments.delay_ms,
        key=os.environ.get(arguments.key_env, "") if arguments.key_env else "",
        books=arguments.books,
        prices=prices(arguments.prices),
        requests_max=arguments.requests_max,
        retry_after_s=arguments.retry_after_s,
    )


async def until_asked(stand_in: StandIn, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(stand_in, port, stop)


async def serve(stand_in: StandIn, port: int, stop: asyncio.Event) -> None:
    """Listen, tell the address, and hang up when `stop` is set."""
    await stand_in.start(port)
    sys.stdout.buffer.write(msgspec.json.encode({"url": stand_in.url, "pid": os.getpid()}) + b"\n")
    sys.stdout.buffer.flush()
    await stop.wait()
    await stand_in.close()


def main() -> int:
    """Serve; 2 when an argument is not usable."""
    die_with(os.getppid(), signal.SIGTERM)
    arguments = options().parse_args()
    try:
        stand_in = made_from(arguments)
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
        return 2
    asyncio.run(until_asked(stand_in, arguments.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
