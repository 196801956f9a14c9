# SPDX-License-Identifier: MIT
"""Makers of :class:`~pyemu.errors.MigrationError` with the texts that clients of QEMU know.

A load that fails has two texts in QEMU: the detail on stderr, and ``load of migration failed:`` with
an errno text for control clients. Ours puts the detail behind the latter, so nobody has to look twice.
"""

from __future__ import annotations

import errno
import os

from ..errors import MigrationError


def load_fault(detail: str, code: int = errno.EINVAL) -> MigrationError:
    """A stream or file that cannot be loaded."""
    return MigrationError(detail, desc=f"load of migration failed: {os.strerror(code)}: {detail}")


def truncated(what: str) -> MigrationError:
    """A stream that ends too early."""
    return load_fault(f"the stream ends inside {what}", errno.EIO)


def write_fault(error: OSError, what: str = "file") -> MigrationError:
    """A write that failed, a full disk above all."""
    return MigrationError(f"Unable to write to {what}: {error.strerror or error}")


def read_fault(error: OSError, what: str = "file") -> MigrationError:
    """A read that the system refused."""
    return load_fault(f"Unable to read from {what}: {error.strerror or error}", errno.EIO)
