"""Issuers' serial formats: they name a plate's syntax and decide between readings that look alike; they refuse nothing.

Sources: the issuers' published formats as models/train/render draws them, separators left out; shapes that serials of
an issuer often have in labelled photographs.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

PREFERENCE = 4.0
"""How many times as probable a text becomes when it certainly fits its certain issuer's formats."""
LOOK_ALIKES = ("0OQ", "1I")
ALIKE_PREFERENCE = 90.0
"""The same between texts that differ in look-alikes alone. Many typefaces draw these one way, so that what the network
says of them is habit. Of labelled plates that fit with one choice of them only, about as many fit as they stand for
one that would fit otherwise (`python -m models.train syntax`)."""
WORD_PREFERENCE = 40.0
"""The same of texts that fit no format, where an issuer sells words: letters in a word against digits there (ibid.)."""
LIKELY_ISSUER = 0.05
"""Probability from which an issuer's formats decide between look-alikes: of all unlikely ones, some have any format."""

COMMON_US = "@@@### ###@@@ #### ##### ###### @@### @@#### @#### @##### #@####"
"""What most issuers of the United States use, or used, for some class of plates."""

FORMATS: Mapping[str, str] = {
    "AE": "@##### ####### @####", "AL": "@@###@@ @@####@", "AR": "@@###@@ @@@### @###@@@ ###@@@",
    "AT": "@@####@ @@##@@@ @#####@ @@###@@ @####@ @####@@ @###@@@ @###@@ @@###@ @@##@@ @@#@@@",
    "AU": "@@##@@ @@@### #@@#@@ ###@@@ @##@@@ #@@@### #@@### @@@##@ @###@@@", "BA": "@##@###",
    "BE": "#@@@### @@@### ###@@@", "BG": "@@####@@ @####@@", "BR": "@@@#@## @@@####", "BY": "####@@#",
    "CA": "@@@@### @@@### ###@@@ @@##### @##@@@ F@@#### #@@## @@###@ #@#### @@@#### @@###",
    "CH": "@@###### @@##### @@#### @@### @@##", "CL": "@@@@## @@####",
    "CN": "@##### @&#### @#&### @##&## @###&# @####& @&&### @&#&## @&##&# @&###& @#&&## @#&#&# @#&##& @##&&# "
    "@##&#& @###&& @&##### @&&#### @#####&",
    "CO": "@@@### @@@##@", "CY": "@@@###", "CZ": "#&##### #&&#### @@@####",
    "DE": "@@# @@## @@### @@#### @@@# @@@## @@@### @@@#### @@@@# @@@@## @@@@### @@@@#### @@@@@# @@@@@## @@@@@###",
    "DK": "@@#####", "EE": "###@@@ ##@@@", "ES": "####&&& @####@@ @@####@ @@####@@ @###### @@###### @@#####",
    "FI": "@@@### @@@## @@@# @@### @@##", "FR": "&&###&& ####&&## ###&&&## ###&&##",
    "GB": "@@##@@@ &###@@@ &##@@@ &#@@@ @@@###& @@@##& @@@#& @@@### @@@## @@@# ###@@@ ##@@@ #@@@ @@#### @@### "
    "@@## @@# ####@@ ###@@ ##@@ #@@ @#### @### @## @# ####@ ###@ ##@ #@ @@@####",
    "GR": "@@@####", "HR": "@@###@@ @@####@ @@####@@", "HU": "@@@### @@@@###",
    "IE": "##@##### ##@@##### ###@##### ###@@##### ##@#### ##@@#### ###@#### ###@@#### ##@### ##@@### ###@### ###@@###",
    "IL": "####### ########",
    "IN": "@@##&&#### @@##&#### @@#&&&#### @@#&&#### @@#&####",
    "IS": "@@@## @@###", "IT": "&&###&& @@###### @@#####@", "LT": "@@@###", "LU": "@@#### ##### ####",
    "LV": "@@#### @@### @@##", "MD": "@@@###", "ME": "@@@@###", "MK": "@@####@@", "MT": "@@@###",
    "MX": "&&&#### &&&###& &##&&& &&##### ###&&& &###&& ##&&## ###&&#",
    "MY": "&&&#### &####& &&#### &&&### &&&## &&&# &&&####& &&####& &&###&",
    "NL": "&&#### ####&& ##&&## &&##&& &&&&## ##&&&& ##&&&# #&&&## &&###& &###&& &&&##& &##&&& #&&### ###&&#",
    "NO": "@@##### @@####", "NZ": "@@@### @@####",
    "PL": "@@##### @@####& @@###&& @@#&### @@#&&## @@@&### @@@##&& @@@#&## @@@##&# @@@#&&# @@@&&## @@@##### "
    "@@@####& @@@###&&",
    "PT": "##@@## @@##@@ ####@@ @@####", "PY": "@@@@### @@@###", "RO": "@@##@@@ B##@@@ B###@@@ B######",
    "RS": "@@###@@ @@####@@", "RU": "@###@@## @###@@###", "SE": "@@@### @@@##&", "SG": "S&&####& S&&###&",
    "SI": "@@@@### @@##@@@ @@@####", "SK": "@@###@@", "TR": "##@@#### ##@#### ##@@@## ##@@### ##@@@###",
    "UA": "@@####@@", "US-AK": "####@@", "US-AL": "##@###@ #@##@# ##@@### ####@@# @####@ ##@@@##", "US-AR": "@@@##@",
    "US-AS": "@### @@## ####@", "US-AZ": "@@@#### @#@#@@", "US-CA": "#&@&### #@#####", "US-CO": "@@@@##",
    "US-CT": "@@##### #@@@@#", "US-DC": "", "US-DE": "@@#####", "US-FL": "@@@@## @###@@ @##@@@ @@@##@",
    "US-GA": "@@@#### ####@@@", "US-GU": "@@@####", "US-HI": "", "US-IA": "",
    "US-ID": "@###### #@##### #@@#### #@@@###", "US-IL": "@@##### @###### #######",
    "US-IN": "###@ ##@#### ##@### ##@## #@#####", "US-KS": "####@@@", "US-KY": "@#@###", "US-LA": "###@### @######",
    "US-MA": "#@@@## ####@@ ###@@# #####@ #@@###", "US-MD": "#@@#### ###@## #@@##@#", "US-ME": "####@@ #####@",
    "US-MI": "@@@#### #@@#@# ####@@", "US-MN": "#@@###", "US-MO": "@@#@#@ ###@@# #@@@## @#@### #@@###",
    "US-MP": "AA####", "US-MS": "@@@#### ##@##", "US-MT": "######@", "US-NC": "@@@####", "US-ND": "",
    "US-NE": "##@### #@@###", "US-NH": "#######", "US-NJ": "@##@@@ @@@##@ @@###@", "US-NM": "@@@@##",
    "US-NV": "###@## ##@###", "US-NY": "@@@#### @###@@ ####@@@ #@#@@", "US-OH": "@@@#### @@##@@ ####@ ####@@",
    "US-OK": "", "US-OR": "", "US-PA": "@@@#### @@#####", "US-PR": "##@### #####@", "US-RI": "1@@###",
    "US-SC": "####@@ @@##### @######", "US-SD": "#@@### ##@###", "US-TN": "@####@ @@@#### #@##@#",
    "US-TX": "&&&#### &&#&### ##@@@#", "US-UT": "@###@@ #@#@@", "US-VA": "@@@####", "US-VI": "@@@##",
    "US-VT": "###@# #@###", "US-WA": "@@@#### @#####@", "US-WI": "@@@####", "US-WV": "#@@### ##@###",
    "US-WY": "#####@ #######", "UY": "@@@####", "ZA": "@@##@@@@ @@@###@@ @@###### @@@###GP",
}  # fmt: skip
"""Issuer -> patterns: "@" a letter, "&" a letter other than I and O, "#" a digit, anything else itself."""

WORD_SELLERS = {region for region in FORMATS if region.startswith("US-")} | {"AU", "CA"}
"""Issuers that let people choose a serial which fits no format."""

_SYMBOLS = {"@": "[A-Z]", "&": "[A-HJ-NP-Z]", "#": "[0-9]"}
_FOLD: dict[int, str] = str.maketrans({character: group[0] for group in LOOK_ALIKES for character in group})
_SPELT = str.maketrans({"0": "O", "1": "I"})
_READ_AS = {"@": _SPELT, "&": str.maketrans({"0": "Q", "O": "Q"}), "#": _FOLD}
_LONELY = re.compile("(?<=[A-Z])0+(?![0-9])|(?<![0-9])0+(?=[A-Z])|(?<=[A-Z])1(?=[A-Z])")
"""Digits that nobody puts into a word: zeros beside letters alone, a one between letters."""


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(_SYMBOLS.get(symbol, symbol) for symbol in pattern))


def _patterns(region: str) -> list[str]:
    return (FORMATS.get(region, "") + (" " + COMMON_US if region.startswith("US-") else "")).split()


_PATTERNS = {region: {pattern: _compiled(pattern) for pattern in _patterns(region)} for region in FORMATS}
_ANY = {region: re.compile("|".join(one.pattern for one in each.values())) for region, each in _PATTERNS.items()}


def fold(text: str) -> str:
    """Characters that many issuers don't tell apart made one: O = Q = 0, I = 1."""
    return text.translate(_FOLD)


def fitting(text: str, region: str) -> str | None:
    """The first of an issuer's patterns that `text` fits, its letters as "@" and its digits as "#", or None."""
    known = _PATTERNS.get(region, {})
    found = next((pattern for pattern, compiled in known.items() if compiled.fullmatch(text)), None)
    return found and found.replace("&", "@")


def alike(text: str, regions: Mapping[str, float]) -> list[str]:
    """Texts that look like `text` and fit a likely issuer's formats, or spell a word where it sells words; none where
    it fits the likeliest issuer's itself.

    regions: issuer -> probability, best first.
    """
    likely = [region for region, p in regions.items() if p >= LIKELY_ISSUER and region in _ANY]
    if not likely or _ANY[likely[0]].fullmatch(text):
        return []
    found = dict[str, None]()
    for region in likely:
        for pattern, compiled in _PATTERNS[region].items():
            if len(pattern) == len(text):
                other = "".join(c.translate(_READ_AS.get(s, {})) for c, s in zip(text, pattern, strict=True))
                if compiled.fullmatch(other):
                    found[other] = None
    if not WORD_SELLERS.isdisjoint(likely):
        found[spelt(text)] = None
    found.pop(text, None)
    return list(found)


def spelt(text: str) -> str:
    """The text with letters in place of digits that nobody puts into a word."""
    return _LONELY.sub(lambda digits: digits[0].translate(_SPELT), text)


def ranked(candidates: Sequence[tuple[str, float]], regions: Mapping[str, float]) -> list[tuple[str, float]]:
    """Texts and probabilities, best first, those preferred that fit their issuer; the sum of probabilities stays.

    candidates: not empty; regions: issuer -> probability, at most 1 in all.
    """
    classes = defaultdict[str, list[tuple[str, float]]](list)
    for text, p in candidates:
        classes[fold(text)].append((text, p))
    weighed = list[tuple[str, float]]()
    for texts in classes.values():
        preferences = [_preferences(text, regions) for text, _ in texts]
        whole = max(among_all for among_all, _ in preferences) * sum(p for _, p in texts)
        shares = [p * among_alike for (_, p), (_, among_alike) in zip(texts, preferences, strict=True)]
        scale = whole / max(sum(shares), 1e-30)
        weighed += [(text, share * scale) for (text, _), share in zip(texts, shares, strict=True)]
    keep = sum(p for _, p in candidates) / max(sum(p for _, p in weighed), 1e-30)
    return sorted(((text, min(1.0, p * keep)) for text, p in weighed), key=lambda item: -item[1])


def _preferences(text: str, regions: Mapping[str, float]) -> tuple[float, float]:
    """How many times as probable a text becomes among all texts, and among those that look like it."""
    fits = likely = words = 0.0
    for region, p in regions.items():
        if region in _ANY and _ANY[region].fullmatch(text):
            fits += p
            likely += p if p >= LIKELY_ISSUER else 0.0
        elif p >= LIKELY_ISSUER and region in WORD_SELLERS:
            words += p
    odd = words if words and spelt(text) != text else 0.0
    return 1 + (PREFERENCE - 1) * fits, 1 + (ALIKE_PREFERENCE - 1) * likely - (1 - 1 / WORD_PREFERENCE) * odd
