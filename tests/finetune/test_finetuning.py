"""The last line of a fine-tuning run."""

from __future__ import annotations

from pathlib import Path

from finetune.finetuning import link_models, outcome
from finetune.selection import Selection


def test_end_says_where_the_model_is(tmp_path: Path) -> None:
    selection = Selection("bleu", "highest")
    checkpoints = {step: tmp_path / "checkpoints" / f"step-0000000{step}" for step in (1, 2)}
    for checkpoint in checkpoints.values():
        (checkpoint / "model").mkdir(parents=True)
        (checkpoint / "model" / "config.json").write_text("{}")
    link_models(tmp_path, checkpoints, selection)
    assert outcome(selection, tmp_path) == f"done; no validation gave a bleu; model in {tmp_path / 'last'}"
    selection.note(1, {"bleu": 30.0})
    link_models(tmp_path, checkpoints, selection)
    assert outcome(selection, tmp_path) == f"highest bleu 30.0000 after update 1; model in {tmp_path / 'best'}"
    for link in ("best", "last"):
        (tmp_path / link).unlink()
    assert outcome(selection, tmp_path) == "highest bleu 30.0000 after update 1"
