"""The faults that a release must survive: what goes wrong, how it is brought about here, and what is expected.

Each row is proven by the tests that bear its number (`@pytest.mark.fault(5)`), wherever they stand, or says why nothing proves
it yet. `uv run pytest -m chaos` runs all of them and prints the table (tests/chaos/fault_table.py).
"""

from __future__ import annotations

from dataclasses import dataclass

NEEDS = "comes with the issue that lets tasks need tasks: no task waits for another one yet, such a task is refused"
MEMORY = "comes with the issue that builds the memory: there is no vector store yet"


@dataclass(frozen=True)
class Row:
    """One fault. `reason` says why there is no test, empty where there must be one."""

    number: int
    fault: str
    injected: str
    expected: str
    reason: str = ""


def _rows(*said: tuple[str, ...]) -> dict[int, Row]:
    return {number: Row(number, *row) for number, row in enumerate(said, 1)}


ROWS = _rows(
    ("router killed", "kill -9 before and after each of its facts", "one TaskRouted for each attempt"),
    ("adapter killed", "kill -9 at each step of an attempt", "no second call unless policy retry orders it"),
    ("quota killed", "kill -9 between decision and append, and after", "one reservation, none leaks"),
    ("aggregator, cost or views killed", "kill -9 around their facts and in a transaction", "sums and views as without it"),
    ("server killed in a burst", "kill -9 nats-server while tasks run", "no acknowledged fact lost"),
    ("power cut", "image of an ext4 copied under a stopped server, mounted again", "always: nothing; 100ms: a second at most"),
    ("server killed right after an ack", "kill -9 at the ack of a reservation", "handed out again, no second call"),
    ("consumer state lost or garbage", "o.dat removed, or overwritten", "answered from the log, 0 calls"),
    ("operator resets or removes a durable", "consumer made anew at sequence 1", "answered from the log, 0 calls"),
    ("tail lost, sequences used again", "last block cut", "the engine stops and says so"),
    ("bit flip in an old block", "one bit in a block file", "the first bad sequence is named"),
    (
        "a damaged replica becomes leader", "bit flip on a follower after a kill and after a stop, step down",
        "counted by its server: no start, audit names the first; else by a reading through it; wiped, it is whole",
    ),
    ("metadata of the stream unreadable", "meta.inf emptied", "no new log by itself, instructions"),
    ("stream deleted and made again", "the server's API", "the engine stops until it is confirmed"),
    ("purge or max_age set by hand", "the server's API", "the engine stops and names the beginning"),
    ("disk full below the store", "small tmpfs filled up", "no new calls, said once, everything goes on afterwards"),
    ("disk full below the spool", "journal's disk full before, and after, a paid answer", "to the log from memory; no call"),
    (
        "log at its largest size", "a small stream, filled by a batch",
        "no new task from 90 % on, said; those it has end; more room, and the batch goes on",
    ),
    ("append without an answer, but stored", "server stopped during the append", "one fact, found by reading back"),
    ("fence refuses our own earlier write", "server frozen past the answer wait in a batch", "taken for success by its id"),
    ("delivered twice", "a reservation handed out again", "no second effect"),
    ("delivered out of order", "every third reservation pushed back", "each task ends once"),
    ("adapter frozen, another takes over", "SIGSTOP past the ack wait, SIGCONT", "zombie refused, its answer booked late"),
    ("event loop blocked past the ack wait", "time.sleep in the adapter's process", "no double effect"),
    ("poison fact", "a fact that breaks its reader", "its task stops, others go on, it is listed"),
    ("given up while nobody listens", "advisories while no engine runs", "found afterwards"),
    ("unknown fact or newer version", "written by hand", "its task is parked, never skipped"),
    ("broken JSON", "written by hand", "quarantined and counted, others go on"),
    ("body and subject disagree; wrong writer", "written by hand as init", "refused by the decoder"),
    ("hostile ids", "submitted: a.b, *, >, ../x, 10 kB, emoji", "refused at the edge"),
    ("guessed message id", "published with the id of a fact to come", "nothing of ours is dropped"),
    ("prompt of 10 MB", "submitted", "arrives whole, the connection survives"),
    ("binary, NUL, surrogates, emoji, right to left", "submitted", "arrives whole or one clear line"),
    (
        "batch of 10,000", "engine killed in the middle, then the client leaves and resumes",
        "bounded memory, no doubles, others' tasks answered in seconds",
    ),
    ("slow views", "views that cannot be written for a while", "nothing dropped, equal afterwards"),
    ("server frozen for a minute", "SIGSTOP nats-server", "calls go on, recovers by itself"),
    ("server gone for long", "kept stopped", "reconnects for ever, idle, no call without its start in the log"),
    ("wall clock jumps by an hour", "clock of the engine's process", "no mass timeouts, facts bear the server's time"),
    ("machine sleeps during a call", "SIGSTOP of everything past the task's time", "ended at waking up, one call, booked"),
    ("storm of 429 and 503", "provider refuses most calls", "waits, no attempt counted, all ends"),
    ("stream stalls", "provider sends nothing more", "idle clock; interrupted, partial text kept"),
    ("stream never ends", "provider goes on for ever", "ended by size or clock, upstream closed"),
    ("cut before the usage", "provider leaves it out", "completed, usage estimated and flagged"),
    ("error object in a 200, empty, truncated, refused", "provider", "typed outcomes, nothing bought twice blindly"),
    ("another model than asked for answers", "recorded bodies", "billed model is named and priced"),
    ("program forks and hangs", "script", "group and strays are ended"),
    ("grandchild holds the pipes", "script", "we are not held up"),
    ("100 MB on stderr", "script", "both pipes drained, answer kept"),
    ("invalid JSON or an endless line", "script", "typed failure, capped"),
    ("program asks a question", "script", "its input is closed"),
    ("agent killed while it edits", "kill -9 in the middle of a write", "worktree set aside, the user's tree untouched"),
    ("adapter dies, its program goes on", "kill -9 of the engine only", "ended by the kernel, or swept at the next start"),
    ("vector store missing", "removed", "made anew", MEMORY),
    ("vector store damaged", "garbage", "moved aside, made anew", MEMORY),
    ("two processes on one vector store", "second process", "one owner", MEMORY),
    ("view file locked", "second process", "one clear line"),
    (
        "view file damaged", "40 bit flips after a stop, 20 in file and journal after a kill, garbage",
        "after a stop each is noticed and made anew; after a kill noticed, refused in one line or harmless",
    ),
    ("view file deleted while running", "removed", "made anew, identical"),
    ("two engines on one store", "started twice", "the second is refused"),
    ("rebuild while facts arrive", "both at once", "nothing missing, nothing twice"),
    ("quota writers race for the last slot", "two engines over one log", "never two calls at once, each granted once"),
    ("holder of a reservation dies", "kill -9 after QuotaReserved", "taken up again, no slot leaks"),
    (
        "window rolls over during a call, DST, early reset", "clock set before and behind the turn",
        "booked to the window of the start, never negative",
    ),
    ("unknown model, no price", "no list, another model", "unpriced and never zero; only a command prices again"),
    ("float cents", "sums in any order", "equal to the last digit"),
    ("cycles among tasks", "submitted", "refused", NEEDS),
    ("handoff cycle, fan-out bomb", "agent output", "limits", NEEDS),
    ("task ends twice", "zombie, written by hand", "the first end counts, the second is an alarm"),
    ("cancel races completion", "both at once, at every moment", "exactly one end, cost booked"),
    ("wake fires twice, late or after the end", "kill around the due time", "no effect"),
    ("restart storm", "kill all with many thousands waiting", "goes on, never above a limit"),
    ("old and new versions at once", "recorded logs, facts with unknown fields", "read for ever, decided alike"),
    ("old log restored under newer views and spool", "copied back", "noticed; what the spool holds is offered"),
    ("wrong permissions deployed", "one subject removed, server reloaded", "said within seconds with user and subject"),
    ("retry layers multiply", "provider charges, then fails", "calls are starts, each ordered by policy"),
)  # fmt: skip
