"""Whether a text names a patient: the one rule for what an erasure removes and for whether it is gone.

In a field that holds ids, a value is compared whole. In free text an id counts as a word: letter case, Unicode form and
punctuation around it hide nothing, `P003,` names p003 and p0031 does not. A longer id of another patient, such as
p003-b, is never taken for a shorter one within it. An id that is a plain number, a common word or very short may stand
in a text for something else: such a mention is doubtful, and people have to say what it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

ERASED = "(erased)"
"""Stands where something was taken out of a text."""

_WORD = re.compile(r"[^\W_]+")
_RUN = re.compile(r"(?:[^\W_]|[-_.])+")
_BETWEEN = r"[-_.*`\s:/#·]"
"""What may stand between the words of an id in a text: `PAT-017` is also written `PAT 017`, `pat017`, `**PAT**-017`."""
_PREFIX = re.compile(r"(sub|subj|subject|pat|patient|participant|case)[-_ ]+(?=[^\W_])", re.I)
"""Before an id in a field, as BIDS has it; an id that begins so itself is compared whole first."""
_LEAST_WITHOUT_SEPARATORS = 5
_LEAST_LETTERS = 3
_LEAST_DIGITS = 7
_COMMON = re.compile(
    r"(fp|af|f|ft|fc|c|t|tp|cp|p|po|o|a)(z|[1-9]\d?)"  # electrodes of the 10-20 system, and percentiles
    r"|[hx]26[45]|mp[34]|[bf]?f?p?(8|16|32|64)|bf16|int8|utf8|utf16|sha\d+|md5|i3d|k[46]00|x?64|x86|v\d|q[1-4]|hz\d+|\d+[kmg]?hz"
    r"|\d+(s|ms|h|min|px|fps|mb|gb|kb|st|nd|rd|th|d|x)|\d+[tx]\d+\w*"
    r"|(19|20)\d{6}"
)
_FORMATS = frozenset({"mp4", "h264", "h265", "x264", "mpeg4", "vp9", "av1", "utf8", "base64", "timesformer"})
_WITHIN_A_NUMBER = (re.compile(r"\d[.,:/-]$"), re.compile(r"[.,:/-]\d|%|°"))


@dataclass(frozen=True, slots=True)
class Mention:
    """A place in a text that names the patient.

    Attributes:
        start: index of the first character.
        stop: index after the last.
        certain: it can hardly mean anything else.
    """

    start: int
    stop: int
    certain: bool


def folded(text: str) -> str:
    """A text without what a reader does not tell apart: Unicode form, letter case, kinds of dashes, invisible marks."""
    return _folded(text)[0]


def is_distinctive(name: str) -> bool:
    """Whether an id within a text can hardly mean anything but the patient."""
    letters = "".join(_WORD.findall(folded(name)))
    if letters in _FORMATS or _COMMON.fullmatch(letters):
        return False
    if letters.isdigit():
        return len(letters) >= _LEAST_DIGITS
    return len(letters) >= _LEAST_LETTERS and any(letter.isdigit() for letter in letters) and not letters.isdigit()


class Names:
    """What a patient is called: their id, and those of their videos; and what others are called, who stay.

    Args:
        patients: their ids.
        videos: ids of their videos.
        other_patients: ids of all other patients.
        other_videos: of all videos that stay.
    """

    def __init__(
        self,
        patients: Iterable[str],
        videos: Iterable[str] = (),
        other_patients: Iterable[str] = (),
        other_videos: Iterable[str] = (),
    ) -> None:
        self.patients, self.videos = _Ids(patients, other_patients), _Ids(videos, other_videos)
        own = self.patients.own | self.videos.own
        others = (self.patients.others | self.videos.others) - own
        self._folded_own = {folded(name) for name in own}
        self._folded_others = {folded(name) for name in others}
        self._words_of_others = {_words(name): name for name in others}
        self._telling_others = {_words(name) for name in others if is_distinctive(name)}
        self._certain = {folded(name) for name in own if is_distinctive(name)} - self._folded_others
        self._patterns: dict[str, list[str]] = {}
        for name in sorted(own):
            self._patterns.setdefault("".join(_words(name)), []).append(folded(name))
        ordered = sorted((_words(name) for name in own), key=lambda words: (-len("".join(words)), -len(words)))
        alternatives = "|".join(map(_pattern, ordered))
        self._search = re.compile(rf"(?<![^\W_])(?:{alternatives or '(?!)'})(?![^\W_])")
        shapes = {
            re.sub(r"\\?\d+", r"\\d+", re.escape(folded(name))) for name in self.patients.own if is_distinctive(name)
        }
        self._shape = re.compile(rf"(?<![^\W_])(?:{'|'.join(sorted(shapes)) or '(?!)'})(?![^\W_])")

    @property
    def first_words(self) -> frozenset[str]:
        """The first word of each of their ids, folded: a text without any of them does not name the patient."""
        return frozenset(_words(name)[0] for name in self.own)

    @property
    def own(self) -> frozenset[str]:
        """Their ids and those of their videos."""
        return self.patients.own | self.videos.own

    def is_certain(self, value: str) -> bool:
        """Whether an id of theirs means them wherever it stands."""
        return folded(value.strip()) in self._certain

    def is_of_another(self, value: str) -> bool:
        """Whether a value is just the id of a patient or video that stays."""
        return folded(value.strip()) in self._folded_others

    def find(self, text: str) -> list[Mention]:
        """Where a free text names them, in order."""
        small, places = _folded(text)
        mentions = []
        for match in self._search.finditer(small):
            said = match.group()
            if said in self._folded_others and said not in self._folded_own:
                continue  # another id, which differs in its separators alone
            if self._is_of_another(small, *match.span()) or _is_part_of_a_number(small, match):
                continue
            names = self._patterns["".join(_WORD.findall(said))]
            name = said if said in names else names[0]
            certain = name in self._certain and (_words(name) not in self._words_of_others or said == name)
            if certain and not _same_kind_of_separators(said):
                certain = len("".join(_words(said))) >= _LEAST_WITHOUT_SEPARATORS
            mentions.append(Mention(places[match.start()], places[match.end() - 1] + 1, certain))
        return mentions

    def without(self, text: str, mentions: Sequence[Mention]) -> str:
        """A text without these mentions: all of it goes, unless it speaks of others too, or lists ids."""
        if not mentions:
            return text
        bare = text.strip()
        if not self.name_others(text) and not _is_list(bare):
            before, after = text[: text.index(bare[0])], text[text.rindex(bare[-1]) + 1 :]
            return f"{before}{ERASED}{after}"
        return self.cut(text, mentions)

    def cut(self, text: str, mentions: Sequence[Mention], instead: str = ERASED) -> str:
        """A text with something else in place of each of these mentions."""
        kept, at = [], 0
        for mention in mentions:
            kept += [text[at : mention.start], instead]
            at = mention.stop
        return "".join([*kept, text[at:]])

    def name_others(self, text: str, *, shapes: bool = True) -> bool:
        """Whether a text certainly names another patient: a stored id, or one of the same shape as the patient's."""
        rest = folded(self.cut(text, self.find(text), " "))
        words = _WORD.findall(rest)
        return (shapes and self._shape.search(rest) is not None) or any(
            tuple(words[start:stop]) in self._telling_others
            for start in range(len(words))
            for stop in range(start + 1, min(start + 8, len(words)) + 1)
        )

    def _is_of_another(self, small: str, start: int, stop: int) -> bool:
        """Whether a longer id of another patient or video stands around this place."""
        first, last = start, stop
        while first and _RUN.fullmatch(small[first - 1]):
            first -= 1
        while last < len(small) and _RUN.fullmatch(small[last]):
            last += 1
        words = [
            (match.start() + first, match.end() + first, match.group()) for match in _WORD.finditer(small[first:last])
        ]
        longest = 8  # words of an id
        inner = [number for number, (begin, end, _) in enumerate(words) if begin >= start and end <= stop]
        for begin in range(max(inner[0] - longest, 0), inner[0] + 1):
            for end in range(inner[-1] + 1, min(inner[-1] + longest, len(words)) + 1):
                longer = end - begin > len(inner)
                if longer and tuple(word for _, _, word in words[begin:end]) in self._words_of_others:
                    return True
        return False


class _Ids:
    """Ids of one kind, in fields that hold them."""

    def __init__(self, own: Iterable[str], others: Iterable[str]) -> None:
        self.own = frozenset(name for name in own if name)
        self.others = frozenset(name for name in others if name) - self.own
        self._folded, self._folded_others = ({folded(name) for name in names} for names in (self.own, self.others))

    def hold(self, value: str) -> bool:
        """Whether a value of such a field is one of theirs."""
        whole = value.strip().removesuffix(".0")  # as pandas writes whole numbers beside a gap
        for said in (whole, _PREFIX.sub("", whole, count=1)):
            if said in self.own or said in self.others:
                return said in self.own
            if folded(said) in self._folded:
                return folded(said) not in self._folded_others
        return False


def _pattern(words: tuple[str, ...]) -> str:
    """How an id may be written. Two numbers, or two words, are never written as one: s1-1 is not s11."""
    parts = [re.escape(words[0])]
    for before, after in pairwise(words):
        parts += [_BETWEEN, "{1,6}" if before[-1].isdigit() == after[0].isdigit() else "{0,6}", re.escape(after)]
    return "".join(parts)


def _words(name: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(folded(name)))


def _same_kind_of_separators(said: str) -> bool:
    """Whether the words of an id stand apart as ids have it: `pat 017` and `pat017` are written by people."""
    return len(_WORD.findall(said)) < 2 or re.fullmatch(r"[^\W_]+(?:[-_.]+[^\W_]+)*", said) is not None


def _folded(text: str) -> tuple[str, Sequence[int]]:
    """The folded text, and of each of its characters the place in the original."""
    if text.isascii():
        return text.lower(), range(len(text))
    small, places = [], []
    for place, letter in enumerate(text):
        if unicodedata.category(letter) in ("Cf", "Mn"):
            continue
        for one in unicodedata.normalize("NFKD", letter).casefold():
            category = unicodedata.category(one)
            if category not in ("Cf", "Mn"):
                small.append("-" if category == "Pd" or one == "\u2212" else one)
                places.append(place)
    return "".join(small), places


def _is_part_of_a_number(small: str, match: re.Match[str]) -> bool:
    """Whether a plain number is a part of another one, of a time or of a date (1.5, 10:01, 2024-3-1)."""
    if not match.group().isdigit():
        return False
    before, after = small[max(match.start() - 2, 0) : match.start()], small[match.end() : match.end() + 2]
    return bool(_WITHIN_A_NUMBER[0].search(before) or _WITHIN_A_NUMBER[1].match(after))


def _is_list(text: str) -> bool:
    """Whether a text is nothing but ids, such as `p003; p004`."""
    parts = re.split(r"\s*[;,|]\s*", text)
    return len(parts) > 1 and all(re.fullmatch(r"[^\W_][\w.-]*", part) for part in parts)
