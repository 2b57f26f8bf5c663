"""No secret passes, however a text is cut; honest words stay as they are."""

import string
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.core.redaction import HELD_CHARS_MAX, STRUCK, Flow, Redactor

ALNUM = string.ascii_letters + string.digits
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA0\nabc/def+ghi==\n-----END RSA PRIVATE KEY-----"
KEYS = [
    "sk-proj-" + "aB3_" * 10,
    "sk-ant-api03-" + "Zz9-" * 12,
    "AIza" + "Sy0_-" * 7,
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "11A_b" * 10,
    "xoxb-1234567890-abcdefABCDEF",
    "AKIAIOSFODNN7EXAMPLE",
    "gsk_" + "q7" * 20,
    "hf_" + "Q7w" * 12,
    "xai-" + "k3Y" * 12,
    "SUAC6DCRL43JIG3BH4WGE3ATMI2RAD3K57JKFB6YXQAYHHGFKJN5SKD2VE",
    "SAAC6DCRL43JIG3BH4WGE3ATMI2RAD3K57JKFB6YXQAYHHGFKJN5SKD2VE",
    PEM,
]
VALUES = ("correct horse battery", "correct horse", "s3cr3t/with+signs=", "ΩΩ-unicode-geheim")
REDACTOR = Redactor(VALUES)
HONEST = [
    "", "a task-list of sk-ins", "the bearer of responsibilities", "Bearer and forbearer", "AKIA", "SUCCESS SUMMARY", "-----",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "risk-abcdefghijklmnopqrstuvwxyz", "correct hors", "日本語",
]  # fmt: skip


def flowed(pieces, redactor=REDACTOR):
    flow = Flow(redactor)
    return "".join([*map(flow.feed, pieces), flow.end()])


def cut_up(text, cuts):
    at = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(at)]


@pytest.mark.parametrize("secret", [*KEYS, *VALUES, "Bearer abcdef0123456789abcdef"])
def test_a_secret_is_struck_out_however_it_is_cut(secret):
    core = secret.removeprefix("Bearer ")
    for text in (secret, f"key={secret}", f"before {secret} after", f'"{secret}",\n{secret}.'):
        struck = REDACTOR.text(text)
        assert core not in struck
        assert STRUCK in struck
        for cut in range(len(text) + 1):
            assert flowed([text[:cut], text[cut:]]) == struck
        assert flowed(text) == struck, "character by character"


@pytest.mark.parametrize("text", HONEST)
def test_honest_words_stay(text):
    assert REDACTOR.text(text) == text
    assert flowed(text) == text


PARTS = st.one_of(
    st.sampled_from([*KEYS, *VALUES, *HONEST, "Bearer ", "bearer\t", "sk-", "S", "-----BEGIN ", "PRIVATE KEY-----", " ", "\n"]),
    st.text(alphabet=ALNUM + " -_.\n", max_size=30),
    st.sampled_from([*KEYS, *VALUES]).flatmap(lambda key: st.integers(0, len(key)).map(lambda n: key[:n])),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, max_size=8).map("".join), st.lists(st.integers(0, 2000), max_size=12))
def test_what_flows_is_what_the_whole_text_becomes(text, cuts):
    struck = REDACTOR.text(text)
    assert flowed(cut_up(text, cuts)) == struck
    for value in VALUES:
        assert value not in struck


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(KEYS), st.text(alphabet=" .,;:\n\"'()=", min_size=1, max_size=5), st.lists(st.integers(0, 500), max_size=6)
)
def test_no_key_between_other_signs_passes(key, signs, cuts):
    said = flowed(cut_up(f"x{signs}{key}{signs}y", cuts))
    assert key not in said
    assert said == f"x{signs}{STRUCK}{signs}y"


def test_a_secret_without_an_end_holds_the_stream_and_then_silences_it():
    flow = Flow(REDACTOR)
    assert flow.feed("text ") == "text "
    said = [
        flow.feed("sk-" + "a" * 1000),
        *(flow.feed("a" * 10_000) for _ in range(HELD_CHARS_MAX // 10_000 + 2)),
        flow.feed(" b"),
    ]
    assert "".join([*said, flow.end()]) == ""


def test_what_a_cut_left_of_a_secret_is_struck_out_too():
    for left in ("said s3cr3t/w", "said sk-proj-abc", "with+signs= said"):
        assert REDACTOR.cut_text(left) in {f"said {STRUCK}", f"{STRUCK} said"}
    assert REDACTOR.cut_text("said sk-pr") == "said sk-pr", "too short to be of use"


def test_a_key_that_never_ends_its_block_is_struck_out_to_the_end():
    assert REDACTOR.text(f"a {PEM[:60]}") == f"a {STRUCK}"


def test_short_values_are_no_secrets_and_longer_ones_win():
    assert Redactor(["short", "", "12345678", "1234567890"]).text("short 1234567890 12345678") == f"short {STRUCK} {STRUCK}"
