"""The decoder with per-layer embeddings: reading on after a cache equals reading all at once."""

import torch

from pilothouse.bench.locate.ple import PleConfig, PleForCausalLM


def test_a_cache_changes_nothing() -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = PleForCausalLM(PleConfig(**sizes, intermediate_size=24, ple_dim=4))
    ids = torch.randint(40, (3, 9))
    with torch.no_grad():
        whole = model(ids)
        assert whole.past_key_values is None
        first = model(ids[:, :4], use_cache=True)
        parts, past = [first.logits], first.past_key_values
        for at in range(4, 9):
            out = model(ids[:, at : at + 1], past_key_values=past, use_cache=True)
            parts.append(out.logits)
            past = out.past_key_values
        assert past[0][0].shape[2] == 9
        torch.testing.assert_close(torch.cat(parts, 1), whole.logits, atol=1e-5, rtol=1e-4)
        # the middle of the text matters to what is read after it
        other = model(ids[:, :4].flip(1), use_cache=True).past_key_values
        assert not torch.allclose(model(ids[:, 4:5], past_key_values=other).logits, parts[1], atol=1e-3)
