"""Cross-lingual word recovery (CLWR; Unicoder, Huang et al., 2019): the words of x from what y has for each of them.

With the word embeddings x_i and y_j of a pair and a vector w, for each token of x

    A_ij = w . [x_i; y_j; x_i * y_j],    xt_i = sum_j softmax_j(A_ij) y_j

and the encoder reads xt_1, xt_2, … at the positions of x and predicts the words of x. The tokens of y include `<s>` and
`</s>`, so that a word without counterpart has something to attend to (our reading).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from veco.config import VecoConfig
from veco.objectives.objective import BILINGUAL, Count, Objective, Prediction, Route, Term
from veco.objectives.states import Batch
from veco.views import CLEAN_Y, WORDS_X, WORDS_Y


@dataclass(frozen=True)
class WordRecovery(Objective):
    """The words of x are predicted from y's embeddings, and with `both` those of y from x's too."""

    name = "clwr"
    kinds = (BILINGUAL,)

    both: bool = True

    @property
    def views(self) -> tuple[str, ...]:
        return (WORDS_X, WORDS_Y) if self.both else (WORDS_X, CLEAN_Y)

    @property
    def recovered(self) -> tuple[str, ...]:
        """The views whose words are predicted."""
        return self.views if self.both else self.views[:1]

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term(self.name, tuple(map(Count, self.recovered))),)

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return tuple(Prediction(self.name, Route(view)) for view in self.recovered)

    def module(self, config: VecoConfig) -> nn.Module:
        return PairScores(3 * config.hidden_size, 1, bias=False)

    def embedded(self, batch: Batch, module: nn.Module | None) -> Mapping[str, Tensor]:
        """Each recovered view as the other's embeddings, weighted for each of its tokens."""
        assert module is not None
        embeddings, sizes = batch.encoder.embeddings, batch.packed.sizes
        words = embeddings.word_embeddings(torch.cat([batch.ids_of(view) for view in self.views]))
        of_x, of_y = words.split([sizes.num_tokens(view) for view in self.views])
        x, y = (batch.padding_of(view) for view in self.views)
        x_BTD, y_BSD = x.pad(of_x), y.pad(of_y)
        mixed = {WORDS_X: x.pack(mixture(module(x_BTD, y_BSD), y_BSD, y.is_token_BT))}
        if self.both:
            mixed[WORDS_Y] = y.pack(mixture(module(y_BSD, x_BTD), x_BTD, x.is_token_BT))
        return {view: embeddings(None, batch.positions_of(view), tokens) for view, tokens in mixed.items()}


class PairScores(nn.Linear):
    """w, and the scores that it gives to each token of x with each of y; ZeRO-3 gathers it for its own forward pass."""

    def forward(self, x_BTD: Tensor, y_BSD: Tensor) -> Tensor:  # type: ignore[override]  # of two inputs
        """A (B, T, S), without making the vectors (B, T, S, 3 D)."""
        of_x, of_y, of_both = self.weight.to(x_BTD.dtype).squeeze(0).chunk(3)
        # The same for all j, the first part makes no difference to the softmax; it is the formula's.
        return (x_BTD @ of_x).unsqueeze(2) + (y_BSD @ of_y).unsqueeze(1) + (x_BTD * of_both) @ y_BSD.transpose(1, 2)


def mixture(scores_BTS: Tensor, y_BSD: Tensor, is_token_BS: Tensor) -> Tensor:
    """Sums (B, T, D) of the tokens of y, weighted by the softmax of their scores, in float32 at least."""
    scores_BTS = scores_BTS.to(torch.promote_types(scores_BTS.dtype, torch.float32))
    scores_BTS = scores_BTS.masked_fill(~is_token_BS.unsqueeze(1), torch.finfo(scores_BTS.dtype).min)
    return scores_BTS.softmax(2).to(y_BSD.dtype) @ y_BSD
