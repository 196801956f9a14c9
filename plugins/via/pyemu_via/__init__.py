# SPDX-License-Identifier: MIT
"""VIA south bridges and the board that carries them."""
