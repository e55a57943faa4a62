"""Small pools of all languages in the forms of LAReQA and Mewsli-X, their task files, and one of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LAREQA = """
name: lareqa
head: search
pool: true
languages: [en, de]
files: {test: "xquad-r/{language}.json"}
format: {kind: squad}
metrics: [map_at_20, map]
"""
MEWSLI = """
name: mewslix
head: search
pool: true
languages: [de, fa]
files: {test: "wikinews_mentions-test.jsonl"}
candidates: "candidate_set_entities.jsonl"
format: {kind: jsonl}
metrics: [mrr_at_20]
"""
OWN = """
name: faq
head: search
pool: true
languages: [en, de]
files: {test: "questions-{language}.jsonl"}
candidates: "answers.jsonl"
format: {kind: jsonl, id: number, text: question, label: answers}
metrics: [mrr_at_20]
"""


def write_jsonl(path: Path, items: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def paragraph(sentences: list[str], *answers: tuple[str, str]) -> dict[str, Any]:
    """A paragraph of sentences; `answers` are (question id, word of the answer)."""
    context = " ".join(sentences)
    starts = [context.index(sentence) for sentence in sentences]
    return {
        "context": context,
        "sentence_breaks": [[start, start + len(own)] for start, own in zip(starts, sentences, strict=True)],
        "qas": [
            {"id": id, "question": f"{id}?", "answers": [{"text": word, "answer_start": context.index(word)}]}
            for id, word in answers
        ],
    }


def write_lareqa(root: Path) -> None:
    """Two paragraphs; in German the first has its answer in another sentence, and the second one sentence more."""
    contents = {
        "en": [paragraph(["A dog.", "A cat."], ("q1", "cat"), ("q2", "dog")), paragraph(["Rain."], ("q3", "Rain"))],
        "de": [
            paragraph(["Katze.", "Hund."], ("q1", "Katze"), ("q2", "Hund")),
            paragraph(["Oh!", "Regen."], ("q3", "Regen")),
        ],
    }
    for language, paragraphs in contents.items():
        path = root / "xquad-r" / f"{language}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [one]} for one in paragraphs]}))


def spans(text: str, *parts: str) -> list[dict[str, int]]:
    return [{"start": text.index(part), "end": text.index(part) + len(part)} for part in parts]


def context_of(language: str, text: str, *sentences: str) -> dict[str, Any]:
    return {"document_title": "t", "language": language, "text": text, "sentence_spans": spans(text, *sentences)}


def mention(context: dict[str, Any], id: str, word: str, entity: str | None) -> dict[str, Any]:
    (span,) = spans(context["text"], word)
    return {"example_id": id, "mention_span": {**span, "text": word}, "entity_id": entity}


def write_mewsli(root: Path, entity: str | None = "Q2") -> None:
    """Two mentions in a German context, one in a Persian one, and three entities."""
    german = context_of("de", "Es  {war}\nin Rom. Danach Smith.", "Es  {war}\nin Rom.", "Danach Smith.")
    persian = context_of("fa", "Rome.", "Rome.")
    contexts = [
        {"context": german, "mentions": [mention(german, "m1", "Rom", "Q1"), mention(german, "m2", "Smith", entity)]},
        {"context": persian, "mention": mention(persian, "m3", "Rome", "Q1")},
    ]
    write_jsonl(root / "wikinews_mentions-test.jsonl", contexts)
    descriptions = {"Q1": "A city.  Not a village.", "Q2": "A man.", "Q3": "A\nriver."}
    entities = [
        {
            "entity_id": id,
            "title": id,
            "description": text,
            "sentence_spans": [{"start": 0, "end": len(text)}],
            "description_language": "en",
        }
        for id, text in descriptions.items()
    ]
    write_jsonl(root / "candidate_set_entities.jsonl", entities)
