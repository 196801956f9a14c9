# SPDX-License-Identifier: MIT
import os
from typing import final

@final
class Mapping:
    fd: int
    def __init__(self, name: str, size: int, shared: bool = False, fd: int = -1) -> None: ...

def hold(fd: int) -> bool: ...
def open_backing(path: str | os.PathLike[str], size: int, shared: bool) -> int: ...
