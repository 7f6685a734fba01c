"""The language of ``Bargain-v0``: what the partner understands, how both sides speak, how money is written.

``understand`` reads an utterance of a person or of a language model by words and short patterns, and
forgives one slip of the keyboard in a longer keyword. It is strict about agreement: only plain words
without a price, a condition, a negation or a question accept the standing price.

Prices are percent of the list price on a grid of 2. People read money (``$620``), language models one
token per price (``<p62>``); the two notations convert into each other without loss on the grid.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from dialog_gym.envs import bargain_phrases as phrases

STYLES = ("polite", "neutral", "firm")
REASONS = ("condition", "market", "budget", "pickup", "age")
LOWEST, HIGHEST, STEP = 10, 130, 2  # percent of the list price
READ_CHARS = 1000  # of an utterance; what comes after is not understood
CENTS_BELOW = 200  # list prices in dollars under which a step of 2% needs cents

_POLITE = (
    "please pls thank thanks kindly kind appreciate appreciated grateful gratitude sorry lovely wonderful friend "
    "happy glad hope pleasure bless sweet dear gladly excuse pardon delighted"
)
_FIRM = (
    "final firm firmly serious leave budge stop wasting waste games period enough nonsense walk last bottom push "
    "test ultimatum demand limit"
)
_REASON_WORDS = {
    "condition": "scratch scratches scratched worn repair repairs dent dents damage damaged condition fix broken rust "
    "stain stains crack cracks flawless mint",
    "market": "similar market others cheaper average listing listings comparable online elsewhere competition",
    "budget": "budget student afford rent bills savings paycheck salary income broke",
    "pickup": "pickup pick cash collect tonight delivery deliver truck haul today",
    "age": "old older years dated outdated newer version model aged latest newest",
}
_CODES: dict[str, int] = {}  # word -> 1 polite, 2 firm, 3.. reason, 0 may be agreement or parting
for _code, _words in enumerate((_POLITE, _FIRM, *_REASON_WORDS.values()), start=1):
    _CODES.update(dict.fromkeys(_words.split(), _code))
_SIGNALS = "deal accept accepted agree agreed sold take yours works goodbye bye out quit forget interested leaving"
_CODES.update(dict.fromkeys(_SIGNALS.split(), 0))


def _spoken() -> set[str]:
    """Return every word of the phrase tables."""
    tables = [getattr(phrases, name) for name in dir(phrases) if name.isupper() and name != "TYPOS"]
    return set(re.findall(r"[a-z']+", str(tables).lower()))


def _slips(word: str) -> set[str]:
    """Return what one slip makes of ``word``: a letter lost, doubled, or swapped with the next."""
    lost = {word[:i] + word[i + 1 :] for i in range(1, len(word))}
    doubled = {word[:i] + word[i] + word[i:] for i in range(len(word))}
    swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    return lost | doubled | swapped


_KNOWN = _spoken() | set(_CODES)
for _word in [word for word, code in _CODES.items() if code and len(word) >= 5]:
    for _slip in _slips(_word) - _KNOWN:
        _CODES.setdefault(_slip, _CODES[_word])
for _word, _slip in phrases.TYPOS.items():
    if _word in _CODES:
        _CODES[_slip] = _CODES[_word]
_CODES.update({"thx": 1, "ty": 1, "plz": 1})

_PUNCTUATION = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~', " "))
_AMOUNT = re.compile(
    r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?)( ?(?:k\b|%|percent\b|dollars?\b|bucks\b|usd\b)(?: off\b)?)?"
    r"([a-z]+|-[a-z0-9]+)?"
)
_REFUSED = re.compile(
    r"(?:\bnot|n't|\bnever|\bcannot|\bcant|\bwont|\bdont)(?: (?:pay|do|take|accept|give|want|agree to|go for|sell for|"
    r"at|for))* ?$"
)
_NOT_MONEY = re.compile(
    r" ?(?:miles?|mi|km|years?|yrs?|months?|weeks?|days?|hours?|minutes?|inch(?:es)?|feet|ft|gb|tb|mm|cm|lbs?|times?|"
    r"model|pieces?|people|others|bed(?:room)?s?|bath(?:room)?s?)\b"
)
_OFFERING = re.compile(r"\b(?:for|at|about|pay|offer|do|take|give|is|say|around|to|give you|be) ?$")
_TOKEN = re.compile(r"<p([0-9]{1,4})>")
_AGREED = re.compile(
    r"(?:^|[.,!;]|\b(?:ok|okay|yes|alright|sure|well|so|hi|hello|hey|hmm|right|um|then)) *deal\b"
    r"(?! of| breaker| with| on)"
    r"|\b(?:it's|its|it is|that's|that is|you have|you've got|you got|we have) a deal\b"
    r"|\bi(?: will|'ll)? (?:accept|agree)\b(?! that| with)|\bagreed\b|\baccepted\b|\bsold\b(?! to| it)"
    r"|\bi(?: will|'ll) take it\b(?! or)|\b(?:it is|it's) (?:all )?yours\b|\bthat works for me\b"
)
_AGREED_AT = re.compile(r"\bdone,? it\b|\bit (?:works|then|is fine|is okay|is ok|sounds good)\b")  # "it" is a price
_CONDITION = re.compile(r"\?|\b(?:if|but|unless|until|when|once|before|almost|nearly|maybe|perhaps|might)\b")
_DENIED = re.compile(
    r"(?:n't|\b(?:not|no|nope|never|cannot|cant|wont|dont|would|could|should|how|what))\b[^.,!;]*$"
    r"|(?:^|[.,!;]) *(?:no|nope|never|not) *[.,!;] *$"
)
_HARMLESS = re.compile(r"\bno (?:problem|worries)\b|\bnot a problem\b")
_PARTING = re.compile(
    r"\b(?:goodbye|good bye|bye|i am out|i'm out|im out|i quit|forget it|not interested|i am leaving|i'm leaving)\b"
)


class Act(NamedTuple):
    """What was understood of an utterance.

    Attributes:
        price: The price named, percent of the list price on the grid, or None.
        accept: Whether the standing price is agreed to.
        style: ``"polite"``, ``"neutral"`` or ``"firm"``.
        reason: One of ``REASONS``, or ``""``.
        quit: Whether the speaker leaves.
    """

    price: int | None = None
    accept: bool = False
    style: str = "neutral"
    reason: str = ""
    quit: bool = False

    @property
    def understood(self) -> bool:
        """Whether anything was understood at all."""
        return self != _NOTHING


_NOTHING = Act()


class _Amount(NamedTuple):
    start: int
    end: int
    percent: int


def on_grid(percent: float) -> int:
    """Return the price of the grid nearest to ``percent``, within ``LOWEST`` .. ``HIGHEST``."""
    return min(max(int(percent / STEP + 0.5) * STEP, LOWEST), HIGHEST)


def render_price(percent: int, list_price: float) -> str:
    """Return ``percent`` of ``list_price`` as money: cents under $200, thousands separated.

    >>> render_price(62, 1000), render_price(62, 3), render_price(104, 12500)
    ('$620', '$1.86', '$13,000')
    """
    if list_price >= CENTS_BELOW:
        return f"${int(percent * list_price / 100 + 0.5):,}"
    cents = int(percent * list_price + 0.5)
    return f"${cents // 100}" if cents % 100 == 0 else f"${cents // 100}.{cents % 100:02d}"


def parse_price(text: str, list_price: float) -> int | None:
    """Return the first amount in ``text`` as percent of ``list_price``; the inverse of ``render_price``.

    >>> parse_price("$1.86", 3), parse_price("12k", 20000), parse_price("60%", 70), parse_price("hello", 70)
    (62, 60, 60, None)
    """
    found = _amounts(_plain(text), list_price)
    return found[0].percent if found else None


def _plain(text: str) -> str:
    """Return the part of ``text`` that is read, in lower case and plain characters, of the same meaning."""
    if len(text) > READ_CHARS:
        text = text[:READ_CHARS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))[:READ_CHARS]
        text = "".join([str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text])
    return text.lower()


def _amounts(text: str, list_price: float) -> list[_Amount]:
    """Return every amount of money in ``text``, which is lower case."""
    found = []
    for match in _AMOUNT.finditer(text):
        start = match.start()
        before = text[start - 1 : start]
        if before == "$":
            start, signed = start - 1, True
        elif before.isalnum() or before == ".":
            continue
        else:
            signed = before == " " and text[start - 2 : start] == "$ "
            start -= 2 * signed
        percent = _percent(match, signed, text, list_price)
        if percent is not None:
            found.append(_Amount(start, match.end(2 if match[2] else 1), on_grid(percent)))
    return found


def _percent(match: re.Match[str], signed: bool, text: str, list_price: float) -> float | None:
    """Return what a number means in percent of the list price; None if it is not about money."""
    number, unit, stuck = match.groups()
    if len(number) > 15 or (stuck and not signed):
        return None
    value = float(number.replace(",", ""))
    if not unit:
        percent = 100 * value / list_price
        return percent if signed or _bare_is_money(match, text, value, percent) else None
    unit = unit.strip()
    if unit[0] in "%p":
        return None if value > 200 else 100 - value if unit.endswith("off") else value
    percent = 100 * value / list_price
    if unit[0] == "k":
        return 1000 * percent if signed or _bare_is_money(match, text, 1000 * value, 1000 * percent) else None
    return None if unit.endswith("off") else percent


def _bare_is_money(match: re.Match[str], text: str, value: float, percent: float) -> bool:
    """Guess whether a number without a currency sign is a price: plausible, no other unit, no year."""
    if not 20 <= percent <= 150 or _NOT_MONEY.match(text, match.end()):
        return False
    is_year = 1950 <= value <= 2035 and "," not in match[1] and value == int(value)
    return not is_year or _OFFERING.search(text[max(match.start() - 12, 0) : match.start()]) is not None


def _offered(text: str, list_price: float) -> int | None:
    """Return the last price in ``text`` that is not refused ("not $200"), or None."""
    offered = None
    for start, _, percent in _amounts(text, list_price):
        before = text[max(start - 40, 0) : start]
        negated = "n't" in before or "not" in before or "never" in before or "nt " in before
        if not (negated and _REFUSED.search(before)):
            offered = percent
    return offered


def understand(text: str, list_price: float) -> Act:
    """Return what the partner makes of ``text``; time is bounded whatever the text.

    >>> understand("please, it has a few scratches, how about $155?", 200)
    Act(price=78, accept=False, style='polite', reason='condition', quit=False)
    >>> [understand(text, 200).accept for text in ("$155 is a deal", "ok, deal!", "no deal", "deal?")]
    [False, True, False, False]
    """
    text = _plain(text)
    manners = 0
    reason = ""
    signal = False
    read = _CODES.get
    for code in [code for word in text.translate(_PUNCTUATION).split() if (code := read(word)) is not None]:
        if code >= 3:
            reason = reason or REASONS[code - 3]
        elif code:
            manners += 1 if code == 1 else -1
        else:
            signal = True
    style = "neutral" if manners == 0 else "polite" if manners > 0 else "firm"
    price = _offered(text, list_price)
    if price is not None or not signal:
        return Act(price, False, style, reason)
    if _agrees(text):
        return Act(None, True, style, reason)
    return Act(None, False, style, reason, _PARTING.search(text) is not None)


def _agrees(text: str) -> bool:
    """Return whether ``text``, in which no price is named, agrees without a question, condition or negation."""
    for word, slip in phrases.TYPOS.items():
        text = text.replace(slip, word)
    text = _HARMLESS.sub("", text)
    match = _AGREED.search(text)
    if match is None or _CONDITION.search(text):
        return False
    clause = match.start() + (text[match.start()] in ".,!;")
    return _DENIED.search(text[:clause]) is None


def agrees_at(text: str, price: int, list_price: float) -> bool:
    """Return whether ``text`` agrees and names ``price``, and no other; to repeat a price is not to agree to it.

    >>> [agrees_at(text, 60, 100) for text in ("ok, $60, deal", "$60 is too low", "deal at $70", "$60? no deal")]
    [True, False, False, False]
    """
    text = _plain(text)
    amounts = _amounts(text, list_price)
    if not amounts or any(amount.percent != price for amount in amounts):
        return False
    for start, end, _ in reversed(amounts):
        text = f"{text[:start]}it{text[end:]}"
    return _agrees(text) or _agrees(_AGREED_AT.sub("deal", text))


@lru_cache(maxsize=1 << 15)
def to_tokens(text: str, list_price: float) -> str:
    """Return ``text`` as language models read it: lower case, one line, every amount one token ``<pNN>``.

    >>> to_tokens("How about $620?", 1000)
    'how about <p62>?'
    """
    text = " ".join(_plain(text).replace("<", " ").replace(">", " ").split())
    parts, done = [], 0
    for start, end, percent in _amounts(text, list_price):
        parts += [text[done:start], f"<p{percent}>"]
        done = end
    return "".join([*parts, text[done:]])


def from_tokens(text: str, list_price: float) -> str:
    """Return what a language model wrote as people read it: every token ``<pNN>`` as money.

    >>> from_tokens("how about <p62>?", 1000)
    'how about $620?'
    """
    if "<p" in text:
        text = _TOKEN.sub(lambda match: render_price(on_grid(int(match[1])), list_price), text)
    return text.strip()


# --- speaking ----------------------------------------------------------------------------------


def say(role: str, act: Act, list_price: float, bits: int, first: bool = False) -> str:
    """Put ``act`` of the agent playing ``role`` into words, chosen by the 64 random ``bits``."""
    if act.accept:
        core = _pick(phrases.ACCEPTANCES[role], bits)
    elif act.quit:
        core = _pick(phrases.QUITS, bits)
    elif act.price is None:
        core = _pick(phrases.STALLS[role], bits)
    else:
        core = _pick(phrases.OFFERS[role], bits).format(render_price(act.price, list_price))
    manner = _pick(phrases.MANNERS[act.style], bits >> 8)
    reason = _pick(phrases.REASONS[role][act.reason], bits >> 16) if act.reason else ""
    orders = ([manner, reason, core], [reason, core, manner], [core, reason, manner], [reason, manner, core])
    openers = phrases.GREETINGS if first else phrases.OPENERS
    return _sentence(_pick(openers, bits >> 28), orders[bits >> 24 & 3], bits >> 36)


def cue(kind: str, bits: int) -> str:
    """Return a phrase of a partner of type ``kind``."""
    return _pick(phrases.CUES[kind], bits)


def answer(role: str, reaction: str, cue: str, price: str, bits: int) -> str:
    """Put the partner's counter-offer into words: a reaction, a cue of its type, and the price it asks."""
    ask = _pick(phrases.ASKS[role], bits).format(price)
    sign = _pick(phrases.CUES[cue], bits >> 8)
    how = _pick(phrases.REACTIONS[role][reaction], bits >> 16)
    order = bits >> 24 & 3
    parts = [how, sign, ask] if order < 2 else [sign, how, ask] if order == 2 else [how, ask, sign]
    return _sentence(_pick(phrases.OPENERS, bits >> 28), parts, bits >> 36)


def greet(role: str, cue: str, price: str, bits: int) -> str:
    """Put the opening of a partner who speaks first into words."""
    parts = [_pick(phrases.INQUIRIES, bits), _pick(phrases.CUES[cue], bits >> 8)]
    parts.append(_pick(phrases.ASKS[role], bits >> 16).format(price))
    return _sentence(_pick(phrases.GREETINGS, bits >> 28), parts, bits >> 36)


def close(price: str, bits: int) -> str:
    """Put the partner's agreement at ``price`` into words."""
    return _sentence("", [_pick(phrases.CLOSINGS, bits).format(price)], bits >> 36)


def part(role: str, bits: int) -> str:
    """Put the partner's leaving into words."""
    return _sentence("", [_pick(phrases.PARTINGS[role], bits)], bits >> 36)


def _pick(options: phrases.Phrases, bits: int) -> str:
    return options[(bits & 0xFF) * len(options) >> 8]


def _sentence(opener: str, parts: list[str], bits: int) -> str:
    """Join the parts that are not empty; one text in sixteen gets a typing error."""
    text = (". " if bits & 3 == 0 else ", ").join([part for part in (opener, *parts) if part])
    if bits >> 8 & 15 == 0:
        text = _mistyped(text, bits >> 12)
    return text + ("" if bits >> 4 & 3 == 0 else ".")


def _mistyped(text: str, bits: int) -> str:
    """Replace the first word, from a random place on, that has a common misspelling."""
    words = text.split(" ")
    first = (bits & 0xFF) * len(words) >> 8
    for i in [*range(first, len(words)), *range(first)]:
        if words[i] in phrases.TYPOS:
            words[i] = phrases.TYPOS[words[i]]
            return " ".join(words)
    return text
