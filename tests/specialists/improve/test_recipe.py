"""What cannot work is refused before any work, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse.specialists.improve.recipe import ENGINE_KEYS, Recipe, Whole, plan
from pilothouse.specialists.improve.sizes import size_of
from pilothouse.specialists.improve.step import step_of
from pilothouse.store.errors import UsageError

HEAD = """
format = 1
name = "toy"
licence = "Apache-2.0"
"""
DATA = """
[data.train]
generator = "symbols:sort,next"
rows = 60

[data.held]
generator = "symbols:sort"
split = "test"
rows = 10
test = true
"""
STEP = """
[[steps]]
step = "finetune"
method = "full"
data = "train"
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))


def planned(text: str, folder: Path) -> Whole:
    path = folder / "recipe.toml"
    path.write_text(text)
    return plan(Recipe.read(path), folder)


@pytest.fixture
def beside(tmp_path: Path, tiny_folder: Path) -> Path:
    (tmp_path / "trunk").symlink_to(tiny_folder, target_is_directory=True)
    return tmp_path


def test_a_sound_recipe_is_planned_with_its_costs(beside: Path) -> None:
    more = (
        STEP + 'test_data = "held"\nsteps = 10\n[[steps]]\nstep = "finetune"\nname = "again"\ndata = "train"'
    )
    whole = planned(HEAD + 'trunk = "trunk"' + DATA + more, beside)
    assert [(s.name, s.inputs, s.form) for s in whole.steps] == [
        ("finetune", ("trunk",), "model"),
        ("again", ("finetune",), "adapter"),
    ]
    size = size_of(beside / "trunk")
    assert (size.layers, size.width, size.feed) == (2, 32, 48)
    assert whole.steps[0].estimate.memory > 16 * size.parameters
    assert whole.seconds > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('trunk = "trunk"\nfamly = "x"' + DATA + STEP, "famly: unknown key"),
        (DATA + STEP, "either a family or a trunk"),
        ('trunk = "nowhere"' + DATA + STEP, "is no model folder"),
        ('trunk = "trunk"' + DATA + STEP + "stepz = 3", r"step 1 \(finetune\): stepz: unknown key"),
        ('trunk = "trunk"' + DATA + STEP + "steps = 0", "greater than or equal to 1"),
        ('trunk = "trunk"' + DATA + '[[steps]]\nstep = "fly"', "there is no step 'fly'"),
        ('trunk = "trunk"' + DATA + '[[steps]]\nname = "x"', "does not say which it is"),
        ('trunk = "trunk"' + DATA + STEP + 'from = "later"', "takes 'later', which is neither"),
        ('trunk = "trunk"' + DATA + STEP + STEP, "two things are called 'finetune'"),
        ('trunk = "trunk"' + STEP, r"there is no \[data.train\]"),
        ('trunk = "trunk"' + DATA + STEP.replace('"train"', '"held"'), "'held' is a test set"),
        ('trunk = "trunk"' + DATA + STEP + 'targets = ["q_proj"]', "targets are those of an adapter"),
        ('trunk = "trunk"' + DATA + STEP + "layers = [0, 1]", 'belongs to method = "region"'),
        ('trunk = "trunk"' + DATA + STEP + 'mask = "update"', "the mask needs versatility_data"),
        ('trunk = "trunk"' + DATA + STEP.replace("full", "lora") + "anchor = 1.0", "lora trains none"),
        ('trunk = "trunk"' + DATA + STEP.replace("full", "cofitune"), "give test_data and versatility_data"),
        (
            'trunk = "trunk"' + DATA + '[[steps]]\nstep = "distill"\ndata = "train"\nfrom = "trunk"',
            "takes 2 to 32 inputs, from gives 1",
        ),
        (
            'trunk = "trunk"' + DATA + '[[steps]]\nstep = "distill"\ndata = "train"\n'
            'from = ["trunk", "trunk", "trunk"]\nloss = "js"',
            "matches one teacher's distribution, from gives several",
        ),
        (
            'trunk = "trunk"' + DATA + '[[steps]]\nstep = "distill"\ndata = "train"\n'
            'from = ["trunk", "trunk"]\non_policy = 0.5',
            "on_policy needs a teacher's distribution",
        ),
        (
            'trunk = "trunk"' + DATA + '[[steps]]\nstep = "distill"\ndata = "train"\n'
            'from = ["trunk", "trunk", "trunk"]\nlabelled = 60',
            "label a part",
        ),
        (
            'trunk = "trunk"' + DATA + '[[steps]]\nstep = "verify"\ndata = "held"',
            "start the recipe from a family",
        ),
        (
            'trunk = "trunk"' + DATA + STEP + '[register]\nspecialist = "s"\ntitle = "S"\ndescription = "s"',
            "say into which family",
        ),
    ],
)
def test_what_cannot_work_is_refused(beside: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        planned(HEAD + text, beside)


def test_an_adapter_is_no_start_for_a_student(beside: Path) -> None:
    adapter = STEP.replace("full", "alora")
    student = '[[steps]]\nstep = "distill"\ndata = "train"\nfrom = ["finetune", "trunk"]'
    with pytest.raises(UsageError, match="what the student starts from: a model, no adapter"):
        planned(HEAD + 'trunk = "trunk"' + DATA + adapter + student, beside)


def test_a_missing_or_broken_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no recipe"):
        Recipe.read(tmp_path / "x.toml")
    (tmp_path / "x.toml").write_text("[[")
    with pytest.raises(UsageError, match="cannot be read as TOML"):
        Recipe.read(tmp_path / "x.toml")


def test_the_recipe_in_the_documentation_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "build.md").read_text(encoding="utf-8")
    (tmp_path / "r.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    recipe = Recipe.read(tmp_path / "r.toml")
    assert [s["step"] for s in recipe.steps] == ["finetune", "verify"]
    for table in recipe.steps:
        kind = step_of(table["step"])
        kind.settings.model_validate({k: v for k, v in table.items() if k not in ENGINE_KEYS})


PAIRED = """
[data.spoken]
file = "spoken.jsonl"
licence = "CC0-1.0"

[data.same]
file = "same.jsonl"
licence = "CC0-1.0"

[[steps]]
step = "align"
data = "spoken"
pairs = "same"

[[steps]]
step = "edit"
what = "facts"
data = "spoken"
others = "same"
"""


def test_a_step_reads_every_data_set_that_it_names(beside: Path) -> None:
    (beside / "spoken.jsonl").write_text('{"prompt": "uno", "answer": "one", "language": "es"}\n')
    (beside / "same.jsonl").write_text('{"prompt": "x", "language": "es", "text": "dos", "pivot": "two"}\n')
    text = HEAD + 'trunk = "trunk"\n' + PAIRED
    steps = planned(text, beside).steps
    assert [s.settings.sets() for s in steps] == [("spoken", "same")] * 2
    with pytest.raises(UsageError, match=r"reads data 'none': there is no \[data.none\]"):
        planned(text.replace('pairs = "same"', 'pairs = "none"'), beside)
