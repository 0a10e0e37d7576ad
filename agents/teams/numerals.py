r"""Numbers in text, by one grammar; what is half understood is no number.

    sign; digits, or groups of three by comma, thin or plain space; a decimal point; a fraction a/b; a mixed number;
    percent; e-notation and "x 10^n"; hundred, thousand, million, billion, trillion; LaTeX's \frac, \text and spaces;
    currency signs before, words of a unit behind

A number that is a part of something else (a range, a date, a time, a sum, a list, an inequality, a name such as H2O)
is no value: of "6 * 7 = 42" the value is 42, of "3-5" there is none. Pure text; must not know schemas.
"""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation, localcontext
from itertools import pairwise
from typing import NamedTuple

from .marks import braced

DIGITS = 40
"""Digits of a number at most: what is longer is no answer, and would be written out."""
FACTORIALS = 20
"""Up to here `5!` may be a factorial and is not read; above, the mark ends a sentence."""
_WINDOW = 200
"""Characters before a number that are looked at for what denies it."""

_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MONEY = "$\u20ac\u00a3\u00a5\u20b9"
_GROUPED = r"[1-9]\d{0,2}(?:,\d{3})+(?![\d,]|\.\d+[.,]\d)"
_SPACED = r"[1-9]\d{0,2}(?: \d{3})+(?!\d|,\d)"
_PLAIN = rf"(?:{_GROUPED}|\d+)"
_NUMBER = re.compile(
    rf"(?P<whole>{_PLAIN})\s+(?P<over>\d+)\s?/\s?(?P<under>\d+)"  # 2 3/4
    rf"|(?P<numerator>{_PLAIN})\s?/\s?(?P<denominator>{_PLAIN})"  # 3/4
    rf"|(?:(?P<mantissa>(?:{_PLAIN})(?:\.\d+)?|\.\d+)\s*[x*]\s*)?10\s?\^\s?[({{]?\s?(?P<power>[-+]?\d+)\s?[)}}]?"
    rf"|(?P<decimal>(?:{_GROUPED}|{_SPACED}|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)",
    re.IGNORECASE,
)
_SCALE = re.compile(rf"(?:[\s-](?P<words>(?:(?:{'|'.join(_SCALES)})s?\b[\s-]?)+))", re.IGNORECASE)
_PERCENT = re.compile(r"\s?%|\s?pct\b|\s?per\s?cent\b(?!age)", re.IGNORECASE)
# Letters right behind a number that are its unit; k, M, b, bn may be thousands and millions, or a name.
_ATTACHED = re.compile(r"(?:[a-z\u00b5\u03a9]{2,}|[mglLshNJWVACF\u00b0])(?![A-Za-z\d])(?:[23](?!\d))?")
_SCALING = re.compile(
    r"[\s-]?(?:k|K|M|B|G|T|bn|mn|mio|Mio|Mrd|tn|mil|mln|bln|thou|grand)\b(?!/)"
    r"|[\s-]?(?:hundred|thousand|million|billion|trillion)(?!aire)\w"
    r"|[\s-](?:dozens?|lakhs?|crores?|gross|hal(?:f|ves)|quarters?|(?:third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|"
    r"eleventh|twelfth|\w+teenth|\w+tieth|hundredth|thousandth|millionth|billionth)s?|squared|cubed|factorial|o'clock|"
    r"[ap]\.?m\b\.?)(?!\w)",
)
_OPEN_END = re.compile(
    r"(?:\s+(?:less|more|fewer)\s+than\b|\s+(?:raised\s+)?to\s+the\b|[\u2030\u2031]"
    r"|\s*\+(?!\s*[(\w.$\u20ac\u00a3\u00a5\u20b9])|\s+or\s+(?:more|less|fewer|so|higher|lower|above|below)\b"
    r"|\s+and\s+(?:a\s+half|up|over|above)\b|\s+(?:at\s+(?:most|least)|minimum|maximum)\b|(?:[\"'*)\]}]|\s)*\?)",
    re.IGNORECASE,
)
_UNIT_POWER = re.compile(
    r"(?<=[A-Za-z])\s?\^\s?\{?-?[1-4]\}?(?!\d)|(?<=\dkm|\dcm|\dmm|\dft|\din|\dyd)[23]\b"
    r"|(?<=\d km|\d cm|\d mm|\d ft|\d in|\d yd)[23]\b|(?<=\d m)[23]\b"
)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b", re.IGNORECASE)
_BOUND = re.compile(
    r"(?:[<>\u2264\u2265\u00b1\u2260]|[<>!]=|\b(?:at\s+(?:least|most)|(?:more|less|fewer|greater|larger|smaller|higher|"
    r"lower)\s+than|no\s+(?:more|less|fewer)\s+than|up\s+to|nearly|almost|under|over|above|below|exceeds?|beyond|within"
    r"|between|from|plus\s+or\s+minus))\s*[\"'*(]*$",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:\b(?:not|never|nor|neither|cannot|isnt|instead\s+of|rather\s+than|other\s+than|except|without|wrong|incorrect|"
    r"perhaps|maybe|possibly|might\s+be|may\s+be|could\s+be)\b|n't\b)[^.,;:!?\n=]*$",
    re.IGNORECASE,
)
_MONTHS = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)"
)
_DATE = re.compile(rf"\s+(?:of\s+)?{_MONTHS}\b(?!\s+(?:be|have)\b)")
# What is worked out of a number, and what a number is only the name of.
_FUNCTION = re.compile(
    rf"(?i:[A-Za-z_]\($|\\[A-Za-z]+\s*[{{(\[]*$|[\^_!\u221a\u221b]\s?[{{(]?$|[-+*/^{_MONEY}]\s?\($|\w\|$"
    r"|\b(?:log|ln|sin|cos|tan|sqrt|exp|abs|gcd|lcm|mod|(?:square|cube)\s+root(?:\s+of)?|(?:half|double|twice|triple|"
    r"square|cube|third|quarter|factorial|percent)(?:\s+of)?|%\s*of)\s*$"
    r"|%\s+of\s+$|\b(?:steps?|equations?|eq|figures?|fig|sections?|chapters?|pages?|questions?|problems?|examples?|"
    r"methods?|tables?|lines?|options?|choices?|versions?|cases?)\.?\s*[(\[#]?$)"
    rf"|\b{_MONTHS}\.?\s+$"
)
# A sum or product with what is no number: "x + 5", "(x - 2) * 5". Words behind a number are its unit.
_OPERAND = re.compile(r"(?P<words>[)\]}]|[A-Za-z][A-Za-z\s./']*)\s*[-+*/\u00f7^]\s*[(\[{]*$")
_MEASURES = (
    r"(?:hours?|hrs?|h|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|feet|foot|ft|inch(?:es)?|in|yards?|"
    r"miles?|pounds?|lbs?|ounces?|oz|dollars?|cents?|quarters?|dimes?|nickels?|euros?|pence|kg|kilograms?|g|grams?|km|"
    r"kilomet(?:er|re)s?|m|met(?:er|re)s?|cm|centimet(?:er|re)s?|mm|gallons?|quarts?|pints?|lit(?:er|re)s?|ml|degrees?)"
)
_VARIABLE = re.compile(r"(?<![A-Za-z'])(?:[b-fj-knp-rt-wyz]|x(?!\s*[" + _MONEY + r"(.\d]))(?![A-Za-z'])")
_COMPOUND = re.compile(rf"\.?\s*{_MEASURES}\.?,?(?:\s+and)?\s*", re.IGNORECASE)
_EQUATES = re.compile(r"[=\u2248\u2192]|\bequals\b|\bis\s+equal\s+to\b|\bwhich\s+is\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[.;!?](?:\s|$)|[\n]")
_JOINS = re.compile(
    r"[\s()\[\]}\"'*%]*(?:(?:[A-Za-z]+\s+){0,2}(?:and|or|to|plus|minus|through|till|until|"
    r"remainder|[rR]|&)(?:\s+(?:maybe|perhaps|possibly|even))?|by|times|over|in|per|versus|vs\.?|x|"
    r"(?:out\s+)?of|(?:divided|multiplied)\s+by|(?:instead|short)\s+of|(?:rather|other)\s+than)[\s(\[{$]*",
    re.IGNORECASE,
)
_OPERATES = re.compile(
    r"[\s)\]}%]*(?:[A-Za-z]+[\s)]*){0,2}(?:[-+*/\u00f7^\u2013\u2014<>\u00b1\u2264\u2265'\"|\u2026]+|\.\.+|:(?=\S)|\s:\s)"
    r"[\s(\[{" + _MONEY + r"]*"
)
_LISTED = re.compile(r"[\s)\]}%]*[,;][\s(\[{]*(?:(?:and|or)\s+)?|[\s" + _MONEY + r"]*")
_SUPERSCRIPTS = str.maketrans(
    "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b", "0123456789+-"
)


class Numeral(NamedTuple):
    """A number in a text; `value` is None where something stands there that was not understood."""

    value: str | None
    percent: bool = False

    @property
    def text(self) -> str | None:
        """The value as a plain decimal, with its percent sign."""
        return None if self.value is None else f"{self.value}%" if self.percent else self.value


class _Part(NamedTuple):
    """A number where it stands; `number` is None where what is around it makes something else of it."""

    start: int
    end: int
    number: Numeral


def first_number(text: str) -> Numeral | None:
    """Return the first number of a text; None where there is no digit in it."""
    groups = _groups(text)
    return _value(*groups[0]) if groups else None


def last_number(text: str) -> Numeral | None:
    """Return the last number of a text; None where there is no digit in it."""
    # A number and what belongs to it stand on one line: the last line with a number will do, however long the text.
    for line in reversed(text.splitlines()):
        if any(map(str.isnumeric, line)) and (groups := _groups(line)):
            return _value(*groups[-1])
    return None


def whole_number(text: str, *, unit: bool = True) -> Numeral | None:
    """Return the number that a text is; None where it is more than one number, or none.

    Args:
        text: One value.
        unit: Whether words may stand beside the number.
    """
    groups = _groups(text)
    if len(groups) != 1:
        return None
    plain, parts = groups[0]
    rest = plain[: parts[0].start] + plain[parts[-1].end :]
    return None if not unit and re.search(r"\w", rest) else _value(plain, parts)


def numerals_plain(text: str) -> str:
    """Return text in the signs of the grammar: ASCII digits and spaces, LaTeX and vulgar fractions written out."""
    text = re.sub(r"(?<=\d)[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207a\u207b]+",
                  lambda match: "^" + match[0].translate(_SUPERSCRIPTS), text)  # fmt: skip
    text = re.sub(r"[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207a\u207b]", "", text)
    signs: list[str] = []
    for sign in text:
        if "\u2044" in (folded := unicodedata.normalize("NFKC", sign)) and len(folded) > 1:
            signs.append(f" {folded} " if signs and signs[-1][-1:].isdigit() else folded)
        elif sign.isdecimal():
            signs.append(str(unicodedata.decimal(sign)))
        else:
            signs.append(folded if folded else sign)
    plain = "".join(signs).replace("\u2212", "-").replace("\u2044", "/").replace("\u00d7", "*")
    plain = plain.replace("\u066b", ".").replace("\u066c", ",").replace("\u22c5", "*").replace("\u00b7", "*")
    return _markdown(_latex(plain))


def _latex(text: str) -> str:
    text = re.sub(r"\\(?:left|right|displaystyle|bigl?|bigr|Bigl?|Bigr)(?![A-Za-z])|\\!", "", text)
    text = text.replace("{,}", ",").replace("\\%", "%").replace("\\$", "$")
    text = re.sub(r"\\(?:times|cdot)(?![A-Za-z])", "*", text)
    text = re.sub(r"\\(?:approx|simeq|sim)(?![A-Za-z])", "\u2248", text)
    text = re.sub(r"\^?\s?\{?\\circ\}?|\\degree(?![A-Za-z])|\u00b0", " degrees ", text)
    text = re.sub(r"\\[,;: ]|~|\\q?quad(?![A-Za-z])", " ", text)
    text = re.sub(r"\\[()\[\]]", " ", text)
    text = re.sub(r"\^\s?\{\s?([-+]?\d+)\s?\}", r"^\1", text)
    commands = re.compile(r"\\(?:text(?:bf|it|rm|tt|sf)?|mathrm|mathbf|mathit|mathsf|mbox|boxed)\s*\{")
    while match := commands.search(text):
        content = braced(text, match.end())
        if content is None:
            return text
        spaced = content if content.strip()[:1].isdigit() else f" {content} "
        text = f"{text[: match.start()]}{spaced}{text[match.end() + len(content) + 1 :]}"
    return _fractions(text)


def _fractions(text: str) -> str:
    r"""Write `\frac{a}{b}` of plain numbers as a/b; any other stays, and is not understood."""
    fraction = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(-?[\d,]+)\s*\}|(\d))\s*(?:\{\s*([\d,]+)\s*\}|(\d))")

    def written(match: re.Match[str]) -> str:
        over, under = match[1] or match[2], match[3] or match[4]
        return f" {over}/{under} " if text[: match.start()].rstrip()[-1:].isdigit() else f"{over}/{under} "

    return fraction.sub(written, text)


def _markdown(text: str) -> str:
    text = re.sub(r"(?<=\d)\s?\*\*\s?(?=[-+({]?\d)", "^", text)
    text = re.sub(r"\*\*|__|`|(?<![\w*])_(?=\S)|(?<=\S)_(?![\w*])", "", text)
    return re.sub(r"(?<![\d)\]}\s])\*(?=\S)|(?<=\s)\*(?=\S)(?<!\d\s\*)|(?<=\S)\*(?=\s|[.,;:!?)](?!\d)|$)", "", text)


def _groups(text: str) -> list[tuple[str, list[_Part]]]:
    """Return the numbers of a text, those that belong together as one group: a sum, a list, both sides of a sign."""
    plain = _UNIT_POWER.sub("", numerals_plain(text))
    plain = re.sub(r"\b(?:minus|negative)\s+(?=[" + _MONEY + r"]?\s?[\d.])", "-", plain, flags=re.IGNORECASE)
    plain = re.sub(r"\bRs\.?\s*(?=\d)|\b(?:USD|EUR|GBP|INR|US|CA|A)(?=[$\d])\s?", "$", plain)
    groups: list[tuple[str, list[_Part]]] = []
    for part in _parts(plain):
        if groups and _linked(plain[groups[-1][1][-1].end : part.start]):
            groups[-1][1].append(part)
        else:
            groups.append((plain, [part]))
    return groups


def _parts(text: str) -> list[_Part]:
    parts: list[_Part] = []
    at = 0
    digit = re.compile(r"\.?\d")
    while found := digit.search(text, at):
        start = found.start()
        match = _NUMBER.match(text, start)
        if match is None or not match[0]:  # a point that belongs to what is before it
            at = found.end()
            continue
        end = match.end()
        begin, sign, sound = _sign(text, start)
        value = _decimal(match) if sound else None
        value, end = _scaled(value, text, end)
        percent = _PERCENT.match(text, end)
        end = percent.end() if percent else end
        if value is not None and not _stands_alone(text, begin, start, end, match[0]):
            value = None
        word = re.compile(r"\w*").match(text, end)
        if value is None and word:
            end = max(end, word.end())
        signed = None if value is None else -value if sign == "-" else value
        parts.append(_Part(begin, end, Numeral(_written(signed), bool(percent))))
        at = end
    return parts


def _sign(text: str, start: int) -> tuple[int, str, bool]:
    """Return where a number begins with its sign and currency, the sign, and whether both are clear."""
    begin = start
    money = re.search(rf"[{_MONEY}]\s?$", text[max(0, begin - 2) : begin])
    begin -= len(money[0]) if money else 0
    signed = re.search(r"[-+\u2013\u2014](\s*)$", text[max(0, begin - 4) : begin])
    if signed is None:
        return begin, "", True
    sign, spaces, at = signed[0][0], signed[1], begin - len(signed[0])
    before = text[:at].rstrip(" ")
    attached = text[at - 1 : at] if at else ""
    if sign in "\u2013\u2014":  # a dash between words, or a minus of good typography: told apart by the space
        return (begin, "", True) if spaces and before[-1:] not in "=:" else (begin, "", False)
    if attached and (attached.isdigit() or attached in ")]}%"):
        return begin, "", True  # an operator
    if attached and (attached.isalpha() or attached == "_"):
        return begin, "", False  # a name: F-16
    if spaces:
        if before[-1:] in ("=", ":", "(") and before:
            return at, sign, True
        lone = not before or before.endswith("\n")
        return (at, "", False) if lone else (begin, "", True)  # a bullet, or an operator
    outer = re.search(rf"[{_MONEY}]$", text[:at])  # $-5
    return at - (1 if outer else 0), sign, True


def _decimal(match: re.Match[str]) -> Decimal | None:
    def plain(digits: str) -> Decimal:
        return Decimal(digits.replace(",", "").replace(" ", ""))

    with localcontext() as context:
        context.prec = 60
        try:
            if match["whole"]:
                over, under = plain(match["over"]), plain(match["under"])
                spaced = len(match["over"]) == 3  # 12 345/6: a group, or a mixed number
                return None if over >= under or spaced else plain(match["whole"]) + over / under
            if match["numerator"]:
                return plain(match["numerator"]) / plain(match["denominator"])
            if match["power"]:
                power = int(match["power"]) if len(match["power"]) < 5 else 10**5
                return plain(match["mantissa"] or "1").scaleb(power)
            return plain(match["decimal"])
        except (InvalidOperation, ArithmeticError):
            return None


def _scaled(value: Decimal | None, text: str, end: int) -> tuple[Decimal | None, int]:
    scale = _SCALE.match(text, end)
    if scale is None:
        return value, end
    words = re.findall(r"[a-z]+", scale["words"].lower())
    end += len(scale[0].rstrip(" -"))
    if value is None:
        return None, end
    for word in words:
        value = value.scaleb(_SCALES[word.removesuffix("s")])
    return value, end


def _stands_alone(text: str, begin: int, start: int, end: int, digits: str) -> bool:
    """Whether what is around a number leaves it a number."""
    before, after = text[max(0, begin - _WINDOW) : begin], text[end : end + 80]
    if re.search(r"[\w.,:\\]$", before) and not re.search(r"(?:[^\d\s.][.,:]|\.\.\.|\s\.)$", before):
        return False
    if re.search(r"\d[.,:]$", before) or _FUNCTION.search(before) or _operand(before):
        return False
    if _BOUND.search(before) or _DENIED.search(before):
        return False
    if re.match(
        r"[\d_^\\]|[.,:]\d|/\s?[\d(]|/[A-Za-z](?![A-Za-z/])|\s?[\u00b1^<>\u2264\u2265\u2260]|\s?\\[A-Za-z]", after
    ):
        return False
    if re.match(r"!", after) and re.fullmatch(r"\d{1,2}", digits) and int(digits) <= FACTORIALS:
        return False
    if _OPEN_END.match(after) or _DATE.match(after) or _SCALING.match(after) or _ORDINAL.match(after):
        return False
    if re.match(r"[A-Za-z\u00b5\u03a9]", after) and not _ATTACHED.match(after):
        return False
    money = re.search(rf"[{_MONEY}]", text[begin:start])
    return not (money and re.match(r"\s?[mbtkMBTK]\b", after))


def _operand(before: str) -> bool:
    """Whether a number is added to, or multiplied with, something that is no number."""
    match = _OPERAND.search(before)
    if match is None:
        return False
    unit = before[: match.start()].rstrip()[-1:]
    return match["words"] in ")]}" or not (unit.isdigit() or unit in {"%", ")"})


def _linked(between: str) -> bool:
    """Whether two numbers with so much between them belong together."""
    if "\n" in between or len(between) > 60:
        return False
    if _LISTED.fullmatch(between) or _JOINS.fullmatch(between) or _OPERATES.fullmatch(between):
        return True
    if _COMPOUND.fullmatch(between):
        return True
    return bool(_EQUATES.search(between)) and not _SENTENCE.search(between) and "," not in between


def _value(text: str, group: Sequence[_Part]) -> Numeral:
    """Return what a group comes to: its number where it is one, the number that its equation ends in, or nothing."""
    sides: list[list[_Part]] = [[group[0]]]
    for before, part in pairwise(group):
        if _EQUATES.search(text[before.end : part.start]):
            sides.append([part])
        else:
            sides[-1].append(part)
    if len(group) == 1:
        return group[0].number
    last = sides[-1]
    if len(sides) == 1 or any(part.number.value is None for part in last):
        return Numeral(None)
    if any(part.number.value is None for part in group):
        # What was not understood was worked out, unless a letter stands for a number: "3x = 12" does not say 12.
        begin = max(0, group[0].start - 12)
        worked = re.sub(r"\A\w+" if begin else r"\A", "", text[begin : last[0].start])
        return last[0].number if len(last) == 1 and not _VARIABLE.search(worked) else Numeral(None)
    # "12 (of those) + 1 = 13": a side that ends in a bracket is worked out too.
    single = [side[0].number for side in sides[:-1] if len(side) == 1 and ")" not in text[side[0].end : last[0].start]]
    single += [last[0].number] if len(last) == 1 else []
    if not single:
        return Numeral(None)
    values = [Decimal(number.value or 0) for number in single]
    about = "\u2248" in text[group[0].end : group[-1].start]
    close = Decimal("0.01") if about else Decimal("0.000001")
    if any(abs(value - values[0]) > close * abs(values[0]) for value in values):
        return Numeral(None)
    return single[0] if about else single[-1]


def _written(value: Decimal | None) -> str | None:
    if value is None or (value and abs(value.adjusted()) > DIGITS):
        return None
    written = format(value.normalize(), "f")
    return "0" if not value else written


__all__ = ["Numeral", "first_number", "last_number", "numerals_plain", "whole_number"]
