"""What a client can see of a server's settings is looked at before a log is kept there; each fault has its own sentence."""

from __future__ import annotations

import pytest

from farebox.core.errors import LogUnfit
from farebox.log.jetstream import JetStreamLog
from farebox.log.streams import Sizes, stream_configs

SMALL = Sizes(log_bytes=64 << 20, blob_bytes=16 << 20, live_bytes=1 << 20, dead_bytes=1 << 20)


@pytest.fixture
async def log(account):
    found = await JetStreamLog.connect(account.url, user=account.user, password=account.password)
    yield found
    await found.close()


async def made_with(log, **changes):
    await log._streams._api(
        "STREAM.CREATE.FAREBOX", {"name": "FAREBOX", **stream_configs("always", 1, SMALL)["FAREBOX"], **changes}
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"retention": "workqueue"}, "retention = workqueue, but it must be limits"),
        ({"max_msg_size": 1000}, "max_msg_size = 1000, but facts may have 1000000"),
        ({"max_msgs_per_subject": 1}, "max_msgs_per_subject = 1, but it must be without limit"),
        ({"discard": "old"}, "discard = old, but it must be new"),
        ({"deny_purge": False}, "deny_purge = False, but it must be True"),
        ({"max_age": 10**12}, "max_age = 1000000000000, but it must not be set"),
    ],
)
async def test_a_stream_that_would_lose_facts_is_refused(log, changes, words):
    await made_with(log, **changes)
    with pytest.raises(LogUnfit, match=words):
        await log.check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"filter_subject": "farebox.log.client.>"}, "has filter_subject = farebox.log.client"),
        ({"ack_policy": "none"}, "has ack_policy = none"),
    ],
)
async def test_a_durable_that_somebody_changed_is_refused(log, changes, words):
    await log.prepare("always", ["owl"], sizes=SMALL)
    await log._streams.drop("adapter-owl")
    config = {
        "durable_name": "adapter-owl",
        "name": "adapter-owl",
        "ack_policy": "explicit",
        "filter_subject": "farebox.log.quota.reserved.owl.>",
    } | changes
    body = {"stream_name": "FAREBOX", "config": config, "action": "create"}
    await log._streams._api(f"CONSUMER.CREATE.FAREBOX.adapter-owl.{config['filter_subject']}", body)
    with pytest.raises(LogUnfit, match=words):
        await log.consume("adapter-owl", lambda _: None)
