"""Lexicons in a recipe: read for the objectives that need them, refused with what is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from data_tools.shards.manifest import Manifest
from pretrain.pretraining import PretrainingTask, check_all_are_trained, read_batches
from pretrain.recipe import PretrainRecipe

RECIPE = PretrainRecipe(output="run", ds_config="cpu.json", bilingual_batch_pairs=4, contrast_pairs=4)


@pytest.mark.parametrize("objective", ["alm", "veco2"])
def test_recipe_without_lexicon_is_refused_by_name(objective: str) -> None:
    problem = f"objective {objective} needs a lexicon, and none is given: name it in the field lexicon"
    assert problem in dataclasses.replace(RECIPE, objective=f"mlm + {objective}").problems()


def test_thesaurus_is_read_where_it_is_used(word_data: Path, lexicon: Path, thesaurus: Path) -> None:
    manifest = Manifest.load(word_data)
    given = dataclasses.replace(RECIPE, lexicon=str(lexicon), thesaurus=str(thesaurus))
    found = {}
    for objective in ("mlm", "alm", "veco2", "alm + veco2"):
        train, valid = read_batches(dataclasses.replace(given, objective=objective), word_data, manifest)
        assert train.lexicons is valid.lexicons
        lexicons = train.lexicons
        found[objective] = None if lexicons is None else list(lexicons.synonyms)
    assert found == {"mlm": None, "alm": [], "veco2": ["de"], "alm + veco2": ["de"]}


def test_lexicon_of_other_languages_is_refused(word_data: Path, lexicon: Path) -> None:
    recipe = dataclasses.replace(RECIPE, objective="alm", lexicon=f"en-fr={lexicon}")
    with pytest.raises(ValueError, match="it is of en-fr, of which the data have nothing, only de-en"):
        read_batches(recipe, word_data, Manifest.load(word_data))


def test_lexicon_of_no_trained_pair_is_refused(word_data: Path, lexicon: Path) -> None:
    recipe = dataclasses.replace(RECIPE, objective="mlm + alm", lexicon=str(lexicon))
    train, _ = read_batches(recipe, word_data, Manifest.load(word_data))
    assert train.lexicons is not None
    train.lexicons = dataclasses.replace(train.lexicons, translations={})
    with pytest.raises(ValueError, match="objective alm: in no update do .* have sentence pairs with a lexicon"):
        check_all_are_trained(train)


def test_resumed_run_is_compared_with_the_words_of_its_lexicon(word_data: Path, lexicon: Path, tmp_path: Path) -> None:
    def facts(objective: str, text: str) -> dict[str, object]:
        path = tmp_path / "de.txt"
        path.write_text(text)
        recipe = dataclasses.replace(RECIPE, objective=objective, lexicon=str(path), output=str(tmp_path / "run"))
        return PretrainingTask(recipe, word_data).compared(recipe)

    text = lexicon.read_text()
    begun = facts("mlm + alm", text)
    assert facts("mlm + alm", text.replace("broken\n", "")) == begun
    for other in (text.replace("Kater", "Hund"), text.replace("dog\tHund\n", ""), text + "dog\tKatze\n"):
        changed = facts("mlm + alm", other)
        assert {name for name, fact in changed.items() if fact != begun[name]} == {"lexicon_fingerprint"}
    assert "lexicon_fingerprint" not in facts("mlm", text)
