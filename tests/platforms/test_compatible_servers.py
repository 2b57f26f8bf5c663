"""What the compatible servers do differently from each other: figures of money, places of counts, words of errors."""

import pytest

from actors.platforms.compatible import COMPATIBLE
from actors.platforms.foreign_json import parse, usd_at
from farebox.core.platform import ProbeAnswer
from farebox.core.settings import PlatformSettings


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('{"cost": 0.00042015}', "0.00042015"),
        ('{"cost": 0}', "0"),
        ('{"cost": -1}', None),
        ('{"cost": 1e300}', None),
        ('{"cost": true}', None),
        ('{"cost": {"total_cost": 0.1}}', None),
        ('{"cost": "0.1"}', None),
        ("{}", None),
    ],
)
def test_only_a_plain_amount_is_kept_as_what_the_provider_charged(said, kept):
    assert usd_at(parse(said), "cost") == kept


def test_openrouters_own_figure_stands_beside_ours_and_its_comments_are_no_text(recorded):
    heard = recorded("compatible/openrouter_streamed").read()
    assert (heard.pieces, heard.verdict.provider_usd) == ("The quick brown fox.", "0.00042015")


def test_groqs_counts_and_limits_are_found_where_it_puts_them(recorded):
    heard = recorded("compatible/groq_streamed").read()
    assert (heard.verdict.usage.input_tokens, heard.verdict.usage.output_tokens) == (40, 6)
    assert [(fact.unit, fact.limit, fact.resets_at_ms - 1_795_262_400_000) for fact in heard.learned] == [
        ("requests", 14_400, 179_560),
        ("tokens", 18_000, 7_660),
    ]


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("http://127.0.0.1:9/v1", "Start the server."),
        ("https://api.groq.com/openai/v1", "Look at the network, or at platforms.groq.url"),
    ],
)
def test_a_server_elsewhere_is_not_ours_to_start(url, mend):
    of = PlatformSettings(kind="compatible", url=url)
    assert COMPATIBLE.read_probe("groq", of, ProbeAnswer(fault="ConnectError")).mend == mend
