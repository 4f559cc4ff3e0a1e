"""A shape for the benchmarks of engines that takes no time, in plain Python and in vLLM."""

from __future__ import annotations

from pilothouse.bench.engines.shapes import Shape

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "vocab_size": 192,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
TINY = Shape("tiny", "tiny", SIZES, {8: 2}, 1)
