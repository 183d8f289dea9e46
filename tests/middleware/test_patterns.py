"""What the built-in sets find, and what they leave alone."""

from __future__ import annotations

import pytest

pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")

from deltawire.gateway.middleware.finder import Finder
from deltawire.gateway.middleware.patterns import PERSONAL, SECRETS, count_card, count_iban
from deltawire.gateway.middleware.scanning import Scanner

SECRET = Finder(SECRETS)
PERSON = Finder(PERSONAL)


def redact(finder: Finder, text: str) -> str:
    scanner = Scanner(finder, "#")
    cuts = scanner.feed(text)
    if cuts is None:
        return text
    cuts += scanner.finish()
    out, start = "", 0
    for size, becomes in cuts:
        out += text[start : start + size] if becomes is None else becomes
        start += size
    return out


LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.mark.parametrize(
    "secret",
    [
        f"sk-{LETTERS}",
        f"sk-proj-{LETTERS}_{LETTERS}",
        f"sk-ant-api03-{LETTERS}-{LETTERS}AA",
        f"ghp_{LETTERS}",
        f"github_pat_{LETTERS}",
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "xoxb-123456789012-abcdef",
        f"AIza{LETTERS}",
        f"ya29.{LETTERS}",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        f"Bearer {LETTERS}",
        f"-----BEGIN PRIVATE KEY-----\n{LETTERS}\n-----END PRIVATE KEY-----",
        f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{LETTERS}\n=ab\n-----END PGP PRIVATE KEY BLOCK-----",
    ],
)
def test_a_secret_is_redacted(secret: str) -> None:
    assert redact(SECRET, f"it is {secret}, no?") == "it is #, no?"
    assert redact(SECRET, f'"{secret}"') == '"#"'


@pytest.mark.parametrize(
    "text",
    [
        "a task-based risk-assessment-of-everything-there-is",
        "sk-short, and AKIA",
        "the bearer of this letter is called Eyjafjallajokull",
        "-----BEGIN CERTIFICATE-----",
        "xoxo, John",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(SECRET, text) == text


@pytest.mark.parametrize(
    "data",
    [
        "joe@example.com",
        "first.last+tag@mail.example.co.uk",
        "+49 30 1234567",
        "+1 (415) 555-2671",
        "+442071838750",
        "4111111111111111",
        "5500-0000-0000-0004",
        "3782 822463 10005",
        "DE89370400440532013000",
        "GB29 NWBK 6016 1331 9268 19",
        "NO93 8601 1117 947",
    ],
)
def test_personal_data_are_redacted(data: str) -> None:
    assert redact(PERSON, f"it is {data}, no?") == "it is #, no?"


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # its last digit is wrong
        "DE88370400440532013000",  # its check digits are wrong
        "XX12 3456 7890 1234 5678",  # no such country
        "a + 12345678 + 9",
        "x+12345678",
        "meet @noon, e.g. at no.5",
        "2026-11-29 23:35:15",
        "0000 0000 0000 0000",
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert redact(PERSON, text) == text


def test_an_iban_ends_where_its_country_says() -> None:
    assert redact(PERSON, "BE68 5390 0754 7034 OK") == "# OK"


def test_check_digits_are_checked() -> None:
    assert count_card("4111 1111 1111 1111") == 19
    assert count_card("4111 1111 1111 1112") == 0
    assert count_iban("DE89 3704 0044 0532 0130 00") == 27
    assert count_iban("DE89 3704 0044 0532 0130 01") == 0
    assert count_iban("DE89") == 0
