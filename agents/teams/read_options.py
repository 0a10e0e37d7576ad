"""Which option a reply chooses: by its label, or by its text. Two choices, a denied one or a doubtful one are none.

Pure text; must not know items or models.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from .marks import Marked, unwrapped
from .matching import words

MOST_WORDS = 12
"""Words of an unmarked reply whose options are read by their texts wherever they stand; of a longer one the last
sentence is."""

MOST_MENTIONS = 50
"""Mentions of options in one sentence, above which it is no choice."""

_OPENING = (
    r"(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:(?:option|choice|answer|letter)\s+)?(?:is\s+)?(?:number\s+)?"
)
_NAMING = r"(?:option|choice|answer|letter|alternative)s?"
_DENIALS = r"\b(?:not|never|neither|nor|cannot|instead\s+of|rather\s+than|other\s+than|except|without|eliminat\w+|" \
           r"exclud\w+|rul\w+\s+out|rejects?|unlike|nei)\b|n't\b"  # fmt: skip
_DENIED = re.compile(rf"(?:{_DENIALS})[^.;:!?\n]*$", re.IGNORECASE)
_CALLED_WRONG = re.compile(
    r"[)\].*_\"']*\s*(?:\([^()\n]{0,60}\)\s*)?(?:(?:is|are|was|were|seems?|looks?|would\s+be|can\s+be|must\s+be)\s+(?:\w+\s+){0,2}?"
    r"(?:wrong|incorrect|false|not\b|eliminated|excluded|ruled|impossible|out\b|unlikely|implausible)|isn't|can't|"
    r"cannot|doesn't|does\s+not|fails|(?:eliminated|excluded|ruled\s+out))",
    re.IGNORECASE,
)
_DOUBTED = re.compile(
    r"\b(?:if|whether|unless|perhaps|maybe|possibly|might|may\s+be|could\s+be|could\s+also|either|unsure|uncertain|"
    r"between|not\s+sure|don't\s+know|cannot\s+(?:tell|say|determine|decide))\b",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"\s*[)\].:,*_\"'\u2013\u2014-]*\s*(?:\(|because|since|as\s|for\s|due|given|which|that|whereas|while|where|when|so\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_LISTED = re.compile(r"[\s*_>(\[-]*(?P<label>\w{1,2})[)\].:][*_]*\s+\S")


class Choice(NamedTuple):
    """A label, or None and why there is none."""

    label: str | None
    error: str = ""


def choice(text: str, mark: Marked | None, labels: Sequence[str], texts: Sequence[str] = ()) -> Choice:
    """Return the option that a reply chooses.

    Args:
        text: The whole reply.
        mark: What it marks as its answer.
        labels: Of the options, in their order.
        texts: Of the options, in the same order; () where they are not known.
    """
    reader = _Reader(tuple(labels), tuple(texts))
    if mark is not None:
        return reader.short(mark.text)
    plain = unwrapped(text).strip()
    sentences = _sentences(plain)
    whole = reader.exact(plain)
    if whole.label or whole.error:
        return whole
    if len(plain.split()) <= MOST_WORDS:
        return reader.prose(sentences, texts_too=True)
    read = reader.prose(sentences, texts_too=False)
    return read if read.label or read.error else reader.prose(sentences[-1:], texts_too=True)


def _sentences(text: str) -> list[str]:
    """Return the sentences of a text; "B. Rome" is one, and lines that go through the options are left out."""
    parts: list[str] = []
    for part in _SENTENCE.split(text):
        if parts and re.fullmatch(r"\W*\w\.", parts[-1]):
            parts[-1] = f"{parts[-1]} {part}"
        elif part.strip():
            parts.append(part.strip())
    listed = [match["label"] for part in parts if (match := _LISTED.match(part))]
    if len(set(listed)) > 1:
        parts = [part for part in parts if not _LISTED.match(part)]
    return parts


class _Named(NamedTuple):
    """A mention of an option: where it stands, and which it is."""

    start: int
    end: int
    label: str


class _Reader:
    """Reads one set of options."""

    def __init__(self, labels: tuple[str, ...], texts: tuple[str, ...]) -> None:
        self._labels, self._texts = labels, texts
        self._letters = all(len(label) == 1 for label in labels)
        self._by_name = {words(label): label for label in labels}
        if not self._letters:  # options of an agent's own, such as valid and invalid: A, B, ... name them too
            self._by_name = {words(chr(65 + at)): label for at, label in enumerate(labels)} | self._by_name
        known = [words(text) for text in texts]
        self._by_text = {text: labels[at] for at, text in enumerate(known) if text and known.count(text) == 1}

    def exact(self, text: str) -> Choice:
        """Return the option that is all a text says: its label, its text, or both."""
        if text.rstrip(" *_`\"')").endswith("?") and not any("?" in one for one in self._texts):
            return Choice(None, "it asks rather than answers")
        said = words(unwrapped(text))
        bare = words(re.sub(rf"^(?:{_OPENING})(?=\S)", "", said, flags=re.IGNORECASE)) or said
        named = self._by_name.get(said) or self._by_name.get(bare)
        meant = self._by_text.get(said) or self._by_text.get(bare)
        bracketed = re.fullmatch(
            r"[\s*_`\"']*[(\[]\s*\w+\s*[)\]][\s.*_`\"']*|.*\b" + _NAMING + r"\b.*", text.strip(), re.I
        )
        if named and meant and named != meant and not bracketed:
            return Choice(None, f"{said!r} is the label of one option and the text of another")
        return Choice(named or meant)

    def short(self, text: str) -> Choice:
        """Return the option that a marked text names first; a reason may follow."""
        plain = unwrapped(text).strip(" *_`")
        read = self.exact(plain)
        if read.label or read.error:
            return read
        if "?" in plain:
            return Choice(None, "it asks rather than answers")
        first = self._label_first(plain)
        if first.label or first.error:
            return first
        return self.prose(_sentences(plain), texts_too=True)

    def _label_first(self, text: str) -> Choice:
        """Return the label that a text begins with, unless what follows is another option, or denies it."""
        opening = re.compile(
            rf"^{_OPENING}(?:[(\[]\s*(?P<bracketed>{self._names})\s*[)\]]|(?P<plain>{self._names})(?!\w))",
            0 if self._letters else re.IGNORECASE,
        )
        match = opening.match(text) or re.match(opening.pattern, text, re.IGNORECASE)
        if match is None:
            return Choice(None)
        label = self._by_name[words(match["bracketed"] or match["plain"])]
        rest = text[match.end() :]
        ends = re.match(r"\s*(?:[).:,*_\"'\u2013\u2014]|-\s|$)", rest) or _REASON.match(rest)
        if len(match["plain"] or "") == 1 and not ends:
            return Choice(None)  # "A train ..."
        if _CALLED_WRONG.match(rest):
            return Choice(None)
        if _DOUBTED.search(text[: match.start()]):
            return Choice(None, "it is in doubt")
        if (other := self._joined(rest)) is not None and other != label:
            return Choice(None, "it names several options")
        if (other := self._text_at_start(rest)) is not None and other != label:
            return Choice(None, f"its label is {label} and its text that of {other}")
        return Choice(label)

    def _joined(self, rest: str) -> str | None:
        """Return the label that "and", "or" or a comma joins to the one before `rest`."""
        sign = r"\s*[)\]]?\s*(?:,|/|&|\+|;|\band\b|\bor\b|\bto\b|-)\s*(?:and\s+|or\s+)?[(\[]?"
        joined = re.match(rf"{sign}({self._names})(?!\w)", rest, 0 if self._letters else re.IGNORECASE)
        return self._by_name[words(joined[1])] if joined else None

    def _text_at_start(self, rest: str) -> str | None:
        """Return the label of the option whose text, the longest that fits, `rest` begins with."""
        said = words(rest.lstrip(" )].:,-\u2013\u2014*_"))
        fitting = [text for text in self._by_text if re.match(rf"{re.escape(text)}(?!\w)", said)]
        return self._by_text[max(fitting, key=len)] if fitting else None

    def prose(self, sentences: Sequence[str], *, texts_too: bool) -> Choice:
        """Return the option that the last sentence which chooses one names."""
        for sentence in reversed(sentences):
            named = self._mentions(sentence, texts_too=texts_too)
            if len(named) > MOST_MENTIONS:
                return Choice(None, "it names options over and over")
            kept = [one for one in named if not self._denied(sentence, one, named)]
            labels = {one.label for one in kept}
            if len(labels) > 1:
                return Choice(None, "it names several options")
            if labels:
                if _DOUBTED.search(sentence) or sentence.rstrip(" *_\"')").endswith("?"):
                    return Choice(None, "it is in doubt")
                if re.search(r"\b(?:neither|none\s+of|both|all\s+of)\b", sentence, re.IGNORECASE):
                    return Choice(None, "it names none alone")
                return Choice(labels.pop())
            if named:
                return Choice(None, "what it says of the options is that they are wrong")
        return Choice(None)

    @property
    def _names(self) -> str:
        return "|".join(
            re.escape(name) for name in sorted((*self._labels, *self._plain_letters), key=len, reverse=True)
        )

    @property
    def _plain_letters(self) -> list[str]:
        return [] if self._letters else [chr(65 + at) for at in range(len(self._labels))]

    def _mentions(self, text: str, *, texts_too: bool) -> list[_Named]:
        """Return where a sentence names options, the longest text first, so that one within another is not counted."""
        if self._letters:
            names = "|".join(map(re.escape, self._labels))
            marked = (
                rf"[(\[]\s*(?P<a>{names})\s*[)\]]|(?i:\b{_NAMING}\s+)[(\[\"']?(?P<b>{names})\b"
                rf"|(?<![\w'])(?P<c>{names})(?=\s*(?:[).:,;/]|$))(?!\.\w)|(?i:\b(?:is|are|be|choose|pick|select|not|or|and|"
                rf"neither|nor|either|with|to)\s+)(?P<d>{names})(?=\s*(?:[.,;:)!?]|$|\b(?:is|or|and|nor|because|since|but)\b))"
                rf"|^(?P<e>{names})(?=\s+(?:is|and|or|because|since)\b)"
            )
            found = [
                _Named(
                    match.start(match.lastgroup or 0), match.end(), self._by_name[words(match[match.lastgroup or 0])]
                )
                for match in re.finditer(marked, text)
            ]
        else:
            names = "|".join(re.escape(label) for label in sorted(self._labels, key=len, reverse=True))
            found = [
                _Named(match.start(), match.end(), self._by_name[words(match[0])])
                for match in re.finditer(rf"(?<!\w)(?:{names})(?!\w)", text, re.IGNORECASE)
            ]
        if texts_too:
            found += self._texts_in(text, found)
        return sorted(found)

    def _texts_in(self, text: str, taken: Sequence[_Named]) -> list[_Named]:
        found: list[_Named] = []
        for name, label in sorted(self._by_text.items(), key=lambda pair: -len(pair[0])):
            if len(name) < 2 and not name.isdigit():
                continue  # a letter as a text is told from a label by nothing
            pattern = r"\s+".join(map(re.escape, name.split()))
            for match in re.finditer(rf"(?<![\w.]){pattern}(?![\w]|\.\d)", text, re.IGNORECASE):
                clear = all(match.end() <= one.start or one.end <= match.start() for one in (*found, *taken))
                found += [_Named(match.start(), match.end(), label)] if clear else []
        return found

    def _denied(self, text: str, one: _Named, named: Sequence[_Named]) -> bool:
        """Whether a mention is denied, by a word before it (no mention between but a joined one) or after it."""
        before = text[: one.start]
        if re.search(r"\b(?:anything|everything|all|any|none)\s+(?:\w+\s+)?but\s+[(\[\"']*$", before, re.IGNORECASE):
            return True
        clause = re.split(r"\bbut\b|\binstead,|[;:]|\.\s|,\s*(?=it\b|the\b|so\b)", before, flags=re.IGNORECASE)[-1]
        if match := _DENIED.search(clause):
            begins = one.start - (len(clause) - match.start())
            between = [other for other in named if begins < other.start < one.start]
            joined = all(
                re.fullmatch(r"[\s),\"'(]*(?:or|nor|and|,|/)?[\s(\"']*", text[first.end : second.start])
                for first, second in zip([*between], [*between[1:], one], strict=False)
            )
            if not between or joined:
                return True
        return _CALLED_WRONG.match(text[one.end :]) is not None


__all__ = ["Choice", "choice"]
