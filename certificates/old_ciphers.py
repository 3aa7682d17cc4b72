"""Ciphers that files from old programs still use and libraries drop one by one: RC2, RC4 and DES.

No Django here. For reading only: nothing is ever written with them. Each decrypts a few thousand bytes once, so they
are written to be checked against their documents (RFC 2268, RFC 6229, FIPS 46-3) and not to be fast; and nobody who
could measure their time learns more than the person who knows the password.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

# RFC 2268 §2: a permutation of 0…255 made from the digits of π.
_PI: Final = bytes.fromhex(
    "d978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2"
    "179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0bf09521225c6b4e82"
    "54d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626"
    "6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed7"
    "08e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ec"
    "c2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731"
    "2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a9"
    "0d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad"
)


def rc2_cbc(key: bytes, bits: int, iv: bytes, ciphertext: bytes) -> bytes:
    """RC2 in CBC mode, RFC 2268 §2 and §3.2, with an effective key of `bits` (1 to 1024); blocks of 8 bytes."""
    words = _rc2_words(key, bits)
    # From the last word to the first, four at a time, as the inverse of the rounds takes them.
    rounds = [words[n : n + 4] for n in range(60, -1, -4)]
    out = bytearray()
    before = int.from_bytes(iv, "big")
    for at in range(0, len(ciphertext), 8):
        block = ciphertext[at : at + 8]
        a, b, c, d = (block[n] | block[n + 1] << 8 for n in (0, 2, 4, 6))
        for number, (w, x, y, z) in enumerate(rounds):
            if number in (5, 11):  # 5 mixing rounds, a mashing one, 6, a mashing one, 5
                d = (d - words[c & 63]) & 0xFFFF
                c = (c - words[b & 63]) & 0xFFFF
                b = (b - words[a & 63]) & 0xFFFF
                a = (a - words[d & 63]) & 0xFFFF
            d = ((d >> 5 | d << 11) - z - (c & b) - (~c & a)) & 0xFFFF
            c = ((c >> 3 | c << 13 & 0xFFFF) - y - (b & a) - (~b & d)) & 0xFFFF
            b = ((b >> 2 | b << 14 & 0xFFFF) - x - (a & d) - (~a & c)) & 0xFFFF
            a = ((a >> 1 | a << 15 & 0xFFFF) - w - (d & c) - (~d & b)) & 0xFFFF
        plain = bytes((a & 0xFF, a >> 8, b & 0xFF, b >> 8, c & 0xFF, c >> 8, d & 0xFF, d >> 8))
        out += (int.from_bytes(plain, "big") ^ before).to_bytes(8, "big")
        before = int.from_bytes(block, "big")
    return bytes(out)


def _rc2_words(key: bytes, bits: int) -> list[int]:
    """The expanded key: 64 words of 16 bits, RFC 2268 §2."""
    expanded = bytearray(key) + bytearray(128 - len(key))
    for n in range(len(key), 128):
        expanded[n] = _PI[(expanded[n - 1] + expanded[n - len(key)]) & 0xFF]
    octets = (bits + 7) // 8
    mask = 0xFF >> (8 * octets - bits)
    expanded[128 - octets] = _PI[expanded[128 - octets] & mask]
    for n in range(127 - octets, -1, -1):
        expanded[n] = _PI[expanded[n + 1] ^ expanded[n + octets]]
    return [expanded[n] | expanded[n + 1] << 8 for n in range(0, 128, 2)]


def rc4(key: bytes, ciphertext: bytes) -> bytes:
    """RC4, as RFC 6229 has test vectors for it."""
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) & 0xFF
        state[i], state[j] = state[j], state[i]
    out = bytearray()
    i = j = 0
    for octet in ciphertext:
        i = (i + 1) & 0xFF
        j = (j + state[i]) & 0xFF
        state[i], state[j] = state[j], state[i]
        out.append(octet ^ state[(state[i] + state[j]) & 0xFF])
    return bytes(out)


def des_cbc(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """DES with a key of 8 bytes, 3DES with 16 or 24, in CBC mode. Equal keys make 3DES a single DES (FIPS 46-3)."""
    whole = {8: key * 3, 16: key + key[:8], 24: key}[len(key)]
    decryptor = Cipher(TripleDES(whole), modes.CBC(iv)).decryptor()
    return decryptor.update(ciphertext) + decryptor.finalize()
