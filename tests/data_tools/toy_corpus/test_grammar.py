"""The grammar of the embedded corpus: correct sentences in all four languages, and running text in documents."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.toy_corpus import LANGUAGES, generate_documents, generate_quadruples, realise
from data_tools.toy_corpus.lexicon import count_lemmas, lexicon
from data_tools.toy_corpus.meaning import (
    Clause,
    Determiner,
    Kind,
    NounPhrase,
    Place,
    Polarity,
    Question,
    Relative,
    Sentence,
    Tense,
)
from data_tools.toy_corpus.russian_forms import noun_form as russian_noun

ALLOWED = {
    "en": r"[A-Za-zé0-9 ,.?'’]+",
    "de": r"[A-Za-zÄÖÜäöüßé0-9 ,.?]+",
    "fr": r"[A-Za-zÀÂÇÉÈÊËÎÏÔÛÙŒàâçéèêëîïôûùœ0-9 ,.?'-]+",
    "ru": r"[А-Яа-яЁё0-9 ,.?—]+",
}


def named(noun: str) -> NounPhrase:
    return NounPhrase(noun, determiner=Determiner.NAME)


def indefinite(noun: str, *adjectives: str, plural: bool = False) -> NounPhrase:
    return NounPhrase(noun, plural, Determiner.A, adjectives=adjectives)


def counted(noun: str, count: int, *adjectives: str) -> NounPhrase:
    return NounPhrase(noun, True, Determiner.COUNT, count, adjectives=adjectives)


def verb(subject: NounPhrase, name: str, thing: NounPhrase | None = None, **fields: object) -> Clause:
    return Clause(Kind.VERB, subject, name, thing, **fields)  # type: ignore[arg-type]


ANNA = named("Anna")
PAST, FUTURE = Tense.PAST, Tense.FUTURE
BUY = verb(ANNA, "buy", indefinite("book", "old"), tense=PAST, time="yesterday", fronted=True)
THAT_SHE_BOUGHT = Relative("object", verb(NounPhrase("man"), "buy", NounPhrase("apple"), tense=PAST))
WHO_READS = Relative("subject", verb(NounPhrase("girl"), "read", indefinite("newspaper")))
GOLDEN = {
    "fronted time: German verb second, perfect bracket; French vieux before its noun": (
        Sentence(BUY),
        "Yesterday Anna bought an old book.",
        "Gestern hat Anna ein altes Buch gekauft.",
        "Hier, Anna a acheté un vieux livre.",
        "Вчера Анна купила старую книгу.",
    ),
    "cause in front: German verb last and inversion; French comme, Russian так как": (
        Sentence(
            verb(NounPhrase("mother", pronoun=True), "rest"),
            "because",
            Clause(Kind.ADJECTIVE, NounPhrase("mother"), adjective="tired"),
            other_first=True,
        ),
        "Because the mother is tired, she is resting.",
        "Weil die Mutter müde ist, ruht sie sich aus.",
        "Comme la mère est fatiguée, elle se repose.",
        "Так как мать усталая, она отдыхает.",
    ),
    "time in the past: als; separable participle": (
        Sentence(verb(NounPhrase("boy"), "sleep", tense=PAST), "when",
                 verb(NounPhrase("father"), "wake up", tense=PAST)),
        "The boy slept when the father woke up.",
        "Der Junge hat geschlafen, als der Vater aufgewacht ist.",
        "Le garçon a dormi quand le père s'est réveillé.",
        "Мальчик спал, когда отец проснулся.",
    ),
    "condition: each language has its own tense": (
        Sentence(verb(ANNA, "come", tense=FUTURE, place=Place("to", NounPhrase("park"))), "if",
                 verb(NounPhrase("girl", pronoun=True), "wake up", tense=FUTURE)),
        "Anna will come to the park if she wakes up.",
        "Anna wird in den Park kommen, wenn sie aufwacht.",
        "Anna viendra au parc si elle se réveille.",
        "Анна придёт в парк, если она проснётся.",
    ),
    "although; dative object of helfen, помогать": (
        Sentence(verb(NounPhrase("king"), "help", NounPhrase("student"), tense=FUTURE), "although",
                 Clause(Kind.WEATHER, verb="snow", tense=FUTURE)),
        "The king will help the student although it will snow.",
        "Der König wird dem Studenten helfen, obwohl es schneien wird.",
        "Le roi aidera l'étudiant même s'il neige.",
        "Король поможет студенту, хотя пойдёт снег.",
    ),
    "content clause with a separable verb at its end": (
        Sentence(verb(named("Paul"), "think", content=verb(ANNA, "invite", NounPhrase("doctor")))),
        "Paul thinks that Anna is inviting the doctor.",
        "Paul denkt, dass Anna den Arzt einlädt.",
        "Paul pense qu'Anna invite le médecin.",
        "Пауль думает, что Анна приглашает врача.",
    ),
    "object relative: French participle agrees with the noun before it": (
        Sentence(verb(ANNA, "eat", NounPhrase("apple", relative=THAT_SHE_BOUGHT), tense=PAST)),
        "Anna ate the apple that the man bought.",
        "Anna hat den Apfel, den der Mann gekauft hat, gegessen.",
        "Anna a mangé la pomme que l'homme a achetée.",
        "Анна съела яблоко, которое мужчина купил.",
    ),
    "subject relative between commas": (
        Sentence(verb(NounPhrase("girl", relative=WHO_READS), "laugh")),
        "The girl who is reading a newspaper is laughing.",
        "Das Mädchen, das eine Zeitung liest, lacht.",
        "La fille qui lit un journal rit.",
        "Девочка, которая читает газету, смеётся.",
    ),
    "two: genitive singular, feminine две with a nominative adjective": (
        Sentence(Clause(Kind.POSSESSION, ANNA, object=counted("book", 2, "new"))),
        "Anna has two new books.",
        "Anna hat zwei neue Bücher.",
        "Anna a deux nouveaux livres.",
        "У Анны две новые книги.",
    ),
    "three: genitive singular, masculine with a genitive plural adjective": (
        Sentence(Clause(Kind.EXISTENCE, object=counted("table", 3, "big"), place=Place("at", NounPhrase("kitchen")))),
        "There are three big tables in the kitchen.",
        "In der Küche gibt es drei große Tische.",
        "Il y a trois grandes tables dans la cuisine.",
        "На кухне три больших стола.",
    ),
    "five: genitive plural; animate accusative like the genitive after four": (
        Sentence(verb(counted("woman", 5), "see", counted("student", 4), tense=PAST)),
        "Five women saw four students.",
        "Fünf Frauen haben vier Studenten gesehen.",
        "Cinq femmes ont vu quatre étudiants.",
        "Пять женщин увидели четырёх студентов.",
    ),
    "age: dative and год": (
        Sentence(Clause(Kind.AGE, NounPhrase("child"), number=21, digits=True)),
        "The child is 21 years old.",
        "Das Kind ist 21 Jahre alt.",
        "L'enfant a 21 ans.",
        "Ребёнку 21 год.",
    ),
    "hour: genitive singular after three": (
        Sentence(verb(ANNA, "go", tense=FUTURE, place=Place("to", named("Berlin")), time="hour:3")),
        "Anna will go to Berlin at three o'clock.",
        "Anna wird um drei Uhr nach Berlin gehen.",
        "Anna ira à Berlin à trois heures.",
        "Анна в три часа пойдёт в Берлин.",
    ),
    "negated indefinite: kein, pas de": (
        Sentence(verb(NounPhrase("man"), "buy", indefinite("orange"), polarity=Polarity.NOT)),
        "The man is not buying an orange.",
        "Der Mann kauft keine Orange.",
        "L'homme n'achète pas d'orange.",
        "Мужчина не покупает апельсин.",
    ),
    "negated definite: nicht at the end, before the separated prefix": (
        Sentence(verb(NounPhrase("uncle"), "invite", NounPhrase("aunt"), polarity=Polarity.NOT)),
        "The uncle is not inviting the aunt.",
        "Der Onkel lädt die Tante nicht ein.",
        "L'oncle n'invite pas la tante.",
        "Дядя не приглашает тётю.",
    ),
    "never": (
        Sentence(verb(NounPhrase("cat"), "sleep", polarity=Polarity.NEVER)),
        "The cat never sleeps.",
        "Die Katze schläft nie.",
        "Le chat ne dort jamais.",
        "Кошка никогда не спит.",
    ),
    "nothing there: нет with the genitive": (
        Sentence(Clause(Kind.EXISTENCE, object=indefinite("museum"), place=Place("at", NounPhrase("village")),
                        polarity=Polarity.NOT)),
        "There is no museum in the village.",
        "Im Dorf gibt es kein Museum.",
        "Il n'y a pas de musée dans le village.",
        "В деревне нет музея.",
    ),
    "yes or no: do, verb first, est-ce que, ли": (
        Sentence(verb(named("Eva"), "read", NounPhrase("letter"), tense=PAST), question=Question.WHETHER),
        "Did Eva read the letter?",
        "Hat Eva den Brief gelesen?",
        "Est-ce qu'Eva a lu la lettre ?",
        "Прочитала ли Ева письмо?",
    ),
    "who": (
        Sentence(verb(NounPhrase("man"), "repair", NounPhrase("car"), tense=PAST), question=Question.WHO),
        "Who repaired the car?",
        "Wer hat das Auto repariert?",
        "Qui a réparé la voiture ?",
        "Кто починил машину?",
    ),
    "what": (
        Sentence(verb(ANNA, "look for", NounPhrase("key")), question=Question.WHAT),
        "What is Anna looking for?",
        "Was sucht Anna?",
        "Qu'est-ce qu'Anna cherche ?",
        "Что ищет Анна?",
    ),
    "where; a state is French imparfait": (
        Sentence(verb(NounPhrase("writer"), "live", tense=PAST, place=Place("at", NounPhrase("city"))),
                 question=Question.WHERE),
        "Where did the writer live?",
        "Wo hat der Schriftsteller gewohnt?",
        "Où est-ce que l'écrivain habitait ?",
        "Где писатель жил?",
    ),
    "how many: agreement with the counted noun": (
        Sentence(verb(NounPhrase("queen"), "buy", NounPhrase("pear", True), tense=PAST), question=Question.HOW_MANY),
        "How many pears did the queen buy?",
        "Wie viele Birnen hat die Königin gekauft?",
        "Combien de poires est-ce que la reine a achetées ?",
        "Сколько груш купила королева?",
    ),
    "pronouns: grammatical gender differs, clitic with agreement": (
        Sentence(verb(NounPhrase("Anna", pronoun=True), "wash", NounPhrase("cup", pronoun=True), tense=PAST)),
        "She washed it.",
        "Sie hat sie gewaschen.",
        "Elle l'a lavée.",
        "Она вымыла её.",
    ),
    "arrival: where it happens, in Russian where to; manner inside the Russian future": (
        Sentence(verb(NounPhrase("train", True), "arrive", tense=PAST, place=Place("at", named("Moscow"))), "and",
                 verb(ANNA, "sing#alone", tense=FUTURE, manner="loudly")),
        "The trains arrived in Moscow, and Anna will sing loudly.",
        "Die Züge sind in Moskau angekommen und Anna wird laut singen.",
        "Les trains sont arrivés à Moscou et Anna chantera bruyamment.",
        "Поезда приехали в Москву, и Анна будет громко петь.",
    ),
    "two objects, contraction au, dative": (
        Sentence(verb(NounPhrase("grandmother"), "give", NounPhrase("bread"), recipient=NounPhrase("boy"), tense=PAST)),
        "The grandmother gave the bread to the boy.",
        "Die Großmutter hat dem Jungen das Brot gegeben.",
        "La grand-mère a donné le pain au garçon.",
        "Бабушка дала мальчику хлеб.",
    ),
    "adjectives: strong and mixed endings, French position and liaison form": (
        Sentence(verb(indefinite("friend", "old"), "drink", indefinite("coffee", "strong"))),
        "An old friend is drinking strong coffee.",
        "Ein alter Freund trinkt starken Kaffee.",
        "Un vieil ami boit du café fort.",
        "Старый друг пьёт сильный кофе.",
    ),
    "comparison": (
        Sentence(Clause(Kind.COMPARISON, NounPhrase("river"), object=NounPhrase("street"), adjective="long")),
        "The river is longer than the street.",
        "Der Fluss ist länger als die Straße.",
        "La rivière est plus longue que la rue.",
        "Река длиннее, чем улица.",
    ),
    "profession: no article, dash": (
        Sentence(Clause(Kind.PROFESSION, ANNA, object=indefinite("nurse"))),
        "Anna is a nurse.",
        "Anna ist Krankenschwester.",
        "Anna est infirmière.",
        "Анна — медсестра.",
    ),
    "profession in the past: instrumental": (
        Sentence(Clause(Kind.PROFESSION, NounPhrase("uncle"), object=indefinite("doctor"), tense=PAST)),
        "The uncle was a doctor.",
        "Der Onkel war Arzt.",
        "L'oncle était médecin.",
        "Дядя был врачом.",
    ),
    "purpose: zu inside a separable verb": (
        Sentence(verb(ANNA, "go", tense=PAST, place=Place("to", NounPhrase("market")),
                      purpose=verb(ANNA, "invite", NounPhrase("neighbour")))),
        "Anna went to the market to invite the neighbour.",
        "Anna ist auf den Markt gegangen, um den Nachbarn einzuladen.",
        "Anna est allée au marché pour inviter le voisin.",
        "Анна пошла на рынок, чтобы пригласить соседа.",
    ),
    "aspirated h, genitive possessor, plural agreement with être": (
        Sentence(verb(NounPhrase("sister", True, possessor=NounPhrase("hero")), "return", tense=PAST,
                      place=Place("to", NounPhrase("hospital")))),
        "The hero's sisters returned to the hospital.",
        "Die Schwestern des Helden sind ins Krankenhaus zurückgekehrt.",
        "Les sœurs du héros sont retournées à l'hôpital.",
        "Сёстры героя вернулись в больницу.",
    ),
    "modal: bracket, infinitive, должна была": (
        Sentence(verb(NounPhrase("princess"), "close", NounPhrase("window", True), tense=PAST, modal="must")),
        "The princess had to close the windows.",
        "Die Prinzessin musste die Fenster schließen.",
        "La princesse devait fermer les fenêtres.",
        "Принцесса должна была закрыть окна.",
    ),
    "coordination and a possessive of the subject": (
        Sentence(verb(named("Nina"), "look for",
                      NounPhrase("bag", determiner=Determiner.OWN, owner=named("Nina"))), "but",
                 verb(NounPhrase("child", True), "play", place=Place("at", NounPhrase("garden")))),
        "Nina is looking for her bag, but the children are playing in the garden.",
        "Nina sucht ihre Tasche, aber die Kinder spielen im Garten.",
        "Nina cherche son sac, mais les enfants jouent dans le jardin.",
        "Нина ищет свою сумку, но дети играют в саду.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("construction", GOLDEN)
def test_hand_checked_sentences(construction: str) -> None:
    meaning, *expected = GOLDEN[construction]
    assert [realise(meaning, language) for language in LANGUAGES] == expected


def test_russian_paradigm_of_a_masculine_animate() -> None:
    forms = [russian_noun("brother", plural, case) for plural in (False, True) for case in ("nom", "gen", "dat", "ins")]
    assert forms == ["брат", "брата", "брату", "братом", "братья", "братьев", "братьям", "братьями"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_at_least_300_lemmas(language: str) -> None:
    assert count_lemmas(language) >= 300
    assert len(lexicon().nouns) >= 130 and len(lexicon().verbs) >= 80
    assert len(lexicon().adjectives) >= 60 and len(lexicon().adverbs) >= 30


def test_every_selection_admits_a_noun() -> None:
    for entry in lexicon().verbs.values():
        for column in ("subject", "object"):
            for term in filter(None, entry.cells[column].split(",")):
                assert lexicon().select("nouns", term), f"{entry.name}: {column} {term} admits nothing"
    for entry in lexicon().adjectives.values():
        for term in entry.cells["kinds"].split(","):
            assert lexicon().select("nouns", term), f"{entry.name}: {term} admits nothing"


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_sentences_are_well_formed(seed: int) -> None:
    for quadruple in generate_quadruples(20, seed):
        for language, text in quadruple.items():
            assert re.fullmatch(ALLOWED[language], text), text
            assert "  " not in text and " ," not in text and " ." not in text and ",." not in text, text
            assert text[0].isupper() or text[0].isdigit()
            assert text.endswith(" ?" if language == "fr" and "?" in text else (".", "?"))
        # Written before a consonant or contracted, never like this.
        assert not re.search(r"\b(((de|à) les?|que ils?)\b|(le|ne|de|que) [aeiouéêœ](?!nze))", quadruple["fr"])


@given(seed=st.integers(0, 10**6), language=st.sampled_from(LANGUAGES))
@settings(max_examples=25, deadline=None)
def test_documents_are_running_text(seed: int, language: str) -> None:
    for document in generate_documents(language, 3, seed):
        assert 1 <= len(document) <= 15
        assert len(set(document)) == len(document)
        assert all(re.fullmatch(ALLOWED[language], sentence) for sentence in document)


def test_sentences_vary_and_have_moderate_length() -> None:
    quadruples = list(generate_quadruples(3000, 5))
    for language in LANGUAGES:
        texts = [quadruple[language] for quadruple in quadruples]
        assert len(set(texts)) == len(texts)
        lengths = [len(text.split()) for text in texts]
        assert 5 <= sum(lengths) / len(lengths) <= 12
        assert max(lengths) <= 40
        types = Counter(word.strip(",.?").lower() for text in texts for word in text.split())
        # Rare words exist, and no word but articles and the like is everywhere.
        assert 700 <= len(types) <= 6000
        assert types.most_common(1)[0][1] < 0.15 * types.total()
