"""German syntax: the verb second, last or first; brackets of perfect, future, modals, separable verbs; nicht, kein."""

from dataclasses import replace

from data_tools.toy_corpus.german_forms import (
    adjective_form,
    definite,
    der_word,
    ein_word,
    gender_key,
    noun_form,
    personal_pronoun,
    predicative,
    relative_pronoun,
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
from data_tools.toy_corpus.text import finish

LANGUAGE = "de"
_SEIN = {Tense.PRESENT: ("ist", "sind"), Tense.PAST: ("war", "waren"), Tense.FUTURE: ("wird", "werden")}
_HABEN = {Tense.PRESENT: ("hat", "haben"), Tense.PAST: ("hatte", "hatten"), Tense.FUTURE: ("wird", "werden")}
_COSTS = {Tense.PRESENT: ("kostet", "kosten"), Tense.PAST: ("kostete", "kosteten"), Tense.FUTURE: ("wird", "werden")}
_CONTRACTIONS = {
    ("in", "dem"): "im", ("an", "dem"): "am", ("zu", "dem"): "zum", ("zu", "der"): "zur", ("von", "dem"): "vom",
    ("in", "das"): "ins", ("an", "das"): "ans", ("bei", "dem"): "beim",
}  # fmt: skip
_QUESTION_WORDS = {
    Question.WHO: "wer", Question.WHAT: "was", Question.WHERE: "wo", Question.WHEN: "wann", Question.WHY: "warum",
}  # fmt: skip


def sentence(meaning: Sentence) -> str:
    """The sentence in German."""
    if meaning.question is not None:
        return finish(_question(meaning.main, meaning.question), "?")
    main, other = meaning.main, meaning.other
    opening = [meaning.opening and lexicon().adverbs[meaning.opening].cells["de"]]
    if other is None:
        return finish(_main_clause(main, opening), ".")
    conjunction = lexicon().conjunctions[meaning.conjunction].cells["de"]
    if meaning.conjunction in ("and", "but"):
        comma = "," if meaning.conjunction == "but" else ""
        return finish([*_main_clause(main, opening), comma, conjunction, *_main_clause(other, [""])], ".")
    if meaning.conjunction in ("when", "if") and other.tense is Tense.FUTURE:
        other = replace(other, tense=Tense.PRESENT)
    if meaning.conjunction == "when" and other.tense is Tense.PAST:
        conjunction = "als"
    subordinate = [conjunction, *_clause(replace(other, fronted=False), "last")]
    if meaning.other_first:
        main = replace(main, fronted=False)
        return finish([*subordinate, ",", *_clause(main, "first")], ".")
    return finish([*_main_clause(main, opening), ",", *subordinate], ".")


def _main_clause(clause: Clause, opening: list[str]) -> list[str]:
    """A clause with the verb in second place, after the opening adverb, the fronted time or the subject."""
    if any(opening):
        return [*opening, *_clause(replace(clause, fronted=False), "first")]
    if clause.fronted:
        return [_time(clause.time), *_clause(replace(clause, time="", fronted=False), "first")]
    if clause.kind is Kind.EXISTENCE:
        assert clause.place is not None, "existence is somewhere"
        return [*_place(clause.place), *_clause(replace(clause, place=None), "first")]
    return _clause(clause, "second")


def _pronoun_key(phrase: NounPhrase) -> str:
    """The row of the pronoun tables: a girl is "sie", whatever the gender of the word."""
    if phrase.agrees_in_plural:
        return "p"
    return "f" if phrase.has("she") else gender_key(phrase.noun, False)


def _determiner(phrase: NounPhrase, case: str, negated: bool) -> tuple[str, str]:
    """The determiner and the kind of adjective ending after it."""
    key = gender_key(phrase.noun, phrase.plural)
    match phrase.determiner:
        case Determiner.THE:
            return definite(key, case), "weak"
        case Determiner.A if negated:
            return ein_word("kein", key, case), "mixed"
        case Determiner.A if phrase.plural or phrase.has("mass"):
            return "", "strong"
        case Determiner.A:
            return ein_word("ein", key, case), "mixed"
        case Determiner.THIS | Determiner.EVERY | Determiner.ALL:
            stems = {Determiner.THIS: "dies", Determiner.EVERY: "jed", Determiner.ALL: "all"}
            return der_word(stems[phrase.determiner], key, case), "weak"
        case Determiner.MANY:
            return der_word("viel", key, case), "strong"
        case Determiner.OWN:
            assert phrase.owner is not None, "a possessive needs its owner"
            stem = "ihr" if _pronoun_key(phrase.owner) in ("f", "p") else "sein"
            return ein_word(stem, key, case), "mixed"
        case Determiner.COUNT:
            return number_text(phrase.count, phrase.digits, LANGUAGE), "strong"
        case _:
            return "", "strong"


def _noun_phrase(phrase: NounPhrase, case: str, negated: bool = False) -> list[str]:
    """The tokens of a noun phrase or its pronoun; `negated` turns an indefinite article into "kein"."""
    if phrase.pronoun:
        return [personal_pronoun(_pronoun_key(phrase), case)]
    key = gender_key(phrase.noun, phrase.plural)
    determiner, kind = _determiner(phrase, case, negated)
    adjectives = [adjective_form(adjective, kind, key, case) for adjective in phrase.adjectives]
    tokens = [determiner, *adjectives, noun_form(phrase.noun, phrase.plural, case)]
    if phrase.possessor is not None:
        if phrase.possessor.determiner is Determiner.NAME:
            tokens += ["von", noun_form(phrase.possessor.noun, False, "dat")]
        else:
            tokens += _noun_phrase(phrase.possessor, "gen")
    if phrase.relative is not None:
        tokens += _relative(phrase.relative.gap, phrase.relative.clause, key)
    if phrase.partner is not None:
        tokens += ["und", *_noun_phrase(phrase.partner, case)]
    return tokens


def _relative(gap: str, clause: Clause, key: str) -> list[str]:
    """A relative clause between commas."""
    case = "nom"
    if gap == "object":
        case = lexicon().verbs[clause.verb].government("de") or "acc"
    return [",", relative_pronoun(key, case), *_clause(clause, "last", gap), ","]


def _governed(preposition: str, case: str, phrase: NounPhrase) -> list[str]:
    """A prepositional phrase, article contracted."""
    tokens = _noun_phrase(phrase, case)
    if phrase.determiner is Determiner.THE and (preposition, tokens[0]) in _CONTRACTIONS:
        return [_CONTRACTIONS[preposition, tokens[0]], *tokens[1:]]
    return [preposition, *tokens]


def _place(place: Place) -> list[str]:
    """The tokens of a place or a direction."""
    if place.role not in ("at", "to"):
        preposition, _, case = lexicon().prepositions[place.role].cells["de"].partition("+")
        return _governed(preposition, case, place.ground)
    forms = lexicon().nouns[place.ground.noun].forms("place")
    if place.role == "at":
        return _governed(forms[1], "dat", place.ground)
    case = "dat" if forms[2] in ("zu", "nach") else "acc"
    return _governed(forms[2], case, place.ground)


def _time(time: str) -> str:
    """The words of a time: an adverb, an hour or a year."""
    sort, _, value = time.partition(":")
    if sort == "year":
        return f"im Jahr {value}"
    if sort == "hour":
        hour, _, digits = value.partition(":")
        return f"um {number_text(int(hour), bool(digits), LANGUAGE)} Uhr"
    return lexicon().adverbs[time].cells["de"] if time else ""


def _adverb(name: str) -> str:
    """An adverb of the lexicon, "" for none."""
    return lexicon().adverbs[name].cells["de"] if name else ""


def _verb_parts(clause: Clause, plural: bool) -> tuple[str, list[str], str]:
    """The finite verb, the verbs of the right bracket, and the separated prefix (which joins a final finite verb)."""
    if clause.kind not in (Kind.VERB, Kind.WEATHER):
        if clause.kind is Kind.EXISTENCE:
            finite = {Tense.PRESENT: "gibt", Tense.PAST: "gab", Tense.FUTURE: "wird"}[clause.tense]
            return finite, ["geben"] if clause.tense is Tense.FUTURE else [], ""
        table, infinitive = _SEIN, "sein"
        if clause.kind is Kind.POSSESSION:
            table, infinitive = _HABEN, "haben"
        elif clause.kind is Kind.PRICE:
            table, infinitive = _COSTS, "kosten"
        return table[clause.tense][plural], [infinitive] if clause.tense is Tense.FUTURE else [], ""
    forms = verb_forms(clause.verb)
    if clause.modal:
        singular, plural_form, past = lexicon().modals[clause.modal].forms("de")
        finite = (f"{past}n" if plural else past) if clause.tense is Tense.PAST else plural_form if plural else singular
        return finite, [forms.infinitive], ""
    if clause.tense is Tense.FUTURE:
        return ("werden" if plural else "wird"), [forms.infinitive], ""
    if clause.tense is Tense.PAST:
        table = _SEIN if forms.auxiliary_is_sein else _HABEN
        return table[Tense.PRESENT][plural], [forms.participle], ""
    return (forms.plural if plural else forms.third), [], forms.prefix


def _clause(clause: Clause, order: str, gap: str = "") -> list[str]:
    """A clause with its verb "first", "second" (after the subject) or "last"; `gap` is a phrase that is elsewhere."""
    agreeing = clause.subject.agrees_in_plural if clause.subject is not None else False
    finite, bracket, prefix = _verb_parts(clause, agreeing)
    subject = [] if gap == "subject" else _subject(clause)
    middle, after = _middle_field(clause, gap), _after_field(clause)
    if order == "last":
        return [*subject, *middle, *bracket, prefix + finite, *after]
    right = [*bracket, prefix]
    if order == "first":
        return [finite, *subject, *middle, *right, *after]
    return [*subject, finite, *middle, *right, *after]


def _subject(clause: Clause) -> list[str]:
    """The subject, "es" where there is none."""
    if clause.kind is Kind.EXISTENCE or clause.subject is None:
        return ["es"]
    return _noun_phrase(clause.subject, "nom")


def _object(clause: Clause, gap: str, negated: bool) -> list[str]:
    """The object, in its case or after its preposition."""
    if clause.object is None or gap == "object":
        return []
    government = "acc"
    if clause.kind is Kind.VERB:
        government = lexicon().verbs[clause.verb].government("de") or "acc"
    if "+" in government:
        preposition, _, case = government.partition("+")
        return _governed(preposition, case, clause.object)
    return _noun_phrase(clause.object, government, negated)


def _middle_field(clause: Clause, gap: str) -> list[str]:
    """All between the finite verb and the right bracket: pronouns, times, objects, nicht, manner, place."""
    negated = clause.polarity is Polarity.NOT
    reflexive = clause.kind is Kind.VERB and verb_forms(clause.verb).reflexive
    tokens = ["sich"] if reflexive else []
    time = [_time(clause.time), _adverb(clause.frequency), "nie" if clause.polarity is Polarity.NEVER else ""]
    if clause.kind in (Kind.ADJECTIVE, Kind.COMPARISON, Kind.PROFESSION, Kind.AGE, Kind.PRICE, Kind.LOCATION):
        not_word = "nicht" if negated else ""
        if clause.kind is Kind.PROFESSION and negated:
            not_word = "kein" if clause.object and gender_key(clause.object.noun, False) != "f" else "keine"
        return [*time, not_word, *_predicate(clause)]
    prepositional = clause.kind is Kind.VERB and "+" in lexicon().verbs[clause.verb].government("de")
    indefinite = clause.object is not None and clause.object.indefinite and gap != "object"
    takes_kein = negated and indefinite and not prepositional
    phrase = _object(clause, gap, takes_kein)
    if clause.object is not None and clause.object.pronoun and not prepositional:
        tokens += phrase
        phrase = []
    tokens += time
    if clause.recipient is not None:
        tokens += _noun_phrase(clause.recipient, "dat")
    not_word = "nicht" if negated and not takes_kein else ""
    manner = _adverb(clause.manner)
    if prepositional:
        tokens += [not_word, manner, *phrase]
    elif clause.object is not None and not clause.object.indefinite:
        tokens += [*phrase, not_word, manner]
    else:
        tokens += [manner, *phrase, not_word]
    for preposition, case, other in (
        ("für", "acc", clause.beneficiary),
        ("mit", "dat", clause.companion),
        ("über", "acc", clause.topic),
    ):
        if other is not None:
            tokens += _governed(preposition, case, other)
    if clause.place is not None and gap != "place":
        tokens += _place(clause.place)
    return tokens


def _predicate(clause: Clause) -> list[str]:
    """The predicate after "sein" or "kosten"."""
    number = number_text(clause.number, clause.digits, LANGUAGE) if clause.number else ""
    match clause.kind:
        case Kind.ADJECTIVE:
            return [_adverb(clause.degree), predicative(clause.adjective)]
        case Kind.COMPARISON:
            assert clause.object is not None, "a comparison needs its standard"
            comparative = lexicon().adjectives[clause.adjective].cells["comparative"].split("/")[1]
            return [comparative, "als", *_noun_phrase(clause.object, "nom")]
        case Kind.PROFESSION:
            assert clause.object is not None, "a profession needs its noun"
            return [noun_form(clause.object.noun, clause.object.plural, "nom")]
        case Kind.AGE:
            return [number, "Jahre alt"]
        case Kind.PRICE:
            return [number, "Euro"]
        case _:
            assert clause.place is not None, "a location needs its place"
            return _place(clause.place)


def _after_field(clause: Clause) -> list[str]:
    """Clauses after the right bracket."""
    tokens: list[str] = []
    if clause.content is not None:
        tokens += [",", "dass", *_clause(replace(clause.content, fronted=False), "last"), ","]
    if clause.purpose is not None:
        middle = _middle_field(clause.purpose, "")
        tokens += [",", "um", *middle, verb_forms(clause.purpose.verb).zu_infinitive, ","]
    return tokens


def _question(clause: Clause, question: Question) -> list[str]:
    """A question: verb first, or second after the question word."""
    clause = replace(clause, fronted=False)
    if question is Question.WHETHER:
        return _clause(clause, "first")
    if question is Question.WHO:
        return ["wer", *_clause(clause, "first", "subject")]
    if question is Question.HOW_MANY:
        assert clause.object is not None, "how many of what"
        counted = _noun_phrase(replace(clause.object, determiner=Determiner.A, plural=True), "acc")
        return ["wie viele", *counted, *_clause(clause, "first", "object")]
    gap = {Question.WHAT: "object", Question.WHERE: "place"}.get(question, "")
    return [_QUESTION_WORDS[question], *_clause(clause, "first", gap)]
