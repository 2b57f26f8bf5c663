"""Answers that come packed, unpacked a piece at a time: a small one must not become a gigabyte before anybody can stop it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PIECE_BYTES = 256 * 1024
"""No more is unpacked at once; whoever takes the pieces counts them."""
_GZIP_OR_ZLIB = 47  # zlib's window bits: the largest window, and the kind of wrapping is looked for
_RAW = -15


class UnknownPackingError(ValueError):
    """Packed in a way that was not asked for, or not as its header says."""


class Unpacker:
    """Unpacks one answer. `encoding` is its content-encoding. Raises UnknownPackingError for what it cannot unpack."""

    def __init__(self, encoding: str) -> None:
        self._first = True
        self._inner = None
        match encoding.strip().lower():
            case "" | "identity":
                pass
            case "gzip" | "x-gzip" | "deflate":
                self._inner = zlib.decompressobj(_GZIP_OR_ZLIB)
            case other:
                raise UnknownPackingError(f"The answer is packed as {other[:40]!r}, which was not asked for.")

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` unpacks to, in pieces. Raises UnknownPackingError."""
        if self._inner is None:
            yield data
            return
        while data:
            piece = self._unpacked(data)
            data = self._inner.unconsumed_tail
            if piece:
                yield piece

    def _unpacked(self, data: bytes) -> bytes:
        assert self._inner is not None, "only what is packed comes here"
        try:
            piece = self._inner.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            if not self._first:
                raise UnknownPackingError(f"The answer does not unpack: {error}.") from error
            # "deflate" without its wrapping, as some servers send it (RFC 9110, section 8.4.1.2, read 2026-11-21).
            self._inner = zlib.decompressobj(_RAW)
            self._first = False
            return self._unpacked(data)
        self._first = False
        return piece
