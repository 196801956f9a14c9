# SPDX-License-Identifier: MIT
"""Pages compressed with Zstandard."""
