"""English. Cells: noun `singular/plural`; verb `base/past/-ing/third person`; comparative `english/german/russian`."""

from dataclasses import replace
from functools import cache

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
from data_tools.toy_corpus.text import finish

LANGUAGE = "en"
# Words that do not begin with the sound that their spelling suggests.
_CONSONANT_SOUND = ("univers", "useful")
_VOWEL_SOUND = ("honest", "hour")
_PRONOUNS = {"he": ("he", "him", "his"), "she": ("she", "her", "her"), "it": ("it", "it", "its")}
_PLURAL_PRONOUNS = ("they", "them", "their")
_MODALS = {"can": ("can", "could"), "want": ("wants to", "wanted to"), "must": ("must", "had to")}


def sentence(meaning: Sentence) -> str:
    """The sentence in English."""
    end = "?" if meaning.question else "."
    if meaning.question:
        return finish([meaning.opening, *_question(meaning)], end)
    main, other = meaning.main, meaning.other
    if other is None:
        return finish([meaning.opening, *_clause(main)], end)
    if meaning.conjunction in ("and", "but"):
        return finish([meaning.opening, *_clause(main), ",", meaning.conjunction, *_clause(other)], end)
    if meaning.conjunction in ("when", "if"):
        other = replace(other, habitual=other.tense is Tense.PRESENT or other.habitual)
        if other.tense is Tense.FUTURE:
            other = replace(other, tense=Tense.PRESENT, habitual=True)
        elif meaning.conjunction == "when" and main.tense is Tense.PRESENT:
            main = replace(main, habitual=True)
    if meaning.other_first:
        return finish([meaning.opening, meaning.conjunction, *_clause(other), ",", *_clause(main)], end)
    return finish([meaning.opening, *_clause(main), meaning.conjunction, *_clause(other)], end)


@cache
def noun_form(noun: str, plural: bool) -> str:
    """The noun in the singular or plural."""
    forms = lexicon().nouns[noun].forms(LANGUAGE)
    if not plural:
        return forms[0]
    return forms[1] if len(forms) > 1 else f"{forms[0]}s"


@cache
def verb_forms(verb: str) -> dict[str, str]:
    """The forms "base", "past", "ing" and "third" of a verb; a particle ("wake up") follows the inflected word."""
    entry = lexicon().verbs.get(verb) or lexicon().weather[verb]
    written = [*entry.forms(LANGUAGE), "", "", ""]
    base, _, particle = written[0].partition(" ")
    past = written[1].partition(" ")[0] or (f"{base}d" if base.endswith("e") else f"{base}ed")
    ing = written[2].partition(" ")[0] or (
        f"{base[:-1]}ing" if base.endswith("e") and base[-2] != "e" else f"{base}ing"
    )
    third = written[3].partition(" ")[0] or _third_person(base)
    forms = {"base": base, "past": past, "ing": ing, "third": third}
    return {name: f"{form} {particle}".strip() for name, form in forms.items()}


def _third_person(base: str) -> str:
    """The regular third person singular of the present."""
    if base.endswith("y") and base[-2] not in "aeiou":
        return f"{base[:-1]}ies"
    return f"{base}es" if base.endswith(("s", "sh", "ch", "x", "o")) else f"{base}s"


def _article(following: str) -> str:
    """ "a" or "an" by the sound of the next word."""
    if following.startswith(_CONSONANT_SOUND):
        return "a"
    return "an" if following[0] in "aeiou" or following.startswith(_VOWEL_SOUND) else "a"


def _pronouns(phrase: NounPhrase) -> tuple[str, str, str]:
    """Subject, object and possessive pronoun for a noun phrase."""
    if phrase.agrees_in_plural:
        return _PLURAL_PRONOUNS
    if phrase.has("he"):
        return _PRONOUNS["he"]
    return _PRONOUNS["she" if phrase.has("she") else "it"]


def _determiner(phrase: NounPhrase, following: str) -> str:
    """The word or words before the adjectives."""
    if phrase.possessor is not None and phrase.possessor.determiner is Determiner.NAME:
        return f"{noun_form(phrase.possessor.noun, False)}'s"
    match phrase.determiner:
        case Determiner.A:
            return "" if phrase.plural or phrase.has("mass") else _article(following)
        case Determiner.THIS:
            return "these" if phrase.plural else "this"
        case Determiner.ALL:
            return "all"
        case Determiner.OWN:
            assert phrase.owner is not None, "a possessive needs its owner"
            return _pronouns(phrase.owner)[2]
        case Determiner.COUNT:
            return number_text(phrase.count, phrase.digits, LANGUAGE)
        case Determiner.NAME:
            return ""
        case _:
            return phrase.determiner.value


def _noun_phrase(phrase: NounPhrase, as_object: bool = False) -> list[str]:
    """The tokens of a noun phrase or its pronoun."""
    if phrase.pronoun:
        return [_pronouns(phrase)[1 if as_object else 0]]
    body = [*phrase.adjectives, noun_form(phrase.noun, phrase.plural)]
    tokens = [_determiner(phrase, body[0]), *body]
    if phrase.possessor is not None and phrase.possessor.determiner is not Determiner.NAME:
        possessor = phrase.possessor
        suffix = "'" if possessor.plural and noun_form(possessor.noun, True).endswith("s") else "'s"
        owner = _noun_phrase(replace(possessor, relative=None))
        tokens = [*owner[:-1], owner[-1] + suffix, *body]
    if phrase.relative is not None:
        who = "who" if phrase.has("person") else "that"
        clause = phrase.relative.clause
        tokens += [who if phrase.relative.gap == "subject" else "that", *_clause(clause, gap=phrase.relative.gap)]
    if phrase.partner is not None:
        tokens += ["and", *_noun_phrase(phrase.partner, as_object)]
    return tokens


def _place(place: Place) -> list[str]:
    """The tokens of a place or a direction."""
    entry = lexicon().nouns[place.ground.noun]
    if place.role in ("at", "to"):
        preposition = "to" if place.role == "to" else entry.forms("place")[0]
    else:
        preposition = place.role
    return [preposition, *_noun_phrase(place.ground, as_object=True)]


def _time(time: str) -> str:
    """The words of a time: an adverb, an hour or a year."""
    sort, _, value = time.partition(":")
    if sort == "year":
        return f"in {value}"
    if sort == "hour":
        hour, _, digits = value.partition(":")
        return f"at {number_text(int(hour), bool(digits), LANGUAGE)} o'clock"
    return time


def _be(plural: bool, tense: Tense) -> tuple[str, str]:
    """The finite part of "be" and what follows it."""
    if tense is Tense.FUTURE:
        return "will", "be"
    if tense is Tense.PAST:
        return ("were" if plural else "was"), ""
    return ("are" if plural else "is"), ""


def _do(plural: bool, tense: Tense) -> str:
    """The form of "do" in the present or past."""
    if tense is Tense.PAST:
        return "did"
    return "do" if plural else "does"


def _verb_group(clause: Clause, plural: bool, support: bool) -> tuple[str, str]:
    """The finite auxiliary ("" if none) and the rest of the verb; `support` asks for "do" if there is no other."""
    forms = verb_forms(clause.verb)
    if clause.modal:
        past = clause.tense is Tense.PAST
        if clause.modal != "want":
            return _MODALS[clause.modal][past], forms["base"]
        if support:
            return _do(plural, clause.tense), f"want to {forms['base']}"
        if past:
            return "", f"wanted to {forms['base']}"
        return "", f"{'want' if plural else 'wants'} to {forms['base']}"
    if clause.tense is Tense.FUTURE:
        return "will", forms["base"]
    if clause.tense is Tense.PAST:
        return ("did", forms["base"]) if support else ("", forms["past"])
    if not _is_simple(clause):
        return ("are" if plural else "is"), forms["ing"]
    if support:
        return _do(plural, clause.tense), forms["base"]
    return "", forms["base" if plural else "third"]


def _is_simple(clause: Clause) -> bool:
    """Whether a clause in the present is simple, not progressive."""
    if clause.habitual or clause.frequency or clause.polarity is Polarity.NEVER:
        return True
    flags = lexicon().verbs[clause.verb].flags if clause.kind is Kind.VERB else frozenset()
    return bool(flags & {"simple", "state"})


def _predicate(clause: Clause, support: bool) -> tuple[str, list[str]]:
    """The finite auxiliary and all that follows the subject, without negation and frequency."""
    plural = clause.subject is not None and clause.subject.agrees_in_plural
    match clause.kind:
        case Kind.VERB | Kind.WEATHER:
            auxiliary, rest = _verb_group(clause, plural, support)
            return auxiliary, [rest]
        case Kind.POSSESSION | Kind.PRICE:
            forms = ("have", "has", "had") if clause.kind is Kind.POSSESSION else ("cost", "costs", "cost")
            if clause.tense is Tense.FUTURE:
                return "will", [forms[0]]
            base, third, past = forms
            if support:
                return _do(plural, clause.tense), [base]
            if clause.tense is Tense.PAST:
                return "", [past]
            return "", [base if plural else third]
        case Kind.EXISTENCE:
            assert clause.object is not None, "existence is of something"
            finite, rest = _be(clause.object.agrees_in_plural, clause.tense)
            return finite, [rest]
        case _:
            finite, rest = _be(plural, clause.tense)
            return finite, [rest, *_complement(clause)]


def _complement(clause: Clause) -> list[str]:
    """The predicate after "be"."""
    match clause.kind:
        case Kind.ADJECTIVE:
            return [clause.degree, clause.adjective]
        case Kind.COMPARISON:
            assert clause.object is not None, "a comparison needs its standard"
            comparative = lexicon().adjectives[clause.adjective].cells["comparative"].split("/")[0]
            return [comparative, "than", *_noun_phrase(clause.object, as_object=True)]
        case Kind.PROFESSION:
            assert clause.object is not None, "a profession needs its noun"
            return _noun_phrase(clause.object)
        case Kind.AGE:
            return [number_text(clause.number, clause.digits, LANGUAGE), "years old"]
        case _:
            return []


def _manner_first(clause: Clause) -> bool:
    """Whether the adverb of manner precedes the verb, because a recipient or relative clause follows the object."""
    return clause.recipient is not None or (clause.object is not None and clause.object.relative is not None)


def _complements(clause: Clause, gap: str) -> list[str]:
    """Objects, places and adverbs after the verb."""
    tokens: list[str] = []
    if clause.object is not None and gap != "object" and clause.kind in (Kind.VERB, Kind.POSSESSION, Kind.EXISTENCE):
        phrase = clause.object
        if clause.kind is Kind.EXISTENCE and clause.polarity is Polarity.NOT:
            body = [*phrase.adjectives, noun_form(phrase.noun, phrase.plural)]
            tokens += ["no", *body]
        else:
            tokens += _noun_phrase(phrase, as_object=True)
    if clause.kind is Kind.PRICE:
        tokens += [number_text(clause.number, clause.digits, LANGUAGE), "euros"]
    tokens.append("" if _manner_first(clause) else clause.manner)
    for preposition, phrase_or_none in (
        ("to", clause.recipient),
        ("for", clause.beneficiary),
        ("with", clause.companion),
        ("about", clause.topic),
    ):
        if phrase_or_none is not None:
            tokens += [preposition, *_noun_phrase(phrase_or_none, as_object=True)]
    if clause.place is not None and gap != "place":
        tokens += _place(clause.place)
    if clause.time and not clause.fronted:
        tokens.append(_time(clause.time))
    if clause.content is not None:
        tokens += ["that", *_clause(clause.content)]
    if clause.purpose is not None:
        tokens += ["to", verb_forms(clause.purpose.verb)["base"], *_complements(clause.purpose, "")]
    return tokens


def _subject(clause: Clause) -> list[str]:
    """The subject, with the expletives of weather and existence."""
    if clause.kind is Kind.EXISTENCE:
        return ["there"]
    return ["it"] if clause.subject is None else _noun_phrase(clause.subject)


def _clause(clause: Clause, gap: str = "") -> list[str]:
    """A clause in the order of a statement; `gap` is the phrase that a relative pronoun replaces."""
    negated = clause.polarity is Polarity.NOT and clause.kind is not Kind.EXISTENCE
    auxiliary, rest = _predicate(clause, support=negated)
    tokens = [_time(clause.time)] if clause.fronted else []
    tokens += [] if gap == "subject" else _subject(clause)
    never = "never" if clause.polarity is Polarity.NEVER else ""
    if negated:
        tokens += ["cannot"] if auxiliary == "can" else [auxiliary, "not"]
    else:
        tokens.append(auxiliary)
    manner = clause.manner if _manner_first(clause) else ""
    return [*tokens, never, clause.frequency, manner, *rest, *_complements(clause, gap)]


def _question(meaning: Sentence) -> list[str]:
    """A question: the auxiliary before the subject, except where the subject is asked for."""
    clause = meaning.main
    question = meaning.question
    assert question is not None, "a question asks something"
    if question is Question.WHO:
        auxiliary, rest = _predicate(clause, support=False)
        manner = clause.manner if _manner_first(clause) else ""
        return ["who", auxiliary, clause.frequency, manner, *rest, *_complements(clause, "subject")]
    auxiliary, rest = _predicate(clause, support=True)
    opening = {Question.WHETHER: "", Question.HOW_MANY: ""}.get(question, question.value)
    tokens = [opening]
    manner = clause.manner if _manner_first(clause) else ""
    gap = {Question.WHAT: "object", Question.HOW_MANY: "object", Question.WHERE: "place"}.get(question, "")
    if question is Question.HOW_MANY:
        assert clause.object is not None, "how many of what"
        tokens = ["how many", *clause.object.adjectives, noun_form(clause.object.noun, True)]
    return [*tokens, auxiliary, *_subject(clause), clause.frequency, manner, *rest, *_complements(clause, gap)]
