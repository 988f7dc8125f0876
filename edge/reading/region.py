"""Issuers' serial formats: they name a plate's syntax and decide between readings that look alike; they refuse nothing.

Sources: the issuers' published formats as models/train/render draws them, separators left out.
"""

import re
from collections.abc import Mapping, Sequence

PREFERENCE = 4.0
"""How many times as probable a text becomes when it certainly fits its certain issuer's formats."""

FORMATS: Mapping[str, str] = {
    "AE": "@##### ####### @####", "AL": "@@###@@", "AR": "@@###@@ @@@###",
    "AT": "@@####@ @@##@@@ @#####@ @@###@@ @####@",
    "AU": "@@##@@ @@@### #@@#@@ ###@@@ @##@@@ #@@@### #@@### @@@##@", "BA": "@##@###",
    "BE": "#@@@### @@@### ###@@@", "BG": "@@####@@ @####@@", "BR": "@@@#@## @@@####", "BY": "####@@#",
    "CA": "@@@@### @@@### ###@@@ @@##### @##@@@ F@@#### #@@## @@###@ #@#### @@@#### @@###",
    "CH": "@@###### @@##### @@####", "CL": "@@@@## @@####",
    "CN": "@@####@ @##### @#@### @@@### @####@ @@##@#", "CO": "@@@###", "CY": "@@@###",
    "CZ": "#@##### #@@#### @@@####",
    "DE": "@@# @@## @@### @@#### @@@# @@@## @@@### @@@#### @@@@# @@@@## @@@@### @@@@#### @@@@@# @@@@@## @@@@@###",
    "DK": "@@#####", "EE": "###@@@", "ES": "####@@@ @####@@ @@####@ @@####@@", "FI": "@@@### @@@##",
    "FR": "@@###@@ ####@@## ###@@@## ###@@##",
    "GB": "@@##@@@ @###@@@ @@@###@ @@@##@ @@@### #@@@ @@@# @#@@@ @@#### ###@@@", "GR": "@@@####",
    "HR": "@@###@@ @@####@ @@####@@", "HU": "@@@### @@@@###",
    "IE": "##@##### ##@@##### ###@##### ##@#### ##@###", "IL": "####### ########",
    "IN": "@@##@@#### @@##@#### @@#@@@####", "IS": "@@@## @@###", "IT": "@@###@@", "LT": "@@@###",
    "LU": "@@#### ##### ####", "LV": "@@#### @@### @@##", "MD": "@@@###", "ME": "@@@@###",
    "MK": "@@####@@", "MT": "@@@###", "MX": "@@@#### @@@###@ @##@@@ @@##### ###@@@ @###@@@ ##@@## ###@@#",
    "MY": "@@@#### @####@ @@#### @@@### @@@## @@@#",
    "NL": "@@#### ##@@@@ ##@@@# #@@@## @@###@ @###@@ @@@@## ##@@##", "NO": "@@#####",
    "NZ": "@@@### @@####", "PL": "@@##### @@@@### @@@#### @@####@ @@@##@@ @@###@@",
    "PT": "##@@## @@##@@ ####@@ @@####", "PY": "@@@@###", "RO": "@@##@@@ B##@@@ B###@@@ B######",
    "RS": "@@###@@ @@####@@", "RU": "@###@@## @###@@###", "SE": "@@@### @@@##@", "SG": "S@@####@ S@@###@",
    "SI": "@@@@### @@##@@@ @@@####", "SK": "@@###@@", "TR": "##@@#### ##@#### ##@@@## ##@@### ##@@@###",
    "UA": "@@####@@", "US-AK": "@@@### ####@@ #####", "US-AL": "##@###@ #@##@# ##@@### ####@@# @####@",
    "US-AR": "###@@@ @@@##@ ######", "US-AS": "#### ##### ####@ @@####",
    "US-AZ": "@@@#### ###@@@ @@@### @#@#@@", "US-CA": "#@@@### #@##### @@@### ###@@@",
    "US-CO": "@@@### ###@@@ @@@@## @@####", "US-CT": "###@@@ @@##### #@@@@#", "US-DC": "@@#### ######",
    "US-DE": "###### @@##### @##### #####", "US-FL": "@@@@## ###@@@ @###@@ @@@##@ ######",
    "US-GA": "@@@#### ####@@@ ###@@@", "US-GU": "@@#### ###### @@@### @####", "US-HI": "@@@### @#####",
    "US-IA": "@@@### ###@@@ @@####", "US-ID": "@###### #@##### #@@#### @@@###",
    "US-IL": "@@##### @###### ####### @@@###", "US-IN": "###@@@ ###@ ##@#### @@@### #@#####",
    "US-KS": "###@@@ @@@### ####@@@", "US-KY": "###@@@ @@@### @#@###",
    "US-LA": "###@@@ @@@### ###@### @######", "US-MA": "#@@@## ####@@ ###@@@ ###@@# @#####",
    "US-MD": "#@@#### @@@### ###@## #@@##@#", "US-ME": "####@@ ###@@@ ###### #####@",
    "US-MI": "@@@#### #@@#@# ###@@@ @@####", "US-MN": "@@@### ###@@@",
    "US-MO": "@@#@#@ ###@@# @@@### ###@@@ #@@@##", "US-MP": "@@@### AA####",
    "US-MS": "@@@### ###@@@ @@@#### @@####", "US-MT": "######@ @@@### ######", "US-NC": "@@@#### @@####",
    "US-ND": "###@@@ @@@### ######", "US-NE": "@@@### ##@### #@#### ######",
    "US-NH": "####### ###### @@@###", "US-NJ": "@##@@@ @@@##@ ###@@@ @@###@",
    "US-NM": "###@@@ @@@### @@@@##", "US-NV": "###@## ###@@@ ##@### @@@###",
    "US-NY": "@@@#### @###@@ ####@@@ #@#@@ @@@###", "US-OH": "@@@#### @@##@@ ###@@@ ####@",
    "US-OK": "###@@@ @@@### @@####", "US-OR": "###@@@ @@@###", "US-PA": "@@@#### @@@### @@#####",
    "US-PR": "@@@### ##@### ######", "US-RI": "###### @@### 1@@###",
    "US-SC": "@@@### ###@@@ ####@@ @@####", "US-SD": "#@@### ##@### #@#### ###### @@@###",
    "US-TN": "@####@ @@@#### ###@@@ @@@### #@##@#", "US-TX": "@@@#### @@#@### ###@@@ @@@### ##@@@#",
    "US-UT": "###@@@ @###@@ @@@### #@#@@ @@####", "US-VA": "@@@#### @@@### @@####",
    "US-VI": "@@@### @@### @####", "US-VT": "@@@### ###@# @##### #@###",
    "US-WA": "@@@#### ###@@@ @@@### @#####@", "US-WI": "###@@@ @@@#### @@@### @#####",
    "US-WV": "#@@### ##@### @@@### #@#### @#####", "US-WY": "###### #####@ ####### #####", "UY": "@@@####",
    "ZA": "@@##@@@@ @@@###@@ @@###### @@@###GP",
}  # fmt: skip
"""Issuer -> patterns: "@" a letter, "#" a digit, anything else itself."""

_SYMBOLS = {"@": "[A-Z]", "#": "[0-9]"}


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(_SYMBOLS.get(symbol, symbol) for symbol in pattern))


_PATTERNS = {
    region: {pattern: _compiled(pattern) for pattern in patterns.split()} for region, patterns in FORMATS.items()
}
_ANY = {region: re.compile("|".join(one.pattern for one in each.values())) for region, each in _PATTERNS.items()}


def fitting(text: str, region: str) -> str | None:
    """The first of an issuer's patterns that `text` fits, or None."""
    known = _PATTERNS.get(region, {})
    return next((pattern for pattern, compiled in known.items() if compiled.fullmatch(text)), None)


def ranked(candidates: Sequence[tuple[str, float]], regions: Mapping[str, float]) -> list[tuple[str, float]]:
    """Texts and probabilities, best first, those preferred that fit their issuer; the sum of probabilities stays.

    candidates: not empty; regions: issuer -> probability.
    """
    weighed = [(text, p * _preference(text, regions)) for text, p in candidates]
    keep = sum(p for _, p in candidates) / max(sum(p for _, p in weighed), 1e-30)
    return sorted(((text, min(1.0, p * keep)) for text, p in weighed), key=lambda item: -item[1])


def _preference(text: str, regions: Mapping[str, float]) -> float:
    share = sum(p for region, p in regions.items() if region in _ANY and _ANY[region].fullmatch(text))
    return 1 + (PREFERENCE - 1) * share
