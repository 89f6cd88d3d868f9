"""Data of your own, and tests of a trained network other than its experiment's."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import assert_one_line, contents, rows, run_file, same_contents

from checkpoint import load_checkpoint
from episode_batch import items_of, vocabularies_of
from evaluate import explain
from generate_episode import EXPERIMENTS, OWN_FILES, EpisodeSampler, find_own_experiment
from scan_util import load_split, split_path, write_items

ROOT = Path(__file__).resolve().parent.parent
TINY = ("--cpu", "--emb_size", 4, "--nlayers", 1)
NAME = "net_standard_files_mine.tar"
CURVE = "net_standard_files_mine.csv"
RESULT = "res_test_standard_files_mine.json"
ORIGINAL = "walk -> I_WALK; look -> I_LOOK; run -> I_RUN; jump -> I_JUMP"


def write_files(folder):
    """Two files with words that are not SCAN's."""
    verbs, times = {"hop": "HOP", "skip": "SKIP", "crawl": "CRAWL"}, {"once": 1, "often": 3}
    lines = [f"IN: {v} {t} OUT: {' '.join([act] * n)}" for v, act in verbs.items() for t, n in times.items()]
    (folder / "mine.txt").write_text("\n".join([*lines[:-1], "IN: crawl OUT: CRAWL", ""]))
    (folder / "asked.txt").write_text(f"{lines[-1]}\n{lines[0]}\n{lines[-1]}\n")


def run(world, script, *arguments):
    return run_file(ROOT / script, "--dir_model", world / "models", *arguments)


def train(world, *arguments):
    files = ("--train_file", world / "mine.txt", "--test_file", world / "asked.txt", "--fn_out_model", NAME)
    return run(world, "train.py", "--data_dir", world / "data", *TINY, *files, *arguments)


def score(world, *arguments, name=NAME):
    return run(world, "test.py", "--data_dir", world / "data", "--cpu", "--fn_in_model", name, *arguments)


def result(world, name=RESULT):
    return json.loads((world / "models" / name).read_text())


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A network of three episodes on the two files, and a result."""
    world = tmp_path_factory.mktemp("own")
    write_files(world)
    for outcome in (train(world, "--num_episodes", 3), score(world)):
        assert (outcome.code, outcome.err) == (0, "")
    return world, contents(world)


@pytest.fixture
def trained(trained_once):
    """The same folder for each test, as it was: a network knows its files by their paths."""
    world, files = trained_once
    shutil.rmtree(world)
    for name, content in files.items():
        (world / name).parent.mkdir(parents=True, exist_ok=True)
        (world / name).write_bytes(content)
    return world


def test_two_files_are_trained_on_scored_and_asked(trained):
    """Every line of the test file is counted, and every distinct one of the other; no SCAN file is written."""
    assert sorted(contents(trained / "models")) == [CURVE, NAME, RESULT]
    network = load_checkpoint(trained / "models" / NAME, torch.device("cpu"))
    assert network.input_vocabulary.words == ("crawl", "hop", "often", "once", "skip")
    assert network.output_vocabulary.words == ("CRAWL", "HOP", "SKIP")
    report = result(trained)
    assert (report["total"], report["train_total"], report["episode_type"]) == (3, 6, OWN_FILES)
    assert report["split"] == report["data_files"][1]["path"] == str(trained / "asked.txt")
    query = ("--cpu", "--fn_in_model", NAME, "hop often")
    assert run(trained, "query.py", *query).code == 0
    assert not (trained / "data").exists()
    assert_one_line(run(trained, "query.py", *query, "--support", "hop -> HOP"), "query.py", "no memory")
    assert_one_line(score(trained, "--support", "hop -> HOP"), "test.py", "no memory")
    with pytest.raises(ValueError, match="no memory"):
        explain(network, [("hop", "HOP")], "skip")


def test_files_of_scan_give_the_batches_of_its_experiment(data_dir):
    """What is drawn from SCAN's files as your own is what standard_addprim_jump draws, validation included."""
    experiment = EXPERIMENTS["standard_addprim_jump"]
    for part in ("train", "test"):
        load_split(data_dir, part, "addprim_jump")
    own = find_own_experiment(*(split_path(data_dir, part, "addprim_jump") for part in ("train", "test")))
    drawn = []
    for one in (experiment, own):
        sampler, rng = EpisodeSampler(one, data_dir, True), np.random.default_rng(0)
        episodes = [*sampler.validation_episodes(rng), *(sampler.training_episode(rng, ()) for _ in range(5))]
        drawn.append([items_of(episode.query, *vocabularies_of(one)) for episode in episodes])
    assert drawn[0] == drawn[1]
    assert own.padded_length == experiment.padded_length


def test_a_moved_file_is_found_and_a_changed_one_is_refused(trained):
    """The contents count, not where they lie; what is trained then is what an unbroken run trains."""
    mine, moved = trained / "mine.txt", trained / "moved.txt"
    assert train(trained, "--num_episodes", 5, "--fn_out_model", "whole.tar").code == 0
    mine.rename(moved)
    assert train(trained, "--num_episodes", 5, "--train_file", moved).code == 0
    one, other = (torch.load(trained / "models" / name, weights_only=True) for name in ("whole.tar", NAME))
    assert same_contents(one, other, frozenset({"seconds", "sittings", "arguments", "data_files"}))
    assert rows(trained / "models" / "whole.csv")[-1] == rows(trained / "models" / CURVE)[-1]
    moved.rename(mine)
    for path in (mine, trained / "asked.txt"):
        kept = path.read_text()
        path.write_text(kept + "IN: hop OUT: HOP\n")
        before = contents(trained)
        assert_one_line(train(trained, "--num_episodes", 7), "train.py", NAME, "other contents", "--overwrite")
        assert contents(trained) == before
        path.write_text(kept)


def test_lines_may_stand_in_both_files_and_one_is_enough(tmp_path):
    """Nothing is left out at test, retrieval is the same after a break, and the file's name is the network's."""
    for name in ("mine.txt", "asked.txt"):
        (tmp_path / name).write_text("IN: hop OUT: HOP\n")
    for n_episodes, name in ((4, "whole.tar"), (2, NAME), (4, NAME)):
        assert train(tmp_path, "--num_episodes", n_episodes, "--fn_out_model", name).code == 0
    assert rows(tmp_path / "models" / "whole.csv")[-1] == rows(tmp_path / "models" / CURVE)[-1]
    assert score(tmp_path).code == 0
    assert result(tmp_path)["total"] == 1
    files = ("--train_file", tmp_path / "mine.txt", "--test_file", tmp_path / "asked.txt")
    outcome = run(tmp_path, "train.py", *TINY, *files, "--num_episodes", 2)
    assert (outcome.code, outcome.err) == (0, "")
    assert "net_standard_files_mine_emb_size4_nlayers1.tar" in contents(tmp_path / "models")


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_a_changed_test_file_is_not_taken_for_the_test(trained, change):
    """A changed or missing test file is refused, with what to do; named, any file is scored on, under another name."""
    path, other = trained / "asked.txt", trained / "other.txt"
    other.write_text("IN: skip often OUT: SKIP SKIP SKIP\n")
    path.unlink() if change == "gone" else shutil.copy(other, path)
    (trained / "models" / RESULT).unlink()
    assert_one_line(score(trained), "test.py", str(path), "--split FILE")
    assert score(trained, "--split", other).code == 0
    (name,) = (path.name for path in (trained / "models").glob("res_test*"))
    assert re.fullmatch(r"res_test_standard_files_mine_on_other-[0-9a-f]{8}\.json", name)
    assert (result(trained, name)["total"], result(trained, name)["split"]) == (1, str(other))
    other.write_text("IN: skip once OUT: SKIP\n")
    assert score(trained, "--split", other).code == 0
    assert len(list((trained / "models").glob("res_test*"))) == 2


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("IN: hop OUT: HOP\n")])
def test_the_test_is_scored_without_the_training_file(trained, change):
    """If that is gone or changed, its commands are left out, and a note says so."""
    before = result(trained)
    change(trained / "mine.txt")
    outcome = score(trained)
    assert outcome.code == 0
    assert outcome.err.startswith("note: the training commands are not scored: ") and "mine.txt" in outcome.err
    after = result(trained)
    assert (after["total"], after["correct"]) == (before["total"], before["correct"])
    assert "train_total" in before and "train_total" not in after


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hop HOP", ("mine.txt:7: ", "expected 'IN: <command> OUT: <actions>'")),
        (b"IN: hop OUT:", ("mine.txt:7: ",)),
        (b"IN: hop OUT: HOP OUT: HOP", ("mine.txt:7: ", "one 'OUT:'")),
        (b"IN: h\xff OUT: HOP", ("mine.txt:7: ", "UTF-8")),
        (b"IN: hop OUT:" + 50 * b" HOP", ("51 symbols", "--max_length_eval 51")),
    ],
)
def test_a_bad_line_is_reported_where_it_stands(tmp_path, line, said):
    write_files(tmp_path)
    (tmp_path / "mine.txt").write_bytes((tmp_path / "mine.txt").read_bytes() + line + b"\n")
    before = contents(tmp_path)
    assert_one_line(train(tmp_path), "train.py", *said)
    assert contents(tmp_path) == before


BOTH = "--train_file {world}/mine.txt --test_file {world}/asked.txt"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (f"{BOTH} --episode_type ME", ("--episode_type", "--train_file", "standard seq2seq")),
        (f"{BOTH} --extra_directions 2", ("--extra_directions", "--train_file")),
        (f"{BOTH} --disable_recon_loss", ("--disable_recon_loss",)),
        (f"{BOTH} --train_file {{world}}/nowhere.txt", ("nowhere.txt", "No such file")),
        (f"{BOTH} --train_file {{world}}", ("{world}",)),
        (f"{BOTH} --train_file {{world}}/empty.txt", ("empty.txt", "empty")),
        ("--train_file {world}/mine.txt", ("--train_file and --test_file go together",)),
        ("--test_file {world}/mine.txt", ("--train_file and --test_file go together",)),
        ("--episode_type scan_prim_permutation", ("all.txt:1: 'hop' is no word of SCAN", "--train_file")),
    ],
)
def test_a_mistake_is_one_line_and_no_data_are_lost(tmp_path, arguments, said):
    """Every file stays, and nobody is told to delete one, such as one's own words in the folder of SCAN."""
    write_files(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "data").mkdir()
    shutil.copy(tmp_path / "mine.txt", tmp_path / "data" / "tasks_train_all.txt")
    before = contents(tmp_path)
    outcome = run(
        tmp_path, "train.py", *TINY, "--data_dir", tmp_path / "data", *arguments.format(world=tmp_path).split()
    )
    assert_one_line(outcome, "train.py", *(one.format(world=tmp_path) for one in said))
    assert "delete" not in outcome.err
    assert contents(tmp_path) == before


# Another split, another support set


@pytest.fixture(scope="module")
def networks(tmp_path_factory, data_dir):
    """Models of two episodes on ME and on a SCAN that is small here, as its tests are, and a file with other words."""
    world = tmp_path_factory.mktemp("networks")
    write_files(world)
    for part, split, n in (("train", "all", 900), ("test", "addprim_jump", 20), ("test", "length", 12)):
        write_items(split_path(world / "data", part, split), load_split(data_dir, part, split)[:n])
    for kind, name in (("ME", "net_me.tar"), ("scan_prim_permutation", "net_scan.tar")):
        tiny = (*TINY, "--num_episodes", 2, "--max_length_eval", 49, "--episode_type", kind, "--fn_out_model", name)
        assert run(world, "train.py", "--data_dir", world / "data", *tiny).code == 0
    return world


def test_naming_the_own_split_and_support_gives_the_own_test(networks):
    """The same answers under another name; the standard result stays as it was."""
    assert score(networks, name="net_scan.tar").code == 0
    before = (networks / "models/res_test_scan.json").read_bytes()
    assert score(networks, "--split", "addprim_jump", "--support", ORIGINAL, name="net_scan.tar").code == 0
    assert (networks / "models/res_test_scan.json").read_bytes() == before
    name = "res_test_scan_on_addprim_jump_shown_walk=I_WALK,look=I_LOOK,run=I_RUN,jump=I_JUMP.json"
    standard, named = (result(networks, one) for one in ("res_test_scan.json", name))
    assert named["support"] == ORIGINAL.split("; ")
    for key in ("split", "total", "correct", "wrong", "breakdown"):
        assert standard[key] == named[key]


def test_every_split_and_support_set_has_a_result_of_its_own(networks):
    """Also those that look alike without their odd characters, and long ones that begin alike."""
    long = "; ".join(f"{' '.join(['walk'] * n)} -> I_WALK" for n in range(1, 9))
    tests = [
        ("--split", "length"),
        ("--support", ORIGINAL),
        ("--support", "jump -> I_JUMP; walk -> I_WALK"),
        ("--support", "jump walk -> I_JUMP; walk -> I_WALK"),
        ("--support", long),
        ("--support", f"{long}; jump -> I_JUMP"),
        ("--split", "length", "--support", ORIGINAL),
    ]
    before = set(contents(networks / "models"))
    for number, arguments in enumerate(tests, start=1):
        outcome = score(networks, *arguments, name="net_scan.tar")
        assert (outcome.code, outcome.err) == (0, "")
        new = set(contents(networks / "models")) - before
        assert len(new) == number
    totals = [result(networks, name)["total"] for name in new]
    assert sorted(totals) == [12, 12, *[20] * 5]


def test_me_is_told_what_a_file_means(networks, tmp_path):
    """A file of queries needs a support set, in which they are then answered."""
    (tmp_path / "mine.txt").write_text("IN: zup lug OUT: YELLOW BLUE\nIN: dax OUT: RED\n")
    split = ("--split", tmp_path / "mine.txt")
    assert_one_line(score(networks, *split, name="net_me.tar"), "test.py", "--support")
    assert score(networks, *split, "--support", "dax -> RED; lug -> BLUE", name="net_me.tar").code == 0
    (name,) = (path.name for path in (networks / "models").glob("res_test_me_on_mine*"))
    assert (result(networks, name)["total"], result(networks, name)["retrieval_total"]) == (1, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("net_scan.tar", ("--split", "lenght"), ("lenght", "addprim_jump, ")),
        ("net_scan.tar", ("--split", "{world}/mine.txt"), ("mine.txt:1: 'hop' is no word", "walk, look")),
        ("net_scan.tar", ("--support", "hop -> I_JUMP"), ("'hop'", "walk, look")),
        ("net_scan.tar", ("--support", "jump I_JUMP"), ("--support", "->")),
        ("net_me.tar", ("--split", "length", "--support", "dax -> RED"), ("unknown word", "dax, lug")),
        ("net_me.tar", ("--support", "dax -> RED"), ("--split",)),
        ("net_me.tar", ("--support", "dax -> RED", "--plot_attention", "dax"), ("query.py --plot",)),
    ],
)
def test_a_mistake_about_the_test_is_one_line(networks, name, arguments, said):
    before = contents(networks)
    arguments = [one.format(world=networks) for one in arguments]
    assert_one_line(score(networks, *arguments, name=name), "test.py", *said)
    assert contents(networks) == before
