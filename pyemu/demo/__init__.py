# SPDX-License-Identifier: MIT
"""The demo: a guest of our own, and the tour that `pyemu demo` gives."""
