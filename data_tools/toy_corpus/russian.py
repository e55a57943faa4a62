"""Russian syntax: no articles, no copula in the present, numbers that govern the genitive, ли in questions."""

from dataclasses import replace

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
from data_tools.toy_corpus.russian_forms import (
    adjective_form,
    counted_form,
    decline_adjective,
    determiner_form,
    gender_key,
    is_animate,
    noun_form,
    noun_gender,
    past_forms,
    pronoun_form,
    verb_forms,
)
from data_tools.toy_corpus.text import finish

LANGUAGE = "ru"
_WAS = {"m": "был", "f": "была", "n": "было", "p": "были"}
_ANIMATE_ACCUSATIVES = {2: "двух", 3: "трёх", 4: "четырёх"}
_COSTS = {Tense.PRESENT: ("стоит", "стоят"), Tense.FUTURE: ("будет стоить", "будут стоить")}
_COSTED = {"m": "стоил", "f": "стоила", "n": "стоило", "p": "стоили"}
_MUST = {"m": "должен", "f": "должна", "n": "должно", "p": "должны"}
_QUESTION_WORDS = {
    Question.WHO: "кто", Question.WHAT: "что", Question.WHERE: "где", Question.WHEN: "когда", Question.WHY: "почему",
}  # fmt: skip
# Words before which the prepositions с, в and о change.
_VOWELS = "аоуэи"


def sentence(meaning: Sentence) -> str:
    """The sentence in Russian."""
    if meaning.question is not None:
        return finish(_question(meaning.main, meaning.question), "?")
    main, other = meaning.main, meaning.other
    tokens = [lexicon().adverbs[meaning.opening].cells["ru"] if meaning.opening else ""]
    if other is None:
        return finish([*tokens, *_clause(main)], ".")
    # The last form is the one that begins a sentence: "так как", not "потому что".
    conjunction = lexicon().conjunctions[meaning.conjunction].forms("ru")[-1 if meaning.other_first else 0]
    if meaning.conjunction in ("and", "but"):
        return finish([*tokens, *_clause(main), ",", conjunction, *_clause(other)], ".")
    subordinate = [conjunction, *_clause(replace(other, fronted=False))]
    if meaning.other_first:
        return finish([*subordinate, ",", *_clause(main)], ".")
    return finish([*tokens, *_clause(main), ",", *subordinate], ".")


def _key(phrase: NounPhrase) -> str:
    """The gender that agrees with a phrase, "p" in the plural."""
    return "p" if phrase.agrees_in_plural else noun_gender(phrase.noun)


def _noun_phrase(phrase: NounPhrase, case: str) -> list[str]:
    """The tokens of a noun phrase or its pronoun."""
    if phrase.pronoun:
        return [pronoun_form(_key(phrase), "prep" if case == "loc" else case)]
    if phrase.determiner is Determiner.COUNT:
        tokens = _counted(phrase, case)
    elif phrase.determiner is Determiner.MANY and not (phrase.animate or case not in ("nom", "acc")):
        many = replace(phrase, determiner=Determiner.THE, relative=None, partner=None)
        tokens = ["много", *_noun_phrase(many, "gen")]
    else:
        agreeing = "prep" if case == "loc" else case
        key, animate = gender_key(phrase.noun, phrase.plural), is_animate(phrase.noun)
        tokens = [_determiner(phrase, key, agreeing, animate)]
        tokens += [adjective_form(adjective, key, agreeing, animate) for adjective in phrase.adjectives]
        tokens.append(noun_form(phrase.noun, phrase.plural, case))
        if phrase.possessor is not None:
            tokens += _noun_phrase(phrase.possessor, "gen")
    if phrase.relative is not None:
        tokens += _relative(phrase, phrase.relative.gap, phrase.relative.clause)
    if phrase.partner is not None:
        tokens += ["и", *_noun_phrase(phrase.partner, case)]
    return tokens


def _determiner(phrase: NounPhrase, key: str, case: str, animate: bool) -> str:
    """The determiner in agreement, "" for articles."""
    match phrase.determiner:
        case Determiner.THIS | Determiner.OWN | Determiner.ALL:
            return determiner_form(phrase.determiner.value, key, case, animate)
        case Determiner.EVERY:
            return decline_adjective("каждый", key, case, animate)
        case Determiner.MANY:
            return decline_adjective("многий", key, case, animate)
        case _:
            return ""


def _counted(phrase: NounPhrase, case: str) -> list[str]:
    """A number with its noun: genitive singular after 2 to 4, genitive plural after the others."""
    assert case in ("nom", "acc"), "numbers are declined in the nominative and accusative only"
    word = number_text(phrase.count, phrase.digits, LANGUAGE)
    animate, few = is_animate(phrase.noun), counted_form(phrase.count) == "few"
    if few and animate and case == "acc" and phrase.count in _ANIMATE_ACCUSATIVES:
        adjectives = [adjective_form(adjective, "p", "gen", animate) for adjective in phrase.adjectives]
        return [_ANIMATE_ACCUSATIVES[phrase.count], *adjectives, noun_form(phrase.noun, True, "gen")]
    if not phrase.digits and phrase.count == 2 and noun_gender(phrase.noun) == "f":
        word = "две"
    adjective_case = "nom" if few and noun_gender(phrase.noun) == "f" else "gen"
    adjectives = [adjective_form(adjective, "p", adjective_case, False) for adjective in phrase.adjectives]
    return [word, *adjectives, noun_form(phrase.noun, not few, "gen")]


def _relative(phrase: NounPhrase, gap: str, clause: Clause) -> list[str]:
    """A relative clause between commas."""
    case = "nom"
    if gap == "object":
        case = lexicon().verbs[clause.verb].government("ru") or "acc"
    pronoun = decline_adjective("который", gender_key(phrase.noun, phrase.plural), case, is_animate(phrase.noun))
    return [",", pronoun, *_clause(clause, gap), ","]


def _governed(preposition: str, case: str, phrase: NounPhrase) -> list[str]:
    """A prepositional phrase, with the form that the preposition has before the next word."""
    tokens = [token for token in _noun_phrase(phrase, case) if token]
    following = tokens[0].lower()
    cluster = len(following) > 1 and following[1] not in "аеёиоуыэюяьъй"
    head, _, last = preposition.rpartition(" ")
    if last == "с" and ((following[0] in "сзшж" and cluster) or following.startswith("мн")):
        last = "со"
    elif last == "в" and following[0] in "вф" and cluster:
        last = "во"
    elif last == "о" and following[0] in _VOWELS:
        last = "об"
    elif last == "о" and following.startswith("все"):
        last = "обо"
    return [head, last, *tokens]


def _place(place: Place) -> list[str]:
    """The tokens of a place or a direction."""
    if place.role not in ("at", "to"):
        preposition, _, case = lexicon().prepositions[place.role].cells["ru"].partition("+")
        return _governed(preposition, "loc" if case == "prep" and preposition == "на" else case, place.ground)
    preposition = lexicon().nouns[place.ground.noun].forms("place")[5]
    return _governed(preposition, "loc" if place.role == "at" else "acc", place.ground)


def _time(time: str) -> str:
    """The words of a time: an adverb, an hour or a year."""
    sort, _, value = time.partition(":")
    if sort == "year":
        return f"в {value} году"
    if sort == "hour":
        hour, _, digits = value.partition(":")
        noun = {"one": "час", "few": "часа", "many": "часов"}[counted_form(int(hour))]
        return f"в {number_text(int(hour), bool(digits), LANGUAGE)} {noun}"
    return _adverb(time)


def _adverb(name: str) -> str:
    """An adverb of the lexicon, "" for none."""
    return lexicon().adverbs[name].cells["ru"] if name else ""


def _number(clause: Clause) -> str:
    """The number of an age or a price."""
    return number_text(clause.number, clause.digits, LANGUAGE)


def _verb(clause: Clause) -> str:
    """The verb in agreement with the subject, future and modals in two words."""
    assert clause.subject is not None, "a verb needs a subject"
    key = _key(clause.subject)
    forms = verb_forms(clause.verb)
    if clause.modal == "must":
        return f"{_MUST[key]} {_WAS[key] if clause.tense is Tense.PAST else ''} {forms.infinitive}"
    if clause.modal:
        singular, plural, past = lexicon().modals[clause.modal].forms("ru")
        finite = past_forms(past)[key] if clause.tense is Tense.PAST else plural if key == "p" else singular
        return f"{finite} {forms.infinitive}"
    if clause.tense is Tense.PAST:
        return forms.past[key]
    return (forms.future if clause.tense is Tense.FUTURE else forms.present)[key == "p"]


def _verb_group(clause: Clause, not_word: str) -> list[str]:
    """The verb with its adverb of manner, which stands before it, or before the infinitive of a future."""
    finite, *infinitive = _verb(clause).split()
    manner = _adverb(clause.manner)
    return [not_word, finite, manner, *infinitive] if infinitive else [manner, not_word, finite]


def _clause(clause: Clause, gap: str = "") -> list[str]:
    """A clause in the order of a statement; `gap` is a phrase that is elsewhere."""
    front = [_time(clause.time)] if clause.fronted else []
    time = [] if clause.fronted else [_time(clause.time)]
    subject = [] if gap == "subject" or clause.subject is None else _noun_phrase(clause.subject, "nom")
    not_word = "не" if clause.polarity is not Polarity.YES else ""
    match clause.kind:
        case Kind.VERB:
            never = "никогда" if clause.polarity is Polarity.NEVER else ""
            adverbs = [*time, _adverb(clause.frequency), never]
            return [*front, *subject, *adverbs, *_verb_group(clause, not_word), *_complements(clause, gap)]
        case Kind.WEATHER:
            forms = lexicon().weather[clause.verb].forms("ru")
            return [*front, *time, forms[(Tense.PRESENT, Tense.PAST, Tense.FUTURE).index(clause.tense)]]
        case Kind.POSSESSION | Kind.EXISTENCE:
            return [*front, *_being(clause), *time]
        case Kind.AGE:
            assert clause.subject is not None, "an age needs its subject"
            years = {"one": "год", "few": "года", "many": "лет"}[counted_form(clause.number)]
            return [*front, *_noun_phrase(clause.subject, "dat"), *time, not_word, _number(clause), years]
        case _:
            return [*front, *subject, *time, *_predicate(clause, not_word, gap)]


def _complements(clause: Clause, gap: str) -> list[str]:
    """Everything after the verb."""
    tokens: list[str] = []
    if clause.recipient is not None:
        tokens += _noun_phrase(clause.recipient, "dat")
    if clause.object is not None and gap != "object":
        government = lexicon().verbs[clause.verb].government("ru") or "acc"
        preposition, _, case = government.rpartition("+")
        if preposition:
            tokens += _governed(preposition, case, clause.object)
        else:
            tokens += _noun_phrase(clause.object, case)
    for preposition, case, phrase in (
        ("для", "gen", clause.beneficiary),
        ("с", "ins", clause.companion),
        ("о", "prep", clause.topic),
    ):
        if phrase is not None:
            tokens += _governed(preposition, case, phrase)
    if clause.place is not None and gap != "place":
        # Russian has "arrive to a place".
        arrives = clause.place.role == "at" and lexicon().verbs[clause.verb].cells["frame"] == "arr"
        tokens += _place(replace(clause.place, role="to") if arrives else clause.place)
    if clause.content is not None:
        tokens += [",", "что", *_clause(replace(clause.content, fronted=False)), ","]
    if clause.purpose is not None:
        tokens += [",", "чтобы", verb_forms(clause.purpose.verb).infinitive, *_complements(clause.purpose, ""), ","]
    return tokens


def _being(clause: Clause) -> list[str]:
    """Possession ("у … есть") and existence ("в … есть"), negated with the genitive."""
    assert clause.object is not None, "something is or is had"
    phrase = clause.object
    where = _owner(clause)
    if clause.polarity is Polarity.NOT:
        verb = {Tense.PRESENT: "нет", Tense.PAST: "не было", Tense.FUTURE: "не будет"}[clause.tense]
        return [*where, verb, *_noun_phrase(phrase, "gen")]
    return [*where, _is(clause), *_noun_phrase(phrase, "nom")]


def _owner(clause: Clause) -> list[str]:
    """The place or owner of the thing that exists."""
    if clause.kind is Kind.EXISTENCE:
        assert clause.place is not None, "existence is somewhere"
        return _place(clause.place)
    assert clause.subject is not None, "possession needs an owner"
    if clause.subject.pronoun:
        # After a preposition the pronouns begin with н.
        return ["у", "н" + pronoun_form(_key(clause.subject), "gen")]
    return ["у", *_noun_phrase(clause.subject, "gen")]


def _is(clause: Clause) -> str:
    """есть, был or будет for the thing that exists; a number takes the neuter, and no есть."""
    assert clause.object is not None, "something is or is had"
    counted = clause.object.determiner in (Determiner.COUNT, Determiner.MANY)
    key = "n" if counted else _key(clause.object)
    if clause.tense is Tense.PAST:
        return _WAS[key]
    if clause.tense is Tense.FUTURE:
        return "будут" if key == "p" else "будет"
    return "" if counted else "есть"


def _predicate(clause: Clause, not_word: str, gap: str) -> list[str]:
    """The predicate after the subject: none but it in the present, the instrumental after "was" and "will be"."""
    assert clause.subject is not None, "a predicate needs its subject"
    key = _key(clause.subject)
    if clause.kind is Kind.PRICE:
        verb = _COSTED[key] if clause.tense is Tense.PAST else _COSTS[clause.tense][key == "p"]
        return [not_word, verb, _number(clause), "евро"]
    present = clause.tense is Tense.PRESENT
    copula = "" if present else _WAS[key] if clause.tense is Tense.PAST else "будут" if key == "p" else "будет"
    case = "nom" if present else "ins"
    match clause.kind:
        case Kind.ADJECTIVE:
            return [not_word, copula, _adverb(clause.degree), adjective_form(clause.adjective, key, case, False)]
        case Kind.COMPARISON:
            assert clause.object is not None, "a comparison needs its standard"
            comparative = lexicon().adjectives[clause.adjective].cells["comparative"].split("/")[2]
            return [not_word, copula, comparative, ",", "чем", *_noun_phrase(clause.object, "nom")]
        case Kind.PROFESSION:
            assert clause.object is not None, "a profession needs its noun"
            dash = "—" if present and not not_word and not clause.subject.pronoun else ""
            return [dash, not_word, copula, noun_form(clause.object.noun, clause.object.plural, case)]
        case _:
            assert clause.place is not None, "a location needs its place"
            return [not_word, copula, *([] if gap == "place" else _place(clause.place))]


def _question(clause: Clause, question: Question) -> list[str]:
    """A question: the verb with ли in front, the question word in front, or a statement by its intonation."""
    clause = replace(clause, fronted=False)
    if question is Question.WHETHER:
        return _whether(clause)
    if question is Question.WHO:
        return ["кто", *_clause(clause, "subject")]
    if question is Question.HOW_MANY:
        assert clause.object is not None, "how many of what"
        counted = replace(clause.object, plural=True, determiner=Determiner.A)
        return ["сколько", *_noun_phrase(counted, "gen"), *_verb_first(clause, "object")]
    if question is Question.WHAT:
        return ["что", *_verb_first(clause, "object")]
    gap = "place" if question is Question.WHERE else ""
    return [_QUESTION_WORDS[question], *_clause(clause, gap)]


def _verb_first(clause: Clause, gap: str) -> list[str]:
    """A clause with the subject after the finite verb, as after "что" and "сколько"."""
    assert clause.subject is not None, "a verb needs a subject"
    finite, *rest = _verb(clause).split()
    subject = _noun_phrase(clause.subject, "nom")
    tail = [*rest, *_complements(clause, gap), _time(clause.time)]
    return [_adverb(clause.frequency), _adverb(clause.manner), finite, *subject, *tail]


def _whether(clause: Clause) -> list[str]:
    """A yes-or-no question."""
    if clause.kind is Kind.VERB:
        assert clause.subject is not None, "a verb needs a subject"
        finite, *rest = _verb(clause).split()
        adverbs = [_time(clause.time), _adverb(clause.frequency), _adverb(clause.manner)]
        return [finite, "ли", *_noun_phrase(clause.subject, "nom"), *adverbs, *rest, *_complements(clause, "")]
    if clause.kind in (Kind.POSSESSION, Kind.EXISTENCE) and _is(clause):
        assert clause.object is not None, "something is or is had"
        return [_is(clause), "ли", *_owner(clause), *_noun_phrase(clause.object, "nom"), _time(clause.time)]
    return _clause(clause)
