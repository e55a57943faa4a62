"""Recipes: YAML files and command-line flags become validated, immutable dataclasses.

A recipe is flat: each field is a line of YAML and a flag of the same name. Flags win over the file, the file over the
defaults. All problems of a recipe are reported at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import inspect
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_tools.cli import FlagParser
from data_tools.files import atomic_path
from data_tools.yaml_files import expanded, is_null, read_mapping
from pretrain.ds_config import asks_for_bf16, read_ds_config
from pretrain.launch import tell
from pretrain.recipe_fields import BY_NAME, FREE, UNREAD, may_change, notes_of, option
from pretrain.shipped import shipped_file, shipped_names

RecipeT = TypeVar("RecipeT", bound="TrainingRecipe")
BACK_ENDS = ("auto", "eager", "sdpa")  # those of veco.attention, which a recipe's mistakes should not wait for
CPU_PRECISIONS = ("auto", "bf16", "float32")
OBJECTIVES = ("ca_mlm+tlm", "ca_mlm", "mlm+tlm", "mlm", "clm")


SHAPE_FIELDS = (
    *("num_hidden_layers", "hidden_size", "num_attention_heads"),
    *("intermediate_size", "max_position_embeddings", "initializer_range"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """What every training run has, whatever its task."""

    output: str = option(
        "", "directory of the run: checkpoints, TensorBoard events, metrics.jsonl, curves.png", on_resume=FREE
    )
    engine: str = option(
        "deepspeed", "deepspeed, or plain: one process without DeepSpeed, the reference for ZeRO", on_resume=FREE
    )
    ds_config: str = option(
        "zero3_bf16.json", "DeepSpeed's own settings: a file, or the name of one in ds_configs/", on_resume=FREE
    )
    cpu_precision: str = option(
        "auto",
        "on CPU: bf16 or float32; auto = the faster one, timed at the start, where ds_config asks for bf16. "
        "On accelerators ds_config decides",
        on_resume=FREE,
    )
    attention: str = option(
        "auto", "attention in training on CPU: eager or sdpa; auto = the faster one, timed at the start", on_resume=FREE
    )
    cpu_processes: int = option(
        1,
        "processes to use without accelerators; DeepSpeed itself starts one for each NUMA node, however many cores",
        on_resume=FREE,
    )
    seed: int = option(1, "seed of initialisation, dropout, order of samples and masks", on_resume=BY_NAME)
    steps: int = option(1000, "number of optimizer updates", on_resume=FREE)
    accumulation_steps: int = option(
        1, "forward and backward passes for each update, which divide the batch", on_resume=FREE
    )
    learning_rate: float = option(1e-4, "peak learning rate", on_resume=BY_NAME)
    warmup_steps: int = option(
        100, "updates in which the learning rate rises linearly from zero to its peak", on_resume=BY_NAME
    )
    adam_beta1: float = option(0.9, "Adam: decay of the first moment", on_resume=BY_NAME)
    adam_beta2: float = option(0.999, "Adam: decay of the second moment", on_resume=BY_NAME)
    adam_epsilon: float = option(1e-6, "Adam: epsilon", on_resume=BY_NAME)
    weight_decay: float = option(
        0.01, "decoupled weight decay (AdamW), on every parameter as in fairseq", on_resume=BY_NAME
    )
    clip_norm: float = option(1.0, "largest global gradient norm; 0 = never clipped", on_resume=BY_NAME)
    activation_checkpointing: bool = option(
        False, "recompute activations in the backward pass to save memory", on_resume=FREE
    )
    log_every: int = option(10, "updates between two lines of metrics.jsonl and TensorBoard", on_resume=FREE)
    save_every: int = option(1000, "updates between checkpoints; the last update always makes one", on_resume=FREE)
    keep_checkpoints: int = option(2, "newest checkpoints to keep; older ones are deleted", on_resume=FREE)
    keep_every: int = option(0, "checkpoints of steps that this divides are kept for good; 0 = none", on_resume=FREE)
    validate_every: int = option(0, "updates between validations; 0 = one before each checkpoint", on_resume=FREE)
    max_time: str = option(
        "", "HH:MM:SS, or minutes such as 90m: save and leave before they are over; empty = never", on_resume=FREE
    )
    skip_sigma: float = option(
        0.0,
        "leave an update out when its loss is so many standard deviations above the last ones; 0 = never",
        on_resume=FREE,
    )
    skip_window: int = option(128, "updates of one kind of batch whose losses skip_sigma looks at", on_resume=FREE)
    change: str = option(
        "", "with resume: what is to be different from here on, such as learning_rate,mono_batch_pairs", on_resume=FREE
    )
    reset_optimizer: bool = option(
        False, "with resume: forget Adam's moments and keep the weights; to be given once", on_resume=FREE
    )
    reset_schedule: bool = option(
        False, "with resume: warm up again, and decay from there to the end; to be given once", on_resume=FREE
    )
    resume: str = option(
        "no", "no; auto = go on from the newest valid checkpoint if there is one; or a step", on_resume=FREE
    )
    loader_workers: int = option(
        1, "processes on each rank that read and mask batches ahead of the model", on_resume=FREE
    )
    wandb_project: str | None = option(None, "W&B project that gets the metrics, too; null = none", on_resume=FREE)

    def problems(self) -> list[str]:
        """One sentence for each value that cannot be; empty for a sound recipe."""
        found = []
        if not self.output:
            found.append("output is not set: name the directory of the run")
        if self.engine not in ("deepspeed", "plain"):
            found.append(f"engine {self.engine!r} must be 'deepspeed' or 'plain'")
        for name in ("steps", "accumulation_steps", "log_every", "save_every", "keep_checkpoints", "cpu_processes"):
            if self.__dict__[name] < 1:
                found.append(f"{name} {self.__dict__[name]} must be at least 1")
        for name in ("learning_rate", "adam_epsilon"):
            if self.__dict__[name] <= 0:
                found.append(f"{name} {self.__dict__[name]} must be above 0")
        for name in (
            *("warmup_steps", "weight_decay", "clip_norm", "loader_workers"),
            *("keep_every", "validate_every", "skip_sigma"),
        ):
            if self.__dict__[name] < 0:
                found.append(f"{name} {self.__dict__[name]} must not be negative")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= self.__dict__[name] < 1:
                found.append(f"{name} {self.__dict__[name]} must be at least 0 and below 1")
        if self.resume not in ("no", "auto") and not self.resume.isdecimal():
            found.append(f"resume {self.resume!r} must be 'no', 'auto' or a step")
        if self.cpu_precision not in CPU_PRECISIONS:
            found.append(f"cpu_precision {self.cpu_precision!r} must be one of {', '.join(CPU_PRECISIONS)}")
        if self.attention not in BACK_ENDS:
            found.append(f"attention {self.attention!r} must be one of {', '.join(BACK_ENDS)}")
        if self.seed < 0:
            found.append(f"seed {self.seed} must not be negative")
        found += self._problems_of_changes()
        try:
            config = read_ds_config(self.ds_config)
            if self.cpu_precision == "bf16" and not asks_for_bf16(config):
                found.append(
                    f"cpu_precision 'bf16': ds_config {self.ds_config} does not enable bf16; choose one that does"
                )
        except ValueError as error:
            found.append(str(error))
        if self.skip_window < 2:
            found.append(f"skip_window {self.skip_window} must be at least 2")
        if self.max_time:
            try:
                seconds_of(self.max_time)
            except ValueError as error:
                found.append(f"max_time {error}")
        return found

    def names_to_change(self) -> list[str]:
        """What `change` names; as in flags, `-` is `_`."""
        return [name.strip().replace("-", "_") for name in self.change.split(",") if name.strip()]

    def _problems_of_changes(self) -> list[str]:
        """What is wrong with the fields that are for a run that goes on."""
        given = [name for name in ("change", "reset_optimizer", "reset_schedule") if self.__dict__[name]]
        found = [f"{name} is for a run that goes on: give --resume" for name in given if self.resume == "no"]
        known = may_change(type(self))
        return found + [self._why_not(name, known) for name in self.names_to_change() if name not in known]

    def _why_not(self, name: str, known: Sequence[str]) -> str:
        """Why `change` must not have a name, which is none of the `known` that it may have."""
        fields = [field.name for field in dataclasses.fields(self)]
        if name not in fields:
            close = difflib.get_close_matches(name, [*known, *fields], n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"these can change: {', '.join(known)}"
            return f"change: unknown field {name!r}, {advice}"
        on_resume = notes_of(type(self), name)["on_resume"]
        if on_resume is FREE:
            return f"change: {name!r} may be different without being named: leave it out"
        if on_resume is UNREAD:
            return f"change: {name!r} is not read when a run goes on: leave it out"
        return f"change: {name!r} cannot be different in the same run; these can: {', '.join(known)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainRecipe(TrainingRecipe):
    """Pre-train VECO on prepared shards. Values of the paper: VECO (ACL 2021), table 8."""

    data: str = option(
        "embedded", "directory that data_tools.prepare made; 'embedded' = the corpus that ships with us", on_resume=FREE
    )
    init_from: str | None = option(
        None,
        "directory of an XLM-R or a VECO to start from; null = random weights",
        on_resume=UNREAD,
        decides=SHAPE_FIELDS,
    )
    num_hidden_layers: int = option(
        4, "layers of a new model (the following shape fields, too, are for init_from: null)"
    )
    hidden_size: int = option(128, "width")
    num_attention_heads: int = option(4, "attention heads")
    intermediate_size: int = option(512, "width of the feed-forward module")
    max_position_embeddings: int = option(514, "positions: the longest sequence + 2")
    initializer_range: float = option(0.02, "standard deviation of new weights; XLM-R's 0.02 suits a width of 1024")
    dropout: float = option(0.1, "dropout behind every module and the embeddings", on_resume=BY_NAME)
    attention_dropout: float = option(0.1, "dropout of attention weights", on_resume=BY_NAME)
    cross_attention_steps: int = option(
        0, "updates of a first phase that trains the cross-attention alone (from XLM-R)"
    )
    objective: str = option(
        "ca_mlm+tlm",
        "ca_mlm (eq. 1) or mlm (its H losses alone), each also with +tlm, MLM of concatenated pairs (XLM: mlm+tlm); "
        "or clm, the next token",
    )
    alpha: float = option(
        0.5, "languages and pairs are drawn in proportion to (number of sentences) ^ alpha", on_resume=BY_NAME
    )
    mono_batch_pairs: int = option(64, "pairs of adjacent segments in a global monolingual batch", on_resume=BY_NAME)
    bilingual_batch_pairs: int = option(64, "sentence pairs in a global bilingual batch", on_resume=BY_NAME)
    mono_max_length: int = option(
        128, "longest segment of a monolingual batch, in tokens with <s> and </s>", on_resume=BY_NAME
    )
    bilingual_max_length: int = option(
        64, "longest sentence of a bilingual batch, in tokens with <s> and </s>", on_resume=BY_NAME
    )
    mono_mask_rate: float = option(0.15, "share of tokens to predict in monolingual batches", on_resume=BY_NAME)
    bilingual_mask_rate: float = option(0.25, "share of tokens to predict in bilingual batches", on_resume=BY_NAME)
    bilingual_mask_spread: float = option(
        0.0,
        "the sentences of a pair have the shares bilingual_mask_rate + d and - d, d uniform in +- this: where one is "
        "hidden the other can be read (rates as varied as in Mask-Predict, Ghazvininejad et al., 2019)",
        on_resume=BY_NAME,
    )
    mask_token_share: float = option(0.8, "share of the tokens to predict that become <mask>", on_resume=BY_NAME)
    random_token_share: float = option(
        0.1, "share of the tokens to predict that become random ones; the rest stay", on_resume=BY_NAME
    )
    span_length: float = option(
        0.0, "mean length of masked spans, geometric as in SpanBERT (3.8); 0 = single tokens", on_resume=BY_NAME
    )
    validate_batches: int = option(
        8,
        "most batches of 16 held-out pairs in a validation, of each language and language pair; 0 = no validation",
        on_resume=FREE,
    )
    peak_tflops: float | None = option(
        None,
        "dense peak of one device at the trained precision, TFLOP/s, to show utilisation; null = not shown",
        on_resume=FREE,
    )

    @property
    def total_steps(self) -> int:
        """Updates of both phases."""
        return self.cross_attention_steps + self.steps

    def problems(self) -> list[str]:
        found = super().problems()
        if self.objective not in OBJECTIVES:
            found.append(f"objective {self.objective!r} must be one of {', '.join(OBJECTIVES)}")
        shares = (self.mask_token_share, self.random_token_share)
        if min(shares) < 0 or sum(shares) > 1:
            found.append(
                f"mask_token_share {self.mask_token_share} and random_token_share {self.random_token_share} "
                "must not be negative, nor above 1 together"
            )
        if self.span_length != 0 and self.span_length < 1:
            found.append(f"span_length {self.span_length} must be 0 or at least 1")
        if self.validate_batches < 0:
            found.append(f"validate_batches {self.validate_batches} must not be negative")
        if self.peak_tflops is not None and self.peak_tflops <= 0:
            found.append(f"peak_tflops {self.peak_tflops} must be above 0")
        lowest, highest = (self.bilingual_mask_rate + sign * self.bilingual_mask_spread for sign in (-1, 1))
        if self.bilingual_mask_spread < 0 or lowest < 0 or highest > 1:
            found.append(
                f"bilingual_mask_spread {self.bilingual_mask_spread} must not be negative, nor lead "
                f"bilingual_mask_rate {self.bilingual_mask_rate} out of 0 to 1"
            )
        for name in ("mono_mask_rate", "bilingual_mask_rate", "dropout", "attention_dropout"):
            if not 0 <= self.__dict__[name] < 1:
                found.append(f"{name} {self.__dict__[name]} must be at least 0 and below 1")
        if not 0 <= self.alpha <= 1:
            found.append(f"alpha {self.alpha} must lie between 0 and 1")
        if self.cross_attention_steps < 0:
            found.append(f"cross_attention_steps {self.cross_attention_steps} must not be negative")
        if self.cross_attention_steps and not self.init_from:
            found.append("cross_attention_steps needs init_from: a random encoder gives the cross-attention nothing")
        if self.cross_attention_steps and not self.objective.startswith("ca_mlm"):
            found.append(f"cross_attention_steps: objective {self.objective!r} does not train the cross-attention")
        for name in ("mono_batch_pairs", "bilingual_batch_pairs"):
            if self.__dict__[name] < 1:
                found.append(f"{name} {self.__dict__[name]} must be at least 1")
        longest = max(self.mono_max_length, 2 * self.bilingual_max_length)
        if min(self.mono_max_length, self.bilingual_max_length) < 4:
            found.append("mono_max_length and bilingual_max_length must be at least 4")
        if not self.init_from and longest > self.max_position_embeddings - 2:
            found.append(
                f"max_position_embeddings {self.max_position_embeddings} must be at least {longest + 2}: "
                "mono_max_length, or both sentences of a bilingual pair, + 2"
            )
        return found


def seconds_of(duration: str) -> float:
    """Seconds in `HH:MM:SS`, or in minutes as `90m`. Raises ValueError for anything else.

    A bare number is refused: YAML reads 1:30:00 without quotes as one, in seconds.
    """
    if match := re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d)", duration):
        hours, minutes, seconds = map(int, match.groups())
        return hours * 3600.0 + minutes * 60 + seconds
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)m", duration):
        return float(match[1]) * 60
    raise ValueError(f"{duration!r} must be HH:MM:SS (in YAML: in quotes), or minutes such as 90m")


def parse_recipe(recipe_class: type[RecipeT], argv: Sequence[str], default_config: Path | None = None) -> RecipeT:
    """The recipe that a command line asks for: `--config FILE`, then one flag for each field that differs from it.

    Environment variables such as ${DATA} and a ~ for the home directory are filled in in text fields. Raises ValueError
    with every problem at once.
    """
    parser = FlagParser(description=recipe_class.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    recipes = Path(inspect.getfile(recipe_class)).parent / "recipes"  # those that come with it
    parser.add_argument(
        "--config",
        type=lambda name: shipped_file(name, recipes),
        default=argparse.SUPPRESS,
        help="recipe in YAML; its fields are the flags below. A file, or the name of one that comes with the package: "
        f"{', '.join(shipped_names(recipes))} (default: {default_config and default_config.stem})",
    )
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)  # the launcher passes it
    parser.add_argument("--validate_only", action="store_true", help="check the recipe, print it and stop")
    for field in dataclasses.fields(recipe_class):
        # `--resume` alone means auto, and `--some_switch` alone means true.
        bare = {"resume": "auto"}.get(field.name, "true" if isinstance(field.default, bool) else None)
        parser.add_argument(
            f"--{field.name}",
            nargs="?" if bare else None,
            const=bare,
            metavar=field.name.upper(),
            default=argparse.SUPPRESS,
            help=f"{field.metadata['help']} (default of the recipe: {field.default!r})",
        )
    given = vars(parser.parse_args(argv))
    _, validate_only = given.pop("local_rank"), given.pop("validate_only")
    is_chosen = "config" in given
    config = given.pop("config", default_config)
    of_file = read_yaml(config.expanduser()) if config else {}
    recipe = build_recipe(recipe_class, laid_over(recipe_class, of_file, given, is_told=is_chosen), config)
    if validate_only:
        print(yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False), end="")
        raise SystemExit(0)
    return recipe


def read_yaml(path: Path) -> dict[str, Any]:
    """The fields of a recipe file. Raises ValueError when it is not a flat mapping."""
    expected = "plain 'field: value' lines of a recipe"
    values = read_mapping(path, expected)
    if nested := [name for name, value in values.items() if isinstance(value, dict | list)]:
        raise ValueError(f"{path}: expected {expected}, found more than one value in {nested[0]}")
    return values


def decided_fields(recipe_class: type[TrainingRecipe], values: Mapping[str, Any]) -> dict[str, str]:
    """Field -> the field that decides in its place, for what is not used of a recipe with these raw `values`."""
    kinds = typing.get_type_hints(recipe_class)
    found: dict[str, str] = {}
    for field in dataclasses.fields(recipe_class):
        with contextlib.suppress(ValueError):  # told by `build_recipe`
            if _convert(kinds[field.name], values.get(field.name, field.default)):
                found |= dict.fromkeys(notes_of(recipe_class, field.name)["decides"], field.name)
    return found


def laid_over(
    recipe_class: type[TrainingRecipe], of_file: Mapping[str, Any], given: Mapping[str, Any], is_told: bool = True
) -> dict[str, Any]:
    """The raw values of a recipe file with those that are `given` for one use of it, which win.

    What of the file another field now decides is left out, and told: somebody chose the file.
    """
    values = {**of_file, **given}
    decided = {name: by for name, by in decided_fields(recipe_class, values).items() if name in of_file.keys() - given}
    if decided and is_told:
        told = ", ".join(f"{name} {of_file[name]} ({by} decides)" for name, by in decided.items())
        tell(f"not used of the recipe: {told}")
    return {name: value for name, value in values.items() if name not in decided}


def build_recipe(recipe_class: type[RecipeT], values: Mapping[str, Any], source: Path | None) -> RecipeT:
    """A validated recipe from raw values (YAML scalars or flag strings). Raises ValueError with every problem."""
    kinds = typing.get_type_hints(recipe_class)
    converted, problems = {}, []
    for name, value in values.items():
        if name not in kinds:
            close = difflib.get_close_matches(str(name), kinds, n=1)
            problems.append(f"unknown field {name!r}" + (f", did you mean {close[0]!r}?" if close else ""))
            continue
        try:
            converted[name] = _convert(kinds[name], value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            if isinstance(value, str) and kinds[name] in (str, str | None):
                converted[name] = value  # it is set, so no further problem comes of it
    recipe = recipe_class(**converted)
    problems += [
        f"{name} {values[name]} is not used, as {by} {recipe.__dict__[by]} decides: leave one of them out, or give "
        f"{by} {'null' if recipe_class.__dataclass_fields__[by].default is None else 0}"
        for name, by in decided_fields(recipe_class, values).items()
        if name in values
    ]
    problems += recipe.problems()
    if problems:
        raise ValueError(f"recipe {source or '(command line)'}: " + "; ".join(problems))
    return recipe


def _convert(kind: Any, value: Any) -> Any:
    """`value`, a YAML scalar or a flag's string, as `kind`: str, int, float, bool, or one of these or None."""
    if isinstance(kind, types.UnionType):
        if is_null(value):
            return None
        kind = next(arm for arm in typing.get_args(kind) if arm is not types.NoneType)
    if kind is bool:
        word = str(value).lower()
        if word not in ("true", "false"):
            raise ValueError(f"expected true or false, found {value!r}")
        return word == "true"
    if kind is str:
        if isinstance(value, bool):  # YAML reads a bare `no` as false
            return "yes" if value else "no"
        return "" if is_null(value) else expanded(str(value))
    try:
        # YAML reads 2e-4 as text, and 1000.0 is a fine number of steps.
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number):
            raise ValueError
        if kind is float:
            return number
        if not number.is_integer():
            raise ValueError
        return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() else int(number)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"expected {'a number' if kind is float else 'a whole number'}, found {value!r}") from None


def save_recipe(recipe: TrainingRecipe, path: Path) -> None:
    """Write the resolved recipe, as `--config` reads it."""
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False), encoding="utf-8")
