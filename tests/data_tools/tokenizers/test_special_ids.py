"""Special ids anywhere in a vocabulary: which ids are ordinary, and in what order."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.tokenizers.special_ids import SpecialIds

BERT = SpecialIds(bos=101, pad=0, eos=102, unk=100, mask=103, others=(1, 2, 7), num_separators=1)


@given(st.sets(st.integers(0, 40), min_size=5, max_size=12), st.integers(41, 60))
def test_ordinary_ids_are_all_that_are_not_special_in_order(ids: set[int], vocab_size: int) -> None:
    bos, pad, eos, unk, mask, *others = ids
    special = SpecialIds(bos, pad, eos, unk, mask, tuple(others))
    expected = [id_ for id_ in range(vocab_size) if id_ not in ids]
    assert special.num_ordinary(vocab_size) == len(expected)
    assert special.ordinary(np.arange(len(expected))).tolist() == expected
    assert np.flatnonzero(special.are_ordinary(np.arange(vocab_size))).tolist() == expected


def test_xlm_r_draws_the_ids_that_numpy_draws_between_its_special_ids() -> None:
    """So runs with XLM-R's layout are those of earlier versions, which drew from a range."""
    special = SpecialIds.xlm_r(250_002)
    ours, theirs = (np.random.Generator(np.random.Philox(key=3)) for _ in range(2))
    numbers = ours.integers(special.num_ordinary(250_002), size=10_000)
    assert (special.ordinary(numbers) == theirs.integers(4, 250_001, size=10_000)).all()


def test_unknown_ids_and_json() -> None:
    assert BERT.are_unknown(np.array([100, 5, 100])).tolist() == [True, False, True]
    assert not SpecialIds(0, 1, 2, None, 4).are_unknown(np.array([0, 3])).any()
    assert SpecialIds.from_json(json.loads(json.dumps(asdict(BERT)))) == BERT
    assert SpecialIds.xlm_r(9).unless_xlm_r(9) is None and BERT.unless_xlm_r(200) == BERT


@pytest.mark.parametrize(("name", "other"), [("pad", "eos"), ("mask", "unk"), ("pad", "mask")])
def test_padding_and_masks_need_ids_of_their_own(name: str, other: str) -> None:
    ids = {"bos": 0, "pad": 1, "eos": 2, "unk": 3, "mask": 4}
    with pytest.raises(ValueError, match=rf"{name} token has the id {ids[other]}, which is its {other} token's too"):
        SpecialIds(**{**ids, name: ids[other]})
