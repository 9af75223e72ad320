"""Personal data that a pattern can find: e-mail addresses, public IP addresses, phone-like numbers.

Each is replaced by one that is reserved for documentation and reaches nobody: example.com (RFC
2606), 192.0.2.1 (RFC 5737), 2001:db8::1 (RFC 3849), 555-0100 (the North American numbering plan's
fictional range). Names and addresses stay: no pattern finds them, which is what such a scrub cannot
do.
"""

from __future__ import annotations

import ipaddress
import re

EMAIL, IPV4, IPV6, PHONE = "email@example.com", "192.0.2.1", "2001:db8::1", "555-0100"
# Digits of a phone number with its area code: ITU-T E.164 allows 15, fewer than 9 may be anything.
MIN_PHONE_DIGITS, MAX_PHONE_DIGITS = 9, 15

_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b"
)
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])")
# Starts with +, a bracketed area code or digits, and has at least two groups parted by one mark:
# a run of digits alone is as likely an amount, an ISBN or a date.
_PHONE = re.compile(
    r"(?<![\w.+/-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\d{2,4}[ .-])"
    r"\d{2,4}(?:[ .-]\d{2,4}){1,3}(?![\w/-]|\.\d)"
)
_ISO_DATE = re.compile(r"(?:1[5-9]|20)\d\d[-. ](?:0?[1-9]|1[0-2])[-. ](?:0?[1-9]|[12]\d|3[01])\b")


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _is_phone(found: str) -> bool:
    digits = sum(map(str.isdigit, found))
    marks = {c for c in found if not c.isdigit()}
    # 1 234 567 890 and 1.234.567.890 are numbers in groups of three, not calls.
    grouped = len(marks & set(" .")) == 1 and re.fullmatch(r"\d{1,3}([ .]\d{3})+", found)
    right_length = MIN_PHONE_DIGITS <= digits <= MAX_PHONE_DIGITS
    return right_length and not grouped and not _ISO_DATE.match(found)


def scrub(text: str) -> tuple[str, dict[str, int]]:
    """The text with personal data replaced, and how many of "email", "ip" and "phone" there were.

    Scrubbing twice changes nothing more. Private and reserved IP addresses stay as they are.
    """
    counts = {"email": 0, "ip": 0, "phone": 0}

    def replacer(kind: str, replacement: str, is_one=None):
        def replace(match: re.Match) -> str:
            if (is_one and not is_one(match[0])) or match[0] == replacement:
                return match[0]
            counts[kind] += 1
            return replacement

        return replace

    if "@" in text:
        text = _EMAIL.sub(replacer("email", EMAIL), text)
    text = _IPV4.sub(replacer("ip", IPV4, _is_public), text)
    if text.count(":") > 1:
        text = _IPV6.sub(replacer("ip", IPV6, _is_public), text)
    text = _PHONE.sub(replacer("phone", PHONE, _is_phone), text)
    return text, counts
