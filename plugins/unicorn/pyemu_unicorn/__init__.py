# SPDX-License-Identifier: GPL-2.0-or-later
"""x86 CPU engine on the Unicorn library."""
