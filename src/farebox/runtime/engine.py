"""The engine: all actors of one process over one log, in the order that is safe to start and stop them.

First what is known becomes facts, then the past is folded, then adapters work and questions are answered. It imports no
actor, no platform and no view: the edge hands them in.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from farebox.core import subjects
from farebox.core.actor import Actor
from farebox.core.errors import FareboxError
from farebox.core.events import Fact, SettingsAdopted
from farebox.core.platform import PlatformKind
from farebox.core.pricing import PriceList
from farebox.core.settings import PlatformSettings, Settings, unread
from farebox.core.trail import Mark
from farebox.log.port import Entry, Log, Position, Stored
from farebox.runtime import journal, snapshots, trust
from farebox.runtime.adoption import adopt
from farebox.runtime.board import Board
from farebox.runtime.capacity import ADOPTED_S, Capacity
from farebox.runtime.clock import StreamClock
from farebox.runtime.committer import Committer
from farebox.runtime.dead import DeadLetters
from farebox.runtime.follower import Follower
from farebox.runtime.lookout import Lookout
from farebox.runtime.mind import Mind
from farebox.runtime.parts import ALL_PARTS, Parts
from farebox.runtime.patrol import Patrol
from farebox.runtime.planning import Planning
from farebox.runtime.projection import Projection
from farebox.runtime.reasons import Reasons
from farebox.runtime.secrecy import Environment
from farebox.runtime.service import Service
from farebox.runtime.spool import LINGER_S, Spool
from farebox.runtime.witness import Witness
from farebox.runtime.worker import Worker

log_ = logging.getLogger("farebox.engine")

LOOK_AGAIN_S = 0.02
SETTLE_S = 2.0
"""How long a stop waits for the followers' last words."""
LOOK_S = 600.0
"""How long a rebuild of the views may take before questions are answered from what there is."""


class Engine:
    """Everything that runs over a log. `local` are the platforms with what only this machine knows (addresses of stand-ins)."""

    def __init__(
        self,
        log: Log,
        settings: Settings,
        *,
        actors: Sequence[Actor[Any]],
        kinds: Mapping[str, PlatformKind],
        prices: PriceList,
        views: Any,
        folder: Path,
        secret: bytes,
        about: Mapping[str, Any],
        local: Mapping[str, PlatformSettings] | None = None,
        environ: Mapping[str, str] = os.environ,
        trouble: Callable[[], FareboxError | None] = lambda: None,
        parts: Parts = ALL_PARTS,
        reload: Callable[[], Settings] | None = None,
    ) -> None:
        self.log = log
        self.settings = settings
        self._parts = parts
        self._actors = [actor for actor in actors if actor.perform is not None or parts.has(actor.name)]
        self._kinds = kinds
        self._prices = prices
        self._folder = folder
        self._secret = secret
        self._enabled = {name for name, one in settings.platforms.items() if one.enabled}
        self._local = {name: one for name, one in (local or settings.platforms).items() if parts.has_lane(name)}
        self._environ = Environment(environ)
        self._about = dict(about)
        self._boot = secrets.token_hex(6)
        self._created = ""
        self._last: Stored | None = None
        self._acknowledged = 0
        self._views_from = 1
        self._observed: list[Actor[Any]] = []
        self._unread: tuple[str, ...] = ()
        self._trouble = trouble
        self._views = views
        self._witness = Witness(folder, settings.durability, lambda: Mark() if views is None else views.checkpoint)
        self.projection = Projection(views, trouble)
        self.board = Board()
        self.committer = Committer(log, settings.durability)
        self.minds: list[Mind] = []
        self.workers: list[Worker] = []
        self._clock = StreamClock()
        self._reload = reload
        self._lookout = Lookout(log, kinds, self._local, secret, self._environ)
        self._spool: Spool | None = None
        self._follower: Follower | None = None
        self._following: asyncio.Task[None] | None = None
        self._patrol: asyncio.Task[None] | None = None
        self._service: Service | None = None

    async def start(self) -> None:
        """Start all of it; returns when tasks are taken and questions answered. Raises what makes that impossible."""
        if self._parts.alone:
            await self._start_alone()
            return
        await self._testify(await self._open_views())
        await adopt(self.log, self.settings, self._prices, self._secret)
        await self._lookout.first()
        await self._follow()
        await self._start_workers()
        self._lookout.start()
        self._service = self._answering()
        await self._service.start()

    async def _start_alone(self) -> None:
        """Start some actors only, under rights of their own: they adopt nothing, keep no views and answer no questions."""
        await self._lookout.first()
        self._lookout.start()
        if any(actor.perform is None for actor in self._actors):
            await self._testify(await trust.examine(self.log, self._witness.seen))
            await self._follow()
        await self._start_workers()

    async def look(self, actors: Sequence[Actor[Any]] = ()) -> None:
        """Only fold the views and answer questions: for an engine without actors. Returns when the views hold the log.

        Of `actors` those fold too who know what waits for a person, or what stopped; none of them says anything.
        """
        self._observed = [actor for actor in actors if actor.perform is None]
        await self._open_views()
        await self._follow()
        position = await self.log.position()
        await self.projection.wait_for(position.last_seq, LOOK_S)
        self._service = self._answering()
        await self._service.start()

    async def stop(self, grace_s: float = 5.0) -> int:
        """Stop in order; attempts that do not end within `grace_s` are broken off and booked. Returns how many."""
        if self._service is not None:
            await self._service.stop()
        await self._lookout.close()
        broken = sum(await asyncio.gather(*(worker.stop(grace_s) for worker in self.workers)))
        await self.committer.close()
        await self._settle()
        for task in (self._patrol, self._following):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._follower is not None:
            await self._follower.close()
        if not self._parts.alone:
            await self.projection.close()
        self._save_snapshots()
        await self._witness.close()
        if self._spool is not None:
            await self._spool.close()
        return broken

    async def wait(self) -> None:
        """Wait until the log ends the engine: raises LogDamaged and whatever else following it cannot survive."""
        await (asyncio.Event().wait() if self._following is None else asyncio.shield(self._following))

    async def _open_views(self) -> Position:
        """Hold log and views against each other before anything is written. Raises LogDamaged and kin (runtime/trust.py)."""
        position = await trust.examine(self.log, self._witness.seen)
        mark: Mark = self._views.checkpoint
        if mark.seq and not await self._believed(position, mark):
            log_.warning("the views are another log's, or ahead of this one: they are made anew")
            await asyncio.to_thread(self._views.forget)
        self._views_from = await self.projection.begin(position.created)
        return position

    async def _testify(self, position: Position) -> None:
        """From now on what the log acknowledges is noted outside of it."""
        self._created = position.created
        await self._witness.begin(position)
        self.log.on_stored = self._note_stored

    async def _believed(self, position: Position, mark: Mark) -> bool:
        """Whether the views may go on. Without a witness they alone know which log was here."""
        if mark.created != position.created and self._witness.seen is None:
            raise trust.replaced(position.created, mark.created)
        return await trust.believes(self.log, position, mark, forgiving=self.settings.durability == "100ms")

    async def _follow(self) -> None:
        position = await self.log.position()
        for actor in (*self._actors, *self._observed):
            if actor.perform is None:
                state, mark = snapshots.load(self._folder / "snapshots", actor, position)
                if mark.seq and not await trust.believes(self.log, position, mark, forgiving=True):
                    state, mark = actor.new(), Mark()
                self.minds.append(Mind(actor, self._secret, state, mark.seq, mute=actor in self._observed))
        alone = self._parts.alone
        taps = [self._note_last] if alone else [self._note_last, self.projection.tap]
        follower = Follower(
            self.log, self.minds, self.committer, self._clock, taps=taps,
            taps_from=None if alone else self._views_from, ears=[self._notice] if alone else [self.board.hear, self._notice],
            durability=self.settings.durability,
        )  # fmt: skip
        self._follower = follower
        self._following = asyncio.ensure_future(follower.run())
        live = asyncio.ensure_future(follower.live.wait())
        await asyncio.wait({self._following, live}, return_when=asyncio.FIRST_COMPLETED)
        if self._following.done():
            live.cancel()
            self._following.result()
        self._patrol = asyncio.ensure_future(self._look_after(follower, position))

    async def _look_after(self, follower: Follower, begin: Position) -> None:
        """End the engine when its log is not what it was any more: nothing more is decided, nobody gets a task."""
        wrong = await Patrol(self.log, begin, lambda: follower.seq).run()
        log_.error("%s %s", wrong.code, wrong)
        follower.end(wrong)

    def _notice(self, fact: Fact) -> None:
        """Say which settings of a later engine on the same log are not understood here; nobody is charged under them."""
        if isinstance(fact, SettingsAdopted):
            self._unread = unread(fact.settings)
            if self._unread:
                log_.warning("FB803 settings adopted at %d need a later farebox: %s", fact.seq, "; ".join(self._unread))

    async def _start_workers(self) -> None:
        adapter = next((actor for actor in self._actors if actor.perform is not None), None)
        if adapter is None:
            return
        self._spool = Spool(self._folder / "spool" / "journal", linger_s=LINGER_S[self.settings.durability])
        for name, settings in self._local.items():
            if settings.enabled:
                worker = self._worker(self._spool, adapter, name, settings)
                await worker.start()
                self.workers.append(worker)
        await self._take_up(self._spool, adapter)

    def _worker(self, spool: Spool, adapter: Actor[Any], name: str, settings: PlatformSettings) -> Worker:
        return Worker(
            self.log, self.committer, spool, adapter, self._kinds[settings.kind], name, settings,
            secret=self._secret, boot=self._boot, environ=self._environ, recent=self.board.known,
        )  # fmt: skip

    async def _take_up(self, spool: Spool, adapter: Actor[Any]) -> None:
        """Go on with what was given to adapters before this start; take back what no adapter will ever come for."""
        workers = {worker.platform: worker for worker in self.workers}
        kind = next(iter(self._kinds))
        for mind in self.minds:
            for platform, chain, task in mind.actor.held(mind.state) if mind.actor.held else ():
                if platform in workers:
                    workers[platform].take_up(chain, task)
                elif platform not in self._enabled:
                    retired = self._worker(spool, adapter, platform, PlatformSettings(kind=kind))
                    await retired.retire(chain, task)

    def _answering(self) -> Service:
        capacity = Capacity(self.minds, self.settings, self._clock, self._reload if self._actors else None, self._adopt)
        reasons = Reasons(self.log, self.projection, capacity.standings)
        return Service(
            self.log, self.projection, self.settings, self._lookout.reports, self._about, self.board, trouble=self._no_room,
            look=self._lookout.asked if self._actors else None, minds=self.minds, unclaimed=self._unclaimed,
            more={"quota": capacity.quota, "settings_reload": capacity.settings_reload, "why": reasons.why,
                  "plan": Planning(self.minds, capacity).plan},
            dead=DeadLetters(
                self.log, self.projection, self.minds, self._decide_again, self._hand_out_again,
                self._follower.doubted if self._follower is not None else None,
            ),
        )  # fmt: skip

    async def _adopt(self, settings: Settings) -> int:
        """Put other settings in force while the engine runs; returns the sequence from which on they are."""
        await adopt(self.log, settings, self._prices, self._secret)
        self.settings = settings
        stands = await self.log.last(subjects.subject_of("engine", SettingsAdopted()))
        seq = stands.seq if stands is not None else 0
        await self.projection.wait_for(seq, ADOPTED_S)
        return seq

    def _no_room(self) -> FareboxError | None:
        """What keeps facts from being stored, or calls from being made."""
        return self._trouble() or (self._spool.trouble() if self._spool is not None else None)

    def _unclaimed(self) -> list[dict[str, Any]]:
        """Tell the paid answers that this store keeps although the log knows nothing of their attempts."""
        kept = journal.answers(self._folder / journal.PLACE) if self._spool is None else self._spool.unclaimed
        return [journal.told(key, outcome) for key, outcome in sorted(kept.items())]

    def _decide_again(self, seq: int) -> bool:
        return self._follower is not None and self._follower.retry(seq)

    def _hand_out_again(self, platform: str, chain: str, task: str) -> bool:
        worker = next((one for one in self.workers if one.platform == platform), None)
        if worker is not None:
            worker.take_up(chain, task)
        return worker is not None

    async def _settle(self) -> None:
        """Let the followers answer what the last attempts left, as far as it goes without waiting for anybody outside.

        Who has not read yet what was stored a moment ago looks idle, too: the ends of those attempts have to be read first.
        """
        for _ in range(0 if self._following is None or self._following.done() else round(SETTLE_S / LOOK_AGAIN_S)):
            read = self._follower is None or self._follower.seq >= self._acknowledged
            if read and all(mind.idle for mind in self.minds):
                return
            await asyncio.sleep(LOOK_AGAIN_S)

    def _note_stored(self, entries: Sequence[Entry], seqs: Sequence[int]) -> None:
        self._acknowledged = max(self._acknowledged, seqs[-1])
        self._witness.saw(entries, seqs)

    def _note_last(self, batch: Sequence[Stored]) -> None:
        self._last = batch[-1]

    def _save_snapshots(self) -> None:
        """Keep what the minds know, unless tasks are left undecided for settings that a later farebox will understand."""
        for mind in self.minds:
            mark = self._mark_at(mind.seq)
            if mind.idle and mind.whole and mark is not None and not self._unread:
                try:
                    snapshots.save(self._folder / "snapshots", mind.actor, mind.state, mark)
                except OSError as error:
                    log_.warning("no snapshot of %s: %s; the next start folds the log", mind.actor.name, error)

    def _mark_at(self, seq: int) -> Mark | None:
        """Return how to know this place of the log again: as the views do, else by the last fact alone."""
        if self._views is not None and (known := self._views.checkpoint).seq == seq and known.created == self._created:
            return known
        return trust.mark_of(self._created, self._last) if self._last is not None and self._last.seq == seq else None

    @property
    def running(self) -> int:
        """How many attempts run now."""
        return sum(worker.running for worker in self.workers)
