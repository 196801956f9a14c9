# SPDX-License-Identifier: MIT
"""Every page at a fixed place in the file."""
