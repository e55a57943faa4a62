"""Translation with CTranslate2, of models exported by finetune.mt.export_ct2."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from finetune.batch_by_tokens import cut_by_tokens
from finetune.ctranslate2_library import import_ctranslate2
from finetune.mt.decoding.beam_search import Found, SearchOptions, TargetIds
from finetune.mt.decoding.generators import PairBatch, SourceBatch
from finetune.mt.decoding.translator import Translator, decoder_start_id, matching_tokenizer, target_ids
from finetune.mt.decoding.workers import Workers
from finetune.mt.special_tokens import Frame

CUBLAS_LT, CUBLAS = "libcublasLt.so.12", "libcublas.so.12"
MODEL_FILE, VOCABULARY_FILE, SHORTLIST_FILE = "model.bin", "shared_vocabulary.json", "vmap.txt"
# Source tokens that a CPU thread translates at a time: with more, the logits do not fit its cache. Measured with beam 5
# and widths of 192 and 512: 256 to 432 are 10 to 30 % faster than 1,000.
CPU_BATCH_TOKENS = 384
# Keys that we add to CTranslate2's config.json: the longest sequence, the token that starts the decoder by default, the
# tokens around sentences if they are not the usual ones, and the target language of a model without tags.
MAX_TOKENS, START_TOKEN = "veco_max_tokens", "veco_start_token"
FRAME, TARGET_LANGUAGE = "veco_frame", "veco_target_language"


def load_cublas(search_path: Iterable[str]) -> None:
    """Load the cuBLAS that CTranslate2 calls on a card, from the extra `ct2` where the system has none.

    CTranslate2 looks for it by name alone, and finds what is already loaded. Raises ValueError if there is none.
    """
    with contextlib.suppress(OSError):
        ctypes.CDLL(CUBLAS)
        return
    for directory in (Path(entry) / "nvidia" / "cublas" / "lib" for entry in search_path):
        with contextlib.suppress(OSError):
            for name in (CUBLAS_LT, CUBLAS):  # the second needs the first
                ctypes.CDLL(str(directory / name), mode=ctypes.RTLD_GLOBAL)
            return
    raise ValueError(
        f"CTranslate2 needs {CUBLAS} on a card, which is not found: pip install 'veco[ct2]', or translate on the CPU "
        "with CUDA_VISIBLE_DEVICES=-1"
    )


class Ct2Generator:
    """A model in CTranslate2, whose beam search follows fairseq's rules too, with some differences from ours in torch.

    At its length limit, a hypothesis is taken as it is, without forcing `</s>`. The probability mass of forbidden
    pieces is redistributed over the others. With lenpen 0, a search continues until the best hypothesis has ended.
    CTranslate2 does not return the probability of each piece: they are computed by a forward pass over the finished
    translation, and are the model's own scores as in torch.
    """

    def __init__(
        self,
        path: Path,
        pieces: Sequence[str],
        max_tokens: int,
        target: TargetIds,
        options: SearchOptions,
        device: torch.device,
        num_threads: int,
    ) -> None:
        """On a CPU, `num_threads` threads translate one batch each. Raises ValueError for a damaged model."""
        self.max_tokens = max_tokens
        self.options = options
        self._pieces = pieces
        self._ids = {piece: i for i, piece in enumerate(pieces)}
        self.target = target
        self._num_in_flight = 2 * num_threads
        self._has_shortlist = (path / SHORTLIST_FILE).is_file()
        on_cpu = device.type == "cpu"
        if not on_cpu:
            load_cublas(sys.path)
        self._batch_tokens = CPU_BATCH_TOKENS if on_cpu else 0  # 0: batches are not split
        torch_threads = torch.get_num_threads()
        try:
            self._translator = import_ctranslate2().Translator(
                str(path),
                device=device.type,
                device_index=device.index or 0,
                inter_threads=num_threads if on_cpu else 1,
                intra_threads=1 if on_cpu else 0,
            )
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"{path}: CTranslate2 cannot open it ({reason}); export the model again") from None
        torch.set_num_threads(torch_threads)  # CTranslate2 has changed OpenMP's number, which torch uses too

    def cut(self, sizes: np.ndarray, limits: np.ndarray) -> list[np.ndarray]:
        order = np.argsort(-sizes, kind="stable")
        max_tokens = max(self.options.max_tokens, int(sizes.max(initial=0)))
        bounds = cut_by_tokens(sizes[order], max_tokens)
        return [order[start:end] for start, end in itertools.pairwise(bounds)]

    def search(self, batches: Sequence[SourceBatch], with_scores: bool) -> Iterator[list[list[Found]]]:
        started: deque[tuple[SourceBatch, list[Any]]] = deque()
        for batch in batches:
            started.append((batch, self._start_search(batch.sources, max(batch.limits))))
            if len(started) > self._num_in_flight:  # so many keep every thread busy
                yield self._finish_search(*started.popleft(), with_scores)
        while started:
            yield self._finish_search(*started.popleft(), with_scores)

    def _finish_search(self, batch: SourceBatch, results: list[Any], with_scores: bool) -> list[list[Found]]:
        pieces = [result.result().hypotheses for result in results]
        # CTranslate2 has one limit per batch. Sentences that exceed their own are searched again, by limit; with a
        # trained model there are few.
        rows_by_limit: dict[int, list[int]] = {}
        for row, limit in enumerate(batch.limits):
            if limit < max(batch.limits) and max(map(len, pieces[row])) > limit:
                rows_by_limit.setdefault(limit, []).append(row)
        for limit, rows in sorted(rows_by_limit.items()):
            for row, result in zip(rows, self._start_search([batch.sources[i] for i in rows], limit), strict=True):
                pieces[row] = result.result().hypotheses
        ids = [[self._with_end(hypothesis) for hypothesis in hypotheses] for hypotheses in pieces]
        if not with_scores:
            return [[Found(hypothesis, []) for hypothesis in hypotheses] for hypotheses in ids]
        sources = [source for source, hypotheses in zip(batch.sources, ids, strict=True) for _ in hypotheses]
        (scores,) = self.score([PairBatch(sources, list(itertools.chain.from_iterable(ids)))])
        scored = iter(scores)
        return [[Found(hypothesis, next(scored)) for hypothesis in hypotheses] for hypotheses in ids]

    def score(self, batches: Iterable[PairBatch]) -> Iterator[list[list[float]]]:
        tag = self._pieces[self.target.start]
        for batch in batches:
            results = self._translator.score_batch(
                self._as_pieces(batch.sources),
                [[tag, *pieces] for pieces in self._as_pieces([target[:-1] for target in batch.targets])],
                max_batch_size=self.options.max_tokens,
                batch_type="tokens",
                max_input_length=0,
            )
            yield [result.log_probs for result in results]

    def _start_search(self, sources: Sequence[Sequence[int]], limit: int) -> list[Any]:
        options = self.options
        return self._translator.translate_batch(
            self._as_pieces(sources),
            [[self._pieces[self.target.start]]] * len(sources),
            max_batch_size=self._batch_tokens,
            batch_type="tokens",
            asynchronous=True,
            beam_size=options.beam,
            num_hypotheses=options.nbest,
            length_penalty=options.lenpen,
            no_repeat_ngram_size=options.no_repeat_ngram,
            suppress_sequences=[[self._pieces[i]] for i in self.target.forbidden],
            min_decoding_length=options.min_len,
            max_decoding_length=limit,
            max_input_length=0,
            use_vmap=self._has_shortlist,
            return_end_token=True,  # so that the length includes it, as in fairseq
        )

    def _as_pieces(self, rows: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[self._pieces[i] for i in row] for row in rows]

    def _with_end(self, pieces: Sequence[str]) -> list[int]:
        """The ids of pieces, with the end token that a hypothesis lacks if it reached its limit."""
        ids = [self._ids[piece] for piece in pieces]
        return ids if ids[-1] == self.target.eos else [*ids, self.target.eos]


def pieces_by_id(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> list[str]:
    """The piece of each id, all different; made-up ones for rows of the model beyond its tokenizer."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return [*pieces, *(f"<unused {i}>" for i in range(len(pieces), vocab_size))]


def load_ct2(path: Path, options: SearchOptions, target_language: str | None, workers: Workers) -> Translator:
    """The translator of an exported model. Raises ValueError for a directory that is not one, or is damaged."""
    library = import_ctranslate2()
    settings = read_settings(path)
    own_pieces = json.loads((path / VOCABULARY_FILE).read_text(encoding="utf-8"))
    tokenizer = matching_tokenizer(path, len(own_pieces), {}, None)
    pieces = pieces_by_id(tokenizer, len(own_pieces))
    parts = settings.get(FRAME, {})
    named = {settings["eos_token"], settings[START_TOKEN]}.union(*parts.values())
    if set(pieces) != set(own_pieces) or not named <= set(pieces):
        raise ValueError(f"{path}: its tokenizer has other pieces than its model: they do not belong together")
    ids = {name: [pieces.index(piece) for piece in part] for name, part in parts.items()}
    frame = Frame.with_defaults(
        tokenizer, ids.get("source_prefix_ids"), ids.get("source_suffix_ids"), ids.get("target_suffix_ids")
    )
    if settings["eos_token"] != pieces[frame.end]:
        raise ValueError(f"{path}: its model ends with {settings['eos_token']}, its tokenizer with {pieces[frame.end]}")
    configured = pieces.index(settings[START_TOKEN])
    own_language = settings.get(TARGET_LANGUAGE)  # missing in older exports
    start = decoder_start_id(tokenizer, configured, target_language, path, own_language)
    if start != configured and (path / SHORTLIST_FILE).is_file():
        raise ValueError(
            f"{path}: its shortlist is for translations into {pieces[configured]}, not {pieces[start]}; "
            "export the model once for each target language"
        )
    if workers.device.type == "cuda" and not library.get_cuda_device_count():
        raise ValueError("CTranslate2 sees no GPU here; set CUDA_VISIBLE_DEVICES= to translate on the CPU")
    target = target_ids(tokenizer, frame, start, len(pieces))
    generator = Ct2Generator(
        path, pieces, settings[MAX_TOKENS], target, options, workers.device, torch.get_num_threads()
    )
    return Translator(generator, tokenizer, frame, options, workers, own_language)


def read_settings(path: Path) -> dict[str, Any]:
    """The config.json of an exported model. Raises ValueError for a directory that is not one."""
    config = path / "config.json"
    if not (path / MODEL_FILE).is_file() or not config.is_file() or not (path / VOCABULARY_FILE).is_file():
        raise ValueError(f"{path}: no {MODEL_FILE} with its vocabulary; make it with python -m finetune.mt.export_ct2")
    settings: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    if MAX_TOKENS not in settings:
        raise ValueError(f"{path}: a CTranslate2 model, but not one made by finetune.mt.export_ct2")
    return settings
