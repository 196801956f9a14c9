# SPDX-License-Identifier: MIT
"""Cuts a byte stream into JSON objects, with or without newlines between them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MAX_MESSAGE = 64 << 20
MAX_DEPTH = 1024


class JSONStream:
    """Feed bytes, get objects.

    Malformed input yields a ``ValueError`` instance in the object's place, and reading goes on
    after the next line end, so one bad message does not cost the connection.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._skipping = False
        self._flooded = False

    def feed(self, data: bytes) -> Iterator[Any]:
        self._buffer += data
        while True:
            end = self._find_end()
            if self._flooded:
                self._flooded = False
                yield ValueError(f"JSON message is over {MAX_MESSAGE} bytes or nested over {MAX_DEPTH} deep")
            if end is None:
                return
            message = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._scanned = self._depth = 0
            self._in_string = self._escaped = False
            skipped, self._skipping = self._skipping, False
            if skipped or not message.strip():
                continue
            yield self._parse(message)

    def _parse(self, message: bytes) -> Any:
        try:
            return json.loads(message)
        except (ValueError, RecursionError) as error:
            return ValueError(f"JSON parse error: {error}")

    def _find_end(self) -> int | None:
        """Index after the next complete message: a balanced object, or a line that is none."""
        buffer = self._buffer
        for i in range(self._scanned, len(buffer)):
            c = buffer[i]
            if self._skipping:
                if c == 0x0A:
                    return i + 1
            elif self._in_string:
                if self._escaped:
                    self._escaped = False
                elif c == 0x5C:
                    self._escaped = True
                elif c == 0x22:
                    self._in_string = False
            elif c == 0x22:
                self._in_string = True
            elif c in b"{[":
                self._depth += 1
            elif c in b"}]":
                self._depth -= 1
                if self._depth <= 0:
                    return i + 1
            elif c == 0x0A and self._depth == 0:
                return i + 1
        self._scanned = len(buffer)
        if len(buffer) > MAX_MESSAGE or self._depth > MAX_DEPTH:
            # Throw the flood away but keep the connection: the rest of the line is skipped.
            buffer.clear()
            self._scanned = self._depth = 0
            self._in_string = self._escaped = False
            self._skipping = self._flooded = True
        return None
