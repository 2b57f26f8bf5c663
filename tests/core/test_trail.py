"""The trail: the digest is what its page says, and a mark knows its fact again."""

import hashlib

import pytest

from farebox.core.trail import BEGIN, Mark, id_of, step


def test_the_digest_is_what_the_page_says():
    said = bytes(32) + b"7 1700000000000 farebox.log.client.submitted.-.c.t\n" + b'{"x":1}'
    assert step(BEGIN, 7, 1_700_000_000_000, "farebox.log.client.submitted.-.c.t", b'{"x":1}') == hashlib.sha256(said).digest()


def test_a_mark_knows_its_fact_and_no_other():
    mark = Mark("log", 7, "id", BEGIN.hex(), step(BEGIN, 7, 5, "s", b"b").hex())
    assert mark.fits(7, 5, "s", b"b")
    for other in ((8, 5, "s", b"b"), (7, 6, "s", b"b"), (7, 5, "t", b"b"), (7, 5, "s", b"c")):
        assert not mark.fits(*other)


@pytest.mark.parametrize(
    ("body", "found"), [(b'{"id":"a-1"}', "a-1"), (b"{}", ""), (b"\xff", ""), (b'{"id":7}', ""), (b"[" * 9999, "")]
)
def test_a_body_without_a_readable_id_has_none(body, found):
    assert id_of(body) == found
