"""Lexicons in a recipe: read for the objectives that need them, refused with what is wrong."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from data_tools.shards.manifest import Manifest
from pretrain.loss_and_metrics import count_items
from pretrain.micro_batch import SAMPLES
from pretrain.pretraining import PretrainingTask, check_all_are_trained, read_batches
from pretrain.recipe import PretrainRecipe
from veco import VecoConfig, VecoForPreTraining

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


@pytest.mark.parametrize("objective", ["alm(any_translation=true)", "veco2"])
def test_parts_of_an_update_add_up_to_the_whole(objective: str, word_data: Path, lexicon: Path) -> None:
    """Losses and gradients of what reads a lexicon, in groups of two pairs, whole or in two micro-batches."""
    manifest = Manifest.load(word_data)
    recipe = dataclasses.replace(RECIPE, objective=objective, lexicon=str(lexicon), contrast_pairs=2)
    torch.manual_seed(1)
    config = VecoConfig(vocab_size=manifest.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    model = VecoForPreTraining(config, objective).eval()
    found = []
    for steps in (1, 2):
        batches, _ = read_batches(dataclasses.replace(recipe, accumulation_steps=steps), word_data, manifest)
        parts = [batches[number] for number in range(steps)]
        num_items = torch.stack([count_items(part, model.objective) for part in parts]).sum(0)
        model.zero_grad()
        views = [{name: of for name, of in part.items() if name != SAMPLES} for part in parts]
        losses = [model(**part, num_items_in_batch=num_items).loss for part in views]
        torch.stack(losses).sum().backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found.append((torch.stack(losses).sum().detach(), torch.cat([part.flatten() for part in gradients])))
    (whole, of_whole), (of_parts, gradient) = found
    assert whole > 0
    torch.testing.assert_close(of_parts, whole)
    torch.testing.assert_close(gradient, of_whole, rtol=1e-4, atol=1e-7)


def test_code_mixing_lowers_its_loss(word_data: Path, lexicon: Path) -> None:
    manifest = Manifest.load(word_data)
    batches, _ = read_batches(dataclasses.replace(RECIPE, objective="alm", lexicon=str(lexicon)), word_data, manifest)
    torch.manual_seed(1)
    config = VecoConfig(vocab_size=manifest.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    model = VecoForPreTraining(config, "alm")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for number in range(40):
        loss = model(**{name: of for name, of in batches[number % 4].items() if name != SAMPLES}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


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


def test_lexicon_whose_words_do_not_stand_in_the_text_is_refused(
    word_data: Path, lexicon: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(text: str) -> None:
        path = tmp_path / "lexicon.txt"
        path.write_text(text)
        recipe = dataclasses.replace(RECIPE, objective="mlm + alm", lexicon=f"en-de={path}")
        read_batches(recipe, word_data, Manifest.load(word_data))

    read(lexicon.read_text())
    assert re.search(r"of the words of the first 200 pairs it lists \d+\.\d% of de and", capsys.readouterr().err)
    with pytest.raises(ValueError, match=r"it lists 0\.0% of de and 0\.0% of en; are its columns, or .* exchanged"):
        read("Katze\tcat\nHund\tdog\n")
    with pytest.raises(ValueError, match="in no update do .* have sentence pairs with a lexicon"):
        read("two words\tzwei Worte\n")


def test_thesaurus_that_nothing_uses_is_told(
    word_data: Path, lexicon: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(RECIPE, objective="alm", lexicon=str(lexicon), thesaurus="/no/th_de_DE.dat")
    read_batches(recipe, word_data, Manifest.load(word_data))
    assert "thesaurus /no/th_de_DE.dat is not read: no part of the objective uses one" in capsys.readouterr().err


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
