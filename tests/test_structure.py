"""The imports run one way, and importing a file only defines names."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = (
    *("train", "test", "query", "bench", "reproduce", "report"),
    *(f"nonstationary.{name}" for name in ("train", "evaluate", "plot", "bench", "report")),
    *(f"biml.{name}" for name in ("generate", "train", "eval", "analyse", "symbolic", "bench")),
)
FOLDERS = ("reporting", "nonstationary", "biml")
MAY_IMPORT = {  # each module and what it may import of this project
    "script_util": set(),
    "scan_util": {"script_util"},
    "generate_episode": {"scan_util"},
    "episode_batch": {"generate_episode", "scan_util"},
    "packed_lstm": set(),
    "model": {"packed_lstm"},
    "masked_cross_entropy": set(),
    "checkpoint": {"model", "episode_batch", "generate_episode", "scan_util", "script_util"},
    "evaluate": {"checkpoint", "model", "episode_batch", "generate_episode", "scan_util"},
    "training_step": {"masked_cross_entropy", "model", "episode_batch"},
    "stacked_lstm": set(),
    "stacked_model": {"model", "packed_lstm", "stacked_lstm"},
    "lockstep": {
        "training_step",
        "masked_cross_entropy",
        "model",
        "stacked_model",
        "episode_batch",
        "generate_episode",
    },
    "plain_reference": {"model", "episode_batch"},
    "timing": set(),
    "learning_curve": {"script_util"},
    "attention_plot": {"script_util"},
    "cells": {"script_util"},
    "reporting.run_results": {"cells", "script_util"},
    "reporting.rates": set(),
    "reporting.paper_comparison": set(),
    "reporting.text": {"reporting.run_results", "reporting.paper_comparison", "reporting.rates", "cells"},
    "reporting.pictures": {
        "reporting.run_results",
        "reporting.paper_comparison",
        "attention_plot",
        "cells",
        "script_util",
    },
    "nonstationary.sources": set(),
    "nonstationary.predictors": {"nonstationary.sources"},
    "nonstationary.network_config": set(),
    "nonstationary.initialization": set(),
    "nonstationary.recurrent": {"nonstationary.network_config", "nonstationary.initialization"},
    "nonstationary.transformer": {"nonstationary.network_config", "nonstationary.initialization"},
    "nonstationary.networks": {
        "nonstationary.network_config",
        "nonstationary.recurrent",
        "nonstationary.transformer",
    },
    "nonstationary.regret": {"nonstationary.sources", "nonstationary.predictors", "nonstationary.networks"},
    "nonstationary.training_step": {"nonstationary.recurrent"},
    "nonstationary.network_file": {
        "checkpoint",
        "nonstationary.network_config",
        "nonstationary.networks",
        "nonstationary.sources",
    },
    "nonstationary.closed_form": {"nonstationary.sources"},
    "nonstationary.result_files": set(),
    "nonstationary.pictures": {"nonstationary.result_files", "nonstationary.sources", "script_util"},
    "nonstationary.options": {"checkpoint", "script_util", "nonstationary.predictors", "nonstationary.sources"},
    "biml.dice": set(),
    "biml.grammar": {"biml.dice"},
    "biml.episode": {"biml.dice", "biml.grammar"},
    "biml.episode_files": {"biml.episode", "biml.grammar"},
    "biml.packed_episodes": {"biml.episode", "biml.grammar", "biml.vocabulary", "script_util"},
    "biml.episode_sets": {"biml.episode", "biml.packed_episodes"},
    "biml.vocabulary": {"biml.grammar"},
    "biml.benchmarks": {"biml.episode", "biml.grammar"},
    "biml.views": {"biml.dice", "biml.episode", "biml.grammar", "biml.packed_episodes", "biml.vocabulary"},
    "biml.episode_types": {
        "biml.benchmarks",
        "biml.dice",
        "biml.episode",
        "biml.episode_files",
        "biml.packed_episodes",
        "biml.views",
        "biml.vocabulary",
    },
    "biml.batch": {"biml.views", "biml.vocabulary"},
    "biml.stream": {"biml.batch", "biml.dice", "biml.episode_types"},
    "biml.model": set(),
    "biml.training_step": {"biml.batch", "biml.model"},
    "biml.analysis": {"biml.benchmarks", "biml.grammar"},
    "biml.decode": {"biml.batch", "biml.model"},
    "biml.answering": {
        "biml.batch",
        "biml.decode",
        "biml.episode",
        "biml.episode_types",
        "biml.grammar",
        "biml.network_file",
        "biml.stream",
        "biml.views",
        "biml.vocabulary",
    },
    "biml.scoring": {"biml.answering", "biml.decode", "biml.episode_types", "biml.network_file", "biml.stream"},
    "biml.answer_files": {"biml.analysis", "biml.benchmarks", "biml.grammar"},
    "biml.kinds_text": {"biml.analysis", "biml.benchmarks"},
    "biml.pages": {"biml.analysis", "biml.answering", "biml.benchmarks", "biml.grammar"},
    "biml.dashboard": {"script_util"},
    "biml.plain_reference": {"biml.batch", "biml.model", "biml.views", "biml.vocabulary"},
    "biml.network_file": {"biml.model", "biml.vocabulary", "checkpoint"},
}
WITHOUT_TORCH = ("scan_util", "generate_episode", "reproduce", "report")


def path_of(module):
    return ROOT / f"{module.replace('.', '/')}.py"


def imported(module):
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def imported_here(module):
    return {name for name in imported(module) if path_of(name).exists()}


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_modules_import_only_what_stands_before_them(module):
    """The data half knows no networks, the networks know no words and no loss."""
    assert imported_here(module) <= MAY_IMPORT[module]


def test_every_file_is_either_a_script_or_in_the_order():
    """A new file has to find its place."""
    paths = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).glob("[!_]*.py"))]
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    assert found == {*MAY_IMPORT, *SCRIPTS}


@pytest.mark.parametrize("module", [*MAY_IMPORT, *SCRIPTS])
def test_no_file_imports_a_script(module):
    """Scripts are for people to run; what two of them need stands in a module."""
    assert not imported_here(module) & set(SCRIPTS)


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_episodes_runner_and_report_need_no_torch(module):
    """Neither they nor anything they import, however far down, imports torch."""
    reached, waiting = set(), [module]
    while waiting:
        found = set(imported(waiting.pop())) - reached
        reached |= found
        waiting += [name for name in found if path_of(name).exists()]
    assert "script_util" in reached
    assert "torch" not in {name.split(".")[0] for name in reached}


def test_reproduce_knows_the_other_scripts_by_their_command_lines():
    """It imports the table of cells and what all scripts share; Ray only in the function that needs it."""
    assert imported_here("reproduce") == {"cells", "script_util"}
    top = ast.parse(path_of("reproduce").read_text(encoding="utf-8")).body
    assert not any(isinstance(node, ast.Import) and node.names[0].name == "ray" for node in top)


@pytest.mark.parametrize("module", [*MAY_IMPORT, *SCRIPTS])
def test_importing_only_defines_names(module):
    """At the top level stand definitions, imports, constants, and in scripts the call of main."""
    for node in ast.parse(path_of(module).read_text(encoding="utf-8")).body:
        allowed = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_guard = isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        assert isinstance(node, allowed) or is_text or is_guard, ast.unparse(node)[:80]
