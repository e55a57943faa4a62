"""A tiny text in three languages, a tokenizer trained on it, and command lines run in their own processes."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings

from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.unigram_training import train_model

# An example may be slow because the machine is busy, which says nothing about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

REPOSITORY = Path(__file__).parents[2]
VOCAB_SIZE = 300

WORDS = {
    "en": (
        ["the old farmer", "a young woman", "my brother", "the teacher", "nobody", "our neighbour’s dog"],
        ["reads", "sells", "has seen", "will not forget", "is looking for"],
        ["the letter", "a green bicycle", "12 apples", "three books", "the house by the river"],
        ["today", "in the morning", "without a word", "again", "for €5"],
    ),
    "de": (
        ["der alte Bauer", "eine junge Frau", "mein Bruder", "die Lehrerin", "niemand", "der Hund des Nachbarn"],
        ["liest", "verkauft", "hat gesehen:", "vergisst nicht", "sucht"],
        ["den Brief", "ein grünes Fahrrad", "12 Äpfel", "drei Bücher", "das Haus am Fluss"],
        ["heute", "am Morgen", "wortlos", "schon wieder", "für 5 €"],
    ),
    "ru": (
        ["старый крестьянин", "молодая женщина", "мой брат", "учительница", "никто не", "собака соседа"],
        ["читает", "продаёт", "видит", "забудет", "ищет"],
        ["письмо", "зелёный велосипед", "12 яблок", "три книги", "дом у реки"],
        ["сегодня", "утром", "молча", "снова", "за 5 €"],
    ),
}

SYLLABLES = {
    "en": "ash ber crow den ford gate ham kin ley more ness pool rick stow thorpe wick worth",
    "de": "au bach burg dorf eck feld gau heim hausen kirch lau münd ried see stein wald zell",
    "ru": "бор вол град дуб ель звен кам лес мир нов озер пол реч сос тих хол яр",
}

RunModule = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def sentences() -> dict[str, list[str]]:
    """750 aligned sentences in each of three languages; they end with invented names, so that there are many words."""
    random = Random(1)
    return {
        language: [" ".join([*words, _name(random, SYLLABLES[language].split())]) + "." for words in product(*groups)]
        for language, groups in WORDS.items()
    }


def _name(random: Random, syllables: list[str]) -> str:
    return "".join(random.choices(syllables, k=random.randint(2, 4))).title()


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory, sentences: dict[str, list[str]]) -> Path:
    """A tokenizer of VOCAB_SIZE pieces for these sentences."""
    directory = tmp_path_factory.mktemp("tokenizer")
    lines = [line for group in sentences.values() for line in group]
    model = train_model(iter(lines), VOCAB_SIZE, character_coverage=1.0)
    write_tokenizer(model, directory, lines[:50])
    return directory


@pytest.fixture
def corpus_file(tmp_path: Path, tokenizer_dir: Path, sentences: dict[str, list[str]]) -> Path:
    """A corpus of two languages and one pair in several files, with documents of five sentences."""
    folder = tmp_path / "text"
    folder.mkdir()
    for part in range(3):
        for language in ("de", "ru"):
            lines = sentences[language][part * 100 : part * 100 + 100]
            documents = ["\n".join(lines[i : i + 5]) + "\n" for i in range(0, 100, 5)]
            (folder / f"mono{part}.{language}.gz").write_bytes(gzip.compress("\n".join(documents).encode()))
            (folder / f"pair{part}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = tmp_path / "corpus.yaml"
    path.write_text(
        f"""
        tokenizer: {tokenizer_dir}
        mono:
          de: [text/mono*.de.gz]
          ru: [text/mono*.ru.gz]
        parallel:
          de-ru: [{{source: text/pair*.de, target: text/pair*.ru}}]
        """
    )
    return path


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a command line started by a test."""
    kept = {name: value for name, value in os.environ.items() if name != "VECO_TRACEBACK"}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run_module(environment: dict[str, str]) -> RunModule:
    """A function (module, arguments…) that runs `python -m module arguments…` and returns the finished process."""

    def run(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)

    return run


@pytest.fixture(scope="session")
def assert_one_line_error() -> Callable[..., None]:
    """A function (process, words…) that asserts rc 2, one `error:` line on stderr with all the words, no traceback."""

    def check(process: subprocess.CompletedProcess[str], *words: str) -> None:
        assert process.returncode == 2, process.stderr
        lines = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, process.stderr
        assert process.stderr.rstrip().endswith(lines[0]), process.stderr
        assert "Traceback" not in process.stderr
        for word in words:
            assert word in lines[0], (word, lines[0])

    return check
