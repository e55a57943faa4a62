import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys
import data_tools
names = [info.name for info in pkgutil.walk_packages(data_tools.__path__, "data_tools.")]
assert "data_tools.prepare" in names
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
others = {"torch", "transformers", "deepspeed", "datasets"}
others |= {"veco", "training", "pretrain", "finetune", "inference", "analysis"}
heavy = sorted(others & set(sys.modules))
assert not heavy, heavy
"""


def test_no_module_imports_torch_or_other_packages_of_ours(environment: dict[str, str]) -> None:
    process = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
