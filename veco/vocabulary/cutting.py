"""Reduce the vocabulary of a model and its tokenizer to a corpus.

The paper reduces XLM-R's 250,002 ids to those that a language pair uses (VECO, section 3, "resized dictionary"): the
embeddings and the logits over the vocabulary take most of a translation model's memory and time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from veco.vocabulary.model_directory import check_fits
from veco.vocabulary.rows import Model, framing_ids, means_of, reindex
from veco.vocabulary.xlm_r_layout import XlmRVocabulary


def cut_vocabulary(
    model: Model,
    tokenizer_dir: str | Path,
    used_ids: Iterable[int],
    output_dir: str | Path,
    keep: Collection[str] = (),
    tokens: Collection[str] | None = None,
    keep_characters: bool = True,
) -> Model:
    """Reduce `model`, in place, to the ids that are kept, in their order; write their tokenizer to `output_dir`.

    Kept are the special ids, `used_ids`, the pieces named in `keep`, and of the tokens added behind `<mask>` those in
    `tokens` (None: all). With `keep_characters` pieces of one character are kept too, so that any text can still be
    tokenised, if into more pieces; without them, many words outside the corpus become unknown.

    States and logits of kept ids do not change. A text all of whose pieces are among `used_ids` is split into the same
    pieces as before: its most probable segmentation still exists, and no other became more probable (see `lowest_ids`).
    Data prepared with the old tokenizer do not fit the new model.
    Raises ValueError for ids outside the vocabulary, unknown names, a decoder whose start token would be dropped, and a
    model that does not fit the tokenizer.
    """
    vocabulary = XlmRVocabulary(Path(tokenizer_dir))
    check_fits(vocabulary, model, vocabulary.directory)
    kept_ids = vocabulary.ids_to_keep({*used_ids, *framing_ids(model)}, keep, tokens, keep_characters)
    if gone := framing_ids(model) - set(kept_ids):
        raise ValueError(
            f"sentences start or end with {vocabulary.added[min(gone)]}, which is not among the tokens to keep"
        )
    vocabulary.write(Path(output_dir), kept_ids, {}, [], max_tokens=model.config.max_tokens)
    weights = means_of([[i] for i in kept_ids], len(vocabulary))
    return reindex(model, weights, {old: new for new, old in enumerate(kept_ids)})
