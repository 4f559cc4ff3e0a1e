"""A toy family that vLLM's CPU kernels take (heads of 32), and its plain twin. Run by `make test-vllm`."""

from pathlib import Path

import pytest

from pilothouse.specialists.engines.reference import Reference
from pilothouse.specialists.engines.toy import TEXT, make_family, small_config
from pilothouse.specialists.engines.vllm.versions import why_not
from pilothouse.specialists.family import Family
from pilothouse.specialists.starter.tokenizer import train_tokenizer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not()
    for item in items:
        if reason is not None and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason))


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small_config(train_tokenizer([TEXT] * 3, 400).get_vocab_size())
    config.head_dim, config.num_attention_heads, config.num_key_value_heads = 32, 2, 1
    return make_family(tmp_path_factory.mktemp("engines") / "toy", config)


@pytest.fixture(scope="session")
def reference(toy: Path) -> Reference:
    return Reference(Family.open(toy))
