"""Heads: fast paths equal their plain twins; every head finds what was planted, and nothing in shuffled
labels.
"""

from __future__ import annotations

import pytest
import torch
from planted import planted

from pilothouse.router.routing.heads import facts_of, restored, tensors_of
from pilothouse.router.routing.nearness import radial
from pilothouse.router.routing.recipes import KINDS, RECIPES, usable
from pilothouse.router.routing.ridge import ALPHAS, eigen, fit_ridge, gathered, plain_ridge
from pilothouse.router.routing.seen import parts_of, quality_of, targets_of
from pilothouse.router.routing.stack import fit_stack, folds_of, not_negative
from pilothouse.router.routing.trees import forest
from pilothouse.router.routing.words import Vocabulary, words_of
from pilothouse.store.errors import UsageError


@pytest.mark.parametrize(("rows", "width", "targets"), [(7, 3, 1), (5, 9, 2), (33, 33, 3), (64, 5, 4)])
def test_ridge_equals_normal_equations_and_leave_one_out_is_exact(
    rows: int, width: int, targets: int
) -> None:
    make = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, width, generator=make, dtype=torch.float64)
    y = x[:, :1] + torch.randn(rows, targets, generator=make, dtype=torch.float64)
    found = fit_ridge(x.float(), y.float())
    for t in range(targets):
        alpha = float(found.alpha[t])
        weight, bias = plain_ridge(x, y[:, t : t + 1], alpha)
        torch.testing.assert_close(found.weight[:, t], weight[:, 0].float(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.bias[t], bias[0].float(), rtol=1e-3, atol=1e-4)
        for out in range(0, rows, 3):
            rest = [i for i in range(rows) if i != out]
            # leaving a row out also moves the means, which the closed form counts as leverage 1/n
            weight, bias = plain_ridge(x[rest], y[rest, t : t + 1], alpha)
            expected = float(x[out] @ weight[:, 0] + bias[0])
            assert float(found.loo[out, t]) == pytest.approx(expected, abs=2e-3)


def test_ridge_with_missing_labels_fits_each_target_on_its_rows() -> None:
    make = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 4, generator=make), torch.randn(50, 3, generator=make)
    y[::2, 1] = torch.nan
    y[:, 2] = torch.nan
    found = fit_ridge(x, y)
    alone = fit_ridge(x[1::2], y[1::2, 1:2])
    torch.testing.assert_close(found.weight[:, 1], alone.weight[:, 0], rtol=1e-4, atol=1e-5)
    assert bool((found.weight[:, 2] == 0).all())
    assert bool(found.loo[::2, 1].isnan().all())


def test_noise_gets_the_largest_penalties() -> None:
    make = torch.Generator().manual_seed(2)
    x, y = torch.randn(300, 20, generator=make) / 20**0.5, torch.randn(300, 1, generator=make)
    assert float(fit_ridge(x, y).alpha[0]) >= 100.0
    assert float(fit_ridge(x, 5 * x[:, :1] + 0.01 * y).alpha[0]) <= ALPHAS[2]


def test_taking_quality_apart_and_together() -> None:
    quality = torch.tensor([[1.0, 0.0], [1.0, 1.0], [torch.nan, 1.0], [0.0, 0.0]])
    targets = targets_of(quality)
    assert targets.base.tolist() == pytest.approx([2 / 3, 0.5])
    whole = quality_of(targets.values, targets.base)
    torch.testing.assert_close(whole[[0, 1, 3]], quality[[0, 1, 3]])
    assert bool(targets.values[2, 1:].isnan().all())  # one label alone says nothing of a difference
    p = torch.rand(5, 3)
    torch.testing.assert_close(quality_of(parts_of(p, p.mean(0)), p.mean(0)), p)


def test_models_asked_different_prompts_are_fitted_apart() -> None:
    quality = torch.full((6, 2), torch.nan)
    quality[:3, 0], quality[3:, 1] = torch.tensor([1.0, 0, 1]), torch.tensor([0.0, 0, 1])
    values = targets_of(quality).values
    assert bool((values[:, 0] == 0).all())
    assert int((~values[:, 1:].isnan()).sum()) == 6


HEADS = [name for name in RECIPES if name not in ("constant", "length", "surface", "words", "characters")]


@pytest.mark.parametrize("name", HEADS)
def test_head_finds_what_was_planted_and_nothing_in_shuffled_labels(name: str) -> None:
    train, test = planted(seed=1), planted(seed=2)
    head = RECIPES[name](train.seen, train.table.quality)
    base = targets_of(train.table.quality).base
    found = quality_of(head.predict(test.seen), base)
    again = restored(KINDS[head.kind], facts_of(head), tensors_of(head))
    assert torch.equal(again.predict(test.seen), head.predict(test.seen))
    shuffled = train.table.quality[
        torch.randperm(len(train.table), generator=torch.Generator().manual_seed(3))
    ]
    control = quality_of(RECIPES[name](train.seen, shuffled).predict(test.seen), base)
    gain = test.p[:, 0] - test.p[:, 1]
    real = float(torch.corrcoef(torch.stack([found[:, 0] - found[:, 1], gain]))[0, 1])
    fake = control[:, 0] - control[:, 1]
    noise = float(torch.corrcoef(torch.stack([fake + 1e-6 * gain, gain]))[0, 1])
    assert real > 0.3
    assert real > abs(noise) + 0.1 or float(fake.std()) < 0.1 * float(gain.std())


@pytest.mark.parametrize("name", ["words", "characters", "length", "surface"])
def test_text_heads_find_a_word(name: str) -> None:
    train, test = planted(seed=1), planted(seed=2)
    marked = [
        t + (" integral of a rather long expression" if i % 2 else "") for i, t in enumerate(train.seen.texts)
    ]
    from pilothouse.router.routing.seen import Seen

    quality = torch.tensor([[float(i % 2), 0.5] for i in range(len(marked))])
    head = RECIPES[name](Seen(tuple(marked)), quality)
    asked = Seen((test.seen.texts[0], test.seen.texts[0] + " integral of a rather long expression"))
    level = quality_of(head.predict(asked), targets_of(quality).base)[:, 0]
    assert float(level[1] - level[0]) > 0.5


def test_a_text_finds_its_own_columns_and_no_others() -> None:
    texts = ["red apple", "red pear", "green apple", "green pear"]
    vocabulary = Vocabulary.fit("words", texts)
    found = vocabulary.rows(["red zebra apple", "zebra", ""])
    place = {int(bucket): at for at, bucket in enumerate(vocabulary.buckets.tolist())}
    wanted = sorted(place[int(words_of(word)[0])] for word in ("red", "apple"))
    assert found.offsets.tolist() == [0, 2, 2, 2]
    assert found.ids.tolist() == wanted
    assert float(found.values.square().sum()) == pytest.approx(1.0)


def test_a_kernel_near_known_lengths_is_the_kernel() -> None:
    x, landmarks = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1)).unbind(0)
    wanted = torch.exp(-0.5 * torch.cdist(x.double(), landmarks.double()).square()).float()
    torch.testing.assert_close(radial(x, landmarks, 0.5, landmarks.square().sum(1)), wanted)
    torch.testing.assert_close(radial(x, landmarks, 0.5), wanted)


def test_sparse_rows_times_dense_equals_dense_product() -> None:
    texts = ["a b c", "b c d", "", "a a a b", "日本 語 日本"] * 2
    rows = Vocabulary.fit("words", texts).rows(texts)
    dense = torch.randn(rows.width, 3)
    torch.testing.assert_close(rows.times(dense), rows.columns(list(range(len(texts)))).T @ dense)
    some = [3, 0, 0, len(texts) - 1]
    torch.testing.assert_close(rows.take(some).times(dense), rows.columns(some).T @ dense)
    norms = rows.columns(range(len(texts))).norm(dim=0)
    assert bool(((norms - 1).abs() < 1e-5).logical_or(norms == 0).all())


@pytest.mark.parametrize("size", [1, 3, 10, 11])
def test_pieces_are_gathered_as_cat_would(size: int) -> None:
    x = torch.randn(10, 4)
    assert torch.equal(gathered(iter(torch.split(x, size)), 10), x)
    assert gathered(iter(()), 0).numel() == 0


def test_forest_equals_scikit_learn() -> None:
    tree = pytest.importorskip("sklearn.tree")
    make = torch.Generator().manual_seed(0)
    x, y = torch.randn(80, 5, generator=make), torch.randn(80, 2, generator=make)
    from pilothouse.router.routing.trees import RATE, _arrays

    grown = [
        tree.DecisionTreeRegressor(max_depth=3, random_state=i).fit(x.numpy(), y.numpy()) for i in range(3)
    ]
    found = forest(x, *_arrays([one.tree_ for one in grown], 2))
    expected = sum(RATE * torch.from_numpy(one.predict(x.numpy())).float() for one in grown)
    torch.testing.assert_close(found, expected)


def test_stack_weights_what_is_right_and_bends_with_the_level() -> None:
    make = torch.Generator().manual_seed(0)
    level = torch.randn(2000, generator=make) * 0.3
    gain = 0.2 * (0.09 - level.square())  # greatest in the middle: no head is told so
    values = torch.stack([level, -gain / 2, gain / 2], 1) + 0.05 * torch.randn(2000, 3, generator=make)
    values[:, 1] = -values[:, 2]
    good = torch.stack([level, torch.zeros(2000), torch.zeros(2000)], 1)
    bad = torch.randn(2000, 3, generator=make) * 0.1
    stack = fit_stack(torch.stack([good, bad]), values)
    assert float(stack.level[0]) > 5 * float(stack.level[1])
    found = stack(torch.stack([good, bad]))[:, 2]
    assert float(torch.corrcoef(torch.stack([found, gain]))[0, 1]) > 0.8
    flat = fit_stack(torch.stack([good, bad]), values, bend=False)(torch.stack([good, bad]))[:, 2]
    assert float((flat * (gain - gain.mean())).mean().abs()) < 0.2 * float(gain.var())


def test_weights_are_not_negative_and_optimal() -> None:
    gram = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    assert not_negative(gram, torch.tensor([1.0, 1.0], dtype=torch.float64)).tolist() == pytest.approx(
        [1 / 3, 1 / 3]
    )
    assert not_negative(gram, torch.tensor([1.0, -1.0], dtype=torch.float64)).tolist() == pytest.approx(
        [0.5, 0.0]
    )


def test_duplicates_share_a_fold() -> None:
    fold = folds_of(["a", "b", "a", "c", "b", "d"], 3, 0)
    assert fold[0] == fold[2]
    assert fold[1] == fold[4]


def test_heads_that_cannot_work_say_why() -> None:
    data = planted(rows=30)
    from pilothouse.router.routing.seen import Seen

    bare = Seen(data.seen.texts)
    assert "no scout" in usable("linear", bare, data.table.quality)
    assert "log-prob" in usable("confidence", bare, data.table.quality)
    assert "groups" in usable("guess", Seen(bare.texts, data.seen.states), data.table.quality)
    with pytest.raises(UsageError, match="no head 'magic'"):
        usable("magic", bare, data.table.quality)


def test_matrices_that_are_hard_to_solve_are_solved() -> None:
    for size in (5, 300):
        flat = torch.ones(size, 1) @ torch.ones(1, size) + 1e-12 * torch.eye(size)
        values, vectors = eigen(flat)
        torch.testing.assert_close(vectors @ torch.diag(values) @ vectors.T, flat, rtol=1e-3, atol=1e-3)
    constant = fit_ridge(torch.ones(40, 6), torch.arange(40.0)[:, None])
    torch.testing.assert_close(constant(torch.ones(1, 6)), torch.tensor([[19.5]]))


def plain_forest(x: torch.Tensor, feature: torch.Tensor, left: torch.Tensor, right: torch.Tensor,
                 cut: torch.Tensor, value: torch.Tensor) -> torch.Tensor:  # fmt: skip
    """The plain twin: row by row, tree by tree, until a leaf, which points at itself."""
    total = torch.zeros(len(x), value.shape[2])
    for row in range(len(x)):
        for k in range(len(feature)):
            at = 0
            while left[k, at] != at:
                at = int(left[k, at] if x[row, feature[k, at]] <= cut[k, at] else right[k, at])
            total[row] += value[k, at]
    return total


@pytest.mark.parametrize(("rows", "trees", "targets"), [(1, 1, 1), (1, 160, 3), (7, 13, 21), (130, 3, 2)])
def test_all_trees_at_once_say_what_each_alone_does(
    rows: int, trees: int, targets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilothouse.router.routing.trees._AT_ONCE", 3 * trees * targets)  # three rows at once
    generator = torch.Generator().manual_seed(rows)
    own, leaf = torch.arange(15), torch.arange(15) > 6
    feature = torch.randint(0, 5, (trees, 15), generator=generator)
    left, right = torch.where(leaf, own, 2 * own + 1), torch.where(leaf, own, 2 * own + 2)
    left[leaf], right[leaf] = own[leaf], own[leaf]
    shape = (trees, 15)
    cut, value = torch.randn(shape, generator=generator), torch.randn(*shape, targets, generator=generator)
    arrays = (feature, left.expand(shape), right.expand(shape), cut, value)
    x = torch.randn(rows, 5, generator=generator)
    torch.testing.assert_close(forest(x, *arrays), plain_forest(x, *arrays), rtol=1e-5, atol=1e-5)
