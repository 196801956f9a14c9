# SPDX-License-Identifier: MIT
"""The National PC87312 and the board that carries it."""
