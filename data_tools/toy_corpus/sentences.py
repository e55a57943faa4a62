"""Drawing sentences of every construction, and documents: sentences about the same people, things and places."""

import random
from dataclasses import replace

from data_tools.toy_corpus.clauses import ClauseSampler
from data_tools.toy_corpus.lexicon import lexicon
from data_tools.toy_corpus.meaning import (
    Clause,
    Determiner,
    Kind,
    NounPhrase,
    Polarity,
    Question,
    Sentence,
    Tense,
)
from data_tools.toy_corpus.phrases import Discourse, adjectives_of

_MIN_SENTENCES = 5
_MAX_SENTENCES = 15
_ASKABLE = (
    "read", "buy", "find", "look for", "see", "take", "sell", "eat", "repair", "write", "choose", "build", "lose",
    "collect",
)  # fmt: skip
_MOODS = ("tired", "hungry", "sick", "sad", "happy")
_CONSTRUCTIONS = {
    "verb": 36, "adjective": 7, "comparison": 3, "profession": 3, "location": 4, "possession": 5, "existence": 4,
    "age": 2, "price": 2, "content": 6, "subordinate": 12, "coordinate": 5, "question": 11, "purpose": 3, "weather": 1,
}  # fmt: skip
# Documents have few questions, ages, prices and comparisons.
_IN_DOCUMENTS = {**_CONSTRUCTIONS, "question": 2, "price": 1, "age": 1, "comparison": 1}


def draw_sentence(generator: random.Random, num_words: int | None = None) -> Sentence:
    """The meaning of one sentence that stands alone; `num_words` as in `PhraseSampler`."""
    return SentenceSampler(generator, num_words=num_words).sentence(_draw_tense(generator))


def draw_document(generator: random.Random, num_words: int | None = None) -> list[Sentence]:
    """The meanings of one document: 5 to 15 sentences with a small cast and mostly one tense.

    `num_words` as in `PhraseSampler`.
    """
    length = generator.randint(_MIN_SENTENCES, _MAX_SENTENCES)
    sampler = SentenceSampler(generator, _draw_discourse(generator, num_words), num_words)
    tense = _draw_tense(generator)
    return [sampler.next_sentence(tense, first=index == 0) for index in range(length)]


def _draw_tense(generator: random.Random) -> Tense:
    """A tense: mostly past or present."""
    return generator.choices((Tense.PAST, Tense.PRESENT, Tense.FUTURE), (45, 40, 15))[0]


def _draw_discourse(generator: random.Random, num_words: int | None) -> Discourse:
    """Two or three people, an animal, some things and places."""
    sampler = ClauseSampler(generator, num_words=num_words)
    select = lexicon().select
    nouns = [sampler.pick(select("nouns", "name")), sampler.pick(select("nouns", "person"))]
    if generator.random() < 0.5:
        nouns.append(sampler.pick(select("nouns", "person,name")))
    for selection, count in (
        ("animal", 1),
        ("thing,text,clothes", 3),
        ("food,drink", 1),
        ("place", 2),
        ("vehicle", 1),
        ("idea,art", 1),
    ):
        nouns += [sampler.pick(select("nouns", selection)) for _ in range(count)]
    return Discourse(tuple(dict.fromkeys(nouns)))


class SentenceSampler(ClauseSampler):
    """Draws whole sentences."""

    last_opening = ""

    def next_sentence(self, tense: Tense, first: bool) -> Sentence:
        """The next sentence of a document, sometimes linked to the previous one by an adverb."""
        assert self.discourse is not None, "a document has a discourse"
        sentence = self.sentence(tense)
        self._remember(sentence)
        main = sentence.main
        movable = not (first or sentence.question or sentence.other_first or main.fronted)
        if (
            movable
            and main.kind in (Kind.VERB, Kind.ADJECTIVE, Kind.LOCATION)
            and main.content is None
            and self.chance(0.22)
        ):
            names = list(lexicon().select("adverbs", "opening"))
            if main.tense is Tense.PRESENT:
                names = ["perhaps", "unfortunately,", "of course,"]
            opening = self.evenly(names)
            if opening != self.last_opening:
                self.last_opening = opening
                return replace(sentence, opening=opening)
        self.last_opening = ""
        return sentence

    def _remember(self, sentence: Sentence) -> None:
        """Note which phrases can be pronouns in the next sentence."""
        assert self.discourse is not None, "a document has a discourse"
        main = sentence.main
        self.discourse.last_subject = self.discourse.last_object = None
        if sentence.question or main.kind not in (Kind.VERB, Kind.ADJECTIVE, Kind.LOCATION) or main.subject is None:
            return
        subject, thing = main.subject, main.object
        if sentence.other is None and subject.partner is None and subject.animate and not subject.plural:
            self.discourse.last_subject = NounPhrase(subject.noun, determiner=subject.determiner)
        settled = thing is not None and not thing.partner and main.polarity is Polarity.YES and not main.modal
        if sentence.other is None and settled and thing is not None and not thing.has("unique"):
            quantified = thing.determiner in (Determiner.EVERY, Determiner.MANY)
            self.discourse.last_object = None if quantified else NounPhrase(thing.noun, thing.plural)

    def sentence(self, tense: Tense) -> Sentence:
        """A sentence of any construction."""
        table = _CONSTRUCTIONS if self.discourse is None else _IN_DOCUMENTS
        construction = self.generator.choices(tuple(table), tuple(table.values()))[0]
        match construction:
            case "content":
                return Sentence(self.content_clause())
            case "subordinate":
                return self.subordinate_sentence(tense)
            case "coordinate":
                return self.coordinate_sentence(tense)
            case "question":
                return self.question(tense)
            case _:
                return Sentence(self.clause(construction, tense))

    def clause(self, construction: str, tense: Tense) -> Clause:
        """A main clause."""
        match construction:
            case "verb":
                return self.verb_clause(tense)
            case "adjective":
                return self.adjective_clause(tense)
            case "comparison":
                return self.comparison_clause(tense)
            case "profession":
                return self.profession_clause(tense)
            case "location":
                return self.location_clause(tense)
            case "possession":
                return self.possession_clause(tense)
            case "existence":
                return self.existence_clause(tense)
            case "age":
                return self.age_clause()
            case "price":
                return self.price_clause(tense)
            case "purpose":
                return self.purpose_clause(tense)
            case _:
                return self.weather_clause(tense)

    def content_clause(self) -> Clause:
        """ "Anna thinks that …", in the present, since in the past some languages shift the tense of the content."""
        subject = self.subject("person", simple=True)
        verb = self.pick([name for name, verb in lexicon().verbs.items() if verb.cells["frame"] == "that"])
        tense = self.generator.choice((Tense.PAST, Tense.PRESENT, Tense.FUTURE))
        return Clause(Kind.VERB, subject, verb, content=self._inner(tense, subject))

    def _inner(self, tense: Tense, outer: NounPhrase | None) -> Clause:
        """A subordinate or second clause; its subject may be a pronoun for that of the first."""
        if self.chance(0.08):
            return self.weather_clause(tense, timed=False)
        clause = self.adjective_clause(tense) if self.chance(0.3) else self.verb_clause(tense, simple=True)
        clause = replace(clause, fronted=False)
        if outer is None or clause.subject is None:
            return clause
        nameable = not outer.agrees_in_plural and outer.has("he", "she")
        repeated = outer.noun in {member.noun for member in clause.subject.members}
        if nameable and (repeated or self.chance(0.4)):
            again = replace(self.phrase(outer.noun), pronoun=True)
            if clause.kind is Kind.ADJECTIVE:
                adjectives = _MOODS if self.chance(0.7) else adjectives_of(outer.noun)
                return replace(clause, subject=again, adjective=self.evenly(adjectives))
            clause = self._with_subject(clause, again)
            repeated = repeated and not (clause.subject and clause.subject.pronoun)
        # Two clauses with the same noun as subject sound like two people with one name.
        return self._inner(tense, outer) if repeated else clause

    def _with_subject(self, clause: Clause, subject: NounPhrase) -> Clause:
        """The clause with another subject, if its verb admits it and nothing else in it refers to that person."""
        phrases = (clause.object, clause.recipient, clause.companion, clause.topic, clause.beneficiary)
        clash = any(
            phrase is not None and (phrase.owner is not None or phrase.noun == subject.noun) for phrase in phrases
        )
        admitted = lexicon().select("nouns", lexicon().verbs[clause.verb].cells["subject"])
        return clause if clash or subject.noun not in admitted else replace(clause, subject=subject)

    def subordinate_sentence(self, tense: Tense) -> Sentence:
        """A main clause with a clause of cause, time, concession or condition."""
        conjunction = self.generator.choices(("because", "when", "although", "if"), (40, 25, 20, 15))[0]
        if conjunction == "if":
            tense = Tense.FUTURE
        main = replace(self.verb_clause(tense, simple=True), time="", fronted=False)
        if conjunction in ("when", "if"):
            main = replace(main, polarity=Polarity.YES)
        other = replace(self._inner(tense, main.subject), time="")
        if conjunction in ("when", "if") and other.kind is Kind.VERB:
            other = replace(other, frequency="", modal="", polarity=Polarity.YES)
        return self._ordered(main, conjunction, other)

    def _ordered(self, main: Clause, conjunction: str, other: Clause) -> Sentence:
        """The two clauses, sometimes the subordinate one first; the pronoun then moves to the second clause."""
        if not self.chance(0.35):
            return Sentence(main, conjunction, other)
        if other.subject is not None and other.subject.pronoun and main.subject is not None:
            pronoun, named = other.subject, main.subject
            if named.noun != pronoun.noun:
                return Sentence(main, conjunction, other)
            main, other = replace(main, subject=pronoun), replace(other, subject=named)
        return Sentence(main, conjunction, other, other_first=True)

    def coordinate_sentence(self, tense: Tense) -> Sentence:
        """Two main clauses joined by "and" or "but"."""
        first = self.verb_clause(tense, simple=True)
        second = self._inner(tense, first.subject)
        return Sentence(first, "but" if self.chance(0.45) else "and", second)

    def question(self, tense: Tense) -> Sentence:
        """A question of any sort."""
        sorts = tuple(Question)
        question = self.generator.choices(sorts, (40, 12, 12, 12, 8, 8, 8))[0]
        if question is Question.WHETHER:
            return Sentence(self._whether(tense), question=question)
        if question in (Question.WHAT, Question.HOW_MANY):
            return Sentence(self._asked_object(tense, question), question=question)
        clause = self._asked_clause(tense, located=question is Question.WHERE)
        if question in (Question.WHERE, Question.WHEN, Question.WHY):
            clause = replace(clause, time="", frequency="" if question is Question.WHEN else clause.frequency)
        if question is Question.WHEN and clause.tense is Tense.PRESENT:
            clause = replace(clause, habitual=True)
        if question is Question.WHO:
            clause = self._asked_subject(clause)
        return Sentence(clause, question=question)

    def _asked_clause(self, tense: Tense, located: bool) -> Clause:
        """An affirmative clause to ask about, with a place if `located`."""
        for _ in range(8):
            clause = replace(self.verb_clause(tense, simple=True), fronted=False, polarity=Polarity.YES)
            has_place = clause.place is not None and clause.place.role == "at" and clause.verb != "arrive"
            if has_place or not located:
                return clause
        return Clause(Kind.VERB, self.person(), "live", place=self.place_at("home"))

    def _asked_subject(self, clause: Clause) -> Clause:
        """The clause with a plain masculine subject, for "who", and without possessives that refer to it."""
        return replace(
            clause,
            subject=NounPhrase("man"),
            object=self._without_reference(clause.object),
            recipient=self._without_reference(clause.recipient),
            companion=self._without_reference(clause.companion),
        )

    def _without_reference(self, phrase: NounPhrase | None) -> NounPhrase | None:
        """The phrase, in its plainest form if it is a pronoun or refers to an owner."""
        refers = phrase is not None and (phrase.owner is not None or phrase.pronoun)
        return self.phrase(phrase.noun) if phrase is not None and refers else phrase

    def _whether(self, tense: Tense) -> Clause:
        """The clause of a yes-or-no question, affirmative."""
        construction = self.evenly(("verb", "verb", "verb", "adjective", "location", "possession", "existence"))
        clause = self.clause(construction, tense)
        if clause.modal == "must":
            clause = replace(clause, modal="")
        return replace(clause, polarity=Polarity.YES, fronted=False)

    def _asked_object(self, tense: Tense, question: Question) -> Clause:
        """A clause to ask for its object."""
        verb = self.evenly(_ASKABLE)
        entry = lexicon().verbs[verb]
        things = lexicon().select("nouns", entry.cells["object"])
        countable = [name for name in things if lexicon().nouns[name].tags.isdisjoint({"mass", "unique", "name"})]
        thing = NounPhrase(self.pick(countable), plural=question is Question.HOW_MANY)
        if question is Question.HOW_MANY and self.chance(0.25):
            thing = self._described(thing, 1.0)
        subject = self.subject(entry.cells["subject"], simple=True)
        clause = Clause(Kind.VERB, subject, verb, object=thing, tense=tense)
        if self.chance(0.3):
            clause = replace(clause, place=self.place_for(entry.flags))
        if tense is not Tense.PRESENT and self.chance(0.3):
            clause = replace(clause, time=self.time_for(tense))
        return clause
