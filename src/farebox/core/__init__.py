"""The pure heart: facts, subjects and fences, the contract of an actor, money. No clock, no IO, no async."""
