"""`farebox` with one accident in it: `python inside_accident.py up ...` is `farebox up ...` until it comes to a certain place.

FAREBOX_ACCIDENT is a JSON document:

    point       where: `before adapter.completed`, `after router.routed` (an append of such a fact); `taken`, `marked`,
                `calling`, `called`, `kept`, `acking`, `acked` (steps of an attempt); `read` (the log);
                `views before|within|after`, `witness before|after` (their files)
    nth         the how-manieth time
    how         `kill` (kill -9 of this process), `freeze` (SIGSTOP), `server` (kill -9 of nats-server), `block` (the event loop
                stands still), `clock` (the wall clock jumps), `nothing`
    seconds     how long it blocks, how far the clock jumps
    server      process id of nats-server where it is no child of this process
    said        file that is made when it happened: then it never happens again
    acked       file that gets a line for each acknowledged fact: sequence, id, time
    shuffled    every third reservation is pushed back by up to so many seconds
    ack_wait_s  after how long a silent worker's task goes to another

Nothing of this is known to farebox itself: its functions are wrapped here.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import os
import random
import signal
import sys
import threading
import time

SAID = json.loads(os.environ["FAREBOX_ACCIDENT"])
_lock = threading.Lock()
_passed = itertools.count(1)


def server_pid() -> int:
    if "server" in SAID:
        return SAID["server"]
    import psutil

    (server,) = [one for one in psutil.Process().children() if "nats-server" in one.name()]
    return server.pid


def passes(point: str) -> None:
    """Here it happens, if this is the place and the time."""
    if not point or point != SAID["point"]:
        return
    with _lock:
        if next(_passed) != SAID.get("nth", 1):
            return
        try:
            os.close(os.open(SAID["said"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    happen(SAID["how"])


def happen(how: str) -> None:
    match how:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "server":
            os.kill(server_pid(), signal.SIGKILL)
        case "block":
            time.sleep(SAID["seconds"])
        case "clock":
            shift(SAID["seconds"])


def shift(seconds: float) -> None:
    """From now on the wall clock of this process is wrong by so much."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + round(seconds * 1_000_000_000)


def around(owner, name: str, before: str = "", after: str = "") -> None:
    """Wrap a function or a coroutine function of a class or module."""
    inner = getattr(owner, name)
    if inspect.iscoroutinefunction(inner):

        @functools.wraps(inner)
        async def wrapped(*args, **options):
            passes(before)
            result = await inner(*args, **options)
            passes(after)
            return result
    else:

        @functools.wraps(inner)
        def wrapped(*args, **options):
            passes(before)
            result = inner(*args, **options)
            passes(after)
            return result

    setattr(owner, name, wrapped)


def wrap_appends() -> None:
    from farebox.core.trail import id_of
    from farebox.log.jetstream import JetStreamLog

    inner = JetStreamLog.append
    acked = os.open(SAID["acked"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def append(self, entries):
        kinds = [".".join(entry.subject.split(".")[2:4]) for entry in entries]
        for kind in kinds:
            passes(f"before {kind}")
        seqs = await inner(self, entries)
        told = zip(seqs, entries, strict=True)
        os.write(acked, "".join(f"{seq} {id_of(one.body)} {time.time():.3f}\n" for seq, one in told).encode())
        for kind in kinds:
            passes(f"after {kind}")
        return seqs

    JetStreamLog.append = append


def push_back(worker, seconds: float) -> None:
    """Reservations come out of order."""

    inner, dice, handed = worker._on_delivery, random.Random(7), itertools.count(1)

    def on_delivery(self, delivery):
        if delivery.tries == 1 and next(handed) % 3 == 0:
            self._spawn(delivery.nak(dice.uniform(0.1, seconds)))
        else:
            inner(self, delivery)

    worker._on_delivery = on_delivery


def wrap_all() -> None:
    if "ack_wait_s" in SAID:
        from farebox.log import names

        names.ACK_WAIT_S = SAID["ack_wait_s"]  # before anybody has taken it over
        from farebox.runtime import worker

        worker.HEARTBEAT_S = SAID["ack_wait_s"] / 3
    from farebox.log.consuming import Handed
    from farebox.runtime.attempt_call import AttemptCall
    from farebox.runtime.follower import Follower
    from farebox.runtime.spool import Spool
    from farebox.runtime.witness import Witness
    from farebox.runtime.worker import Worker
    from farebox.views.ledger import Ledger

    wrap_appends()
    if "shuffled" in SAID:
        push_back(Worker, SAID["shuffled"])
    around(Worker, "_on_delivery", before="taken")
    around(Spool, "mark_sending", after="marked")
    around(AttemptCall, "_on_piece", before="calling")
    around(Spool, "keep", before="called", after="kept")
    around(Handed, "ack", before="acking", after="acked")
    around(Follower, "_fold", before="read")
    around(Ledger, "ingest", before="views before", after="views after")
    around(Ledger, "_add", after="views within")
    around(Witness, "_put", before="witness before", after="witness after")


if __name__ == "__main__":
    wrap_all()
    from farebox.cli import main

    sys.exit(main())
