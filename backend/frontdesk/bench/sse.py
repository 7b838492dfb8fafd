"""The body of a streaming HTTP response, cut into its `data:` lines with the moment each came. Pure; no sockets."""

from __future__ import annotations


class DataLines:
    """Feed bytes as they come, however they are cut; `feed` gives the payloads of the lines that became whole."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [payload for line in whole if (payload := _payload(line)) is not None]

    def end(self) -> list[bytes]:
        """The last line may lack its newline."""
        payload, self._rest = _payload(self._rest), b""
        return [] if payload is None else [payload]


def _payload(line: bytes) -> bytes | None:
    return line[5:].strip() if line.startswith(b"data:") else None
