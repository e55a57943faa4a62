"""Drawing clauses of every kind."""

from dataclasses import replace
from functools import cache

from data_tools.toy_corpus.lexicon import lexicon
from data_tools.toy_corpus.meaning import Clause, Determiner, Kind, NounPhrase, Place, Polarity, Tense
from data_tools.toy_corpus.phrases import PhraseSampler, adjectives_of, can_have, verbs_for, verbs_of_frame

MIN_WORDS = 4  # a clause may have three people and need another one
_MANNERS = ("q", "v", "c", "j")
# Activities that people share.
_SHARED = frozenset({"work", "play", "dance", "rest", "cook", "study", "walk", "wait", "sing#alone", "swim"})
_PURPOSES = (
    "buy", "eat", "drink", "meet", "look for", "help", "read", "sell", "repair", "learn", "wait for", "see", "invite",
    "feed",
)  # fmt: skip


@cache
def _graded_adjectives_of(noun: str) -> tuple[str, ...]:
    """The adjectives that can describe a noun and have a comparative, common ones first."""
    return tuple(name for name in adjectives_of(noun) if lexicon().adjectives[name].cells["comparative"])


class ClauseSampler(PhraseSampler):
    """Draws clauses."""

    def verb_clause(self, tense: Tense, simple: bool = False, plain: bool = False) -> Clause:
        """A clause with a verb; `simple` keeps its phrases short, `plain` omits adverbs, modals and negation."""
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
        """A verb of this frame that is possible in the tense and, in a document, with someone of its cast."""
        verb = ""
        for _ in range(8):
            verb = self.pick(verbs_of_frame(frame))
            entry = lexicon().verbs[verb]
            if f"no{tense.value}" in entry.flags:
                continue
            admitted = lexicon().select("nouns", entry.cells["subject"])
            if self.discourse is None or any(noun in admitted for noun in self.discourse.nouns):
                return verb
        fitting = [name for name in verbs_of_frame(frame) if name not in ("wear", "love", "know")]
        return self.generator.choice(self.common(fitting))

    def _again(self, tense: Tense) -> Clause | None:
        """A clause in which the last subject does something to the last object, both pronouns; None if no verb fits."""
        assert self.discourse is not None and self.discourse.last_object is not None, "no object to mention again"
        subject, thing = self.discourse.last_subject, self.discourse.last_object
        if subject is None or subject.partner or subject.plural or not subject.has("he", "she"):
            return None
        verbs = [
            verb
            for verb in verbs_for(subject.noun, thing.noun)
            if f"no{tense.value}" not in lexicon().verbs[verb].flags
        ]
        if not verbs or thing.has("he", "she"):
            return None
        pronoun = replace(self.phrase(thing.noun, plural=thing.plural), pronoun=True)
        again = replace(self.phrase(subject.noun), pronoun=True)
        clause = Clause(Kind.VERB, again, self.pick(verbs), object=pronoun, tense=tense)
        return self._with_adverbs(clause)

    def _with_frame(self, clause: Clause, frame: str, simple: bool) -> Clause:
        """The clause with the complements of its verb: objects, recipient, places."""
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
        if owner is not None and ownable and person.has("relation") and can_have(owner, person.noun):
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
        """Sometimes NOT, but never after "every", "all" and "many", where the languages differ in what is negated."""
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

    def weather_clause(self, tense: Tense, timed: bool = True) -> Clause:
        """ "It is raining." """
        time = self.time_for(tense) if timed and tense is not Tense.PRESENT and self.chance(0.6) else ""
        if tense is Tense.PRESENT and timed:
            time = self.pick(lexicon().select("adverbs", "season"))
        verb = self.pick(tuple(lexicon().weather))
        habitual = tense is Tense.PRESENT and bool(time)
        return Clause(
            Kind.WEATHER, verb=verb, tense=tense, time=time, fronted=bool(time) and self.chance(0.5), habitual=habitual
        )

    def profession_clause(self, tense: Tense) -> Clause:
        """ "Anna is a doctor." """
        person = self.phrase(self.noun("name,young" if self.chance(0.7) else "relation"))
        if person.noun == "child":
            person = self.phrase("boy")
        female = person.has("she")
        professions = [
            name
            for name in lexicon().select("nouns", "profession")
            if lexicon().nouns[name].tags.isdisjoint({"he"} if female else {"she"})
        ]
        if tense is Tense.PRESENT and person.has("young"):
            tense = Tense.FUTURE
        profession = NounPhrase(self.pick(professions), determiner=Determiner.A)
        polarity = self.polarity(person)
        return Clause(Kind.PROFESSION, person, object=profession, tense=tense, polarity=polarity)

    def location_clause(self, tense: Tense) -> Clause:
        """ "The book is on the table." """
        if self.chance(0.5):
            subject = self.subject("thing,text,pet", simple=True)
            if self.chance(0.6):
                place = Place("on", self.phrase(self.noun("surface", loyalty=0.2)))
            else:
                place = Place("under", self.phrase(self.noun("surface:-chair", loyalty=0.2)))
        elif self.chance(0.5):
            subject = self.subject("vehicle:-afloat,farmed", simple=True)
            role = self.evenly(("behind", "in front of", "next to"))
            place = Place(role, self.phrase(self.noun("building:-way", loyalty=0.3)))
        else:
            subject, place = self.subject("person", simple=True), self.place_at("place,town")
        return Clause(Kind.LOCATION, subject, place=place, tense=tense, polarity=self.polarity(subject))

    def possession_clause(self, tense: Tense) -> Clause:
        """ "Anna has a dog." """
        owner = self.subject("person", simple=True, counted=False)
        if owner.determiner in (Determiner.MANY, Determiner.COUNT):
            owner = replace(owner, determiner=Determiner.THE, count=0, digits=False)
        things = self.noun(
            "pet,farmed,thing,clothes,vehicle,relation,question,idea,plan,problem,secret,home", loyalty=0.3
        )
        thing = replace(self.phrase(things), determiner=Determiner.A)
        if thing.noun == owner.noun:
            thing = replace(self.phrase("dog"), determiner=Determiner.A)
        thing = self._described(thing, 0.4)
        if self.polarity(owner) is Polarity.NOT:
            return Clause(Kind.POSSESSION, owner, object=thing, tense=tense, polarity=Polarity.NOT)
        if self.chance(0.3) and not thing.has("unique") and thing.noun not in ("mother", "father"):
            count = int(self.pick(tuple(lexicon().numbers)[:8]))
            thing = replace(thing, plural=True, determiner=Determiner.COUNT, count=count)
        return Clause(Kind.POSSESSION, owner, object=thing, tense=tense)

    def existence_clause(self, tense: Tense) -> Clause:
        """ "There is a museum in the city." """
        where, what = self.generator.choice(
            (("region", "townplace"), ("region", "sight"), ("room,office", "furniture"), ("garden,park", "plant"),
             ("wilderness", "wild"), ("street,square", "shop,restaurant,café,hotel,bank"), ("bathing", "swimming"),
             ("library,school", "text"), ("school,office", "machine:-vehicle"))
        )  # fmt: skip
        place = self.place_at(where)
        noun = self.noun(what, loyalty=0.3)
        while noun == place.ground.noun:
            noun = self.pick(lexicon().select("nouns", what))
        thing = self._described(replace(self.phrase(noun), determiner=Determiner.A), 0.35)
        if self.chance(0.15):
            return Clause(Kind.EXISTENCE, object=thing, place=place, tense=tense, polarity=Polarity.NOT)
        if self.chance(0.4):
            thing = self._counted(thing) if self.chance(0.6) else replace(thing, plural=True)
        return Clause(Kind.EXISTENCE, object=thing, place=place, tense=tense)

    def age_clause(self) -> Clause:
        """ "The boy is ten years old." """
        subject = self.phrase(self.noun("name,person"))
        if subject.has("young"):
            number, digits = self.generator.randrange(2, 14), self.chance(0.3)
        elif self.chance(0.5):
            number, digits = self.generator.randrange(20, 81), True
        else:
            number, digits = int(self.evenly(("20", "30", "40", "50", "60", "70"))), False
        return Clause(Kind.AGE, subject, number=number, digits=digits)

    def price_clause(self, tense: Tense) -> Clause:
        """ "The book costs ten euros." """
        phrase = self.phrase(self.noun("thing,clothes,food,drink,book,newspaper"))
        phrase = replace(phrase, determiner=Determiner.THIS if self.chance(0.4) else Determiner.THE)
        cheap = phrase.has("food", "drink")
        if self.chance(0.4):
            number, digits = self.generator.randrange(2, 13 if cheap else 400), True
        else:
            number, digits = int(self.pick(tuple(lexicon().numbers)[: 9 if cheap else None])), False
        return Clause(Kind.PRICE, self._described(phrase, 0.3), number=number, digits=digits, tense=tense)

    def purpose_clause(self, tense: Tense) -> Clause:
        """ "Anna goes to the market to buy bread." """
        subject = self.subject("person", simple=True)
        verb, places = self.generator.choice(
            (("go", "townplace"), ("come", "townplace"), ("run", "home,townplace"), ("return", "home"))
        )
        place = Place("to", self.phrase(self.noun(places)))
        purpose = self.evenly(_PURPOSES)
        entry = lexicon().verbs[purpose]
        counted = entry.government("ru") in ("", "acc")
        thing = self.thing(entry.cells["object"], subject, counted=counted, simple=True)
        inner = Clause(Kind.VERB, subject, purpose, object=thing)
        return Clause(Kind.VERB, subject, verb, place=place, tense=tense, purpose=inner)
