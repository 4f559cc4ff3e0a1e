"""The entry point `vllm.general_plugins`: vLLM calls it in each of its processes before a model is loaded.

It changes nothing for a vLLM that is not asked for it by `additional_config={"pilothouse": ...}`.
"""

from __future__ import annotations

import logging

from .versions import why_not

_bound: list[bool] = []


def register() -> None:
    """Bind vLLM, once. An unknown vLLM is left as it is, with a warning: others use it too."""
    reason = why_not()
    if reason is not None:
        logging.getLogger(__name__).warning("pilothouse's vLLM plugin is off: %s", reason)
        return
    bind()


def bind() -> None:
    """Bind vLLM, once.

    Raises NotOffered where a part of vLLM is not what the plugin knows; what is bound by then does nothing.
    """
    if _bound:
        return
    from . import binding, keys

    keys.bind()
    binding.bind_adapters()
    binding.bind_first()
    binding.bind_second()
    _bound.append(True)
