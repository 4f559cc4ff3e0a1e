"""PEFT's batch of several adapters, which Hugging Face's `generate` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .contenders import Generate

MAPS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def peft_mixed(folder: Path, count: int, rank: int = 16) -> Generate | str:
    """Return a batch of `count` requests on as many random adapters; or why there is none."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        return "peft is not installed: pip install peft"
    from transformers import AutoModelForCausalLM

    base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    base.generation_config.eos_token_id = None
    lora = LoraConfig(r=rank, target_modules=list(MAPS), init_lora_weights=False, task_type="CAUSAL_LM")
    names = [f"a{i}" for i in range(count)]
    model: Any = get_peft_model(base, lora, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, lora)
    options = {"do_sample": False, "pad_token_id": 0, "adapter_names": names}
    return Generate(f"peft, {count} adapters, bf16", model.train(False), options)
