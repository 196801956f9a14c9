# SPDX-License-Identifier: MIT
"""Pages one after another in the stream."""
