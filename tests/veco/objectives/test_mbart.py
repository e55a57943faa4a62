"""Denoising through path S against VecoForConditionalGeneration, whose encoder and decoder it trains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM, VecoForPreTraining

IGNORED, START, END, PAD = -100, 0, 2, 1
LENGTHS = {"noised_x": (9, 4, 6), "noised_y": (5, 8, 8), "next_x": (12, 7, 3), "next_y": (6, 11, 8)}


def batch_of(views: tuple[str, ...], seed: int = 3) -> dict[str, Tensor]:
    """Random rows of these lengths, `<s> … </s>`; the next tokens as labels of what is written."""
    generator = torch.Generator().manual_seed(seed)
    batch = {}
    for view, like in zip(views, LENGTHS, strict=True):
        lengths = LENGTHS[like]
        ids = torch.randint(4, 59, (len(lengths), max(lengths)), generator=generator)
        for row, length in enumerate(lengths):
            ids[row, 0], ids[row, length - 1], ids[row, length:] = START, END, PAD
        labels = torch.full_like(ids, IGNORED)
        if not view.startswith("noised"):
            labels[:, :-1] = ids[:, 1:].masked_fill(ids[:, 1:] == PAD, IGNORED)
        batch |= {f"{view}_input_ids": ids, f"{view}_attention_mask": ids.ne(PAD).long(), f"{view}_labels": labels}
    return batch


def translator_of(model: VecoForPreTraining, config: VecoConfig) -> VecoForConditionalGeneration:
    masked_lm = VecoForMaskedLM(config)
    masked_lm.load_state_dict(model.state_dict())
    return VecoForConditionalGeneration.from_veco(masked_lm, decoder_start_token_id=START).eval()


@pytest.mark.parametrize(
    ("objective", "written"),
    [("mbart", ("next_x", "next_y")), ("mbart(translate=true)", ("target_x", "target_y"))],
)
def test_loss_and_gradients_are_those_of_the_translation_model(
    config: VecoConfig, objective: str, written: tuple[str, str]
) -> None:
    torch.manual_seed(1)
    model = VecoForPreTraining(config, objective).eval()
    batch = batch_of(("noised_x", "noised_y", *written))
    output = model(**batch)
    output.loss.backward()
    translator = translator_of(model, config)
    losses = [
        translator(
            input_ids=batch[f"{noised}_input_ids"],
            attention_mask=batch[f"{noised}_attention_mask"],
            labels=batch[f"{view}_labels"],
        ).loss
        for noised, view in zip(("noised_x", "noised_y"), written, strict=True)
    ]
    torch.testing.assert_close(output.loss, sum(losses), rtol=1e-6, atol=1e-6)
    sum(losses).backward()
    theirs = {name: weight.grad for name, weight in translator.named_parameters()}
    for name, weight in model.named_parameters():
        # A layer of ours is one of the encoder and one of the decoder there.
        parts = [theirs.get(name), theirs.get(name.replace("veco.layers", "decoder.layers"))]
        of_both = parts[:1] if "layers" not in name else parts
        expected = sum(part for part in of_both if part is not None)
        torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-6)


def test_what_is_written_sees_what_was_and_all_that_is_read(config: VecoConfig) -> None:
    """Gradients of one predicted token's loss, by the embedded tokens on which it depends."""
    model = VecoForPreTraining(config, "mbart").eval()
    batch = batch_of(tuple(LENGTHS))
    place = 4  # in row 0 of next_x, which predicts place 5
    for view in ("next_x", "next_y"):
        labels = batch[f"{view}_labels"]
        kept = labels[0, place].clone()
        labels.fill_(IGNORED)
        if view == "next_x":
            labels[0, place] = kept
    embedded: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.veco.embeddings.register_forward_hook(keep)
    model(**batch).loss.backward()
    has_gradient = embedded[0].grad.abs().sum(1) > 0
    parts = has_gradient.split([sum(lengths) for lengths in LENGTHS.values()])
    by_view = dict(zip(LENGTHS, parts, strict=True))
    assert by_view["noised_x"].tolist() == [True] * 9 + [False] * 10
    assert by_view["next_x"].tolist() == [True] * (place + 1) + [False] * (22 - place - 1)
    assert not by_view["noised_y"].any() and not by_view["next_y"].any()


def test_model_that_learned_to_denoise_writes_at_once(config: VecoConfig) -> None:
    torch.manual_seed(2)
    model = VecoForPreTraining(config, "mbart").train()
    batch = batch_of(tuple(LENGTHS))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first = float(model(**batch).loss.detach())
    for _ in range(150):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 * first
    translator = translator_of(model, config)
    for noised, written in (("noised_x", "next_x"), ("noised_y", "next_y")):
        found = translator.generate(
            batch[f"{noised}_input_ids"], attention_mask=batch[f"{noised}_attention_mask"], max_length=20, num_beams=2
        )
        for row, expected in zip(found.tolist(), batch[f"{written}_input_ids"].tolist(), strict=True):
            assert [i for i in row if i != PAD] == [i for i in expected if i != PAD]


def test_rows_without_their_noised_ones_are_refused(config: VecoConfig) -> None:
    batch = batch_of(tuple(LENGTHS))
    batch |= {name: tensor[:2] for name, tensor in batch.items() if name.startswith("noised_x")}
    with pytest.raises(ValueError, match=r"found 2 for 3 \(noised_x for next_x\)"):
        VecoForPreTraining(config, "mbart")(**batch)
