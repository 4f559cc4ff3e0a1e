"""Prefix reuse in vLLM that knows of activated adapters and of steering.

vLLM names a cached block by its tokens, the blocks before it and some extra keys: the adapter for all of a
request, and `cache_salt`. Here the prompt is read by the bare trunk, whoever answers. So blocks of prompt
tokens lose the adapter's key, and blocks that hold a generated token gain the mark of who generated and how
it was steered. Steering of the prompt itself goes by `cache_salt`.
"""

from __future__ import annotations

from typing import Any

from .row import Note
from .versions import require


def bind() -> None:
    """Wrap vLLM's naming and finding of cached blocks. Requests without a note are treated as before."""
    from vllm.v1.core import block_pool, kv_cache_utils
    from vllm.v1.core.kv_cache_manager import KVCacheManager

    name = "generate_block_hash_extra_keys"
    plain = require(kv_cache_utils, name, "request", "start_token_idx", "end_token_idx", "start_mm_idx")
    adapter = require(kv_cache_utils, "_gen_lora_extra_hash_keys", "request")
    find = require(KVCacheManager, "get_computed_blocks", "self", "request")

    def extra_keys(request: Any, start: int, end: int, at: int) -> tuple[tuple[Any, ...] | None, int]:
        found, now = plain(request, start, end, at)
        note = Note.of(request.sampling_params)
        if note is None:
            return found, now
        return marked(found or (), tuple(adapter(request)), note, end), now

    def computed_blocks(self: Any, request: Any) -> tuple[Any, int, int]:
        blocks, count, shared = find(self, request)
        note = Note.of(request.sampling_params)
        if note is None or count <= note.reusable:
            return blocks, count, shared
        kept = 0
        groups = blocks.blocks
        if len(groups) == 1 and groups[0]:
            size = count // len(groups[0])
            kept = note.reusable // size
            count = kept * size
        if not kept:
            return self.empty_kv_cache_blocks, 0, 0
        return self.create_kv_cache_blocks((list(groups[0])[:kept],)), count, 0

    kv_cache_utils.generate_block_hash_extra_keys = extra_keys
    block_pool.generate_block_hash_extra_keys = extra_keys
    KVCacheManager.get_computed_blocks = computed_blocks


def marked(found: tuple[Any, ...], adapter: tuple[Any, ...], note: Note, end: int) -> tuple[Any, ...] | None:
    """The extra keys of a block that ends before token `end`, from those that vLLM gave it."""
    keys = tuple(key for key in found if key not in adapter)
    if end > note.boundary:
        keys = (*keys, ("pilothouse", note.mark))
    return keys or None
