"""The objective against a plain reference: separate passes, full logits, autograd."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from veco import VecoConfig, VecoForMaskedLM, VecoForPreTraining
from veco.labels import IGNORED


@pytest.fixture
def model(config: VecoConfig) -> VecoForPreTraining:
    torch.manual_seed(1)
    return VecoForPreTraining(config)


@pytest.fixture
def batch(padded_batch) -> dict[str, torch.Tensor]:
    """x of 12 columns, y of 9, and their concatenation; half of the tokens are predicted."""
    torch.manual_seed(7)
    x_ids, x_mask = padded_batch
    y_ids = torch.randint(4, 59, (3, 9))
    y_ids[1, 5:] = 1
    y_mask = y_ids.ne(1).long()

    def labels(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        chosen = (torch.rand(ids.shape) < 0.5) & mask.bool() & (ids > 3)
        return torch.where(chosen, torch.randint(4, 59, ids.shape), IGNORED)

    tlm_ids, tlm_mask = torch.cat([x_ids, y_ids], 1), torch.cat([x_mask, y_mask], 1)
    return {
        "input_ids": x_ids,
        "attention_mask": x_mask,
        "labels": labels(x_ids, x_mask),
        "pair_input_ids": y_ids,
        "pair_attention_mask": y_mask,
        "pair_labels": labels(y_ids, y_mask),
        "tlm_input_ids": tlm_ids,
        "tlm_attention_mask": tlm_mask,
        "tlm_labels": labels(tlm_ids, tlm_mask),
    }


def reference_losses(model: VecoForPreTraining, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Eq. 1 term by term: five separate passes and logits of every position."""
    masked_lm = VecoForMaskedLM(model.config)
    masked_lm.veco, masked_lm.lm_head = model.veco, model.lm_head
    x, x_mask, y, y_mask = (batch[k] for k in ("input_ids", "attention_mask", "pair_input_ids", "pair_attention_mask"))
    h_x, h_y = model.veco(x, x_mask)[0], model.veco(y, y_mask)[0]

    def term(states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(model.lm_head(states).flatten(0, 1), labels.flatten(), ignore_index=IGNORED)

    s_x = model.veco(x, x_mask, encoder_hidden_states=h_y.detach(), encoder_attention_mask=y_mask)[0]
    s_y = model.veco(y, y_mask, encoder_hidden_states=h_x.detach(), encoder_attention_mask=x_mask)[0]
    return {
        "mlm": term(h_x, batch["labels"]) + term(h_y, batch["pair_labels"]),
        "ca_mlm": term(s_x, batch["labels"]) + term(s_y, batch["pair_labels"]),
        "tlm": term(model.veco(batch["tlm_input_ids"], batch["tlm_attention_mask"])[0], batch["tlm_labels"]),
    }


def test_losses_and_gradients_equal_separate_passes(model, batch) -> None:
    expected = reference_losses(model, batch)
    torch.stack(list(expected.values())).sum().backward()
    expected_grads = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    assert set(output.losses) == {"mlm", "ca_mlm", "tlm"}
    for name, value in expected.items():
        torch.testing.assert_close(output.losses[name], value, rtol=1e-5, atol=1e-5, msg=name)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected_grads[name], rtol=1e-4, atol=1e-5, msg=name)


def test_each_layer_runs_twice_and_each_token_is_embedded_once(model, batch) -> None:
    """The first sweep has the tokens of x, y and TLM, the second those of x and y."""
    tokens: dict[str, list[int]] = {}
    for name in ("embeddings", "layers.0", "layers.2"):
        module = model.veco.get_submodule(name)
        module.register_forward_hook(lambda _, __, output, name=name: tokens.setdefault(name, []).append(len(output)))
    model(**batch)
    x_y, tlm = (12 + 7 + 3) + (9 + 5 + 9), (12 + 7 + 3) + (9 + 5 + 9)
    assert tokens == {"embeddings": [x_y + tlm], "layers.0": [x_y + tlm, x_y], "layers.2": [x_y + tlm, x_y]}


def test_head_sees_predicted_positions_only(model, batch) -> None:
    rows: list[int] = []
    model.lm_head.dense.register_forward_hook(lambda _, __, output: rows.append(len(output)))
    model(**batch)
    num_x, num_y, num_tlm = (int(batch[f"{prefix}labels"].ne(IGNORED).sum()) for prefix in ("", "pair_", "tlm_"))
    assert rows == [2 * (num_x + num_y) + num_tlm]


def test_no_gradient_of_s_losses_reaches_the_paired_h(model, batch) -> None:
    sweeps: list[torch.Tensor] = []

    def remember(module, inputs, output) -> None:
        output.retain_grad()
        sweeps.append(output)

    model.veco.layers[-1].register_forward_hook(remember)
    model(**batch).losses["ca_mlm"].backward()
    h, s = sweeps
    assert h.grad is None or h.grad.abs().sum() == 0, "an S loss has a gradient with respect to H"
    assert s.grad.abs().sum() > 0
    cross = [p.grad for n, p in model.named_parameters() if ".cross_attention.v_proj.weight" in n]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in cross)


def test_s_loss_of_x_alone_gives_y_no_gradient(model, batch) -> None:
    """Measured behind the embeddings, whose weights x and y share."""
    embedded: list[torch.Tensor] = []

    def remember(module, inputs, output) -> None:
        output.retain_grad()
        embedded.append(output)

    model.veco.embeddings.register_forward_hook(remember)
    model(**{**batch, "pair_labels": torch.full_like(batch["pair_labels"], IGNORED)}).losses["ca_mlm"].backward()
    num_x = int(batch["attention_mask"].sum())
    assert embedded[0].grad[:num_x].abs().sum() > 0
    assert embedded[0].grad[num_x:].abs().sum() == 0


def test_padding_changes_no_loss(model, batch) -> None:
    """More padding, of different widths for x and y, gives the same losses and gradients."""
    wider = {name: torch.nn.functional.pad(tensor, (0, 5), value=filler_of(name)) for name, tensor in batch.items()}
    losses = []
    for inputs in (batch, wider):
        model.zero_grad()
        output = model(**inputs)
        output.loss.backward()
        losses.append((output.loss, model.veco.layers[0].feed_forward.up_proj.weight.grad.clone()))
    for ours, theirs in zip(*losses, strict=True):
        torch.testing.assert_close(ours, theirs)


def filler_of(name: str) -> int:
    return IGNORED if name.endswith("labels") else 0 if name.endswith("mask") else 1


def test_gradient_checkpointing_gives_the_same_gradients_with_dropout(config, batch) -> None:
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.2
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(4)
        model = VecoForPreTraining(config).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**batch).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_h_losses_give_cross_attention_no_gradient(model, batch) -> None:
    losses = model(**batch).losses
    (losses["mlm"] + losses["tlm"]).backward()
    for name, parameter in model.named_parameters():
        if ".cross_attention" in name:
            assert parameter.grad is None or parameter.grad.abs().sum() == 0, name
        elif "embeddings" not in name and "lm_head" not in name:
            assert parameter.grad.abs().sum() > 0, name


def test_monolingual_batch_has_no_tlm(model, batch) -> None:
    without = {name: tensor for name, tensor in batch.items() if not name.startswith("tlm")}
    output = model(**without)
    assert set(output.losses) == {"mlm", "ca_mlm"}
    torch.testing.assert_close(output.loss, sum(output.losses.values()))


def test_tuple_on_request(model, batch) -> None:
    output, found = model(**batch), model(**batch, return_dict=False)
    assert isinstance(found, tuple) and len(found) == 3
    torch.testing.assert_close(found[0], output.loss)


def test_global_counts_make_parts_add_up_to_the_whole(model, batch) -> None:
    """The losses of a global batch in two parts, one without a predicted token in x, sum to the loss of the whole."""
    batch["labels"][:1] = IGNORED
    whole = model(**batch).losses
    counts = torch.stack([batch[name].ne(IGNORED).sum() for name in ("labels", "pair_labels", "tlm_labels")])
    parts = [
        model(**{name: tensor[rows] for name, tensor in batch.items()}, num_items_in_batch=counts).losses
        for rows in (slice(0, 1), slice(1, 3))
    ]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value, rtol=1e-5, atol=1e-5)


def test_loss_without_predicted_tokens_is_zero_not_nan(model, batch) -> None:
    for name in ("labels", "pair_labels", "tlm_labels"):
        batch[name] = torch.full_like(batch[name], IGNORED)
    output = model(**batch)
    output.loss.backward()
    assert output.loss.item() == 0.0


def test_compiled_layer_gives_the_same_losses(model, batch) -> None:
    expected = model(**batch).loss
    model.veco.layers[1].compile(backend="eager")
    torch.testing.assert_close(model(**batch).loss, expected)


@pytest.mark.parametrize("has_tlm", [False, True])
def test_mlm_is_the_h_losses_in_one_sweep(model, batch, has_tlm: bool) -> None:
    """With TLM it is XLM's objective."""
    if not has_tlm:
        batch = {name: tensor for name, tensor in batch.items() if not name.startswith("tlm")}
    expected = reference_losses(model, batch) if has_tlm else reference_losses(model, batch | tlm_of_nothing(batch))
    runs: list[int] = []
    model.veco.layers[1].register_forward_hook(lambda *_: runs.append(1))
    output = model(**batch, objective="mlm+tlm" if has_tlm else "mlm")
    assert set(output.losses) == set(output.row_totals) == ({"mlm", "tlm"} if has_tlm else {"mlm"})
    for name, value in output.losses.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.loss, sum(output.losses.values()))
    assert len(runs) == 1
    output.loss.backward()
    assert all(p.grad is None for name, p in model.named_parameters() if ".cross_attention" in name)


def tlm_of_nothing(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"tlm_{name}": batch[name] for name in ("input_ids", "attention_mask", "labels")}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_clm_predicts_from_earlier_tokens_only(model, batch, dropout: float) -> None:
    """Every sequence by itself, layer by layer with SDPA's causal mask; then that no later token can change a loss.

    Dropout takes the way through eager attention, and has to be off again for the comparison.
    """
    x, y = ((batch[f"{p}input_ids"], batch[f"{p}attention_mask"].sum(1).tolist()) for p in ("", "pair_"))
    shifted = {}
    expected = torch.zeros(())
    for prefix, (ids, lengths) in (("", x), ("pair_", y)):
        labels = torch.full_like(ids, IGNORED)
        losses = []
        for row, length in enumerate(lengths):
            labels[row, : length - 1] = ids[row, 1:length]
            states = model.veco.embeddings(ids[row : row + 1, :length], torch.arange(2, length + 2)[None])
            for layer in model.veco.layers:
                states = layer(states, is_causal=True)
            losses += cross_entropy(model.lm_head(states[0, :-1]), ids[row, 1:length], reduction="none")
        expected = expected + torch.stack(losses).mean()
        view = {"": "next_x", "pair_": "next_y"}[prefix]
        shifted |= {f"{view}_{name}": batch[f"{prefix}{name}"] for name in ("input_ids", "attention_mask")}
        shifted[f"{view}_labels"] = labels
    inputs = shifted
    for layer in model.veco.layers:
        layer.self_attention.dropout = dropout
    model.train(dropout > 0)
    output = model(**inputs, objective="clm")
    assert set(output.losses) == {"clm"}
    if dropout == 0:
        torch.testing.assert_close(output.loss, expected, rtol=1e-5, atol=1e-5)
        inputs["next_x_labels"][0, 6:] = IGNORED
        before = model(**inputs, objective="clm").row_totals["clm"][0, 0]
        inputs["next_x_input_ids"][0, 7:11] = 9
        torch.testing.assert_close(model(**inputs, objective="clm").row_totals["clm"][0, 0], before)


def test_totals_of_a_pair_are_those_of_the_pair_alone_and_add_up_to_the_losses(model, batch) -> None:
    # To make some predictions right, the model's guess becomes the target where its probability is highest.
    guesses = model.lm_head(model.veco(batch["input_ids"], batch["attention_mask"])[0]).argmax(-1)
    batch["labels"][1, :4] = guesses[1, :4]
    output = model(**batch)
    assert set(output.row_totals) == {"mlm", "ca_mlm", "tlm"}
    for row in range(3):
        alone = model(**{name: tensor[row : row + 1] for name, tensor in batch.items()})
        for name, totals in output.row_totals.items():
            assert not totals.requires_grad
            torch.testing.assert_close(totals[row], alone.row_totals[name][0], rtol=1e-5, atol=1e-5)
        num_x, num_y = (int(batch[name][row].ne(IGNORED).sum()) for name in ("labels", "pair_labels"))
        assert output.row_totals["mlm"][row, 1] == output.row_totals["ca_mlm"][row, 1] == num_x + num_y
    tlm_sum, num_tlm, _ = output.row_totals["tlm"].sum(0)
    torch.testing.assert_close(tlm_sum / num_tlm, output.losses["tlm"])
    assert output.row_totals["mlm"][1, 2] >= 4


def test_unknown_objective_is_named(model, batch) -> None:
    with pytest.raises(ValueError, match="objective 'mml': unknown objective 'mml', did you mean mlm"):
        model(**batch, objective="mml")


def test_one_number_for_all_counts_is_refused(model, batch) -> None:
    """As transformers' Trainer gives it, of `labels` alone, to models that take it."""
    assert not model.accepts_loss_kwargs
    with pytest.raises(ValueError, match=r"num_items_in_batch \(\): expected a number for each of 3 counts"):
        model(**batch, num_items_in_batch=torch.tensor(3))


def test_bad_inputs_are_explained(model, batch) -> None:
    with pytest.raises(ValueError, match="input_ids lie between 6 and 60, expected 0 to 59"):
        model(**{**batch, "pair_input_ids": batch["pair_input_ids"].clamp(max=10) * 6})
    with pytest.raises(ValueError, match=r"labels have shape \(3, 11\), expected \(3, 12\)"):
        model(**{**batch, "labels": batch["labels"][:, 1:]})
    with pytest.raises(ValueError, match="pair_labels contain 60, expected -100 .* or 0 to 59"):
        model(**{**batch, "pair_labels": batch["pair_labels"].masked_fill(batch["pair_labels"].ge(0), 60)})
    with pytest.raises(ValueError, match="tlm_labels are torch.float32, expected class ids"):
        model(**{**batch, "tlm_labels": batch["tlm_labels"].float()})
    with pytest.raises(ValueError, match="found tlm_input_ids alone, expected tlm_labels too"):
        model(**{**batch, "tlm_labels": None})
    with pytest.raises(ValueError, match="one paired sequence for each sequence, found 2 for 3"):
        model(**{name: tensor[:2] if name.startswith("pair") else tensor for name, tensor in batch.items()})
