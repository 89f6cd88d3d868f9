"""The imports run one way, and importing a file only defines names. A new file needs no entry here."""

import ast
import functools
import graphlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIBLINGS = "biml", "nonstationary"
MAY_IMPORT = {  # each folder, "" being the top, and the other folders that its files may import from
    "": {"common", "lockstep"},
    "lockstep": {"common", ""},
    "common": set(),
    "paper": {"common", ""},
    "tools": {"common", "", "lockstep", "paper"},
    **{sibling: {"common"} for sibling in SIBLINGS},
}
MAY_IMPORT_TRAIN = "tools", "paper"
WORDS = {"scan_util", "generate_episode", "episode_batch"}
NETWORKS = {"packed_lstm", "model", "lockstep.stacked_lstm", "lockstep.stacked_model", "masked_cross_entropy"}
ALSO_A_SCRIPT = "scan_util"  # a module that can be run as well


def folder_of(module):
    return module.rpartition(".")[0]


def path_of(module):
    return ROOT / f"{module.replace('.', '/')}.py"


@functools.cache
def modules():
    """Every file of ours, tests aside, as a module's name."""
    paths = [*ROOT.glob("*.py"), *(one for init in ROOT.glob("*/__init__.py") for one in init.parent.glob("[!_]*.py"))]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)


@functools.cache
def parsed(module):
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


@functools.cache
def imported(module):
    """What a file imports anywhere in it, ours and others'; of `from a import b` also a.b, should it be a module."""
    found = set()
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: say in full what is imported"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imported_here(module):
    return {name for name in imported(module) if path_of(name).exists()}


def reached_from(module):
    """All that a file imports, ours and others', however far down."""
    reached, waiting = set(), [module]
    while waiting:
        found = imported(waiting.pop()) - reached
        reached |= found
        waiting += [name for name in found if path_of(name).exists()]
    return reached


def is_script(module):
    """Whether a file is for people to run."""
    return any(isinstance(node, ast.If) for node in parsed(module).body) and module != ALSO_A_SCRIPT


def test_the_files_are_found():
    assert {"train", "common.files", "biml.train", "nonstationary.train", *WORDS, *NETWORKS} <= set(modules())
    assert {folder_of(module) for module in modules()} <= set(MAY_IMPORT)
    assert {module for module in modules() if is_script(module)} >= {"train", "test", "query", "biml.train"}


def test_no_import_leads_back():
    """There is an order in which every file stands after all that it imports."""
    graphlib.TopologicalSorter({module: imported_here(module) for module in modules()}).prepare()


def test_files_import_from_their_own_folder_and_those_below():
    """Everything may use common/, which uses nothing of ours; the siblings use nothing else but their own files."""
    for module in modules():
        own = folder_of(module)
        assert {folder_of(name) for name in imported_here(module)} <= {own, *MAY_IMPORT[own]}, module


def test_no_file_imports_a_script():
    """What two scripts need stands in a module; only tools/ and paper/ use what train.py declares."""
    for module in modules():
        may = {"train"} if folder_of(module) in MAY_IMPORT_TRAIN else set()
        assert {name for name in imported_here(module) if is_script(name)} <= may, module


def test_the_data_half_knows_no_networks_and_the_networks_know_no_words():
    for module in WORDS:
        assert not reached_from(module) & NETWORKS
    for module in NETWORKS:
        assert not reached_from(module) & WORDS
    assert "masked_cross_entropy" not in reached_from("model")
    assert "evaluate" not in reached_from("training_step")


def test_the_data_half_needs_no_torch():
    """Neither files of episodes nor anything they import, however far down, imports torch."""
    for module in ("scan_util", "generate_episode"):
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


def test_importing_only_defines_names():
    """At the top level stand definitions, imports, constants, and in scripts the call of main."""
    allowed = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
    for module in modules():
        for node in parsed(module).body:
            is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            is_guard = isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
            assert isinstance(node, allowed) or is_text or is_guard, f"{module}: {ast.unparse(node)[:80]}"


def test_ray_is_imported_only_where_it_is_used():
    """It need not be installed."""
    for module in modules():
        imports = [node for node in parsed(module).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("ray" in ast.unparse(node).split() for node in imports), module
