"""The imports run one way, and importing a file only defines names."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("train", "test", "bench")
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
    "training_step": {"evaluate", "masked_cross_entropy", "model", "episode_batch"},
    "attention_plot": {"evaluate", "episode_batch", "scan_util", "script_util"},
    "plain_reference": {"model", "episode_batch"},
}
WITHOUT_TORCH = ("script_util", "scan_util", "generate_episode")


def imported(name):
    tree = ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_modules_import_only_what_stands_before_them(name):
    """The data half knows no networks, the networks know no words and no loss, nothing knows a script."""
    assert {module for module in imported(name) if (ROOT / f"{module}.py").exists()} <= MAY_IMPORT[name]


def test_every_module_is_either_a_script_or_in_the_order():
    """A new file has to find its place."""
    assert {path.stem for path in ROOT.glob("*.py")} == {*MAY_IMPORT, *SCRIPTS}


@pytest.mark.parametrize("name", [*MAY_IMPORT, *SCRIPTS])
def test_no_module_imports_a_script(name):
    """Scripts are for people to run; what two of them need stands in a module."""
    assert not set(imported(name)) & set(SCRIPTS)


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_the_data_half_needs_no_torch(name):
    """Episodes can be made where there is no torch."""
    assert not set(imported(name)) & {"torch", "matplotlib"}


@pytest.mark.parametrize("name", [*MAY_IMPORT, *SCRIPTS])
def test_importing_only_defines_names(name):
    """At the top level stand definitions, imports, constants, and in scripts the call of main."""
    for node in ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8")).body:
        allowed = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_guard = isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        assert isinstance(node, allowed) or is_text or is_guard, ast.unparse(node)[:80]
