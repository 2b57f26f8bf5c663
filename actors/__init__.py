"""The actors, in the order a task meets them: the table of contents of farebox."""

from actors import adapter, aggregator, cost, quota, router

ACTORS = (router.ACTOR, quota.ACTOR, adapter.ACTOR, cost.ACTOR, aggregator.ACTOR)

__all__ = ["ACTORS"]
