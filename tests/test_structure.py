"""The imports run one way, and importing a file only defines names. A new file needs no entry here."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SIBLINGS = "biml", "nonstationary"
MAY_IMPORT = {  # each folder, "" being the top, and the other folders that its files may import from
    "": {"common"},
    "common": set(),
    "paper": {"common", ""},
    "tools": {"common", "", "paper"},
    **{sibling: {"common"} for sibling in SIBLINGS},
}
WORDS = {"scan_util", "generate_episode", "episode_batch"}
NETWORKS = {"packed_lstm", "model", "stacked_lstm", "stacked_model", "masked_cross_entropy"}
ALSO_A_SCRIPT = "scan_util"  # a module that can be run as well


def folder_of(module):
    return module.rpartition(".")[0]


def path_of(module):
    return ROOT / f"{module.replace('.', '/')}.py"


def modules():
    """Every file of ours, tests aside, as a module's name."""
    paths = [*ROOT.glob("*.py"), *(one for init in ROOT.glob("*/__init__.py") for one in init.parent.glob("[!_]*.py"))]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)


def parsed(module):
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def imported(module):
    """What a file imports anywhere in it, ours and others'; of `from a import b` also a.b, should it be a module."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: say in full what is imported"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_here(module):
    return {name for name in imported(module) if path_of(name).exists()}


def reached_from(module):
    """All that a file imports, ours and others', however far down."""
    reached, waiting = set(), [module]
    while waiting:
        found = set(imported(waiting.pop())) - reached
        reached |= found
        waiting += [name for name in found if path_of(name).exists()]
    return reached


def is_script(module):
    """Whether a file is for people to run."""
    return any(isinstance(node, ast.If) for node in parsed(module).body) and module != ALSO_A_SCRIPT


every_module = pytest.mark.parametrize("module", modules())


def test_the_files_are_found():
    assert {"train", "common.files", "biml.train", "nonstationary.train", *WORDS, *NETWORKS} <= set(modules())
    assert {folder_of(module) for module in modules()} <= set(MAY_IMPORT)
    assert {module for module in modules() if is_script(module)} >= {"train", "test", "query", "biml.train"}


def test_no_import_leads_back():
    """There is an order in which every file stands after all that it imports."""
    graphlib.TopologicalSorter({module: imported_here(module) for module in modules()}).prepare()


@every_module
def test_a_file_imports_from_its_own_folder_and_those_below(module):
    """Everything may use common/, which uses nothing of ours; the siblings use nothing else but their own files."""
    own = folder_of(module)
    assert {folder_of(name) for name in imported_here(module)} <= {own, *MAY_IMPORT[own]}


@every_module
def test_no_file_imports_a_script(module):
    """What two scripts need stands in a module; only tools/ measure what train.py does."""
    assert not {
        name for name in imported_here(module) if is_script(name) and (folder_of(module), name) != ("tools", "train")
    }


def test_the_data_half_knows_no_networks_and_the_networks_know_no_words():
    for module in WORDS:
        assert not reached_from(module) & NETWORKS
    for module in NETWORKS:
        assert not reached_from(module) & WORDS
    assert "masked_cross_entropy" not in reached_from("model")


@pytest.mark.parametrize(
    "module", ["scan_util", "generate_episode", *(m for m in modules() if folder_of(m) == "paper")]
)
def test_data_runner_and_report_need_no_torch(module):
    """Neither they nor anything they import, however far down, imports torch."""
    assert "torch" not in {name.split(".")[0] for name in reached_from(module)}


def test_the_network_is_made_in_one_place():
    """Another network goes there and nowhere else, whatever needs one: training, loading, the bench."""
    calls = {
        (module, name)
        for module in modules()
        if folder_of(module) not in SIBLINGS
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in ("MetaSeq2Seq", "ModelConfig")
    }
    assert calls == {("model", "MetaSeq2Seq"), ("checkpoint", "ModelConfig")}


@every_module
def test_importing_only_defines_names(module):
    """At the top level stand definitions, imports, constants, and in scripts the call of main."""
    for node in parsed(module).body:
        allowed = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_guard = isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        assert isinstance(node, allowed) or is_text or is_guard, ast.unparse(node)[:80]


@every_module
def test_ray_is_imported_only_where_it_is_used(module):
    """It need not be installed."""
    assert not any(
        "ray" in ast.unparse(node).split()
        for node in parsed(module).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
