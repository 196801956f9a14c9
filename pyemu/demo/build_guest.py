# SPDX-License-Identifier: MIT
"""Assembles ``guest.S`` into ``guest.bin`` with the GNU assembler (``as``, ``ld``).

    python -m pyemu.demo.build_guest [OUTPUT]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LOAD_ADDRESS = 0x100000
#: Length of the boot sector and the setup sector in front of the code.
SETUP_BYTES = 0x400


def build(output: Path) -> bytes:
    """Writes the guest image to *output* and returns it."""
    with tempfile.TemporaryDirectory() as folder:
        obj, elf = Path(folder, "guest.o"), Path(folder, "guest.elf")
        subprocess.run(["as", "--32", "-o", obj, HERE / "guest.S"], check=True)
        # The setup part lies in front of the load address, so that labels are run-time addresses.
        start = f"{LOAD_ADDRESS - SETUP_BYTES:#x}"
        link = ["ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext", start, "-e", "_start", "--build-id=none"]
        subprocess.run([*link, "-o", elf, obj], check=True)
        image = elf.read_bytes()
    output.write_bytes(image)
    return image


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "guest.bin"
    print(f"{target}: {len(build(target))} bytes")
