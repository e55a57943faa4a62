"""Drawing noun phrases, places and times: which words go together, how often, and what has been mentioned already."""

import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate

from data_tools.toy_corpus.lexicon import LANGUAGES, lexicon
from data_tools.toy_corpus.meaning import Clause, Determiner, Kind, NounPhrase, Place, Relative, Tense

# Word weights fall as 1 / (rank + _RANK_SHIFT) ** _RANK_POWER: flatter than Zipf's law, so that a small corpus shows
# every word a few times.
_RANK_SHIFT = 4
_RANK_POWER = 0.8
# Only these are the first of two adjectives; the second is a colour. So all languages have the same natural order.
_FIRST_OF_TWO = frozenset({"big", "small", "old", "new", "beautiful"})
_COLOURS = frozenset({"red", "blue", "green", "white", "black", "yellow", "gray", "brown"})
_COUNTABLE_LIMIT_DIGITS = 99
_PROTAGONISTS = "person,name"


@dataclass
class Discourse:
    """The state of a document: its cast and things, those already mentioned, and the last subject and object."""

    nouns: tuple[str, ...]
    known: set[str] = field(default_factory=set)
    last_subject: NounPhrase | None = None
    last_object: NounPhrase | None = None


@cache
def _cumulative_weights(count: int) -> tuple[float, ...]:
    """Running sums of the word weights of `count` ranks."""
    return tuple(accumulate(1 / (rank + _RANK_SHIFT) ** _RANK_POWER for rank in range(count)))


@cache
def verbs_of_frame(frame: str) -> tuple[str, ...]:
    """The verbs with this frame, common ones first."""
    return tuple(name for name, verb in lexicon().verbs.items() if verb.cells["frame"] == frame)


@cache
def _verbs_with_subject(frame: str, noun: str) -> tuple[str, ...]:
    """The verbs of this frame whose subject can be the noun."""
    verbs, select = lexicon().verbs, lexicon().select
    return tuple(name for name in verbs_of_frame(frame) if noun in select("nouns", verbs[name].cells["subject"]))


@cache
def adjectives_of(noun: str) -> tuple[str, ...]:
    """The adjectives that can describe a noun, common ones first."""
    entries = lexicon().adjectives.items()
    return tuple(name for name, entry in entries if noun in lexicon().select("nouns", entry.cells["kinds"]))


@cache
def _is_direct(verb: str) -> bool:
    """Whether the object is direct, or a bare dative, in all four languages, so that it can be a pronoun."""
    governments = [lexicon().verbs[verb].government(language) for language in LANGUAGES]
    return all(government in ("", "acc", "dat") for government in governments)


@cache
def verbs_for(subject: str, thing: str) -> tuple[str, ...]:
    """Direct transitive verbs whose subject can be the noun `subject` and whose object the noun `thing`."""
    found = []
    for name in verbs_of_frame("tv"):
        cells = lexicon().verbs[name].cells
        acts = subject in lexicon().select("nouns", cells["subject"])
        if acts and thing in lexicon().select("nouns", cells["object"]) and _is_direct(name):
            found.append(name)
    return tuple(found)


def can_have(owner: NounPhrase, noun: str) -> bool:
    """Whether the noun can be "his" or "hers": animals have no relations, and boys and girls no children."""
    relation = "relation" in lexicon().nouns[noun].tags
    return not relation or (owner.has("person", "name") and not (owner.has("young") and noun in ("son", "daughter")))


class PhraseSampler:
    """Draws meanings with a random generator; in a discourse, words and determiners depend on what came before.

    `num_words` limits the words that are possible in each place to the most common ones; None is no limit.
    """

    def __init__(
        self, generator: random.Random, discourse: Discourse | None = None, num_words: int | None = None
    ) -> None:
        self.generator = generator
        self.discourse = discourse
        self.num_words = num_words

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.generator.random() < probability

    def pick(self, names: Sequence[str]) -> str:
        """One of `names`, the earlier ones more often."""
        names = self.common(names)
        weights = _cumulative_weights(len(names))
        return names[bisect(weights, self.generator.random() * weights[-1])]

    def common(self, names: Sequence[str]) -> Sequence[str]:
        """The first `num_words` of `names`, which have common ones first."""
        return names[: self.num_words]

    def evenly(self, names: Sequence[str]) -> str:
        """One of `names`, all equally often."""
        return names[int(self.generator.random() * len(names))]

    def noun(self, selection: str, loyalty: float = 0.7) -> str:
        """A noun that `selection` admits; with probability `loyalty` one of the discourse, if any is admitted."""
        admitted = lexicon().select("nouns", selection)
        if self.discourse is not None and self.chance(loyalty):
            present = [noun for noun in self.discourse.nouns if noun in admitted]
            if present:
                return self.evenly(present)
        return self.pick(admitted)

    # Noun phrases.

    def phrase(self, noun: str, **fields: object) -> NounPhrase:
        """The plainest phrase for a noun: its name, or the definite article."""
        determiner = Determiner.NAME if lexicon().nouns[noun].tags & {"name", "town"} else Determiner.THE
        return replace(NounPhrase(noun, determiner=determiner), **fields)  # type: ignore[arg-type]

    def person(self) -> NounPhrase:
        """A plain person: a name or a definite noun."""
        noun = self.noun("name") if self.chance(0.4) else self.noun(_PROTAGONISTS)
        return self.phrase(noun)

    def subject(self, selection: str, simple: bool = False, counted: bool = True) -> NounPhrase:
        """A subject; `simple` omits relative clauses and coordination, `counted` allows numbers."""
        named = "name" in selection or "person" in selection.split(",")
        noun = self.noun("name") if named and self.chance(0.3) else self.noun(selection + (",name" if named else ""))
        discourse = self.discourse
        if discourse is not None and discourse.last_subject is not None and noun == discourse.last_subject.noun:
            same = discourse.last_subject
            if self.chance(0.6) and (same.has("he", "she", "animal") or same.plural):
                return replace(self.phrase(noun, plural=same.plural), pronoun=True)
        phrase = self.phrase(noun)
        if phrase.determiner is Determiner.NAME:
            if not simple and self.chance(0.08):
                other = self.noun("name")
                return replace(phrase, partner=self.phrase(other)) if other != noun else phrase
            return phrase
        phrase = self._determined(phrase, role="subject", counted=counted)
        phrase = self._described(phrase, 0.25)
        if not simple and phrase.determiner in (Determiner.THE, Determiner.A) and not phrase.possessor:
            if self.chance(0.07):
                return replace(phrase, relative=self._relative(phrase))
            if self.chance(0.05) and phrase.determiner is Determiner.THE and not phrase.has("unique", "mass"):
                other = self.noun(selection)
                if other != noun:
                    return replace(phrase, adjectives=(), partner=self.phrase(other))
        return phrase

    def thing(self, selection: str, owner: NounPhrase | None, counted: bool = True, simple: bool = False) -> NounPhrase:
        """An object; `owner` is the subject that a possessive may refer to."""
        phrase = self.phrase(self.noun(selection, loyalty=0.5))
        while owner is not None and phrase.noun in {member.noun for member in owner.members}:
            phrase = self.phrase(self.noun(selection, loyalty=0))
        if phrase.determiner is Determiner.NAME:
            return phrase
        if owner is not None and owner.animate and owner.determiner is not Determiner.EVERY:
            likely = 0.4 if phrase.has("relation") else 0.12 if phrase.has("thing", "clothes", "pet") else 0.0
            likely = likely if can_have(owner, phrase.noun) else 0.0
            if self.chance(likely) and (owner.agrees_in_plural or owner.has("he", "she", "animal")):
                plain = replace(owner, relative=None, adjectives=(), possessor=None, owner=None)
                return self._described(replace(phrase, determiner=Determiner.OWN, owner=plain), 0.25)
        phrase = self._described(self._determined(phrase, role="object", counted=counted), 0.25)
        if owner is not None and phrase.possessor is not None and phrase.possessor.noun == owner.noun:
            phrase = replace(phrase, possessor=None)
        relatable = phrase.determiner in (Determiner.THE, Determiner.A) and not phrase.possessor
        if not simple and relatable and self.chance(0.09):
            return replace(phrase, relative=self._relative(phrase))
        return phrase

    def _determined(self, phrase: NounPhrase, role: str, counted: bool) -> NounPhrase:
        """The phrase with number and determiner."""
        known = self.discourse is not None and phrase.noun in self.discourse.known
        if self.discourse is not None:
            self.discourse.known.add(phrase.noun)
        if phrase.has("unique"):
            return phrase
        if phrase.has("mass"):
            return phrase if known or self.chance(0.4) else replace(phrase, determiner=Determiner.A)
        if known and self.chance(0.85):
            return phrase
        draw = self.generator.random()
        if draw < 0.58 and phrase.has("relation") and self.chance(0.7):
            # "a brother" says less than "Anna's brother".
            owner = self.noun("name") if self.chance(0.6) else self.noun("person")
            return phrase if owner == phrase.noun else replace(phrase, possessor=self.phrase(owner))
        if draw < 0.30:
            return self._possessed(phrase) if self.discourse is None else replace(phrase, determiner=Determiner.A)
        if draw < 0.58:
            return replace(phrase, determiner=Determiner.A)
        if draw < 0.68:
            return replace(phrase, plural=True)
        if draw < 0.75 and role == "object":
            return replace(phrase, plural=True, determiner=Determiner.A)
        if draw < 0.83:
            return replace(phrase, determiner=Determiner.THIS, plural=self.chance(0.3))
        if draw < 0.93 and counted:
            return self._counted(phrase)
        if draw < 0.95 and (phrase.animate or role == "object"):
            return replace(phrase, determiner=Determiner.MANY, plural=True)
        if draw < 0.98 or role == "object":
            return replace(phrase, determiner=Determiner.ALL, plural=True)
        return replace(phrase, determiner=Determiner.EVERY)

    def _possessed(self, phrase: NounPhrase) -> NounPhrase:
        """The phrase, sometimes with its possessor."""
        ownable = phrase.has("relation", "thing", "clothes", "pet", "furniture", "vehicle", "home")
        if not ownable or not self.chance(0.35):
            return phrase
        noun = self.noun("name") if self.chance(0.4) else self.noun("person")
        return phrase if noun == phrase.noun else replace(phrase, possessor=self.phrase(noun))

    def _counted(self, phrase: NounPhrase) -> NounPhrase:
        """The phrase in the plural with a number, in words or digits."""
        if self.chance(0.3):
            # Two digits and no final 1, which would make Russian agree in the singular.
            count = self.generator.randrange(10, _COUNTABLE_LIMIT_DIGITS + 1)
            count += count % 10 == 1 and count != 11
            return replace(phrase, plural=True, determiner=Determiner.COUNT, count=count, digits=True)
        count = int(self.pick(tuple(lexicon().numbers)))
        return replace(phrase, plural=True, determiner=Determiner.COUNT, count=count)

    def _described(self, phrase: NounPhrase, likely: float) -> NounPhrase:
        """The phrase, with probability `likely` with one adjective, rarely two."""
        admitted = adjectives_of(phrase.noun)
        if not admitted or not self.chance(likely):
            return phrase
        first = self.pick(admitted)
        adjectives = [first]
        if first in _FIRST_OF_TWO and self.chance(0.2):
            colours = [name for name in admitted if name in _COLOURS]
            if colours:
                adjectives.append(self.evenly(colours))
        return replace(phrase, adjectives=tuple(adjectives))

    def _relative(self, phrase: NounPhrase) -> Relative | None:
        """A short relative clause for the phrase, None if there is no suitable verb."""
        head = NounPhrase(phrase.noun, phrase.plural)
        tense = Tense.PAST if self.chance(0.6) else Tense.PRESENT
        if not phrase.animate or self.chance(0.3):
            agent = replace(self.person(), relative=None)
            verbs = () if agent.noun == phrase.noun else verbs_for(agent.noun, phrase.noun)
            if not verbs:
                return None
            verb = self.pick(verbs)
            tense = Tense.PRESENT if "nopast" in lexicon().verbs[verb].flags else tense
            return Relative("object", Clause(Kind.VERB, agent, verb, object=head, tense=tense))
        frame = "iv" if self.chance(0.5) else "tv"
        verbs = _verbs_with_subject(frame, phrase.noun)
        if not verbs:
            return None
        verb = self.pick(verbs)
        entry = lexicon().verbs[verb]
        tense = Tense.PRESENT if "nopast" in entry.flags else tense
        counted = entry.government("ru") in ("", "acc", "на+acc")
        thing = self.thing(entry.cells["object"], None, counted, simple=True) if frame == "tv" else None
        if thing is not None and thing.noun == phrase.noun:
            return None
        clause = Clause(Kind.VERB, head, verb, object=thing, tense=tense)
        if frame == "iv" and self.chance(0.5):
            clause = replace(clause, place=self.place_for(entry.flags))
        return Relative("subject", clause)

    # Places and times.

    def place_at(self, selection: str) -> Place:
        """The place "at" a definite noun."""
        return Place("at", self.phrase(self.noun(selection)))

    def place_for(self, flags: frozenset[str]) -> Place | None:
        """A place for an action with these flags, None if it has no place."""
        for flag in ("outdoors", "bathing", "institution"):
            if flag in flags:
                return self.place_at(flag)
        if "place" not in flags:
            return None
        if self.chance(0.2):
            role, selection = self.generator.choice(
                (("under", "tree,bridge"), ("behind", "house,shop,school,castle"), ("in front of", "townplace"),
                 ("next to", "house,river,tree,window,lake"))
            )  # fmt: skip
            allowed = selection if role != "in front of" else "townplace:-outdoors"
            return Place(role, self.phrase(self.noun(allowed, loyalty=0.3)))
        return self.place_at("place:-region,town" if self.chance(0.9) else "region:-island")

    def time_for(self, tense: Tense) -> str:
        """A time in the past or future."""
        if self.chance(0.12):
            return f"hour:{self.generator.randrange(2, 13)}{':digits' if self.chance(0.3) else ''}"
        if tense is Tense.PAST and self.chance(0.08):
            return f"year:{self.generator.randrange(1950, 2025)}"
        return self.pick(lexicon().select("adverbs", tense.value))
