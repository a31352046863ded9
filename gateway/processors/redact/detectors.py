"""What is looked for in text, and how it is told from what only looks like it.

Every expression takes time in proportion to the text, whatever that is: it begins only where nothing of its kind stands
before, takes what it takes without going back (``++``, ``*+``), or takes a bounded number of characters.

Beside each stands what the bytes of a message hold that anything could be found in: a quick look, which may say yes for
nothing, and never no for something.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Detector:
    """``find`` yields where something is in a text; ``may_hold`` tells of bytes whether that is worth looking for."""

    find: Callable[[str], Iterator[Span]]
    may_hold: Callable[[bytes], object]


MARK = "[redacted:"
"""How what stands in place of something begins."""

# -- mail addresses ----------------------------------------------------------------------------------------------------

_EMAIL = re.compile(r"(?<![\w.%+\-])[\w.%+\-]++@[\w\-]++(?:\.[\w\-]++)++")
_EMAIL_IN_URL = re.compile(r"(?<![\w.+\-])[\w.+\-]++%40[\w\-]++(?:\.[\w\-]++)++", re.IGNORECASE)
_EMAIL_BYTES = re.compile(rb"@[\w\-\x80-\xff]")
_TOP = re.compile(r"\.[^\W\d_]\w")


def _emails(text: str) -> Iterator[Span]:
    if "@" in text:
        yield from (match.span() for match in _EMAIL.finditer(text) if _has_domain(match[0], "@"))
    if "%40" in text:
        yield from (match.span() for match in _EMAIL_IN_URL.finditer(text) if _has_domain(match[0], "%40"))


def _has_domain(address: str, at: str) -> bool:
    """Tell a domain from a version, as in ``react@18.2.0``."""
    return _TOP.search(address.partition(at)[2]) is not None


# -- card numbers ------------------------------------------------------------------------------------------------------

# Issuers' numbers begin with 2 to 6. Each place is looked at, for what stands before may be digits of something else.
_DIGITS = re.compile(r"(?<!\d)(?=([2-6](?:[ \-]?\d){12,18}))")
_ISSUERS = re.compile(
    r"4|5[1-5]|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)|3(?:[47]|0[0-5]|[689]|5[2-9]|5[0-9])|6(?:011|4[4-9]|5|2|[0379])"
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_MIN_DIGITS, _MAX_DIGITS = 13, 19


def _cards(text: str) -> Iterator[Span]:
    for match in _DIGITS.finditer(text):
        start, run = match.start(), match[1]
        for end in range(len(run), _MIN_DIGITS - 1, -1):
            if not run[end - 1].isdecimal() or text[start + end : start + end + 1].isdecimal():
                continue
            digits = run[:end].replace(" ", "").replace("-", "")
            if len(digits) < _MIN_DIGITS:
                break
            if is_card(digits):
                yield start, start + end
                break


def is_card(digits: str) -> bool:
    """Tell whether a number of 13 to 19 digits is one that an issuer of cards gives, by Luhn's check digit."""
    if not _MIN_DIGITS <= len(digits) <= _MAX_DIGITS or _ISSUERS.match(digits) is None:
        return False
    numbers = [int(digit) for digit in reversed(digits)]
    return (sum(numbers[::2]) + sum(_DOUBLED[number] for number in numbers[1::2])) % 10 == 0


_THIRTEEN = re.compile(rb"\d{13}")
_INT, _DOUBLE = re.compile(rb"\x18[\x80-\xff]{5}"), re.compile(rb"\x21[\s\S]{7}[\x42\x43]")


def _may_hold_cards(raw: bytes) -> object:
    # Whole numbers and floats of that size, as values are serialized, besides text.
    return _THIRTEEN.search(raw.translate(None, b" -")) or _INT.search(raw) or _DOUBLE.search(raw)


# -- IP addresses ------------------------------------------------------------------------------------------------------

# A fifth number behind is a port, as tcpdump writes it; more numbers are a version or the like.
_IPV4 = re.compile(r"(?<!\d)(?<!\d\.)(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?:\.\d{1,5})?(?!\d)(?!\.\d)")
_IPV6 = re.compile(r"(?<![0-9A-Fa-f:])[0-9A-Fa-f:]{3,}+(?!\w)")
_MAX_IPV6 = 39
_NETWORK = ".0.0.0"


def _addresses(text: str) -> Iterator[Span]:
    if "." in text:
        for match in _IPV4.finditer(text):
            # Browsers tell their version so: Chrome/120.0.0.0. No host has such an address.
            if _is_somebodys(match[1]) and not match[1].endswith(_NETWORK):
                yield match.span(1)
    if ":" in text:
        for match in _IPV6.finditer(text):
            if (found := _ipv6(text, *match.span())) is not None:
                yield found


def _ipv6(text: str, start: int, end: int) -> Span | None:
    """Return where an address is among digits and colons, of which the first and last may belong to what is around."""
    if text.startswith("::", start):
        if start and (text[start - 1].isalnum() or text[start - 1] == "_"):  # names of C++: Foo::Bad
            return None
    elif text[start] == ":":
        start += 1
    if text[end - 1] == ":" and text[end - 2] != ":":
        end -= 1
    address = text[start:end]
    if len(address) > _MAX_IPV6 or address.count(":") < 2 or not any(map(str.isdecimal, address)):
        return None
    return (start, end) if _is_somebodys(address) else None


def _is_somebodys(address: str) -> bool:
    """Tell an address that says who or where somebody is; loopback and ``0.0.0.0`` are everybody's."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_unspecified)


_IPV4_BYTES = re.compile(rb"\.\d{1,3}\.\d")


def _may_hold_addresses(raw: bytes) -> object:
    return _IPV4_BYTES.search(raw) or b"::" in raw or raw.count(b":") >= 7


# -- tokens ------------------------------------------------------------------------------------------------------------

# Characters that tokens are made of, as many as stand together, and what shows within that they are one.
_RUN = re.compile(r"(?<![\w\-.~+/=%])[\w\-.~+/=%]{14,}+")
_ISSUED = re.compile(
    r"gh[opsur]_[A-Za-z0-9]{20}|github_pat_\w{20}|gl(?:pat|dt|rt|cbt|ptt|soat|agent)-[\w\-]{16}"
    r"|xox[abeoprs]-[A-Za-z0-9\-]{10}|xapp-[A-Za-z0-9\-]{10}"
    r"|(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}|AIza[\w\-]{30}|ya29\.[\w\-]{10}|GOCSPX-[\w\-]{20}"
    r"|(?<![A-Za-z0-9])sk-(?:proj-|ant-|svcacct-)?[\w\-]{20}|(?<![A-Za-z0-9])[rs]k_(?:live|test)_[A-Za-z0-9]{10}"
    r"|obshub_[0-9a-f]{10}|npm_[A-Za-z0-9]{30}|pypi-[\w\-]{16}|hv[bs]\.[\w\-]{20}|dop_v1_[0-9a-f]{20}|SG\.[\w\-]{16,32}\.[\w\-]{16}"
    r"|glsa_[\w]{20}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{20}|tskey-[\w\-]{16}|AGE-SECRET-KEY-1[0-9A-Z]{20}"
)
_BEARER = re.compile(r"(?<![a-z])bearer\s{1,8}([\w\-.~+/=]{8,}+)", re.IGNORECASE)
_BASIC = re.compile(r"(?<![a-z])basic\s{1,8}([A-Za-z0-9+/]{6,}+={0,2})", re.IGNORECASE)
_USER_IN_URL = re.compile(r"://([^\s/@:?#\"']{0,128}:[^\s/\"']{1,256})@")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----")
_END_OF_KEY = re.compile(r"-----END [A-Z0-9 ]{0,60}-----")
_WORD_LENGTH = 24
_JWT_HEADER = 13


def _tokens(text: str) -> Iterator[Span]:
    for run in _RUN.finditer(text):
        starts = [issued.start()] if (issued := _ISSUED.search(run[0])) is not None else []
        if (jwt := _jwt(run[0])) is not None:
            starts.append(jwt)
        if starts:
            yield run.start() + min(starts), run.end()
    yield from (match.span(1) for match in _BEARER.finditer(text) if _is_no_word(match[1]))
    yield from (match.span(1) for match in _BASIC.finditer(text) if _is_user_and_password(match[1]))
    if "://" in text:
        yield from (match.span(1) for match in _USER_IN_URL.finditer(text) if not match[1].startswith(MARK))
    at = 0
    while "PRIVATE KEY" in text and (begin := _PRIVATE_KEY.search(text, at)) is not None:
        end = _END_OF_KEY.search(text, begin.end())
        at = len(text) if end is None else end.end()
        yield begin.start(), at


def _jwt(run: str) -> int | None:
    """Return where a JWT begins: by a header that is JSON, in Base64, and a point behind it."""
    at = 0
    header, *others = run.split(".")
    for behind in others:
        start = header.find("eyJ")
        if start >= 0 and len(header) - start >= _JWT_HEADER and len(behind) >= 4:
            return at + start
        at += len(header) + 1
        header = behind
    return None


def _is_no_word(token: str) -> bool:
    """Tell a token from a word that follows, as in "bearer authentication"."""
    return len(token) >= _WORD_LENGTH or not (token.isalpha() and token[1:].islower())


def _is_user_and_password(text: str) -> bool:
    try:
        return b":" in base64.b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return False


# What every expression above holds, one of.
_TOKEN_BYTES = (
    *(b"eyJ", b"ghp_", b"gho_", b"ghs_", b"ghu_", b"ghr_", b"github_pat_", b"glpat-", b"gldt-", b"glrt-", b"glcbt-"),
    *(b"glptt-", b"glsoat-", b"glagent-", b"xox", b"xapp-", b"AKIA", b"ASIA", b"ABIA", b"ACCA", b"AIza", b"ya29."),
    *(
        b"GOCSPX-",
        b"sk-",
        b"rk_",
        b"sk_",
        b"obshub_",
        b"npm_",
        b"pypi-",
        b"hvs.",
        b"hvb.",
        b"dop_v1_",
        b"SG.",
        b"glsa_",
    ),
    *(b"shpat_", b"shpca_", b"shppa_", b"shpss_", b"tskey-", b"AGE-SECRET", b"PRIVATE KEY"),
)
_USER_BYTES = re.compile(rb"://[^\s/]{0,388}@")


def _may_hold_tokens(raw: bytes) -> object:
    if any(each in raw for each in _TOKEN_BYTES) or _USER_BYTES.search(raw):
        return True
    lower = raw.lower()
    return b"bearer" in lower or b"basic" in lower


# -- secrets by their keys ---------------------------------------------------------------------------------------------

SECRET_KEYS = (
    *("password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "accesskey", "secretkey", "privatekey"),
    *("credential", "credentials", "authorization", "cookie", "sessionid", "connectionstring"),
)
"""How the keys of secrets end, in small letters and without what separates their words."""

_SEPARATORS = str.maketrans("", "", "._- ")
_BETWEEN = "[._\\- ]?"


def plain_key(key: str) -> str:
    """Return a key as it is compared: in small letters, without what separates its words."""
    return key.lower().translate(_SEPARATORS)


def keyed(keys: tuple[str, ...]) -> Detector:
    """Return what finds values behind keys within text: ``password=…``, ``"token": "…"``, ``Authorization: …``."""
    word = "|".join(_BETWEEN.join(map(re.escape, key)) for key in keys)
    header = _BETWEEN.join("authorization") + "|" + _BETWEEN.join("cookie")
    find = re.compile(
        rf"(?:(?:{header})[\"'\\]{{0,3}}\s{{0,4}}[:=]\s{{0,4}}[\"'\\]{{0,3}}([^\r\n\"'\\]++)"
        rf"|(?:{word})[\"'\\]{{0,3}}\s{{0,4}}(?:=>|:=|[:=])\s{{0,4}}"
        # in quotes, in quotes within a text in quotes, or as far as nothing separates it
        r"(?:\"((?:[^\"\\\r\n]|\\.)++)|\\{1,3}\"((?:[^\"\\\r\n]|\\(?![\\\"]))++)"
        r"|'([^'\r\n]++)|([^\s\"',;&)}\]\\]++)))",
        re.IGNORECASE,
    )

    def spans(text: str) -> Iterator[Span]:
        for match in find.finditer(text):
            index = match.lastindex
            if index is not None and not match[index].startswith(MARK[:-1]):
                yield match.span(index)

    words = [key.encode() for key in keys]

    def may_hold(raw: bytes) -> bool:
        plain = raw.lower().translate(None, b"._- ")
        return any(each in plain for each in words)

    return Detector(spans, may_hold)


DETECTORS: dict[str, Detector] = {
    "email": Detector(_emails, lambda raw: _EMAIL_BYTES.search(raw) or b"%40" in raw),
    "token": Detector(_tokens, _may_hold_tokens),
    "card": Detector(_cards, _may_hold_cards),
    "ip": Detector(_addresses, _may_hold_addresses),
    "key": keyed(SECRET_KEYS),
}
"""What is looked for, by the name that stands in its place."""
