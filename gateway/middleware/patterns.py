"""The built-in sets of patterns: what looks like a secret, and personal data. Each can be named in `redact`.

They are patterns: they find what has the form of a key or a number, and miss what has none (a password, a name).
"""

from __future__ import annotations

from typing import Final

from deltawire.gateway.middleware.finder import Pattern

LENGTHS: Final = {
    size: frozenset(countries.split())
    for size, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH CR HR LI LV",
        22: "BG BH DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ DZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
}
"""Characters in an IBAN, by country (ISO 13616)."""

_SIZES: Final = {country: size for size, countries in LENGTHS.items() for country in countries}


_NO_SEPARATORS: Final = str.maketrans("", "", " -")
_DOUBLED: Final = dict(zip("0123456789", (0, 2, 4, 6, 8, 1, 3, 5, 7, 9), strict=True))
"""Digits, doubled, and the digits of that added (Luhn)."""

_NUMBERS: Final = str.maketrans({letter: str(int(letter, 36)) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})
"""Letters of an IBAN, for its check digits."""


def count_card(text: str) -> int:
    """All of a card number whose last digit is right (Luhn, ISO/IEC 7812-1); 0 otherwise."""
    digits = text.translate(_NO_SEPARATORS)[::-1]
    total = sum(map(int, digits[::2])) + sum(map(_DOUBLED.__getitem__, digits[1::2]))
    return len(text) if total and not total % 10 else 0


def count_iban(text: str) -> int:
    """Characters of the IBAN that a text begins with, if its length and check digits are right; 0 otherwise."""
    size = _SIZES.get(text[:2], 0)
    letters = text.replace(" ", "")[:size]
    if not size or len(letters) < size:
        return 0
    if int((letters[4:] + letters[:4]).translate(_NUMBERS)) % 97 != 1:
        return 0
    return [place for place, letter in enumerate(text) if letter != " "][size - 1] + 1


def count_phone(text: str) -> int:
    """All of a telephone number with as many digits as one can have (ITU-T E.164); 0 otherwise."""
    return len(text) if 8 <= sum(letter.isdigit() for letter in text) <= 15 else 0


SECRETS: Final = (
    Pattern(r"\bsk-[A-Za-z0-9_-]{20,}"),  # OpenAI, Anthropic and others that follow them
    Pattern(r"\bgh[oprsu]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{22,}"),
    Pattern(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),  # AWS; the secret part of such a key has no form of its own
    Pattern(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}"),  # Slack
    Pattern(r"\bAIza[A-Za-z0-9_-]{35,}|\bya29\.[A-Za-z0-9_-]{20,}"),  # Google
    Pattern(r"\beyJ[A-Za-z0-9_-]{8,250}\.eyJ[A-Za-z0-9_.-]*"),  # JWT: header and payload are JSON objects
    Pattern(r"\b[Bb]earer [A-Za-z0-9._~+/=-]{20,}"),
    Pattern("-----BEGIN [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----", until="-----END [A-Z ]{0,48}-----"),
)

PERSONAL: Final = (
    Pattern(r"\b[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,3}[A-Za-z]{2,24}"),  # e-mail
    Pattern(r"\B\+[1-9](?:[ ().-]{0,2}[0-9]){7,14}", count_phone),
    Pattern(r"\b[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,7}\b", count_card),
    Pattern(r"\b3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}\b", count_card),
    Pattern(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", count_iban),
)

SETS: Final = {"secrets": SECRETS, "personal": PERSONAL}
