"""A model with another tokenizer's vocabulary, compared with the model before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from focus_case import NEW, OLD, vectors
from random_biases import randomised
from transformers import AutoTokenizer, PreTrainedModel
from word_tokenizers import write_words

from veco import (
    VecoConfig,
    VecoForConditionalGeneration,
    VecoForMaskedLM,
    VecoForPreTraining,
    VecoForSequenceClassification,
    VecoModel,
)
from veco.convert import to_xlm_roberta
from veco.vocabulary import change_vocabulary
from veco.vocabulary.changing import copying, focusing, ranking
from veco.vocabulary.pieces import Pieces, ordinary_matches
from veco.vocabulary.rows import draw_initial
from veco.vocabulary_loss import NEVER

TAGS = ["__de__", "__en__"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Pieces:
    directory = tmp_path_factory.mktemp("old")
    write_words(OLD, directory, TAGS)
    return Pieces.open(directory)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Pieces:
    """Other pieces in another order: <pad> is 0, <s> is 2."""
    directory = tmp_path_factory.mktemp("new")
    write_words(NEW, directory, TAGS[::-1])
    return Pieces.open(directory)


def shape(pieces: Pieces, **fields: Any) -> VecoConfig:
    return VecoConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=20,
        initializer_range=0.3,
        **fields,
    )


def batch(pieces: Pieces) -> torch.Tensor:
    """Two rows of pieces that both tokenizers have, the second padded."""
    rows = ["<s> Ġder Ġ2 en Ġund <mask> </s>", "<s> ung Ġkatze </s> <pad> <pad> <pad>"]
    return torch.tensor([[pieces.names.index(name) for name in row.split()] for row in rows])


def shared_columns(old: Pieces, new: Pieces) -> tuple[list[int], list[int]]:
    names = [name for name in new.names if name in set(old.names)]
    return [old.names.index(name) for name in names], [new.names.index(name) for name in names]


def test_ranks_of_ten_pieces_worked_by_hand(tmp_path: Path) -> None:
    old_counts = {"Ġja": 50, "ssa": 7, "Ġme": 0, "Ġon": 90, "en": 7, "Ġei": 50, "ta": 20, "Ġovi": 3, "li": 1, "Ġelo": 0}
    new_counts = {
        "Ġof": 60,
        "Ġto": 99,
        "s": 40,
        "ing": 60,
        "Ġyo": 0,
        "Ġa": 41,
        "Ġup": 2,
        "Ġus": 2,
        "Ġgnu": 5,
        "Ġox": 0,
    }
    # Ranks: Ġon 90 | Ġei, Ġja 50 | ta 20 | en, ssa 7 | Ġovi 3 | li 1 | Ġelo, Ġme never
    #        Ġto 99 | ing, Ġof 60 | Ġa 41 | s 40 | Ġgnu 5 | Ġup, Ġus 2 | Ġox, Ġyo never
    expected = {
        **{"Ġto": "Ġon", "ing": "Ġei", "Ġof": "Ġja", "Ġa": "ta", "s": "en", "Ġgnu": "ssa", "Ġup": "Ġovi"},
        **{"Ġus": "li", "Ġox": "Ġelo", "Ġyo": "Ġme"},
        **{"<s>": "<s>", "<pad>": "<pad>", "</s>": "</s>", "<unk>": "<unk>", "<mask>": "<mask>"},
    }
    write_words([*SPECIAL, *old_counts, "<mask>"], tmp_path / "old")
    write_words(["<mask>", *SPECIAL[::-1], *new_counts], tmp_path / "new")
    old, new = Pieces.open(tmp_path / "old"), Pieces.open(tmp_path / "new")
    # Special pieces have counts too: <unk> would be the most frequent.
    known = ((old, old_counts), (new, new_counts))
    counts = [np.array([of.get(name, 1000) for name in pieces.names]) for pieces, of in known]
    assert mapping(ranking(old, new, *counts, {}), old, new) == expected

    shared = {new.names.index("Ġup"): old.names.index("Ġon")}  # as if both were one piece
    kept = mapping(ranking(old, new, *counts, shared), old, new)
    assert (kept["Ġup"], kept["Ġto"], kept["ing"], kept["Ġus"]) == ("Ġon", "Ġei", "Ġja", "li")


def mapping(weights: Any, old: Pieces, new: Pieces) -> dict[str, str]:
    """The old piece whose row each new one takes; none that has several or none."""
    table = weights.toarray()
    assert set(np.unique(table)) <= {0.0, 1.0} and (table.sum(1) <= 1).all()
    return {new.names[i]: old.names[j] for i, j in zip(*table.nonzero(), strict=True)}


def test_the_rarest_of_a_larger_vocabulary_are_drawn(old: Pieces, new: Pieces) -> None:
    weights = ranking(old, new, np.arange(len(old)), np.arange(len(new)), {})
    drawn = [new.names[i] for i in np.nonzero(np.diff(weights.indptr) == 0)[0]]
    assert drawn == ["Ġthe", "ung", "Ġhouse", "Ġder"], "the lowest counts"


@pytest.mark.parametrize("method", ["focus", "rank", "mean"])
def test_kept_pieces_keep_states_and_logits(old: Pieces, new: Pieces, tmp_path: Path, method: str) -> None:
    """Also the positions, which begin behind the id of padding: it was 1 and becomes 0."""
    torch.manual_seed(0)
    model = randomised(VecoForMaskedLM(shape(old)))
    shared = ordinary_matches(old, new)
    counts = np.zeros(len(old)), np.zeros(len(new))
    weights = {
        "focus": lambda: focusing(old, new, np.pad(vectors(), ((0, 2), (0, 0))), shared),
        "rank": lambda: ranking(old, new, *counts, shared),
        "mean": lambda: copying(old, new, shared),
    }[method]()
    with torch.no_grad():
        expected = model(batch(old), output_hidden_states=True)
        change_vocabulary(model, old, new, weights, tmp_path)
        model.save_pretrained(tmp_path)
        changed = VecoForMaskedLM.from_pretrained(tmp_path).eval()
        found = changed(batch(new), output_hidden_states=True)
    for states, expected_states in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert torch.equal(states, expected_states)
    old_columns, new_columns = shared_columns(old, new)
    torch.testing.assert_close(found.logits[..., new_columns], expected.logits[..., old_columns], rtol=0, atol=1e-5)

    config = changed.config
    assert (config.vocab_size, config.pad_token_id, config.bos_token_id, config.eos_token_id) == (len(new), 0, 2, 3)
    assert config.max_tokens == 18 and changed.veco.embeddings.position_embeddings.padding_idx == 0
    assert changed.veco.embeddings.word_embeddings.padding_idx == 0
    assert changed.lm_head.decoder.weight is changed.veco.embeddings.word_embeddings.weight
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.get_vocab() == new.tokenizer.get_vocab() and tokenizer.model_max_length == 18


@pytest.mark.parametrize(("tied", "separate"), [(True, False), (True, True), (False, True)])
def test_a_translation_model_changes(old: Pieces, new: Pieces, tmp_path: Path, tied: bool, separate: bool) -> None:
    torch.manual_seed(1)
    tag = old.names.index("__en__")
    frame = {"source_prefix_ids": [], "source_suffix_ids": [2, tag - 1], "target_suffix_ids": [2, tag]}
    fields = {"decoder_layers": 1, "separate_decoder_embeddings": separate, "tie_word_embeddings": tied, **frame}
    model = randomised(VecoForConditionalGeneration(shape(old, decoder_start_token_id=tag, **fields)))
    with torch.no_grad():
        expected = model(batch(old), decoder_input_ids=torch.full((2, 1), tag)).logits
        change_vocabulary(model, old, new, copying(old, new, ordinary_matches(old, new)), tmp_path)
        model.save_pretrained(tmp_path)
        changed = VecoForConditionalGeneration.from_pretrained(tmp_path).eval()
        start = new.names.index("__en__")
        found = changed(batch(new), decoder_input_ids=torch.full((2, 1), start)).logits
    old_columns, new_columns = shared_columns(old, new)
    torch.testing.assert_close(found[..., new_columns], expected[..., old_columns], rtol=0, atol=1e-5)
    assert start != tag and start == changed.config.decoder_start_token_id
    assert start == changed.generation_config.decoder_start_token_id == changed.generation_config.eos_token_id
    assert changed.config.source_suffix_ids == [3, new.names.index("__de__")]
    assert changed.generation_config.pad_token_id == 0


@pytest.mark.parametrize("model_class", [VecoModel, VecoForPreTraining, VecoForSequenceClassification])
def test_every_model_changes(old: Pieces, new: Pieces, tmp_path: Path, model_class: type[PreTrainedModel]) -> None:
    torch.manual_seed(2)
    model = model_class(shape(old)).eval()
    with torch.no_grad():
        before = model.base_model(batch(old))[0]
        change_vocabulary(model, old, new, copying(old, new, ordinary_matches(old, new)), tmp_path)
        model.save_pretrained(tmp_path)
        assert torch.equal(model_class.from_pretrained(tmp_path).eval().base_model(batch(new))[0], before)


def test_drawn_rows_are_like_old_ones_or_initial_ones(old: Pieces, tmp_path: Path) -> None:
    names = [*SPECIAL, *(f"Ġ{i}x" for i in range(400)), "<mask>"]
    write_words(names, tmp_path / "new", TAGS)
    new = Pieces.open(tmp_path / "new")
    drawn = {}
    for name, draw, seed in (
        ("like", None, 0),
        ("again", None, 0),
        ("other", None, 1),
        ("initial", draw_initial(0.02), 0),
    ):
        torch.manual_seed(3)
        model = randomised(VecoForMaskedLM(shape(old)))
        before = model.veco.embeddings.word_embeddings.weight.detach().clone() + 1.0
        model.veco.embeddings.word_embeddings.weight.data.copy_(before)
        model.lm_head.decoder.bias.data[4] = NEVER
        chosen = {} if draw is None else {"draw": draw}
        change_vocabulary(model, old, new, copying(old, new, {}), tmp_path / name, seed=seed, **chosen)
        drawn[name] = model.veco.embeddings.word_embeddings.weight.detach()[4:404]
        bias = model.lm_head.decoder.bias.detach()[4:404]
        assert bias.abs().max() < 10, "NEVER is not counted"
        assert (bias == 0).all() == (name == "initial")
    torch.testing.assert_close(drawn["like"].mean(0), before.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(drawn["like"].std(0), before.std(0), rtol=0, atol=0.1)
    assert torch.equal(drawn["like"], drawn["again"]) and not torch.equal(drawn["like"], drawn["other"])
    assert abs(drawn["initial"].mean()) < 0.002 and drawn["initial"].std() == pytest.approx(0.02, rel=0.05)


def test_a_bias_of_never_is_copied_but_no_part_of_a_sum(old: Pieces, new: Pieces, tmp_path: Path) -> None:
    model = VecoForMaskedLM(shape(old))
    model.lm_head.decoder.bias.data.fill_(1.0)
    for name in ("<mask>", "ung"):
        model.lm_head.decoder.bias.data[old.names.index(name)] = NEVER
    weights = focusing(old, new, np.pad(vectors(), ((0, 2), (0, 0))), ordinary_matches(old, new))
    change_vocabulary(model, old, new, weights, tmp_path)
    bias = dict(zip(new.names, model.lm_head.decoder.bias.tolist(), strict=True))
    assert bias["<mask>"] == bias["ung"] == NEVER
    assert bias["Ġthe"] == pytest.approx(1.0) and weights.toarray()[new.names.index("Ġthe"), old.names.index("ung")] > 0


@pytest.mark.parametrize("method", ["mean", "rank"])
def test_spare_rows_are_dropped(old: Pieces, new: Pieces, tmp_path: Path, method: str) -> None:
    """Rows that the model has behind those of its tokenizer do not show in what is copied."""
    num_rows = len(old) + 8 - len(old) % 8
    padded = randomised(VecoForMaskedLM(VecoConfig(**{**shape(old).to_dict(), "vocab_size": num_rows})))
    before = padded.veco.embeddings.word_embeddings.weight.detach().clone()
    shared = ordinary_matches(old, new)
    counts = np.zeros(len(old)), np.zeros(len(new))
    weights = copying(old, new, shared) if method == "mean" else ranking(old, new, *counts, shared)
    change_vocabulary(padded, old, new, weights, tmp_path)
    after = padded.veco.embeddings.word_embeddings.weight
    assert after.shape[0] == len(new) and all(torch.equal(after[i], before[own]) for i, own in shared.items())


def test_models_and_tokenizers_that_do_not_fit_are_refused(old: Pieces, new: Pieces, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pieces, but the model has 10 rows: it is another"):
        change_vocabulary(VecoModel(VecoConfig(**{**shape(old).to_dict(), "vocab_size": 10})), new, old, None, tmp_path)
    write_words(NEW, tmp_path / "plain")
    model = VecoForConditionalGeneration(shape(old, decoder_start_token_id=old.names.index("__de__")))
    with pytest.raises(ValueError, match="plain: the model's configuration names __de__, which this tokenizer lacks"):
        change_vocabulary(model, old, Pieces.open(tmp_path / "plain"), None, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_padding_far_behind_leaves_positions_where_they_are(old: Pieces, tmp_path: Path) -> None:
    """They would otherwise begin behind as many rows that are never read: the table has its 20 rows, not 20 + 39."""
    names = [name for name in NEW if name != "<pad>"]
    write_words([*names, *(f"Ġword{number}" for number in range(40 - len(names))), "<pad>"], tmp_path / "far", TAGS)
    far = Pieces.open(tmp_path / "far")
    assert far.roles["pad"] == 40
    torch.manual_seed(0)
    model = randomised(VecoForMaskedLM(shape(old)))
    with torch.no_grad():
        expected = model(batch(old), output_hidden_states=True)
        change_vocabulary(model, old, far, copying(old, far, ordinary_matches(old, far)), tmp_path / "model")
        model.save_pretrained(tmp_path / "model")
        changed = VecoForMaskedLM.from_pretrained(tmp_path / "model").eval()
        found = changed(batch(far), output_hidden_states=True)
    for states, expected_states in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert torch.equal(states, expected_states)
    config, embeddings = changed.config, changed.veco.embeddings
    assert (config.pad_token_id, config.padding_position, config.max_position_embeddings) == (40, 1, 20)
    assert (config.max_tokens, embeddings.position_embeddings.padding_idx) == (18, 1)
    assert embeddings.word_embeddings.padding_idx == 40
    with pytest.raises(
        ValueError, match="finds positions by pad_token_id 40, but the model's begin behind padding_pos"
    ):
        to_xlm_roberta(changed)
    # Back again, the positions follow the id of padding as in the beginning.
    change_vocabulary(changed, far, old, copying(far, old, ordinary_matches(far, old)), tmp_path / "back")
    assert (changed.config.padding_position, changed.config.max_position_embeddings) == (None, 20)
