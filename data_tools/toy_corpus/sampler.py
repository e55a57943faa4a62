"""Draws noun phrases and clauses: which words go together, how often, and what has been spoken of already."""

import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate

from data_tools.toy_corpus.lexicon import LANGUAGES, lexicon
from data_tools.toy_corpus.meaning import Clause, Determiner, Kind, NounPhrase, Place, Polarity, Relative, Tense

# Word weights fall as 1 / (rank + _RANK_SHIFT) ** _RANK_POWER: flatter than Zipf's law, so that a small corpus shows
# every word a few times.
_RANK_SHIFT = 4
_RANK_POWER = 0.8
# Only these stand as the first of two adjectives; the second is a colour. Every language then has one natural order.
_FIRST_OF_TWO = frozenset({"big", "small", "old", "new", "beautiful"})
_COLOURS = frozenset({"red", "blue", "green", "white", "black", "yellow", "gray", "brown"})
_MANNERS = ("q", "v", "c", "j")
_COUNTABLE_LIMIT_DIGITS = 99
# A clause can name three people and then needs one more.
MIN_WORDS = 4
# What one does with somebody.
_SHARED = frozenset({"work", "play", "dance", "rest", "cook", "study", "walk", "wait", "sing#alone", "swim"})
_PROTAGONISTS = "person,name"


@dataclass
class Discourse:
    """What a document is about: its cast and things, what is known by now, and who and what came last."""

    nouns: tuple[str, ...]
    known: set[str] = field(default_factory=set)
    last_subject: NounPhrase | None = None
    last_object: NounPhrase | None = None


@cache
def _cumulative_weights(count: int) -> tuple[float, ...]:
    """Running sums of the word weights of `count` ranks."""
    return tuple(accumulate(1 / (rank + _RANK_SHIFT) ** _RANK_POWER for rank in range(count)))


@cache
def _verbs_of_frame(frame: str) -> tuple[str, ...]:
    """The verbs with this frame, common ones first."""
    return tuple(name for name, verb in lexicon().verbs.items() if verb.cells["frame"] == frame)


@cache
def _verbs_with_subject(frame: str, noun: str) -> tuple[str, ...]:
    """The verbs of this frame whose subject can be the noun."""
    verbs, select = lexicon().verbs, lexicon().select
    return tuple(name for name in _verbs_of_frame(frame) if noun in select("nouns", verbs[name].cells["subject"]))


@cache
def adjectives_of(noun: str) -> tuple[str, ...]:
    """The adjectives that can describe a noun, common ones first."""
    entries = lexicon().adjectives.items()
    return tuple(name for name, entry in entries if noun in lexicon().select("nouns", entry.cells["kinds"]))


@cache
def _graded_adjectives_of(noun: str) -> tuple[str, ...]:
    """Those of them that have a comparative."""
    return tuple(name for name in adjectives_of(noun) if lexicon().adjectives[name].cells["comparative"])


@cache
def _is_direct(verb: str) -> bool:
    """Whether the object is direct, or a bare dative, in all four languages, so that a pronoun can stand for it."""
    governments = [lexicon().verbs[verb].government(language) for language in LANGUAGES]
    return all(government in ("", "acc", "dat") for government in governments)


@cache
def _verbs_for(subject: str, thing: str) -> tuple[str, ...]:
    """Direct transitive verbs whose subject can be the noun `subject` and whose object the noun `thing`."""
    found = []
    for name in _verbs_of_frame("tv"):
        cells = lexicon().verbs[name].cells
        acts = subject in lexicon().select("nouns", cells["subject"])
        if acts and thing in lexicon().select("nouns", cells["object"]) and _is_direct(name):
            found.append(name)
    return tuple(found)


def _can_have(owner: NounPhrase, noun: str) -> bool:
    """Whether the noun can be "his" or "hers": animals have no relations, and boys and girls no children."""
    relation = "relation" in lexicon().nouns[noun].tags
    return not relation or (owner.has("person", "name") and not (owner.has("young") and noun in ("son", "daughter")))


class Sampler:
    """Draws meanings from a random generator; with a discourse, words and determiners follow what went before.

    `num_words`: of all words that could stand in a place only so many are drawn, the most common ones; None = all.
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
        """Those of `names`, common ones first, that may be drawn."""
        return names[: self.num_words]

    def evenly(self, names: Sequence[str]) -> str:
        """One of `names`, all equally often."""
        return names[int(self.generator.random() * len(names))]

    def noun(self, selection: str, loyalty: float = 0.7) -> str:
        """A noun that `selection` admits; with probability `loyalty` one of the discourse if any fits."""
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
        """A subject; `simple` leaves out relative clauses and coordination, `counted` lets numbers in."""
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
            likely = likely if _can_have(owner, phrase.noun) else 0.0
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
        """The phrase, with probability `likely` with one adjective, seldom two."""
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
        """A short relative clause on the phrase, None if no verb fits."""
        head = NounPhrase(phrase.noun, phrase.plural)
        tense = Tense.PAST if self.chance(0.6) else Tense.PRESENT
        if not phrase.animate or self.chance(0.3):
            agent = replace(self.person(), relative=None)
            verbs = () if agent.noun == phrase.noun else _verbs_for(agent.noun, phrase.noun)
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
        """A definite place, "at" it."""
        return Place("at", self.phrase(self.noun(selection)))

    def place_for(self, flags: frozenset[str]) -> Place | None:
        """Where an action with these flags can be, None if it has no place."""
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

    # Clauses.

    def verb_clause(self, tense: Tense, simple: bool = False, plain: bool = False) -> Clause:
        """A clause with a verb; `simple` keeps its phrases short, `plain` leaves out adverbs, modals and negation."""
        frame = self.generator.choices(("tv", "iv", "dtv", "loc", "dir", "arr", "talk"), (50, 18, 10, 4, 9, 2, 5))[0]
        if self.discourse is not None and self.discourse.last_object is not None and not simple and self.chance(0.3):
            clause = self._again(tense)
            if clause is not None:
                return clause
        verb = self._verb(frame, tense)
        entry = lexicon().verbs[verb]
        subject = self.subject(entry.cells["subject"], simple=simple)
        clause = Clause(Kind.VERB, subject, verb, tense=tense)
        clause = self._with_frame(clause, frame, simple)
        return clause if plain else self._with_adverbs(clause)

    def _verb(self, frame: str, tense: Tense) -> str:
        """A verb of this frame that goes with the tense and, in a document, with someone in its cast."""
        verb = ""
        for _ in range(8):
            verb = self.pick(_verbs_of_frame(frame))
            entry = lexicon().verbs[verb]
            if f"no{tense.value}" in entry.flags:
                continue
            admitted = lexicon().select("nouns", entry.cells["subject"])
            if self.discourse is None or any(noun in admitted for noun in self.discourse.nouns):
                return verb
        fitting = [name for name in _verbs_of_frame(frame) if name not in ("wear", "love", "know")]
        return self.generator.choice(self.common(fitting))

    def _again(self, tense: Tense) -> Clause | None:
        """A clause in which the last subject does something to the last object, both pronouns; None if no verb fits."""
        assert self.discourse is not None and self.discourse.last_object is not None, "nothing to speak of again"
        subject, thing = self.discourse.last_subject, self.discourse.last_object
        if subject is None or subject.partner or subject.plural or not subject.has("he", "she"):
            return None
        verbs = [
            verb
            for verb in _verbs_for(subject.noun, thing.noun)
            if f"no{tense.value}" not in lexicon().verbs[verb].flags
        ]
        if not verbs or thing.has("he", "she"):
            return None
        pronoun = replace(self.phrase(thing.noun, plural=thing.plural), pronoun=True)
        again = replace(self.phrase(subject.noun), pronoun=True)
        clause = Clause(Kind.VERB, again, self.pick(verbs), object=pronoun, tense=tense)
        return self._with_adverbs(clause)

    def _with_frame(self, clause: Clause, frame: str, simple: bool) -> Clause:
        """The clause with what its verb needs: objects, recipient, places."""
        entry, subject = lexicon().verbs[clause.verb], clause.subject
        assert subject is not None, "a clause with a verb has a subject"
        selection = entry.cells["object"]
        if frame in ("tv", "dtv"):
            counted = entry.government("ru") in ("", "acc", "на+acc")
            clause = replace(clause, object=self.thing(selection, subject, counted, simple))
        if frame == "dtv":
            clause = replace(clause, recipient=self._other_person(clause))
        if frame == "talk":
            clause = self._with_talk(clause, selection)
        elif frame == "loc":
            clause = replace(clause, place=self.place_at(selection))
        elif frame in ("dir", "arr"):
            role = "to" if frame == "dir" else "at"
            clause = replace(clause, place=Place(role, self.phrase(self.noun(selection))))
        if frame in ("tv", "iv") and self.chance(0.3 if frame == "tv" else 0.55):
            clause = replace(clause, place=self.place_for(entry.flags))
        if (frame == "dir" or clause.verb in _SHARED) and subject.has("person", "name") and self.chance(0.15):
            clause = replace(clause, companion=self._other_person(clause))
        if clause.verb in ("buy", "prepare", "find", "build", "sing", "choose") and self.chance(0.12):
            clause = replace(clause, beneficiary=self._other_person(clause))
        return clause

    def _with_talk(self, clause: Clause, selection: str) -> Clause:
        """The clause with a companion, a topic, or both."""
        draw = self.generator.random()
        if draw < 0.7:
            clause = replace(clause, companion=self._other_person(clause))
        if draw > 0.4:
            taken = {phrase.noun for phrase in (clause.subject, clause.companion) if phrase is not None}
            topic = self.phrase(self.noun(selection))
            clause = clause if topic.noun in taken else replace(clause, topic=topic)
        return clause

    def _other_person(self, clause: Clause) -> NounPhrase:
        """A person who is not yet in the clause."""
        present = [phrase for phrase in (clause.subject, clause.object) if phrase is not None]
        taken = {member.noun for phrase in present for member in phrase.members}
        person = self.person()
        while person.noun in taken:
            person = self.phrase(self.pick(lexicon().select("nouns", "name,relation")))
        owner = clause.subject
        ownable = owner is not None and owner.has("he", "she") and owner.determiner is not Determiner.EVERY
        if owner is not None and ownable and person.has("relation") and _can_have(owner, person.noun):
            plain = replace(owner, relative=None, adjectives=(), possessor=None, owner=None)
            return replace(person, determiner=Determiner.OWN, owner=plain) if self.chance(0.6) else person
        return self._described(person, 0.15) if person.determiner is Determiner.THE else person

    def _with_adverbs(self, clause: Clause) -> Clause:
        """The clause with at most one of manner, modal, negation, and with a time or a frequency."""
        flags = lexicon().verbs[clause.verb].flags
        draw = self.generator.random()
        manners = [letter for letter in _MANNERS if letter in flags]
        active = not flags & {"simple", "state", "nohabit"}
        agentive = active and clause.subject is not None and clause.subject.animate
        if draw < 0.10:
            clause = self._negated(clause)
        elif draw < 0.20 and manners:
            selection = ",".join(manners)
            clause = replace(clause, manner=self.evenly(self.common(lexicon().select("adverbs", selection))))
        elif draw < 0.30 and agentive and clause.tense is not Tense.FUTURE:
            modal = self.evenly(("can", "want", "must"))
            polarity = self.polarity(clause.subject) if modal != "must" and clause.subject else Polarity.YES
            return replace(clause, modal=modal, polarity=polarity)
        if clause.tense is Tense.PRESENT:
            return self._in_present(clause, active)
        if not self.chance(0.4):
            return clause
        time = self.time_for(clause.tense)
        if "state" in flags and clause.tense is Tense.PAST:
            # A state lasts longer than a morning.
            time = f"year:{self.generator.randrange(1950, 2025)}" if self.chance(0.5) else "last year"
        return replace(clause, time=time, fronted=self.chance(0.45))

    def _negated(self, clause: Clause) -> Clause:
        """The clause negated, without a relative clause in it and without a quantified subject."""
        subject, thing = clause.subject, clause.object
        if subject is None or subject.determiner in (Determiner.EVERY, Determiner.ALL, Determiner.MANY):
            return clause
        if thing is not None:
            thing = replace(thing, relative=None)
        return replace(clause, object=thing, polarity=Polarity.NOT)

    def _in_present(self, clause: Clause, active: bool) -> Clause:
        """A present clause, sometimes with a habit, "now" or "never"."""
        draw = self.generator.random()
        affirmative = clause.polarity is Polarity.YES
        if "state" in lexicon().verbs[clause.verb].flags or not active:
            return clause
        if draw < 0.25 and affirmative:
            return replace(clause, frequency=self.pick(lexicon().select("adverbs", "frequency")))
        if draw < 0.40 and affirmative:
            time = self.pick(lexicon().select("adverbs", "season"))
            return replace(clause, time=time, fronted=self.chance(0.45), habitual=True)
        if draw < 0.45 and affirmative and not clause.manner:
            negated = self._negated(clause)
            return negated if negated is clause else replace(negated, polarity=Polarity.NEVER)
        if draw < 0.55:
            return replace(clause, time="now", fronted=self.chance(0.5) and affirmative)
        return clause

    def polarity(self, subject: NounPhrase) -> Polarity:
        """Now and then NOT, but never after "every", "all" and "many", where languages differ in what is negated."""
        quantified = subject.determiner in (Determiner.EVERY, Determiner.ALL, Determiner.MANY)
        return Polarity.NOT if not quantified and self.chance(0.12) else Polarity.YES

    def adjective_clause(self, tense: Tense, subject: NounPhrase | None = None) -> Clause:
        """ "The house is old." """
        while subject is None or not adjectives_of(subject.noun):
            selection = self.generator.choice(
                ("person", "thing", "place:-region", "animal", "text", "building", "food")
            )
            subject = replace(self.subject(selection, simple=True), adjectives=())
        if subject.determiner in (Determiner.A, Determiner.COUNT, Determiner.MANY) and not subject.pronoun:
            subject = replace(subject, determiner=Determiner.THE, count=0, digits=False)
        degree = self.pick(lexicon().select("adverbs", "degree")) if self.chance(0.35) else ""
        polarity = self.polarity(subject) if degree != "too" else Polarity.YES
        adjective = self.pick(adjectives_of(subject.noun))
        return Clause(Kind.ADJECTIVE, subject, adjective=adjective, degree=degree, tense=tense, polarity=polarity)

    def comparison_clause(self, tense: Tense) -> Clause:
        """ "The house is older than the tower." """
        selection = self.generator.choice(("person,name", "animal", "building", "vehicle", "text", "river,street,lake"))
        first = self.noun(selection)
        graded: tuple[str, ...] = ()
        second = first
        while not graded or second == first:
            first, second = self.noun(selection, 0.3), self.noun(selection, 0.3)
            graded = tuple(name for name in _graded_adjectives_of(first) if name in _graded_adjectives_of(second))
            selection = self.generator.choice(("person", "animal", "building", "vehicle", "text", "river,street"))
        return Clause(
            Kind.COMPARISON,
            self.phrase(first),
            object=self.phrase(second),
            adjective=self.pick(graded),
            tense=Tense.PAST if tense is Tense.PAST else Tense.PRESENT,
        )
