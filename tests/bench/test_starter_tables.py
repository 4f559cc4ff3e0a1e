"""The starter benchmark's own rules: the matrix, routers, scope, Tatoeba's filter, hand-written rows."""

import numpy as np
import pytest
import torch

from pilothouse.bench.starter import prompts, scope
from pilothouse.bench.starter.matrix import Matrix
from pilothouse.bench.starter.routing import most_confident
from pilothouse.bench.starter.scope import Scope, aurc, risk_coverage
from pilothouse.bench.starter.stage import Routed
from pilothouse.specialists.starter.skills.example import Example
from pilothouse.store.records import Candidate, Decision


def example(skill: str, kind: str = "k") -> Example:
    return Example(f"prompt of {skill}", "", skill, kind, "t", "open")


def routed(p: dict[str, float], chosen: str | None) -> Routed:
    found = sorted(p, key=lambda name: -p[name])
    candidates = tuple(Candidate(specialist=n, p_correct=p[n], cost=0.0, utility=p[n]) for n in found)
    decision = Decision(
        chosen=chosen, lam=0.0, threshold=0.5, reason="", policy_hash="h", abstained=chosen is None
    )
    return Routed(candidates, (), decision, False)


def matrix() -> Matrix:
    right = {"a": np.array([1.0, 0.0, 0.0]), "b": np.array([1.0, 1.0, 0.0])}
    confidence = {"a": np.array([-0.1, -0.2, -3.0]), "b": np.array([-0.5, -1.0, -1.0])}
    return Matrix([example("a"), example("b"), example("b")], torch.zeros(3, 2), [], right, confidence)


def test_matrix_scores_choices_and_nobody_is_wrong() -> None:
    assert matrix().scored(["a", "b", "b"]).tolist() == [1, 1, 0]
    assert matrix().scored([None, "a", "a"]).tolist() == [0, 0, 0]
    assert matrix().oracle.tolist() == [1, 1, 0]


def test_confidence_router_takes_the_surest_answer() -> None:
    assert most_confident(matrix()) == ["a", "a", "b"]


def test_risk_against_coverage_by_hand() -> None:
    coverage, risk = risk_coverage(np.array([0.2, 0.9, 0.6, 0.4]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert aurc(np.array([0.2, 0.9]), np.array([0.0, 1.0])) == pytest.approx(0.25)


def test_scope_counts_strange_prompts_as_wrong_and_overrides_as_unanswered() -> None:
    sure, unsure = routed({"a": 0.9, "b": 0.2}, "a"), routed({"a": 0.3, "b": 0.1}, None)
    refused = Routed(sure.candidates, (), sure.decision, True)
    found = Scope(
        [example("a"), example("outside", "mmlu"), example("outside", "code")],
        [sure, unsure, refused],
        np.array([1.0, 0.0, 0.0]),
        np.array([1.0, 0.0, 0.0]),
    )
    assert found.p.tolist() == [0.9, 0.3, 0.9]
    assert found.answered.tolist() == [1, 0, 0]
    assert found.plain.tolist() == [1, 1, 0]
    assert scope.Scope.familiar.fget is not None
    assert found.familiar.tolist() == [0.9, 0.3, 0.9]


@pytest.mark.parametrize("name", ["emotion", "screening"])
def test_skills_that_need_data_say_so(name: str) -> None:
    with pytest.raises(prompts.NeedsData, match="needs --data"):
        prompts.draw(name, "test", 5, 0, None)


def test_mixture_is_balanced_distinct_and_names_what_is_missing() -> None:
    rows, missing = prompts.mixture(("arithmetic", "emotion", "translate"), "test", 15, 0, None)
    assert [sum(r.skill == s for r in rows) for s in ("arithmetic", "translate")] == [15, 15]
    assert missing == ["emotion"]
    assert len({(r.prompt, r.history) for r in rows}) == len(rows)
    again, _ = prompts.mixture(("arithmetic", "emotion", "translate"), "test", 15, 0, None)
    assert again == rows


def test_baselines_of_routing_see_no_test_prompt() -> None:
    known = {row.prompt for row in prompts.fitting(("arithmetic", "translate"), 60, 1, None)}
    tests, _ = prompts.mixture(("arithmetic", "translate"), "test", 60, 0, None)
    assert not known & {row.prompt for row in tests}
    assert not known & {row.prompt for row in prompts.paraphrases()}


def test_hand_written_rows_are_many_and_whole() -> None:
    rows = prompts.paraphrases()
    assert len(rows) >= 300
    assert len({row.prompt for row in rows}) == len(rows)
    assert all(row.answer for row in rows if row.check != "open")
    assert len(prompts.out_of_scope(0, 0, None)) == len(prompts.written("outside"))
    counts = [len(row["specialists"]) for row in prompts.written("multipart")]
    assert min(counts) == 1
    assert sum(count > 1 for count in counts) >= 30


def test_tatoeba_keeps_pairs_of_known_words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"fr": frozenset(("le", "chat", "dort")), "en": frozenset(("the", "cat", "sleeps"))}
    monkeypatch.setattr(prompts.translate, "vocabulary", known.__getitem__)
    assert prompts._known(("Le chat dort.", "The cat sleeps."), "fr")
    assert not prompts._known(("Le chat ronfle.", "The cat sleeps."), "fr")
    assert not prompts._known(("Le chat.", "The 2 cat."), "fr")
    assert not prompts._known(("Chat.", "The cat."), "fr")
