# SPDX-License-Identifier: MIT
from collections.abc import Callable
from typing import Any

from ..errors import DeviceError

def owner_name(owner: object) -> str: ...
def report(error: BaseException, source: object) -> None: ...

class IoHandler:
    owner: Any
    @staticmethod
    def python(
        read: Callable[[int, int], int] | None = None,
        write: Callable[[int, int, int], object] | None = None,
        owner: object = "python",
    ) -> IoHandler: ...
    @staticmethod
    def from_capsule(capsule: object, owner: object) -> IoHandler: ...
    @property
    def is_python(self) -> bool: ...

class Space:
    name: str
    unassigned_reads: int
    unassigned_writes: int
    def __init__(self, name: str) -> None: ...
    def take_fault(self) -> DeviceError | None: ...
    def set_fault_listener(self, listener: Callable[[], object] | None) -> None: ...
    def blame(self, owner: object, verb: str, offset: int, size: int, error: BaseException) -> None: ...
