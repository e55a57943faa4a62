"""transformers' Auto classes open saved models in a fresh process that imports veco only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from veco import (
    VecoConfig,
    VecoForConditionalGeneration,
    VecoForMaskedLM,
    VecoForMultipleChoice,
    VecoForPreTraining,
    VecoForQuestionAnswering,
    VecoForSequenceClassification,
    VecoForTokenClassification,
    VecoModel,
)

AUTO_CLASSES = {
    AutoModel: VecoModel,
    AutoModelForMaskedLM: VecoForMaskedLM,
    AutoModelForMultipleChoice: VecoForMultipleChoice,
    AutoModelForTextEncoding: VecoModel,
    AutoModelForPreTraining: VecoForPreTraining,
    AutoModelForQuestionAnswering: VecoForQuestionAnswering,
    AutoModelForSeq2SeqLM: VecoForConditionalGeneration,
    AutoModelForSequenceClassification: VecoForSequenceClassification,
    AutoModelForTokenClassification: VecoForTokenClassification,
}
IN_A_FRESH_PROCESS = """
import json, sys
import transformers
import veco

seen = {}
for auto_class, directory in json.loads(sys.argv[1]).items():
    model, report = getattr(transformers, auto_class).from_pretrained(directory, output_loading_info=True)
    total = sum(float(weight.double().abs().sum()) for weight in model.state_dict().values())
    seen[auto_class] = [type(model).__name__, total, any(report.values())]
print(json.dumps(seen))
"""


@pytest.mark.parametrize("auto_class", AUTO_CLASSES)
def test_auto_class_makes_its_model(config: VecoConfig, auto_class: type) -> None:
    assert type(auto_class.from_config(config)) is AUTO_CLASSES[auto_class]


def weight_sum(model: PreTrainedModel) -> float:
    return sum(float(weight.double().abs().sum()) for weight in model.state_dict().values())


def test_models_open_in_a_fresh_process(config: VecoConfig, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected, directories = {}, {}
    for auto_class, model_class in AUTO_CLASSES.items():
        model = model_class(config)
        name = auto_class.__name__
        directories[name] = str(tmp_path / name)
        model.save_pretrained(directories[name])
        expected[name] = [model_class.__name__, weight_sum(model), False]
    process = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS, json.dumps(directories)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == expected


@pytest.mark.parametrize("auto_class", AUTO_CLASSES)
def test_weights_survive_saving_in_shards(config: VecoConfig, tmp_path: Path, auto_class: type) -> None:
    torch.manual_seed(2)
    model = AUTO_CLASSES[auto_class](config)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    again, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification])
def test_pickle_is_not_opened(config: VecoConfig, tmp_path: Path, auto_class: type, name: str) -> None:
    config.save_pretrained(tmp_path)
    torch.save(VecoForMaskedLM(config).state_dict(), tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: expected model.safetensors; a pickle may run foreign code"):
        auto_class.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="use_safetensors=False: expected safetensors"):
        auto_class.from_pretrained(tmp_path, use_safetensors=False)


def test_pickle_beside_safetensors_is_ignored(config: VecoConfig, tmp_path: Path) -> None:
    VecoForMaskedLM(config).save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"no pickle at all")
    assert isinstance(AutoModelForMaskedLM.from_pretrained(tmp_path), VecoForMaskedLM)


def test_pickle_beside_other_safetensors_is_not_opened(config: VecoConfig, tmp_path: Path) -> None:
    VecoForMaskedLM(config).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "something_else.safetensors")
    torch.save(VecoForMaskedLM(config).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="no file named model.safetensors"):
        AutoModelForMaskedLM.from_pretrained(tmp_path)


def test_directory_without_weights_is_refused(config: VecoConfig, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(OSError, match="no file named model.safetensors"):
        AutoModel.from_pretrained(tmp_path)
