# SPDX-License-Identifier: MIT
"""Calls exit while it is imported."""

import sys

sys.exit(3)
