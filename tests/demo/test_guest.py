# SPDX-License-Identifier: MIT
import shutil

import pytest

from pyemu.demo.build_guest import build
from pyemu.demo.tour import GUEST

needs_assembler = pytest.mark.skipif(
    not (shutil.which("as") and shutil.which("ld")), reason="needs the GNU assembler and linker (binutils)"
)


@needs_assembler
def test_the_shipped_guest_is_what_its_source_assembles_to(tmp_path):
    assert build(tmp_path / "guest.bin") == GUEST.read_bytes()
