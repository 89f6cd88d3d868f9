"""What the project gives on people's published answers, which are not part of it: skipped where they are not."""

from pathlib import Path

import pytest
import torch
from probe_tasks import probes
from script_runs import run_file

from biml.answering import likelihood, symbol_log_p
from biml.behaviour import analyse_few_shot, analyse_open_ended, with_roles
from biml.episode_files import episode_paths, read_episode
from biml.episode_types import KINDS, evaluation_views, few_shot_answers, participants
from biml.episode_types import PROBES as PROBE_FILES
from biml.model import BIML, ModelConfig
from biml.network_file import TrainedNetwork
from biml.stream import EVALUATION, dice_of
from biml.vocabulary import MAIN

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
pytestmark = pytest.mark.skipif(not (DATA / "data_human").is_dir(), reason="people's answers are not here")


def made(episode_type):
    """All views of an evaluation."""
    views = evaluation_views(episode_type, DATA)
    return [view for index in range(views.size) for view in views.make(index, dice_of(0, EVALUATION, 0, index))]


@pytest.mark.parametrize(
    ("episode_type", "n_queries"),
    [
        *(("few_shot_human", 217), ("human_vanilla", 215), ("open_end_human_all", 203)),
        *(("probe_human", 2880), ("probe_human_w_pool", 2880)),
    ],
)
def test_there_are_as_many_answers_as_published(episode_type, n_queries):
    """Of the probes, every answer and study example ten times."""
    assert sum(len(view.query) for view in made(episode_type)) == n_queries


def test_the_probes_are_those_that_other_tests_make_up():
    """Twelve, by name: what is shown, what is asked, what an answer may be made of, in both types."""
    for episode_type in ("probe_human", "probe_human_w_pool"):
        views = made(episode_type)
        assert len(views) == 12 and all(view.allowed_outputs for view in views)
        assert all({*target} <= {*view.allowed_outputs} for view in views for _, target in view.query)
    paths = episode_paths(DATA / "data_human" / PROBE_FILES)
    assert {path.stem for path in paths} == probes().keys()
    for path in paths:
        shown, query, pool = probes()[path.stem]
        read = read_episode(path)
        assert (read.support, {one.input for one in read.query}, read.allowed_outputs) == (shown, {query}, pool)


def test_people_answer_as_published():
    """Accuracy over queries, one-to-one and iconic errors, and how many follow which bias."""
    answers: dict[str, list[tuple[str, ...]]] = {}
    for one in (one for episode in few_shot_answers(DATA) for one in episode.query):
        answers.setdefault(" ".join(one.input), []).append(one.output)
    few = analyse_few_shot(answers)
    assert few.accuracy == pytest.approx(80.74, abs=0.005)
    assert (tuple(few.one_to_one), tuple(few.iconic)) == ((10, 41), (7, 30))
    people = participants(DATA)
    assert (len(people), sum(len(one.query) for one in people)) == (29, 203)
    kinds = [analyse_open_ended(with_roles(one.query)) for one in people]
    followed = {name: sum(getattr(one, name) for one in kinds) for name in kinds[0]._fields}
    assert followed == {"one_to_one": 18, "mutually_exclusive": 27, "iconic": 23, "perfect": 17}


def test_symbolic_models_give_the_figures_of_the_readme():
    """Its command prints what it says."""
    outcome = run_file(ROOT / "biml" / "symbolic.py", "--data_dir", DATA)
    assert outcome.code == 0
    readme = (ROOT / "biml" / "README.md").read_text(encoding="utf-8")
    assert all(line in readme for line in outcome.out.splitlines())


def test_every_answer_counts_symbol_by_symbol():
    """A network that knows nothing: 990 symbols of people's answers, ends included."""
    model = BIML(ModelConfig(emb_size=8, nlayers_encoder=1, nlayers_decoder=1, ff_mult=1))
    trained = TrainedNetwork(model, MAIN, "algebraic", 0, {}, {})
    torch.nn.init.zeros_(model.out.weight)
    torch.nn.init.zeros_(model.out.bias)
    found = likelihood(symbol_log_p(trained, evaluation_views("few_shot_human", DATA), 25, 0, 1), 0.0, 7)
    assert found.n_symbols == 990
    assert found.per_symbol == pytest.approx(-2.1972, abs=1e-4)  # one of nine symbols


@pytest.mark.parametrize("episode_type", KINDS)
def test_every_type_loads(episode_type):
    """All that needs people's answers alone; random episodes are not always here."""
    needs_random = not (DATA / "data_algebraic" / "val.npz").exists()
    if needs_random and ("algebraic" in episode_type or episode_type == "retrieve"):
        pytest.skip("no random episodes here")
    assert made(episode_type)
