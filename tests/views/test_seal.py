"""A ledger that was closed is sealed: whatever happens to its file meanwhile is noticed before anything is asked."""

from __future__ import annotations

import pytest

from farebox.core import events as e
from farebox.core import subjects, wire
from farebox.core.errors import BusError
from farebox.log.port import Stored
from farebox.views import seal
from farebox.views.ledger import Ledger


def fact(seq):
    told = e.TaskSubmitted(chain=f"t{seq}", task=f"t{seq}", prompt="Count the owls. " * 40)
    return Stored(subjects.subject_of("client", told), wire.encode(told), seq, 1_790_000_000_000 + seq)


FACTS = [fact(seq) for seq in range(1, 200)]


@pytest.fixture
def path(tmp_path):
    ledger = Ledger.open(tmp_path / "ledger.duckdb")
    ledger.begin("log-1")
    ledger.ingest(FACTS)
    ledger.close()
    return tmp_path / "ledger.duckdb"


def flip(path, place):
    body = bytearray(path.read_bytes())
    body[place] ^= 0x10
    path.write_bytes(body)


def unnoticed(path):
    """Flip a bit that the opening does not meet, and open the file."""
    whole = path.read_bytes()
    for place in range(len(whole) - 70_000, 20_000, -50_000):
        flip(path, place)
        ledger = Ledger.open(path)
        if not ledger.notices:
            return ledger
        ledger.close()
        seal.take_off(path)
        path.write_bytes(whole)
    raise AssertionError("each flip was noticed by the opening")


def reached(path):
    ledger = Ledger.open(path)
    try:
        return ledger.checkpoint.seq, ledger.notices
    finally:
        ledger.close()


def test_a_sealed_file_goes_on_and_is_open_without_a_seal(path):
    assert seal.of(path).exists()
    ledger = Ledger.open(path)
    assert not seal.of(path).exists()
    assert (ledger.checkpoint.seq, ledger.notices) == (199, ())
    ledger.close()
    ledger.close()
    assert reached(path) == (199, ())


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.6, 0.9999])
def test_a_flipped_bit_anywhere_is_noticed_and_the_file_moved_aside(path, share):
    flip(path, int(path.stat().st_size * share))
    seq, (notice,) = reached(path)
    assert seq == 0
    assert "its checksum is not the one of the last stop" in notice
    assert path.with_name("ledger.duckdb.damaged-1").exists()
    assert reached(path) == (0, ())


def test_a_file_that_is_gone_is_no_damage(path):
    path.unlink()
    assert reached(path) == (0, ())


def test_a_file_whose_closing_did_not_end_gets_no_seal(path):
    seal.take_off(path)
    path.with_name("ledger.duckdb.wal").write_bytes(b"")
    seal.put_on(path)
    assert not seal.of(path).exists()


def test_damage_that_a_question_meets_is_said_and_mended_by_forgetting_or_by_the_next_opening(path):
    """Without a seal, as after a kill."""
    whole = path.read_bytes()
    for forgets in (True, False):
        seal.take_off(path)
        path.write_bytes(whole)
        ledger = unnoticed(path)
        with pytest.raises(BusError, match=r"cannot be read: .*Corrupt.*farebox replay"):
            ledger.digest()
        if forgets:
            ledger.forget("log-1")
            assert ledger.ingest(FACTS) == 199
        ledger.close()
        assert reached(path)[0] == (199 if forgets else 0)
