"""French syntax: clitics and ne … pas around the verb, agreement of participles, adjectives before or after nouns."""

from dataclasses import replace

from data_tools.toy_corpus.french_forms import (
    adjective_form,
    agree,
    begins_with_vowel,
    contract,
    imperfect,
    is_before_noun,
    noun_form,
    noun_gender,
    verb_forms,
)
from data_tools.toy_corpus.lexicon import lexicon, number_text
from data_tools.toy_corpus.meaning import (
    Clause,
    Determiner,
    Kind,
    NounPhrase,
    Place,
    Polarity,
    Question,
    Sentence,
    Tense,
)
from data_tools.toy_corpus.text import finish, words

LANGUAGE = "fr"
_ETRE = {Tense.PRESENT: ("est", "sont"), Tense.PAST: ("était", "étaient"), Tense.FUTURE: ("sera", "seront")}
_AVOIR = {Tense.PRESENT: ("a", "ont"), Tense.PAST: ("avait", "avaient"), Tense.FUTURE: ("aura", "auront")}
_COSTS = {
    Tense.PRESENT: ("coûte", "coûtent"),
    Tense.PAST: ("coûtait", "coûtaient"),
    Tense.FUTURE: ("coûtera", "coûteront"),
}
_QUESTION_WORDS = {Question.WHERE: "où", Question.WHEN: "quand", Question.WHY: "pourquoi", Question.WHETHER: ""}


def sentence(meaning: Sentence) -> str:
    """The sentence in French; a space stands before the question mark, as French typography asks."""
    if meaning.question is not None:
        return finish(contract(words(_question(meaning.main, meaning.question))), " ?")
    main, other = meaning.main, meaning.other
    tokens = [lexicon().adverbs[meaning.opening].cells["fr"] if meaning.opening else ""]
    if other is None:
        tokens += _clause(main)
    elif meaning.conjunction in ("and", "but"):
        comma = "," if meaning.conjunction == "but" else ""
        tokens += [*_clause(main), comma, lexicon().conjunctions[meaning.conjunction].cells["fr"], *_clause(other)]
    else:
        # "si" and "même si" take no future.
        if meaning.conjunction in ("if", "although") and other.tense is Tense.FUTURE:
            other = replace(other, tense=Tense.PRESENT)
        # The last form is the one that begins a sentence: "comme", not "parce que".
        forms = lexicon().conjunctions[meaning.conjunction].forms("fr")
        subordinate = [forms[-1 if meaning.other_first else 0], *_clause(replace(other, fronted=False))]
        tokens += [*subordinate, ",", *_clause(main)] if meaning.other_first else [*_clause(main), *subordinate]
    return finish(contract(words(tokens)), ".")


def _gender(phrase: NounPhrase) -> str:
    """The gender that agrees with a phrase: masculine unless all its members are feminine."""
    return "f" if all(noun_gender(member.noun) == "f" for member in phrase.members) else "m"


def _determiner(phrase: NounPhrase, following: str, after_preposition: bool, negated: bool) -> str:
    """The determiner before the word `following`; `negated` gives the bare "de" of a negated indefinite."""
    feminine, plural = noun_gender(phrase.noun) == "f", phrase.plural
    vowel = begins_with_vowel(following)
    article = "les" if plural else "la" if feminine else "le"
    match phrase.determiner:
        case Determiner.THE:
            return article
        case Determiner.A if negated:
            return "de"
        case Determiner.A if plural or phrase.has("mass"):
            if after_preposition:
                return ""
            before = any(is_before_noun(adjective) for adjective in phrase.adjectives)
            return "de" if plural and before else f"de {article}"
        case Determiner.A:
            return "une" if feminine else "un"
        case Determiner.THIS:
            return "ces" if plural else "cette" if feminine else "cet" if vowel else "ce"
        case Determiner.EVERY:
            return "chaque"
        case Determiner.ALL:
            return "toutes les" if feminine else "tous les"
        case Determiner.MANY:
            return "beaucoup de"
        case Determiner.OWN:
            assert phrase.owner is not None, "a possessive needs its owner"
            if phrase.owner.agrees_in_plural:
                return "leurs" if plural else "leur"
            return "ses" if plural else "sa" if feminine and not vowel else "son"
        case Determiner.COUNT:
            return number_text(phrase.count, phrase.digits, LANGUAGE)
        case _:
            return ""


def _core(phrase: NounPhrase) -> list[str]:
    """The noun between its adjectives."""
    gender = noun_gender(phrase.noun)
    core = [noun_form(phrase.noun, phrase.plural)]
    for adjective in reversed([name for name in phrase.adjectives if is_before_noun(name)]):
        core.insert(0, adjective_form(adjective, gender, phrase.plural, core[0]))
    return core + [
        adjective_form(name, gender, phrase.plural) for name in phrase.adjectives if not is_before_noun(name)
    ]


def _noun_phrase(phrase: NounPhrase, after_preposition: bool = False, negated: bool = False) -> list[str]:
    """The tokens of a noun phrase; `after_preposition` drops the partitive article, as "de" demands."""
    if phrase.pronoun:
        return [_subject_pronoun(phrase)]
    core = _core(phrase)
    tokens = [_determiner(phrase, core[0], after_preposition, negated), *core]
    if phrase.possessor is not None:
        tokens += ["de", *_noun_phrase(phrase.possessor)]
    if phrase.relative is not None:
        relative, clause = phrase.relative, phrase.relative.clause
        pronoun = "qui" if relative.gap == "subject" else "que"
        tokens += [pronoun, *_clause(clause, relative.gap, preceding=phrase)]
    if phrase.partner is not None:
        tokens += ["et", *_noun_phrase(phrase.partner, after_preposition, negated)]
    return tokens


def _subject_pronoun(phrase: NounPhrase) -> str:
    """il, elle, ils or elles."""
    return ("elle" if _gender(phrase) == "f" else "il") + ("s" if phrase.agrees_in_plural else "")


def _object_clitic(phrase: NounPhrase) -> str:
    """le, la or les."""
    return "les" if phrase.agrees_in_plural else "la" if _gender(phrase) == "f" else "le"


def _governed(preposition: str, phrase: NounPhrase) -> list[str]:
    """A prepositional phrase."""
    return [preposition, *_noun_phrase(phrase, after_preposition=preposition.endswith("de"))]


def _place(place: Place) -> list[str]:
    """The tokens of a place or a direction."""
    if place.role not in ("at", "to"):
        return _governed(lexicon().prepositions[place.role].cells["fr"], place.ground)
    forms = lexicon().nouns[place.ground.noun].forms("place")
    return _governed(forms[3] if place.role == "at" else forms[4], place.ground)


def _time(time: str) -> str:
    """The words of a time: an adverb, an hour or a year."""
    sort, _, value = time.partition(":")
    if sort == "year":
        return f"en {value}"
    if sort == "hour":
        hour, _, digits = value.partition(":")
        return f"à {number_text(int(hour), bool(digits), LANGUAGE)} heures"
    return _adverb(time)


def _adverb(name: str) -> str:
    """An adverb of the lexicon, "" for none."""
    return lexicon().adverbs[name].cells["fr"] if name else ""


def _verb_parts(clause: Clause, preceding: NounPhrase | None) -> tuple[str, str]:
    """The finite verb and the participle or infinitive after it; `preceding` is a direct object before the verb."""
    plural = clause.subject is not None and clause.subject.agrees_in_plural
    if clause.kind in (Kind.POSSESSION, Kind.AGE, Kind.EXISTENCE):
        return _AVOIR[clause.tense][plural], ""
    if clause.kind is Kind.PRICE:
        return _COSTS[clause.tense][plural], ""
    if clause.kind not in (Kind.VERB, Kind.WEATHER):
        return _ETRE[clause.tense][plural], ""
    forms = verb_forms(clause.verb)
    if clause.modal:
        singular, plural_form, stem = lexicon().modals[clause.modal].forms("fr")
        if clause.tense is Tense.PAST:
            return stem + ("aient" if plural else "ait"), forms.infinitive
        return (plural_form if plural else singular), forms.infinitive
    if clause.tense is Tense.FUTURE:
        return forms.future + ("ont" if plural else "a"), ""
    if clause.tense is Tense.PAST:
        if clause.kind is Kind.VERB and "state" in lexicon().verbs[clause.verb].flags:
            return imperfect(clause.verb, plural), ""
        return _compound_past(clause, preceding)
    return (forms.plural if plural else forms.third), ""


def _compound_past(clause: Clause, preceding: NounPhrase | None) -> tuple[str, str]:
    """Auxiliary and participle; with être it agrees with the subject, with avoir with a preceding direct object."""
    forms = verb_forms(clause.verb)
    plural = clause.subject is not None and clause.subject.agrees_in_plural
    participle = forms.participle
    if forms.uses_etre:
        assert clause.subject is not None, "être needs a subject"
        participle = agree(participle, _gender(clause.subject), plural)
    elif preceding is not None:
        participle = agree(participle, _gender(preceding), preceding.agrees_in_plural)
    return (_ETRE if forms.uses_etre else _AVOIR)[Tense.PRESENT][plural], participle


def _clause(clause: Clause, gap: str = "", preceding: NounPhrase | None = None) -> list[str]:
    """A clause; `gap` is a phrase that is elsewhere, `preceding` is the phrase that an object gap stands for."""
    clitic = ""
    if clause.kind is Kind.VERB and clause.object is not None and clause.object.pronoun and gap != "object":
        clitic, preceding = _object_clitic(clause.object), clause.object
    elif gap != "object":
        preceding = None
    if clause.kind is Kind.VERB and verb_forms(clause.verb).reflexive:
        clitic = "se"
    if clause.kind is Kind.EXISTENCE:
        clitic = "y"
    tokens = [f"{_time(clause.time)}," if clause.fronted else ""]
    tokens += [] if gap == "subject" else _subject(clause)
    finite, rest = _verb_parts(clause, preceding)
    second = {Polarity.YES: "", Polarity.NOT: "pas", Polarity.NEVER: "jamais"}[clause.polarity]
    first = "ne" if second else ""
    if clause.modal:
        verb = [first, finite, second, _adverb(clause.frequency), clitic, rest]
    else:
        verb = [first, clitic, finite, second, _adverb(clause.frequency), rest]
    return [*tokens, *verb, *_complements(clause, gap)]


def _subject(clause: Clause) -> list[str]:
    """The subject, "il" where there is none."""
    return ["il"] if clause.subject is None else _noun_phrase(clause.subject)


def _object(clause: Clause) -> list[str]:
    """The object after the verb, with "de" for an indefinite one in a negated clause."""
    phrase = clause.object
    if phrase is None:
        return []
    government = lexicon().verbs[clause.verb].government("fr") if clause.kind is Kind.VERB else ""
    if government and government != "acc":
        return _governed(government, phrase)
    return [] if phrase.pronoun else _noun_phrase(phrase, negated=clause.polarity is not Polarity.YES)


def _complements(clause: Clause, gap: str) -> list[str]:
    """Everything after the verb: predicates, manner, objects, places, times, clauses."""
    tokens = [_adverb(clause.manner)]
    number = number_text(clause.number, clause.digits, LANGUAGE) if clause.number else ""
    match clause.kind:
        case Kind.ADJECTIVE:
            assert clause.subject is not None, "an adjective needs its subject"
            plural = clause.subject.agrees_in_plural
            tokens += [_adverb(clause.degree), adjective_form(clause.adjective, _gender(clause.subject), plural)]
        case Kind.COMPARISON:
            assert clause.subject is not None and clause.object is not None, "a comparison needs both its sides"
            form = adjective_form(clause.adjective, _gender(clause.subject), clause.subject.agrees_in_plural)
            tokens += ["plus", form, "que", *_noun_phrase(clause.object)]
        case Kind.PROFESSION:
            assert clause.object is not None, "a profession needs its noun"
            tokens.append(noun_form(clause.object.noun, clause.object.plural))
        case Kind.AGE:
            tokens += [number, "ans"]
        case Kind.PRICE:
            tokens += [number, "euros"]
        case _:
            tokens += [] if gap == "object" else _object(clause)
    if clause.recipient is not None:
        tokens += ["à", *_noun_phrase(clause.recipient)]
    for preposition, phrase in (("pour", clause.beneficiary), ("de", clause.topic), ("avec", clause.companion)):
        if phrase is not None:
            tokens += _governed(preposition, phrase)
    if clause.place is not None and gap != "place":
        tokens += _place(clause.place)
    if clause.time and not clause.fronted:
        tokens.append(_time(clause.time))
    if clause.content is not None:
        tokens += ["que", *_clause(replace(clause.content, fronted=False))]
    if clause.purpose is not None:
        tokens += ["pour", verb_forms(clause.purpose.verb).infinitive, *_complements(clause.purpose, "")]
    return tokens


def _question(clause: Clause, question: Question) -> list[str]:
    """A question with "est-ce que", or with "qui" as its subject."""
    clause = replace(clause, fronted=False)
    if question is Question.WHO:
        return ["qui", *_clause(clause, "subject")]
    if question is Question.WHAT:
        return ["qu'est-ce", "que", *_clause(clause, "object")]
    if question is Question.HOW_MANY:
        assert clause.object is not None, "how many of what"
        counted = replace(clause.object, plural=True)
        return ["combien de", *_core(counted), "est-ce", "que", *_clause(clause, "object", preceding=counted)]
    gap = "place" if question is Question.WHERE else ""
    return [_QUESTION_WORDS[question], "est-ce", "que", *_clause(clause, gap)]
