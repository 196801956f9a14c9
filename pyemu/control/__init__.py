# SPDX-License-Identifier: MIT
"""Control protocols: QMP and qtest. Each only translates to :class:`~pyemu.Machine`."""

from .qmp import QMPServer
from .qtest import QTestServer

__all__ = ["QMPServer", "QTestServer"]
