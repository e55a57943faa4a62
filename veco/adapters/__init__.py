"""Adapters: small modules between those of a frozen model, for a language or a task, saved apart and exchanged.

`attach` puts them into any VECO model and chooses those that work, `files` saves and loads them, `modules` computes
them, and `veco.adapter_config` says of which kind they are.

Path S, plugged in, has the same adapters as path H: those of self-attention and feed-forward, which are theta_s. The
cross-attention (theta_c) gets none: it reads the states that the adapters of the paired sequence have already changed.
"""

from veco.adapter_config import AdapterConfig
from veco.adapters.attach import activate_adapters, attach_adapter, detach_adapter
from veco.adapters.files import load_adapter, save_adapter

__all__ = ["AdapterConfig", "activate_adapters", "attach_adapter", "detach_adapter", "load_adapter", "save_adapter"]
