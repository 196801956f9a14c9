# SPDX-License-Identifier: MIT
"""Numbers of the migration stream. All integers on the wire are big-endian."""

from __future__ import annotations

MAGIC = b"QEVM"
VERSION = 3
#: Bytes of a target page on every x86 machine.
PAGE_SIZE = 4096
PAGE_BITS = 12

# Section types.
END_OF_STREAM = 0x00
SECTION_START = 0x01
SECTION_PART = 0x02
SECTION_END = 0x03
SECTION_FULL = 0x04
SUBSECTION = 0x05
DESCRIPTION = 0x06
CONFIGURATION = 0x07
COMMAND = 0x08
FOOTER = 0x7E

# Commands.
CMD_OPEN_RETURN_PATH = 1
CMD_PING = 2
CMD_POSTCOPY_ADVISE = 3
CMD_SWITCHOVER_START = 11
#: Data lengths of the commands that a precopy stream may carry.
COMMANDS = {
    CMD_OPEN_RETURN_PATH: ("OPEN_RETURN_PATH", (0,)),
    CMD_PING: ("PING", (4,)),
    CMD_POSTCOPY_ADVISE: ("POSTCOPY_ADVISE", (0, 16)),
    CMD_SWITCHOVER_START: ("SWITCHOVER_START", (0,)),
}

# Records of the ``ram`` section: a page-aligned value with these flags in its low bits.
RAM_SECTION = "ram"
RAM_SECTION_ID = 1
RAM_VERSION = 4
RAM_ZERO = 0x002
RAM_MEM_SIZE = 0x004
RAM_PAGE = 0x008
RAM_EOS = 0x010
RAM_CONTINUE = 0x020
RAM_XBZRLE = 0x040
RAM_HOOK = 0x080
RAM_MULTIFD_FLUSH = 0x200
RAM_FLAGS = PAGE_SIZE - 1

# Limits that the loader sets before it allocates anything.
MAX_BLOCKS = 4096
MAX_DESCRIPTION = 64 << 20
MAX_MACHINE_NAME = 256
MAX_CAPABILITIES = 256
#: Sections and commands of one stream; QEMU writes some 20 PARTs a second, for hours if need be.
MAX_PEEK = 512
