# SPDX-License-Identifier: MIT
"""Pages carried by several threads."""
