"""The embedded corpus: correct sentences, the same files by seed, held-out sentences held out."""

import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.files.directories import RECORD_NAME
from data_tools.toy_corpus import LANGUAGES, generate_documents, generate_pairs, generate_quadruples, realise
from data_tools.toy_corpus.generate import write_corpus
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
from data_tools.toy_corpus.sampler import MIN_WORDS

LANGUAGE_PAIRS = [("de", "en"), ("de", "fr"), ("de", "ru"), ("en", "fr"), ("en", "ru"), ("fr", "ru")]
SPLITS = {"train": 60, "valid": 20, "test": 20}
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


def test_streams_follow_the_seed() -> None:
    assert list(generate_quadruples(30, 1)) == list(generate_quadruples(30, 1))
    assert list(generate_quadruples(30, 1)) != list(generate_quadruples(30, 2))
    assert list(generate_documents("ru", 3, 1)) == list(generate_documents("ru", 3, 1))
    assert list(generate_documents("ru", 3, 1)) != list(generate_documents("ru", 3, 2))
    pairs = list(generate_pairs("de", "fr", 30, 1))
    assert pairs == [(quadruple["de"], quadruple["fr"]) for quadruple in generate_quadruples(30, 1)]


def test_excluded_sentences_do_not_occur() -> None:
    first = list(generate_quadruples(50, 3))
    excluded = {first[0]["en"], first[1]["ru"]}
    again = list(generate_quadruples(50, 3, excluded))
    assert again[:48] == first[2:]
    [document] = generate_documents("de", 1, 4)
    [shorter] = generate_documents("de", 1, 4, {document[0]})
    assert shorter == document[1:]


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="no language 'xx'"):
        realise(Sentence(BUY), "xx")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("corpus")
    write_corpus(directory, documents=40, pairs=50, splits=SPLITS, seed=1)
    return directory


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_same_seed_same_bytes(corpus: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "same", documents=40, pairs=50, splits=SPLITS, seed=1)
    write_corpus(tmp_path / "other", documents=40, pairs=50, splits=SPLITS, seed=2)
    files = sorted(
        path.relative_to(corpus) for path in corpus.rglob("*") if path.is_file() and path.name != RECORD_NAME
    )
    assert len(files) == 4 + 2 * len(LANGUAGE_PAIRS) + 3 * 4 + 1
    for name in files:
        assert (corpus / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
        if name.suffix != ".yaml":
            assert (corpus / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_files_of_others_are_kept(tmp_path: Path) -> None:
    (tmp_path / "mono").mkdir()
    (tmp_path / "mono" / "en.txt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds mono/en\.txt, not written by data_tools\.toy_corpus"):
        write_corpus(tmp_path, documents=3, pairs=4, splits={"test": 2}, seed=1, languages=["ru", "en"])
    assert (tmp_path / "mono" / "en.txt").read_text() == "mine"
    for seed in (1, 2):  # its own it may replace
        write_corpus(tmp_path, documents=3, pairs=4, splits={"test": 2}, seed=seed, languages=["ru", "de"])
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_some_of_the_languages(tmp_path: Path) -> None:
    write_corpus(tmp_path, documents=3, pairs=4, splits={"test": 2}, seed=1, languages=["ru", "en"])
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    pairs = {"parallel/en-ru.en", "parallel/en-ru.ru"}
    assert files == {RECORD_NAME, "corpus.yaml", "mono/en.txt", "mono/ru.txt", "mt/test.en", "mt/test.ru"} | pairs
    written = yaml.safe_load((tmp_path / "corpus.yaml").read_text(encoding="utf-8"))
    assert list(written["mono"]) == ["ru", "en"] and list(written["parallel"]) == ["en-ru"]
    with pytest.raises(ValueError, match="no language 'xx'"):
        write_corpus(tmp_path, documents=3, pairs=4, splits={}, seed=1, languages=["xx"])


def test_held_out_sentences_are_nowhere_else(corpus: Path) -> None:
    for language in LANGUAGES:
        held_out = [line for split in SPLITS for line in lines(corpus / "mt" / f"{split}.{language}")]
        assert len(held_out) == len(set(held_out)) == sum(SPLITS.values())
        seen = set(lines(corpus / "mono" / f"{language}.txt"))
        for path in (corpus / "parallel").glob(f"*.{language}"):
            seen.update(lines(path))
        assert not seen.intersection(held_out)


def test_pairs_are_aligned_and_differ_between_language_pairs(corpus: Path) -> None:
    translations = {quadruple["en"]: quadruple for quadruple in islice(generate_quadruples(400, 1), 400)}
    by_language: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    for first, second in LANGUAGE_PAIRS:
        for language in (first, second):
            by_language[language] += lines(corpus / "parallel" / f"{first}-{second}.{language}")
    for texts in by_language.values():
        assert len(texts) == len(set(texts)) == 3 * 50
    for german, english in zip(lines(corpus / "parallel/de-en.de"), lines(corpus / "parallel/de-en.en"), strict=True):
        assert translations[english]["de"] == german


def test_monolingual_text_is_not_parallel(corpus: Path) -> None:
    documents = {language: list(generate_documents(language, 40, 1)) for language in LANGUAGES}
    lengths = {tuple(len(document) for document in documents[language]) for language in LANGUAGES}
    assert len(lengths) == len(LANGUAGES)
    text = (corpus / "mono" / "en.txt").read_text(encoding="utf-8")
    assert len(text.strip().split("\n\n")) == 40


@pytest.fixture(scope="module")
def everyday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of few words, large enough for every construction."""
    directory = tmp_path_factory.mktemp("everyday")
    write_corpus(directory, 60, 800, {"train": 400, "valid": 20, "test": 200}, 1, ("de", "en"), num_words=5)
    return directory


def distinct_words(text: str) -> set[str]:
    return {word for word in re.findall(r"[^\W\d]+", text.lower()) if len(word) > 1}


# German that asks for word order, agreement and subordinate clauses: verbs last, brackets, inversion, endings.
CONSTRUCTIONS = (
    r", weil .+ (ist|war|hat|haben|wird|werden)\.$",
    r", obwohl ",
    r"^Wenn .+, (hat|haben|wird|werden) ",
    r", dass ",
    r", um .+ zu \w+en\.$",
    r", (der|die|das) .+, ",
    r"^(Hat|Haben|Wird|Werden) .+\?$",
    r"^(Gestern|Morgen|Jetzt|Bald) \w+ ",
    r"\b(ist|sind) .*ge\w+(en|t)\.$",
    r"\b(hat|haben) .*ge\w+(en|t)\.$",
    r"\b(will|kann|muss|wollen|können|müssen) .+en\.$",
    r"\bkeine[nr]?\b",
    r"\beinen \w+en ",
    r" (älter|größer|kleiner) als ",
    r"\b\d\d\b",
)


def test_few_words_keep_the_whole_grammar(everyday: Path) -> None:
    few = (everyday / "parallel/de-en.de").read_text(encoding="utf-8")
    every_word = "\n".join(german for german, _ in generate_pairs("de", "en", 800, seed=1))
    assert len(distinct_words(few)) < 0.6 * len(distinct_words(every_word))
    for pattern in CONSTRUCTIONS:
        found = [len(re.findall(pattern, text, re.MULTILINE)) for text in (few, every_word)]
        assert found[0] >= 2 and found[0] >= found[1] / 3, f"{pattern}: {found}"


def test_few_words_keep_the_test_text_held_out(everyday: Path) -> None:
    for language in ("de", "en"):
        test = set(lines(everyday / f"mt/test.{language}"))
        assert len(test) == 200
        for name in (
            f"mt/train.{language}",
            f"mt/valid.{language}",
            f"parallel/de-en.{language}",
            f"mono/{language}.txt",
        ):
            assert not test & set(lines(everyday / name)), name


def test_fewest_words_still_make_sentences_and_documents() -> None:
    sentences = list(generate_pairs("en", "de", 300, seed=3, num_words=MIN_WORDS))
    assert len(set(sentences)) == 300
    assert all(map(len, generate_documents("ru", 40, seed=3, num_words=MIN_WORDS)))


def test_corpus_yaml_names_existing_files(corpus: Path) -> None:
    content = yaml.safe_load((corpus / "corpus.yaml").read_text(encoding="utf-8"))
    assert content["tokenizer"] == "tokenizer"
    named_files = [path for paths in content["mono"].values() for path in paths]
    named_files += [entry[side] for [entry] in content["parallel"].values() for side in ("source", "target")]
    assert len(named_files) == 4 + 12
    assert all((corpus / name).is_file() for name in named_files)
    for pair, [entry] in content["parallel"].items():
        source, target = pair.split("-")
        assert entry["source"].endswith(f".{source}") and entry["target"].endswith(f".{target}")


def test_command_line_writes_files_and_refuses_bad_sizes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data_tools.toy_corpus", "--output", str(tmp_path / "out"), "--documents", "2"]
    sizes = ["--pairs", "2", "--train", "2", "--valid", "2", "--test", "2"]
    done = subprocess.run([*command, *sizes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(lines(tmp_path / "out/mt/test.ru")) == 2
    failed = subprocess.run([*command, "--pairs", "0"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.strip() == "error: --pairs must be at least 1, found 0"
    failed = subprocess.run([*command, "--words", "1"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.strip() == f"error: --words must be at least {MIN_WORDS}, found 1"
