"""Translates a file with beam search and prints the lines that scripts around fairseq-generate look for.

    python -m finetune.mt.generate MODEL --input FILE [--beam 5] [--lenpen 1.0] [--reference FILE] [--output FILE]

For sentence i, in the order of the input (fairseq prints them in the order of its batches):

    S-i <tab> source                       T-i <tab> reference, with --reference
    H-i <tab> score <tab> pieces           D-i <tab> score <tab> detokenized text
    P-i <tab> score of each piece and of </s>

Scores are in base 2, as fairseq prints them: a piece's is log2 of its probability, a hypothesis' is the sum of them
divided by length ** lenpen, where the length counts `</s>`. They come from one forward pass over the finished
translation; in float32 they are the beam search's own (1e-4). `--quiet` leaves the lines and this pass out; without
--output it prints the plain translations.

The search is transformers', set to fairseq's rules: it ends for a sentence once `beam` hypotheses have ended, `<pad>`
and other special tokens are never chosen, a translation has at least one piece, and at max_len_a * x + max_len_b pieces
(x = source pieces) `</s>` is forced. fairseq takes the longest source of the batch as x; here it is the sentence's own,
so that a translation does not depend on its batch. fairseq's default is 0 x + 200; ours, 1.2 x + 10, is that of its
IWSLT recipe and spares the time of half-trained models, which repeat themselves to the limit.
"""

import argparse
import itertools
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.utils.logging import disable_progress_bar

import veco
from data_tools.cli import progress_bar, run_main
from data_tools.files import atomic_path
from data_tools.text_lines import open_text
from finetune.mt.batches import SOURCE_SPECIALS, cut_by_tokens, tokenizer_encoder
from finetune.mt.score import sacrebleu_score

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKENIZER_FILES = ("tokenizer.json", "sentencepiece.bpe.model")
LANGUAGE_TAG = re.compile(r"__\w+__")

# Scores over the vocabulary of one step of all beams, or of one rescored chunk, at most (256 MB in float32).
MAX_LOGITS = 1 << 26


@dataclass(frozen=True)
class SearchOptions:
    """How to search. Raises ValueError listing every value that makes no sense."""

    beam: int = 5  # hypotheses kept; 1 is greedy search
    lenpen: float = 1.0  # exponent of the length that a score is divided by: above 1 favours longer translations
    nbest: int = 1  # hypotheses returned for each sentence
    max_len_a: float = 1.2  # longest translation in pieces: max_len_a * source pieces + max_len_b
    max_len_b: int = 10
    no_repeat_ngram: int = 0  # no n-gram of this many pieces occurs twice in a translation; 0: no such rule
    max_tokens: int = 1000  # source tokens of a batch, padding included; on a GPU, more is faster

    def __post_init__(self) -> None:
        wrong = {
            f"beam must be at least 1, found {self.beam}": self.beam < 1,
            f"nbest must be between 1 and beam, found {self.nbest} with beam {self.beam}": not 1
            <= self.nbest
            <= self.beam,
            f"lenpen must be finite, found {self.lenpen}": not math.isfinite(self.lenpen),
            f"max_len_a must not be negative, found {self.max_len_a}": not 0 <= self.max_len_a < math.inf,
            f"max_len_b must be at least 1, found {self.max_len_b}": self.max_len_b < 1,
            f"no_repeat_ngram must not be negative, found {self.no_repeat_ngram}": self.no_repeat_ngram < 0,
            f"max_tokens must be at least 1, found {self.max_tokens}": self.max_tokens < 1,
        }
        if any(wrong.values()):
            raise ValueError("; ".join(message for message, is_wrong in wrong.items() if is_wrong))


@dataclass(frozen=True)
class Hypothesis:
    """One translation of a sentence."""

    ids: list[int]  # pieces, then </s>; empty for an empty line
    pieces: str  # pieces without </s>, between spaces
    text: str  # detokenized
    positional_scores: list[float]  # log2 probability of each id, or empty if no scores were asked for
    score: float  # sum of positional_scores / len(ids) ** lenpen; 0 if there are none


class FairseqLimits(LogitsProcessor):
    """fairseq's constraints on each step of the search: forbidden ids, a first piece, and `</s>` at the limit.

    `limits` (batch * beam,) is the largest number of pieces, `</s>` not counted, of each running hypothesis.
    """

    def __init__(self, forbidden_V: Tensor, limits: Tensor, eos: int) -> None:
        self._forbidden_V = forbidden_V
        self._limits = limits
        self._eos = eos

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        num_pieces = input_ids.shape[1] - 1  # the language tag comes first
        scores = scores.masked_fill(self._forbidden_V, -math.inf)
        if num_pieces == 0:
            scores[:, self._eos] = -math.inf
        at_limit = self._limits <= num_pieces
        if at_limit.any():
            ended = torch.full_like(scores, -math.inf)
            ended[:, self._eos] = scores[:, self._eos]
            scores = torch.where(at_limit.unsqueeze(1), ended, scores)
        return scores


class BeamCache(EncoderDecoderCache):
    """The keys and values of a beam search, where reordering leaves those of the source alone.

    All beams of a sentence attend to the same source, and a beam only ever moves within its sentence. transformers
    would copy these, the larger half, at every step.
    """

    def __init__(self) -> None:
        super().__init__(DynamicCache(), DynamicCache())

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.self_attention_cache.reorder_cache(beam_idx)


class Translator:
    """A translation model, its tokenizer and how to search, ready to translate lines."""

    def __init__(self, model: Any, tokenizer: Any, options: SearchOptions, decoder_start_token_id: int) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.options = options
        self.decoder_start_token_id = decoder_start_token_id
        self.num_cut_lines = 0  # source lines shortened to the model's longest input so far
        self._encode = tokenizer_encoder(tokenizer)
        vocab_size = model.config.vocab_size
        kept = {tokenizer.eos_token_id, tokenizer.unk_token_id}
        forbidden = [i for i in tokenizer.all_special_ids if i not in kept]
        self._forbidden_V = torch.zeros(vocab_size, dtype=torch.bool, device=model.device)
        self._forbidden_V[forbidden] = True
        self._forbidden_V[len(tokenizer) :] = True  # rows that a model may have beyond its pieces
        # The model's own defaults (another beam, a penalty) would fill in whatever is not set here.
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            decoder_start_token_id=decoder_start_token_id,
            do_sample=False,
            num_beams=options.beam,
            num_return_sequences=options.nbest,
            use_cache=True,
            no_repeat_ngram_size=options.no_repeat_ngram or None,
            # Only beam search knows these two, and transformers warns of them in a greedy one.
            **({"length_penalty": options.lenpen, "early_stopping": True} if options.beam > 1 else {}),
        )

    @classmethod
    def load(
        cls,
        path: Path,
        options: SearchOptions,
        dtype: torch.dtype = torch.float32,
        target_language: str | None = None,
    ) -> Self:
        """The translator of a model directory, on the GPU if there is one. Raises ValueError naming what is wrong."""
        if not (path / "config.json").is_file():
            raise ValueError(f"{path}: no config.json; expected a model directory of finetune.mt (train or average)")
        if not any((path / name).is_file() for name in TOKENIZER_FILES):
            raise ValueError(f"{path}: no tokenizer ({' or '.join(TOKENIZER_FILES)}) beside the model")
        config = AutoConfig.from_pretrained(path)
        wanted = veco.VecoForConditionalGeneration.__name__
        if wanted not in (config.architectures or []):
            # transformers would load it all the same, with a decoder drawn at random.
            found = ", ".join(config.architectures or ["nothing known"])
            raise ValueError(f"{path}: holds {found}, expected {wanted}; fine-tune it with finetune/mt/train.py first")
        tokenizer = AutoTokenizer.from_pretrained(path)
        if len(tokenizer) > config.vocab_size:
            raise ValueError(
                f"{path}: the tokenizer has {len(tokenizer):,} pieces but the model {config.vocab_size:,}: "
                "they do not belong together"
            )
        start = decoder_start_id(tokenizer, config.decoder_start_token_id, target_language, path)
        model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=dtype)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model, tokenizer, options, start)

    def translate(
        self, lines: Sequence[str], with_scores: bool = True, progress: Callable[[int], None] | None = None
    ) -> list[list[Hypothesis]]:
        """The best `nbest` hypotheses of each line, best first, in the order of the lines; blank lines give empty ones.

        `progress` is called with the number of lines done since the last call.
        """
        sources = self._source_ids(lines)
        sizes = np.asarray([len(source) for source in sources], dtype=np.int64)
        order = np.argsort(-sizes, kind="stable")  # longest first: what does not fit in memory fails at once
        order = order[sizes[order] > SOURCE_SPECIALS]
        nothing = Hypothesis([], "", "", [], 0.0)
        results = [[nothing] * self.options.nbest for _ in lines]
        if progress is not None:
            progress(len(lines) - len(order))
        max_items = max(1, MAX_LOGITS // (self.options.beam * self.model.config.vocab_size))
        max_tokens = max(self.options.max_tokens, int(sizes.max(initial=0)))
        bounds = cut_by_tokens(sizes[order], max_tokens, max_items)
        for start, end in itertools.pairwise(bounds):
            chosen = order[start:end]
            found = self._translate_batch([sources[i] for i in chosen], with_scores)
            for i, hypotheses in zip(chosen, found, strict=True):
                results[i] = hypotheses
            if progress is not None:
                progress(len(chosen))
        return results

    def search(self, sources: Sequence[Sequence[int]]) -> list[list[list[int]]]:
        """Ids (with `</s>`, without the tag) of the best `nbest` translations of each source of one batch, best first.

        A source is `<s> x1 … xn </s>`, n >= 1.
        """
        nbest = self.options.nbest
        rows = [self._until_eos(row) for row in self._run_search(sources)[:, 1:].tolist()]
        return [rows[i : i + nbest] for i in range(0, len(rows), nbest)]

    def score(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> list[list[float]]:
        """log2 probabilities of each id of `targets` (y1 … ym `</s>`) given the sources, by one forward pass."""
        longest = max(len(target) for target in targets)
        rows = max(1, MAX_LOGITS // (longest * self.model.config.vocab_size))
        scores = []
        for first in range(0, len(targets), rows):
            part = targets[first : first + rows]
            input_ids, attention_mask = self._padded(sources[first : first + rows])
            labels, _ = self._padded(part)
            tags = labels.new_full((len(part), 1), self.decoder_start_token_id)
            with torch.inference_mode():
                logits = self.model(
                    input_ids=input_ids,
                    attention_mask=attention_mask,
                    decoder_input_ids=torch.cat([tags, labels[:, :-1]], dim=1),
                    use_cache=False,
                ).logits.float()
                chosen = logits.gather(2, labels.unsqueeze(2)).squeeze(2) - logits.logsumexp(dim=2)
            for row, target in zip((chosen / math.log(2)).tolist(), part, strict=True):
                scores.append(row[: len(target)])
        return scores

    def _run_search(self, sources: Sequence[Sequence[int]]) -> Any:
        """What transformers' generate() returns for one batch: ids (batch * nbest, tag + longest) unless configured."""
        limits = torch.tensor([self._max_pieces(len(source) - SOURCE_SPECIALS) for source in sources])
        input_ids, attention_mask = self._padded(sources)
        processor = FairseqLimits(
            self._forbidden_V,
            limits.repeat_interleave(self.options.beam).to(input_ids.device),
            self.tokenizer.eos_token_id,
        )
        with torch.inference_mode():
            return self.model.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                past_key_values=BeamCache(),
                logits_processor=LogitsProcessorList([processor]),
                max_new_tokens=int(limits.max()) + 1,
            )

    def _translate_batch(self, sources: Sequence[Sequence[int]], with_scores: bool) -> list[list[Hypothesis]]:
        found = self.search(sources)
        nbest = self.options.nbest
        flat = [ids for hypotheses in found for ids in hypotheses]
        repeated = [source for source in sources for _ in range(nbest)]
        scores = self.score(repeated, flat) if with_scores else [[] for _ in flat]
        made = [self._hypothesis(ids, row) for ids, row in zip(flat, scores, strict=True)]
        return [made[i : i + nbest] for i in range(0, len(made), nbest)]

    def _hypothesis(self, ids: list[int], positional_scores: list[float]) -> Hypothesis:
        pieces = [i for i in ids if i != self.tokenizer.eos_token_id]
        # An unknown piece stays visible, as in fairseq: skip_special_tokens would drop it without a trace.
        text = self.tokenizer.decode(pieces, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return Hypothesis(
            ids=ids,
            pieces=" ".join(self.tokenizer.convert_ids_to_tokens(pieces)),
            text=" ".join(text.split("\n")).strip(),
            positional_scores=positional_scores,
            score=normalized_score(positional_scores, self.options.lenpen),
        )

    def _source_ids(self, lines: Sequence[str]) -> list[list[int]]:
        """`<s> x1 … xn </s>` of each line, cut to the model's longest input (counted)."""
        longest = self.model.config.max_tokens - SOURCE_SPECIALS
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        encoded = [list(ids) for ids in self._encode(list(lines))] if lines else []
        self.num_cut_lines += sum(len(ids) > longest for ids in encoded)
        return [[bos, *ids[:longest], eos] for ids in encoded]

    def _max_pieces(self, num_source_pieces: int) -> int:
        """Largest number of pieces of a translation; with the tag before them they fill the decoder at most."""
        wanted = int(self.options.max_len_a * num_source_pieces + self.options.max_len_b)
        return min(wanted, self.model.config.max_tokens - 1)

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids (batch, longest) padded on the right, and the mask that is 1 where they may be attended to."""
        ids = torch.full((len(rows), max(map(len, rows))), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return ids.to(self.model.device), mask.to(self.model.device)

    def _until_eos(self, row: list[int]) -> list[int]:
        assert self.tokenizer.eos_token_id in row, "the search must end each hypothesis with </s>"
        return row[: row.index(self.tokenizer.eos_token_id) + 1]


def decoder_start_id(tokenizer: Any, configured: int | None, language: str | None, path: Path) -> int:
    """The id that starts the decoder: the tag of `language`, or the configured one if that is None."""
    if language is None:
        if configured is None:
            raise ValueError(f"{path}: config.json has no decoder_start_token_id; name the --target-language")
        return configured
    tags = {token for token in tokenizer.all_special_tokens if LANGUAGE_TAG.fullmatch(token)}
    if f"__{language}__" not in tags:
        known = ", ".join(sorted(tag.strip("_") for tag in tags)) or "none"
        raise ValueError(f"{path}: no tag __{language}__ in the tokenizer; target languages it has: {known}")
    return int(tokenizer.convert_tokens_to_ids(f"__{language}__"))


def normalized_score(positional_scores: Sequence[float], lenpen: float) -> float:
    """fairseq's score of a hypothesis: the sum of its positional scores over length ** lenpen; 0 for an empty one."""
    if not positional_scores:
        return 0.0
    return sum(positional_scores) / len(positional_scores) ** lenpen


def fairseq_lines(i: int, source: str, reference: str | None, hypotheses: Sequence[Hypothesis]) -> Iterator[str]:
    """The S-, T-, H-, D- and P-lines of sentence i."""
    yield f"S-{i}\t{source}"
    if reference is not None:
        yield f"T-{i}\t{reference}"
    for hypothesis in hypotheses:
        yield f"H-{i}\t{hypothesis.score}\t{hypothesis.pieces}"
        yield f"D-{i}\t{hypothesis.score}\t{hypothesis.text}"
        yield f"P-{i}\t{' '.join(f'{score:.4f}' for score in hypothesis.positional_scores)}"


def read_input(name: str) -> list[str]:
    """The lines of a file, or of stdin for "-". Raises ValueError if there is none."""
    if name == "-":
        try:
            lines = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"standard input is not UTF-8 at byte {error.start}: {error.reason}") from None
        lines = [] if lines == [""] else [line.removesuffix("\r") for line in lines]
    else:
        with open_text(name) as opened:
            lines = list(opened)
    if not lines:
        raise ValueError(f"{'standard input' if name == '-' else name} has no line: nothing to translate")
    return lines


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    defaults = SearchOptions()
    parser = argparse.ArgumentParser(prog="python -m finetune.mt.generate", description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, metavar="MODEL", help="directory written by finetune.mt (train or average)")
    parser.add_argument("--input", required=True, metavar="FILE", help="text, a sentence a line; - is standard input")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="adds T-lines and sacreBLEU")
    parser.add_argument("--output", type=Path, metavar="FILE", help="plain translations, a line for each line of input")
    parser.add_argument("--target-language", metavar="LANG", help="for a model of several directions")
    parser.add_argument("--beam", type=int, default=defaults.beam, help="default: %(default)s")
    parser.add_argument("--lenpen", type=float, default=defaults.lenpen, help="length exponent, default: %(default)s")
    parser.add_argument("--nbest", type=int, default=defaults.nbest, help="hypotheses printed, default: %(default)s")
    parser.add_argument("--max-len-a", type=float, default=defaults.max_len_a, help="limit a * x + b: a (%(default)s)")
    parser.add_argument("--max-len-b", type=int, default=defaults.max_len_b, help="limit a * x + b: b (%(default)s)")
    parser.add_argument("--no-repeat-ngram", type=int, default=defaults.no_repeat_ngram, help="0 = off, the default")
    parser.add_argument(
        "--max-tokens", type=int, default=defaults.max_tokens, help="source tokens of a batch, default: %(default)s"
    )
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="default: %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no S-, T-, H-, D-, P-lines and no scores")
    return parser.parse_args(arguments)


def summary(translations: Sequence[Hypothesis], seconds: float) -> str:
    """One line on the amount of work and its speed; words are those of the translations."""
    num_words = sum(len(hypothesis.text.split()) for hypothesis in translations)
    num_pieces = sum(len(hypothesis.ids) for hypothesis in translations)
    return (
        f"translated {len(translations):,} sentences ({num_words:,} words, {num_pieces:,} pieces) in {seconds:.1f} s: "
        f"{len(translations) / seconds:.1f} sentences/s, {num_words / seconds:.0f} words/s"
    )


def main() -> None:
    arguments = parse_arguments()
    options = SearchOptions(
        beam=arguments.beam,
        lenpen=arguments.lenpen,
        nbest=arguments.nbest,
        max_len_a=arguments.max_len_a,
        max_len_b=arguments.max_len_b,
        no_repeat_ngram=arguments.no_repeat_ngram,
        max_tokens=arguments.max_tokens,
    )
    if arguments.output is not None and not arguments.output.parent.is_dir():
        raise ValueError(f"{arguments.output}: the directory to write to does not exist")
    sources = read_input(arguments.input)
    references = None if arguments.reference is None else read_input(str(arguments.reference))
    if references is not None and len(references) != len(sources):
        raise ValueError(
            f"{arguments.input} has {len(sources):,} lines but {arguments.reference} has {len(references):,}: "
            "line i of one must translate line i of the other"
        )
    disable_progress_bar()  # transformers draws one for the weights too; ours is for the sentences
    translator = Translator.load(arguments.model, options, DTYPES[arguments.dtype], arguments.target_language)
    started = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("translating", total=len(sources), unit="sentences")
        found = translator.translate(sources, not arguments.quiet, lambda number: bar.advance(task, number))
    seconds = time.perf_counter() - started
    best = [hypotheses[0] for hypotheses in found]
    write_results(arguments, sources, references, found)
    if translator.num_cut_lines:
        sys.stderr.write(f"{translator.num_cut_lines:,} source lines were longer than the model allows and were cut\n")
    sys.stderr.write(summary(best, seconds) + "\n")
    if references is not None:
        score = sacrebleu_score([hypothesis.text for hypothesis in best], references, lowercase=False, tokenize="13a")
        sys.stderr.write(f"sacreBLEU {score.value:.2f} {score.signature}\n")


def write_results(
    arguments: argparse.Namespace,
    sources: Sequence[str],
    references: Sequence[str] | None,
    found: Sequence[Sequence[Hypothesis]],
) -> None:
    """Nothing; writes --output, and stdout as --quiet asks."""
    plain = [hypotheses[0].text for hypotheses in found]
    if arguments.output is not None:
        with atomic_path(arguments.output) as temporary:
            temporary.write_text("".join(text + "\n" for text in plain), encoding="utf-8", newline="\n")
    if not arguments.quiet:
        for i, (source, hypotheses) in enumerate(zip(sources, found, strict=True)):
            reference = None if references is None else references[i]
            sys.stdout.writelines(line + "\n" for line in fairseq_lines(i, source, reference, hypotheses))
    elif arguments.output is None:
        sys.stdout.writelines(text + "\n" for text in plain)


if __name__ == "__main__":
    run_main(main)
