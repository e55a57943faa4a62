"""A small file of each task of the catalogues, in its published form, and the example that it begins with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from finetune.understanding.tasks.examples import (
    Answer,
    Choices,
    Example,
    LabelledText,
    Question,
    TaggedSentence,
)

LANGUAGE = "?"  # in `first`: that of the file


@dataclass(frozen=True)
class Published:
    """The files of a task by split and language, which all have one content, and the example that they begin with.

    `label_names` is the part of a file's name that differs in that of its labels, and the part there, where labels are
    in a file of their own.
    """

    files: Mapping[tuple[str, str], str]
    content: str
    first: Example
    label_names: tuple[str, str] = ("", "")
    label_content: str = ""


def at(*places: str) -> dict[tuple[str, str], str]:
    """Files by split and language, from texts such as "train en CoLA/train.tsv"."""
    split = (place.split(" ") for place in places)
    return {(name, language): file for name, language, file in split}


def table(*rows: str) -> str:
    """Lines of columns; a bar is a tab."""
    return "".join(row.replace("|", "\t") + "\n" for row in rows)


def squad(context: str, question: str, answer: str, id: str) -> str:
    """A file in SQuAD's form with one question."""
    qas = [{"id": id, "question": question, "answers": [{"text": answer, "answer_start": context.index(answer)}]}]
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": qas}]}]})


def texts(text_a: str, text_b: str | None, label: str | tuple[str, ...] | float, **more: object) -> LabelledText:
    """An example of one or two texts."""
    return LabelledText(text_a, text_b, label, LANGUAGE, **more)  # type: ignore[arg-type]


def answered(context: str, question: str, answer: str, id: str) -> Question:
    """The example of `squad`."""
    return Question(id, question, context, (Answer(answer, context.index(answer)),), LANGUAGE)


MNLI = (
    "index|promptID|pairID|genre|sentence1_binary_parse|sentence2_binary_parse|sentence1_parse|sentence2_parse|sentence1|"
    "sentence2"
)
GLUE = {
    "glue/cola": Published(
        at("train en CoLA/train.tsv", "dev en CoLA/dev.tsv", "test en CoLA/dev.tsv"),
        table('gj04|0|*|"They drank the pub dry of', "gj04|1||She left."),
        texts('"They drank the pub dry of', None, "0"),
    ),
    "glue/mnli": Published(
        at("train en MNLI/train.tsv"),
        table(f"{MNLI}|label1|gold_label", 'x|1|1n|fiction|b1|b2|p1|p2|"So," he said.|He spoke.|neutral|entailment'),
        texts('"So," he said.', "He spoke.", "entailment"),
    ),
    "glue/mnli_mm": Published(
        at("dev en MNLI/dev_mismatched.tsv", "test en MNLI/dev_mismatched.tsv"),
        table(
            f"{MNLI}|label1|label2|label3|label4|label5|gold_label",
            "0|1|1c|slate|b1|b2|p1|p2|It rains.|It is dry.|neutral|neutral|neutral|neutral|neutral|contradiction",
        ),
        texts("It rains.", "It is dry.", "contradiction"),
    ),
    "glue/mrpc": Published(
        at("train en MRPC/msr_paraphrase_train.txt", "test en MRPC/dev.tsv"),
        "\ufeff" + table("Quality|#1 ID|#2 ID|#1 String|#2 String", '1|7|8|"A dog," he said.|A dog, he said'),
        texts('"A dog," he said.', "A dog, he said", "1"),
    ),
    "glue/qnli": Published(
        at("train en QNLI/train.tsv", "dev en QNLI/dev.tsv"),
        table("index|question|sentence|label", "0|Who?|She did.|entailment"),
        texts("Who?", "She did.", "entailment"),
    ),
    "glue/qqp": Published(
        at("train en QQP/train.tsv", "test en QQP/dev.tsv"),
        table("id|qid1|qid2|question1|question2|is_duplicate", "1|3|4|How so?|Why so?|1"),
        texts("How so?", "Why so?", "1"),
    ),
    "glue/rte": Published(
        at("train en RTE/train.tsv", "test en RTE/dev.tsv"),
        table("index|sentence1|sentence2|label", "0|It rained.|It was dry.|not_entailment"),
        texts("It rained.", "It was dry.", "not_entailment"),
    ),
    "glue/sst2": Published(
        at("train en SST-2/train.tsv", "test en SST-2/dev.tsv"),
        table("sentence|label", "a charming journey . |1"),
        texts("a charming journey . ", None, "1"),
    ),
    "glue/stsb": Published(
        at("train en STS-B/train.tsv", "dev en STS-B/dev.tsv", "test en STS-B/dev.tsv"),
        table(
            "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2|score",
            "0|main-captions|MSRvid|2012test|0001|none|none|A plane flies.|A plane takes off.|4.200",
        ),
        texts("A plane flies.", "A plane takes off.", 4.2),
    ),
}
QA = {
    f"qa/{name}": Published(files, squad(*question), answered(*question))
    for name, files, question in (
        (
            "squad",
            at("train en squad/train-v1.1.json", "test en squad/dev-v1.1.json"),
            ("Ada wrote it in 1843.", "Who wrote it?", "Ada", "5733"),
        ),
        (
            "germanquad",
            at("train de GermanQuAD/GermanQuAD_train.json", "test de GermanQuAD/GermanQuAD_test.json"),
            ("Es liegt an der Spree.", "Wo liegt es?", "an der Spree", "41"),
        ),
        (
            "faquad",
            at("train pt faquad/data/train.json", "test pt faquad/data/dev.json"),
            ("A UFMS foi criada em 1979.", "Quando?", "em 1979", "q1"),
        ),
        (
            "viquad",
            at("train vi ViQuAD/train_ViQuAD.json", "dev vi ViQuAD/dev_ViQuAD.json", "test vi ViQuAD/test_ViQuAD.json"),
            ("Hà Nội là thủ đô.", "Thủ đô là gì?", "Hà Nội", "uit_1"),
        ),
        (
            "piaf",
            at("train fr piaf/train.json", "test fr piaf/dev.json"),
            ("Le club fut fondé en 1902.", "Quand ?", "en 1902", "p1"),
        ),
    )
}
ASSIN = table('"Ele disse ""sim"" ontem."|Ele concordou.|entailment|4.25')
ASSIN_FILES = at("train pt_BR assin/train-ptbr.tsv", "dev pt_PT assin/dev-ptpt.tsv")
ASSIN_2 = table("Um homem canta|Uma pessoa canta|entailment|4.7")
ASSIN_2_FILES = at("train pt assin2/train-pt.tsv", "test pt assin2/test-pt.tsv")
INDONLI = '{"pair_id": 7, "premise_id": 1, "premise": "Hujan turun.", "hypothesis": "Basah.", "label": "e"}\n'
SICK = table(
    "pair_ID|sentence_A|sentence_B|relatedness_score|entailment_judgment", "6|Boys play|No boy plays|3.6|CONTRADICTION"
)
SICK_FILES = at("train en SICK/SICK_train.txt", "dev en SICK/SICK_trial.txt", "test en SICK/SICK_test_annotated.txt")
NLI = {
    "nli/assin": Published(ASSIN_FILES, ASSIN, texts('Ele disse "sim" ontem.', "Ele concordou.", "entailment")),
    "nli/assin2": Published(ASSIN_2_FILES, ASSIN_2, texts("Um homem canta", "Uma pessoa canta", "entailment")),
    "nli/indonli": Published(
        at("train id indonli/data/indonli/train.jsonl", "test id indonli/data/indonli/test_lay.jsonl"),
        INDONLI,
        texts("Hujan turun.", "Basah.", "entailment", id="7"),
    ),
    "nli/indonli_expert": Published(
        at("dev id indonli/data/indonli/val.jsonl", "test id indonli/data/indonli/test_expert.jsonl"),
        INDONLI,
        texts("Hujan turun.", "Basah.", "entailment", id="7"),
    ),
    "nli/farstail": Published(
        at(
            "train fa FarsTail/data/Train-word.csv",
            "dev fa FarsTail/data/Val-word.csv",
            "test fa FarsTail/data/Test-word.csv",
        ),
        table("premise|hypothesis|label", 'باران بارید.|"کتاب ""آب"" خیس است."|c'),
        texts("باران بارید.", 'کتاب "آب" خیس است.', "contradiction"),
    ),
    "nli/kornli": Published(
        at(
            "train ko KorNLUDatasets/KorNLI/multinli.train.ko.tsv",
            "dev ko KorNLUDatasets/KorNLI/xnli.dev.ko.tsv",
            "test ko KorNLUDatasets/KorNLI/xnli.test.ko.tsv",
        ),
        table("sentence1|sentence2|gold_label", '"네."|아니요.|neutral'),
        texts('"네."', "아니요.", "neutral"),
    ),
    "nli/sick": Published(SICK_FILES, SICK, texts("Boys play", "No boy plays", "contradiction", id="6")),
}
STS_ROW = "main-captions|MSRvid|2012test|0024|2.500|A girl sings.|A girl hums."
STS = {
    "sts/stsb": Published(
        at(
            "train en stsbenchmark/sts-train.csv",
            "dev en stsbenchmark/sts-dev.csv",
            "test en stsbenchmark/sts-test.csv",
        ),
        table(STS_ROW, f"{STS_ROW}|licence|licence"),
        texts("A girl sings.", "A girl hums.", 2.5),
    ),
    "sts/stsb_sv": Published(
        at("train sv sts-benchmark-swedish/train-sv.tsv", "test sv sts-benchmark-swedish/test-sv.tsv"),
        table("genre|filename|sentence1|sentence2|score", 'main-news|x|"Han sa ""ja""."|Han nickade.|3.800'),
        texts('Han sa "ja".', "Han nickade.", 3.8),
    ),
    "sts/korsts": Published(
        at("train ko KorNLUDatasets/KorSTS/sts-train.tsv", "test ko KorNLUDatasets/KorSTS/sts-test.tsv"),
        table(
            "genre|filename|year|id|score|sentence1|sentence2", "main-captions|MSRvid|2012test|1|5.000|한 소녀.|소녀."
        ),
        texts("한 소녀.", "소녀.", 5.0),
    ),
    "sts/sick_r": Published(SICK_FILES, SICK, texts("Boys play", "No boy plays", 3.6, id="6")),
    "sts/assin_similarity": Published(ASSIN_FILES, ASSIN, texts('Ele disse "sim" ontem.', "Ele concordou.", 4.25)),
    "sts/assin2_similarity": Published(ASSIN_2_FILES, ASSIN_2, texts("Um homem canta", "Uma pessoa canta", 4.7)),
}
MONO = (
    '[{"id": "dev.fr-fr.0", "lemma": "question", "pos": "NOUN", "sentence1": "La question.", "sentence2": "Une '
    'question.", "start1": "3", "end1": "11", "start2": "4", "end2": "12"}]'
)
CROSS = (
    '[{"id": "test.en-fr.0", "lemma": "give up", "pos": "VERB", "sentence1": "He gave it up.", "sentence2": "Il a '
    'cédé.", "ranges1": "3-7,11-13", "ranges2": "5-9"}]'
)
WIC = {
    "wic/wic": Published(
        at("train en WiC/train/train.data.txt", "dev en WiC/dev/dev.data.txt", "test en WiC/test/test.data.txt"),
        table("carry|V|2-1|You must carry it .|Sound carries well ."),
        texts("You must carry it .", "Sound carries well .", "T", words=((9, 14), (6, 13))),
        label_names=(".data", ".gold"),
        label_content="T\n",
    ),
    "wic/mcl_wic": Published(
        at(
            "train en mcl-wic/training/training.en-en.data",
            "dev fr mcl-wic/dev/multilingual/dev.fr-fr.data",
            "test zh mcl-wic/test/multilingual/test.zh-zh.data",
        ),
        MONO,
        texts("La question.", "Une question.", "F", words=((3, 11), (4, 12)), id="dev.fr-fr.0"),
        label_names=(".data", ".gold"),
        label_content='[{"id": "dev.fr-fr.0", "tag": "F"}]',
    ),
    "wic/mcl_wic in two languages": Published(
        at("test en-fr mcl-wic/test/crosslingual/test.en-fr.data"),
        CROSS,
        texts("He gave it up.", "Il a cédé.", "T", words=((3, 13), (5, 9)), id="test.en-fr.0"),
        label_names=(".data", ".gold"),
        label_content='[{"id": "test.en-fr.0", "tag": "T"}]',
    ),
}
OTHERS = {
    "topics/sib200": Published(
        at(
            "train en sib-200/data/annotated/eng_Latn/train.tsv",
            "dev zh_Hant data/annotated/zho_Hant/dev.tsv",
            "test no sib-200/data/annotated/nob_Latn/test.tsv",
        ),
        table("index_id|category|text", '548|science/technology|"The ""atom"" is small."'),
        texts('The "atom" is small.', None, "science/technology", id="548"),
    ),
    "sentiment/sentence_polarity": Published(
        at("train en sentence_polarity/train.tsv", "test en sentence_polarity/test.tsv"),
        table('" dull " from start to end .|neg'),
        texts('" dull " from start to end .', None, "neg"),
    ),
    "sentiment/movie_reviews": Published(
        at("train en movie_reviews/train.tsv", "dev en movie_reviews/dev.tsv"),
        table("a long film . it ends .|pos"),
        texts("a long film . it ends .", None, "pos"),
    ),
    "sentiment/xed": Published(
        at(
            "train en XED/AnnotatedData/en-annotated.tsv",
            "test fi XED/AnnotatedData/fi-annotated.tsv",
            "test pt_BR XED/Projections/br-projections.tsv",
            "test de XED/Projections/de-projections.tsv",
        ),
        table('"Er sagte ""nein""!"|8, 1'),
        texts('Er sagte "nein"!', None, ("anger", "trust")),
    ),
    "sentiment/scandisent": Published(
        at("train sv ScandiSent/sv_train.csv", "test no ScandiSent/no_test.csv"),
        'text,label\n"Bra, men ""dyrt"".",1\n',
        texts('Bra, men "dyrt".', None, "1"),
    ),
}
UTTERANCE = """# id: 1
# text-en: show all reminders
# text: Zeige alle Erinnerungen
# intent: reminder/show_reminders
1\tZeige\treminder/show_reminders\tO
2\talle\treminder/show_reminders\tB-reference
3\tErinnerungen\treminder/show_reminders\tO

"""
UTTERANCE_FILES = at(
    "train en xsid/data/xSID-0.4/en.train.conll",
    "dev de-st xsid/de-st.valid.conll",
    "test nap xsid/data/xSID-0.4/nap.test.conll",
)
VALID_FILES = at("train en xsid/data/xSID-0.4/en.valid.conll", "test kk xsid/data/xSID-0.4/kk.test.conll")
INTENT = texts("Zeige alle Erinnerungen", None, "reminder/show_reminders", id="1")
SLOTS = TaggedSentence(("Zeige", "alle", "Erinnerungen"), ("O", "B-reference", "O"), LANGUAGE)
INTENTS = {
    "intents/intents": Published(UTTERANCE_FILES, UTTERANCE, INTENT),
    "intents/intents_from_valid": Published(VALID_FILES, UTTERANCE, INTENT),
    "intents/slots": Published(UTTERANCE_FILES, UTTERANCE, SLOTS),
    "intents/slots_from_valid": Published(VALID_FILES, UTTERANCE, SLOTS),
}
SQUAD = ("Ada wrote it in 1843.", "Who wrote it?", "Ada", "5733")
XGLUE = {
    "xglue/ner": Published(
        at("train en NER/en.train", "dev nl NER/nl.dev", "test de NER/de.test"),
        "-DOCSTART- O\n\nAda B-PER\nschrieb O\n\n",
        TaggedSentence(("Ada", "schrieb"), ("B-PER", "O"), LANGUAGE),
    ),
    "xglue/pos": Published(
        at("train en POS/en.train", "dev pt POS/pt.dev", "test pl POS/pl.test"),
        "Ada PROPN\npisze VERB\n. PUNCT\n\n",
        TaggedSentence(("Ada", "pisze", "."), ("PROPN", "VERB", "PUNCT"), LANGUAGE),
    ),
    "xglue/nc": Published(
        at("train en NC/xglue.nc.en.train", "dev ru NC/xglue.nc.ru.dev", "test es NC/xglue.nc.es.test"),
        table('"Gol"|Un gol tardío.|sports'),
        texts('"Gol"', "Un gol tardío.", "sports"),
    ),
    "xglue/mlqa": Published(
        at(
            "train en MLQA/squad1.1/train-v1.1.json",
            "dev hi MLQA/MLQA_V1/dev/dev-context-hi-question-hi.json",
            "test ar MLQA/MLQA_V1/test/test-context-ar-question-ar.json",
        ),
        squad(*SQUAD),
        answered(*SQUAD),
    ),
    "xglue/xnli": Published(
        at("dev sw XNLI/sw.dev", "test ur XNLI/ur.test"),
        table("Mvua ilinyesha.|Kulikuwa kavu.|contradiction"),
        texts("Mvua ilinyesha.", "Kulikuwa kavu.", "contradiction"),
    ),
    "xglue/xnli in training": Published(
        at("train en XNLI/multinli.train.en.tsv"),
        table("premise|hypo|label", "It rained.|It was dry.|contradictory"),
        texts("It rained.", "It was dry.", "contradiction"),
    ),
    "xglue/pawsx": Published(
        at("train en PAWSX/en/train.tsv", "dev es PAWSX/es/dev_2k.tsv", "test fr PAWSX/fr/test_2k.tsv"),
        table("id|sentence1|sentence2|label", "1|A ou B.|B ou A.|1"),
        texts("A ou B.", "B ou A.", "1", id="1"),
    ),
    "xglue/qadsm": Published(
        at("train en QADSM/xglue.qadsm.en.train", "test fr QADSM/xglue.qadsm.fr.test"),
        table("red shoes|Shoes|All colours|Good"),
        texts("red shoes", "Shoes All colours", "Good"),
    ),
    "xglue/wpr": Published(
        at("train en WPR/xglue.wpr.en.train", "dev zh WPR/xglue.wpr.zh.dev", "test it WPR/xglue.wpr.it.test"),
        table("meteo|Il tempo|Oggi piove|4"),
        texts("meteo", "Il tempo Oggi piove", 4.0, group="meteo"),
    ),
    "xglue/qam": Published(
        at("train en QAM/xglue.qam.en.train", "test de QAM/xglue.qam.de.test"),
        table("Wer schrieb es?|Ada schrieb es.|1"),
        texts("Wer schrieb es?", "Ada schrieb es.", "1"),
    ),
}
XTREME_R = {
    "xtreme-r/xcopa": Published(
        at("train en xcopa/train.en.jsonl", "dev et xcopa/val.et.jsonl", "test qu xcopa/test.qu.jsonl"),
        '{"premise": "It was wrapped.", "choice1": "It was fragile.", "choice2": "It was small.", "question": "cause", '
        '"label": 0, "idx": 3, "changed": false}\n',
        Choices("It was wrapped. What was the cause?", ("It was fragile.", "It was small."), 0, LANGUAGE, "3"),
    ),
    "xtreme-r/udpos": Published(
        at("train en udpos/train-en.tsv", "test wo udpos/test-wo.tsv"),
        table("Ada|PROPN", "bind|VERB", ""),
        TaggedSentence(("Ada", "bind"), ("PROPN", "VERB"), LANGUAGE),
    ),
    "xtreme-r/panx": Published(
        at("train en panx/train-en.tsv", "test qu panx/test-qu.tsv"),
        table("Qusqu|B-LOC", "llaqta|O", ""),
        TaggedSentence(("Qusqu", "llaqta"), ("B-LOC", "O"), LANGUAGE),
    ),
    "xtreme-r/xquad": Published(
        at("train en squad/train-v1.1.json", "dev en squad/dev-v1.1.json", "test ro xquad/xquad.ro.json"),
        squad(*SQUAD),
        answered(*SQUAD),
    ),
}
PUBLISHED: Mapping[str, Published] = {**GLUE, **QA, **NLI, **STS, **WIC, **OTHERS, **INTENTS, **XGLUE, **XTREME_R}
