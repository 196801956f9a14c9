# SPDX-License-Identifier: MIT
"""The same work on QEMU 10, on pyemu and by plain copying, in turns: ``python -m benchmarks.peers --help``."""
