# SPDX-License-Identifier: MIT
"""Keys by name, and the scan codes of set 2 that a keyboard sends for them.

The names are those of QEMU's ``QKeyCode``, so that ``send-key`` takes what its clients send.
"""

from __future__ import annotations

from collections.abc import Iterable

RELEASE, EXTENDED = 0xF0, 0xE0

_ROWS = {
    "1 2 3 4 5 6 7 8 9 0 minus equal backspace": "16 1e 26 25 2e 36 3d 3e 46 45 4e 55 66",
    "tab q w e r t y u i o p bracket_left bracket_right ret": "0d 15 1d 24 2d 2c 35 3c 43 44 4d 54 5b 5a",
    "caps_lock a s d f g h j k l semicolon apostrophe grave_accent backslash": "58 1c 1b 23 2b 34 33 3b 42 4b 4c 52 0e 5d",
    "shift less z x c v b n m comma dot slash shift_r": "12 61 1a 22 21 2a 32 31 3a 41 49 4a 59",
    "ctrl alt spc esc num_lock scroll_lock": "14 11 29 76 77 7e",
    "f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 f11 f12": "05 06 04 0c 03 0b 83 0a 01 09 78 07",
    "kp_0 kp_1 kp_2 kp_3 kp_4 kp_5 kp_6 kp_7 kp_8 kp_9": "70 69 72 7a 6b 73 74 6c 75 7d",
    "kp_decimal kp_add kp_subtract kp_multiply": "71 79 7b 7c",
}
_EXTENDED_ROWS = {
    "up down left right home end pgup pgdn insert delete": "75 72 6b 74 6c 69 7d 7a 70 71",
    "kp_enter kp_divide ctrl_r alt_r meta_l meta_r menu": "5a 4a 14 11 1f 27 2f",
}


def _table() -> dict[str, bytes]:
    codes: dict[str, bytes] = {}
    for prefix, rows in ((b"", _ROWS), (bytes((EXTENDED,)), _EXTENDED_ROWS)):
        for names, values in rows.items():
            codes.update(zip(names.split(), (prefix + bytes((v,)) for v in bytes.fromhex(values)), strict=True))
    return codes


#: What each key sends when it is pressed.
KEYS = _table()

_PLAIN_NAMES = (
    "minus equal bracket_left bracket_right semicolon apostrophe grave_accent backslash comma dot slash"
    " spc tab ret ret backspace esc backspace"
)
_PLAIN = dict(zip("-=[];'`\\,./ \t\r\n\b\x1b\x7f", _PLAIN_NAMES.split(), strict=True))
_SHIFTED_NAMES = (
    "1 2 3 4 5 6 7 8 9 0 minus equal bracket_left bracket_right semicolon apostrophe grave_accent backslash"
    " comma dot slash"
)
_SHIFTED = dict(zip('!@#$%^&*()_+{}:"~|<>?', _SHIFTED_NAMES.split(), strict=True))


def keys_for(character: str) -> tuple[str, ...]:
    """The keys of a US keyboard that type *character*, held together; none for what it cannot type."""
    if character in _PLAIN:
        return (_PLAIN[character],)
    if character in _SHIFTED:
        return ("shift", _SHIFTED[character])
    if "\x01" <= character <= "\x1a":
        return ("ctrl", chr(ord(character) + 0x60))
    if character.lower() in KEYS:
        return ("shift", character.lower()) if character.isupper() else (character,)
    return ()


def chord(names: Iterable[str]) -> bytes:
    """Scan codes of keys that are pressed one after the other and released in the opposite order.

    Raises:
        KeyError: no such key.
    """
    down = [KEYS[name] for name in names]
    return b"".join(down) + b"".join(released(code) for code in reversed(down))


def released(code: bytes) -> bytes:
    """What a key that sends *code* sends when it is let go."""
    return code[:-1] + bytes((RELEASE, code[-1]))
