"""Whether a reply says yes or no: outright, or as what is said of a statement. Negations are seen or not read.

Pure text; must not know schemas or models.
"""

import re
from typing import NamedTuple

from .marks import TAKEN_BACK, Marked, unwrapped

_YES, _NO = frozenset({"true", "yes"}), frozenset({"false", "no"})
_SHORT = {"t": True, "y": True, "f": False, "n": False}
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_BARE = re.compile(
    r"[\s*_`\"'(\[{#>-]*(?:(?:so|thus|hence|therefore|well|and|the\s+statement\s+is|this\s+is|that\s+is|it\s+is|it's|that's|"
    r"answer)[,:]?\s+)?(?P<said>true|false|yes|no)[\s*_`\"')\]}]*(?P<end>[.!,;:\u2013\u2014]|-\s|$)",
    re.IGNORECASE,
)
_WITH_REASON = re.compile(
    r"[\s*_`\"']*(true|false|yes|no)\b(?!\s+(?:or|nor|and)\b)[*_`\"']*\s*(?:\(|because|since|as\b|for\b|due|$)",
    re.IGNORECASE,
)
_PREDICATE = re.compile(
    r"(?:\b(?:is|are|was|were|be|being|been|equals?|to|as|seems?|remains?|becomes?|returns?|yields?|gives?|says?|conclude|sounds?|"
    r"holds?|answer|get|have)|'s|n't|[=:>\u2192]|\bnot|\bnever)[\s*_`\"'(]*"
    r"(?:(?:also|indeed|therefore|thus|hence|clearly|definitely|likely|probably|simply|always|necessarily)\s+)?"
    r"[*_`\"']*(?P<said>true|false|untrue|yes|no(?=\s*[*_`\"')\]]*(?:[.!,;]|$)))\b(?!\s+(?:or|and/or|nor)\b)",
    re.IGNORECASE,
)
_ANY = re.compile(r"\b(?:true|false|untrue|yes)\b", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:not|never|cannot|neither|nor|none|hardly|scarcely|barely|no\s+longer|nothing|nobody|no\s+one|far\s+from|"
    r"without|deny|denies|doubts?|wrong|incorrect|fails?)\b|n't\b|\bno\b(?=\s+\w)",
    re.IGNORECASE,
)
_DENIED = re.compile(r"(?:\bnot|n't|\bnever|\bcannot)(?:\s+be)?[\s*_`\"']*$", re.IGNORECASE)
_DOUBTED = re.compile(
    r"\b(?:if|whether|unless|would|could|might|may|perhaps|maybe|possibly|suppose|assum\w+|either|neither|part(?:ly|ially)|"
    r"half|mostly|somewhat|sometimes|entirely|wholly|completely|depends?|unclear|unsure|uncertain|sure|should|"
    r"(?:un)?known|claims?|question)\b|\?",
    re.IGNORECASE,
)


class Said(NamedTuple):
    """A truth value, or None and why there is none."""

    value: bool | None
    error: str = ""


NOTHING = "it says neither true nor false"
DOUBTFUL = "whether it says true or false is not clear"


def truth(text: str, mark: Marked | None) -> Said:
    """Return whether a reply says yes or no.

    Args:
        text: The whole reply.
        mark: What it marks as its answer.
    """
    if mark is not None:
        return _marked(unwrapped(mark.text).strip(" *_`\"'"))
    sentences = [part for part in _SENTENCE.split(unwrapped(text)) if part.strip()]
    said = [value for sentence in sentences if (value := _of_sentence(sentence)) is not None]
    outright = [one.value for one in said if one.outright]
    if outright and TAKEN_BACK.search(text):
        return Said(None, DOUBTFUL)
    if outright:
        return _agreed(outright, said)
    if not said:
        return Said(None, DOUBTFUL if _ANY.search(text) else NOTHING)
    last = said[-1]
    return Said(last.value) if last.value is not None else Said(None, DOUBTFUL)


class _Sentence(NamedTuple):
    """What a sentence says: None for what is denied twice or in doubt; outright where it says nothing else."""

    value: bool | None
    outright: bool


def _agreed(outright: list[bool | None], said: list[_Sentence]) -> Said:
    """Return what all outright sentences say, and nothing later gainsays."""
    if None in outright or len(set(outright)) > 1:
        return Said(None, DOUBTFUL)
    last = max(at for at, one in enumerate(said) if one.outright)
    later = {one.value for one in said[last + 1 :]}
    return Said(None, DOUBTFUL) if later - {outright[0]} else Said(outright[0])


def _marked(text: str) -> Said:
    if text.lower().rstrip(".") in _SHORT:
        return Said(_SHORT[text.lower().rstrip(".")])
    sentences = [part for part in _SENTENCE.split(text) if part.strip()]
    if not sentences or "?" in sentences[0]:
        return Said(None, DOUBTFUL if _ANY.search(text) else NOTHING)
    if bare := _BARE.match(sentences[0]):
        rest = sentences[0][bare.end() :]
        other = _of_sentence(rest)  # "No, it is true that ..."
        value = bare["said"].lower() in _YES
        gainsaid = other is not None and other.value is not value and not re.match(r"\s*not\b", rest, re.IGNORECASE)
        return Said(None, DOUBTFUL) if gainsaid else Said(value)
    if start := _WITH_REASON.match(sentences[0]):
        return Said(start[1].lower() in _YES)
    denied = re.fullmatch(r"\s*not\s+(true|false)\W*", sentences[0], re.IGNORECASE)
    if denied and denied[1].lower() == "true":
        return Said(False)
    read = _of_sentence(sentences[0])
    if read is None or read.value is None:
        return Said(None, DOUBTFUL if _ANY.search(text) else NOTHING)
    return Said(read.value)


def _of_sentence(sentence: str) -> _Sentence | None:
    """Return what a sentence says; None where it says nothing, or only what would be."""
    sentence = re.sub(r"\b(?:would|must|should|'d)\s+(?=(?:say|answer|conclude)\b)", " ", sentence, flags=re.IGNORECASE)
    bare = _BARE.match(sentence)
    if bare and "?" not in sentence:
        value, rest = bare["said"].lower() in _YES, sentence[bare.end() :]
        other = _of_sentence(rest) if rest.strip() else None
        if other is not None and other.value is not value:
            return _Sentence(None, True)
        return _Sentence(value, True)
    found = [*_PREDICATE.finditer(sentence)]
    if not found:
        return (
            _Sentence(None, False)
            if re.search(r"\b(?:true|false)\s+(?:or|nor|and)\s+(?:true|false)\b", sentence, re.I)
            else None
        )
    if re.search(r"\b(?:if|would|unless|suppose|assum\w+|whether)\b|\?", sentence, re.IGNORECASE):
        return None
    values = {match["said"].lower() in _YES for match in found}
    if len(values) > 1 or _DOUBTED.search(sentence):
        return _Sentence(None, False)
    last = found[-1]
    value = last["said"].lower() in _YES
    negations = len(_NEGATION.findall(re.sub(r"\buntrue\b", "", sentence)))
    if not negations:
        return _Sentence(value, False)
    denied = _DENIED.search(sentence[: last.start("said")])
    if negations == 1 and denied and value and last["said"].lower() == "true":
        return _Sentence(False, False)
    return _Sentence(None, False)


__all__ = ["Said", "truth"]
