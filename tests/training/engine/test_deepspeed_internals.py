"""DeepSpeed's undocumented side: the version that the adapter names, and patches that do not outlive their use."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from training.engine import deepspeed_internals
from training.engine.deepspeed_internals import DeepSpeedInternals, without_shared_memory_op

ROOT = Path(__file__).resolve().parents[3]


class Writer:
    """A checkpoint engine that remembers what it wrote."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def save(self, state_dict: Any, path: str) -> None:
        self.written.append(path)


class Engine:
    """An engine whose save writes a file of tensors and leaves a script."""

    def __init__(self) -> None:
        self.checkpoint_engine = Writer()
        self.scripts: list[str] = []

    def _copy_recovery_script(self, save_path: str) -> None:
        self.scripts.append(save_path)

    def save_checkpoint(self, directory: str) -> None:
        self.checkpoint_engine.save({}, f"{directory}/weights")
        self._copy_recovery_script(directory)


def test_tested_version_is_the_pinned_one() -> None:
    pinned = re.search(r"^deepspeed==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned and f"Tested with DeepSpeed {pinned[1]}." in (deepspeed_internals.__doc__ or "")


def test_saves_write_by_the_given_function_alone() -> None:
    engine, written = Engine(), []
    with DeepSpeedInternals(engine).files_written_by(lambda state_dict, path: written.append(path)):
        engine.save_checkpoint("run")
    assert (written, engine.scripts, engine.checkpoint_engine.written) == (["run/weights"], [], [])


def test_engine_saves_by_itself_again_after_a_save_that_failed() -> None:
    engine = Engine()

    def fail(state_dict: Any, path: str) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError), DeepSpeedInternals(engine).files_written_by(fail):
        engine.save_checkpoint("run")
    engine.save_checkpoint("run")
    assert (engine.checkpoint_engine.written, engine.scripts) == (["run/weights"], ["run"])


@pytest.mark.parametrize("before", [{"deepspeed_shm_comm": True, "fused_adam": False}, {"fused_adam": False}])
def test_shared_memory_op_is_left_out_only_while_ranks_connect(before: dict[str, bool]) -> None:
    deepspeed = SimpleNamespace(ops=SimpleNamespace(__compatible_ops__=dict(before)))
    with pytest.raises(OSError), without_shared_memory_op(deepspeed):
        assert deepspeed.ops.__compatible_ops__ == {**before, "deepspeed_shm_comm": False}
        raise OSError("port in use")
    assert deepspeed.ops.__compatible_ops__ == before
