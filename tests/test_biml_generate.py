"""Episodes come back from files as they were, a set depends on its seed alone, and a mistake is one line."""

import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from script_runs import Outcome, assert_one_line, contents

import biml.generate
from biml.episode import PAPER_SIZES, Episode, EpisodeSizes, Example, sample_episode
from biml.episode_files import format_episode, read_episode
from biml.generate import EpisodeSet
from biml.grammar import MINI_SCAN
from biml.packed_episodes import load_packed, pack, save_packed
from biml.vocabulary import Language, Vocabulary
from common.command_line import run_script

ROOT = Path(__file__).resolve().parent.parent
PILOT = EpisodeSizes(3, 2, 5, 5, 8, 4)
TINY = EpisodeSizes(1, 0, 5, 5, 2, 1)  # 54 grammars in all, so that they come up again


def example(text):
    words, output = text.split(" : ")
    return Example(tuple(words.split()), tuple(output.split()))


def by_people(support, query, allowed=""):
    return Episode(tuple(map(example, support)), tuple(map(example, query)), None, tuple(allowed.split()))


BY_PEOPLE = {
    "few-shot": by_people(["1 : 1", "2 after 3 : 3 2"], ["3 after DAX : DAX 3"] * 3 + ["1 : undefined_action 1"]),
    "open-ended": by_people([], ["zup : color:#ff0000;", "zup kiki : color:#b7b600; color:#00b0b3;"]),
    "probe": by_people(["dax : RED"], ["wif : RED", "wif : BLUE"], allowed="RED BLUE"),
    "long": by_people([], [f"dax : {'RED ' * 14}"]),
    "mini-SCAN": by_people(["1 : 1"], ["1 thrice : 1 1 1"])._replace(grammar=MINI_SCAN),
}
RANDOM = [sample_episode(np.random.default_rng(seed), (), PILOT) for seed in range(20)]
PACKABLE = [*RANDOM, *(episode for name, episode in BY_PEOPLE.items() if name != "probe")]


# Text files


def through_text(path, text):
    path.write_bytes(text.encode())
    return read_episode(path)


def test_the_text_is_as_published():
    """Markers, blank lines, examples and rules."""
    episode = by_people(["dax : RED"], ["dax dax : RED RED"])
    text = "*SUPPORT*\nIN: dax OUT: RED\n\n*QUERY*\nIN: dax dax OUT: RED RED\n\n*GRAMMAR*\n"
    assert format_episode(episode) == text
    assert format_episode(episode._replace(allowed_outputs=("RED", "PINK"))) == f"{text}allowed outputs: RED PINK\n"
    assert format_episode(episode._replace(grammar=MINI_SCAN)).split("*GRAMMAR*\n")[1] == (
        "1 -> 1\n2 -> 2\n3 -> 3\nDAX -> DAX\nu1 thrice -> [u1] [u1] [u1]\nu1 surround u2 -> [u1] [u2] [u1]\n"
        "x1 after x2 -> [x2] [x1]\nu1 x1 -> [u1] [x1]\n"
    )


LAYOUTS = {
    "as written": lambda text: text,
    "no last newline": lambda text: text.rstrip("\n"),
    "trailing blanks": lambda text: text.replace("\n", "  \t\n"),
    "leading blanks": lambda text: " " + text.replace("\n", "\n "),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "no blank lines": lambda text: text.replace("\n\n", "\n"),
    "more blank lines": lambda text: "\n\n" + text.replace("\n", "\n\n\n"),
    "allowed outputs on a line of their own": lambda text: text.replace("outputs: ", "outputs:\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reading_undoes_writing(tmp_path, layout):
    """Whatever episodes there are, random and of people; blanks do not matter, the published files have stray ones."""
    for episode in (*BY_PEOPLE.values(), *RANDOM[:2]):
        assert through_text(tmp_path / "1.txt", LAYOUTS[layout](format_episode(episode))) == episode


GOOD = "*SUPPORT*\nIN: dax OUT: RED\n\n*QUERY*\nIN: dax dax OUT: RED RED\n\n*GRAMMAR*\ndax -> RED\n"
EXPECTED = "expected 'IN: <words> OUT: <words>'"
IN_ORDER = "expected *SUPPORT*, *QUERY*, *GRAMMAR* in this order"
MALFORMED = {  # what is replaced, by what, and what the message says after the file's name
    "no IN": ("IN: dax OUT", "dax OUT", f":2: {EXPECTED}, found 'dax OUT: RED'"),
    "I for IN": ("IN: dax OUT", "I: dax OUT", f":2: {EXPECTED}"),
    "no blank after IN": ("IN: dax OUT", "IN:dax OUT", f":2: {EXPECTED}"),
    "no OUT": (" OUT: RED RED", " RED RED", f":5: {EXPECTED}"),
    "two OUT": ("RED RED", "RED OUT: RED", f":5: {EXPECTED}"),
    "two IN": ("IN: dax OUT", "IN: IN: dax OUT", ":2: expected words of letters, digits and _"),
    "no input": ("IN: dax OUT", "IN: OUT", f":2: {EXPECTED}"),
    "no output": ("OUT: RED RED", "OUT:", f":5: {EXPECTED}"),
    "a word with a bracket": ("dax dax", "dax [dax]", ":5: expected words of letters"),
    "half a colour": ("RED RED", "color:#ff00; RED", ":5: expected words of letters"),
    "no text at all": (GOOD, "", f": {IN_ORDER}, found no *SUPPORT*"),
    "no support marker": ("*SUPPORT*\n", "", ":1: expected *SUPPORT*, found 'IN: dax OUT: RED'"),
    "no query marker": ("*QUERY*\n", "", ":6: expected *QUERY*, found '*GRAMMAR*'"),
    "no grammar marker": ("*GRAMMAR*\ndax -> RED\n", "", f": {IN_ORDER}"),
    "a marker twice": ("*QUERY*", "*SUPPORT*", ":4: expected *QUERY*, found '*SUPPORT*'"),
    "a marker too many": ("dax -> RED", "*GRAMMAR*", ":8: expected no further marker, found '*GRAMMAR*'"),
    "an unknown marker": ("*QUERY*", "*QUERIES*", ":4: expected *QUERY*, found '*QUERIES*'"),
    "text before the first marker": ("*SUPPORT*", "episode\n*SUPPORT*", ":1: expected *SUPPORT*, found 'episode'"),
    "no query": ("IN: dax dax OUT: RED RED\n", "", ": expected at least one line 'IN: <words> OUT: <words>' below"),
    "a rule without arrow": ("dax -> RED", "dax RED", ":8: expected a rule '<words> -> <words>', found 'dax RED'"),
    "a rule with an unknown variable": ("dax -> RED", "dax -> [x1]", ":8: expected a rule like"),
    "no allowed outputs": ("dax -> RED", "allowed outputs:", ":8: expected words after 'allowed outputs:'"),
    "rules after allowed outputs": ("dax -> RED", "allowed outputs: RED\ndax -> RED", ":8: expected words of letters"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_is_refused_with_file_and_line(tmp_path, case):
    """Nothing is guessed."""
    old, new, said = MALFORMED[case]
    assert GOOD.count(old) == 1
    path = tmp_path / "000007.txt"
    with pytest.raises(ValueError, match=re.escape(f"{path}{said}")):
        through_text(path, GOOD.replace(old, new))


def test_a_grammar_and_allowed_outputs_do_not_fit_into_one_text():
    """The format has one place for both."""
    with pytest.raises(ValueError, match="not both"):
        format_episode(BY_PEOPLE["mini-SCAN"]._replace(allowed_outputs=("1",)))


@given(st.binary(max_size=80))
def test_whatever_the_bytes_there_is_an_episode_or_one_message(tmp_path_factory, junk):
    """No other error gets out."""
    path = tmp_path_factory.getbasetemp() / "junk.txt"
    path.write_bytes(GOOD.encode()[:60] + junk)
    with contextlib.suppress(ValueError):
        read_episode(path)


# Packed files


def words_of(packed):
    return [packed.episode(index) for index in range(len(packed))]


def test_packing_keeps_everything(tmp_path):
    """In memory, from a file, and in other numbers, which need a number for each word; equal episodes, equal files."""
    packed = pack(iter(PACKABLE), {"made": "here"})
    for name in ("a.npz", "b.npz"):
        save_packed(tmp_path / name, pack(PACKABLE, {"made": "here"}))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = load_packed(tmp_path / "a.npz")
    inputs, outputs = (("jump", *reversed(packed.words[kind])) for kind in ("inputs", "outputs"))
    renumbered = loaded.renumbered(Language(Vocabulary(inputs), Vocabulary(outputs)))
    for one in (packed, loaded, renumbered):
        assert words_of(one) == PACKABLE and one.about == {"made": "here"}
    assert packed.numbered(0) == loaded.numbered(0) != renumbered.numbered(0)
    for lists in ((inputs[:-1], outputs), (inputs, outputs[:-1])):
        with pytest.raises(ValueError, match="unknown word"):
            packed.renumbered(Language(*map(Vocabulary, lists)))


@pytest.mark.parametrize(
    ("episode", "said"),
    [
        (by_people([], [f"{'dax ' * 256} : RED"]), "up to 255 words"),
        (by_people([], [f"{' '.join(f'w{n}' for n in range(250))} : RED"]), "256 different words"),
        (BY_PEOPLE["probe"], "stay text files"),
    ],
    ids=["too long", "too many words", "a probe"],
)
def test_what_a_packed_file_cannot_hold_is_refused(episode, said):
    """Numbers that are no bytes, and what an answer may be made of: nothing is left out without a word."""
    with pytest.raises(ValueError, match=said):
        pack([*RANDOM, episode], {})


def changed(path, **arrays):
    """Write the file again with other arrays."""
    with np.load(path) as archive:
        found = dict(archive)
    np.savez(path, **{name: array for name, array in (found | arrays).items() if array is not None})


def with_header(path, **entries):
    with np.load(path) as archive:
        header = json.loads(str(archive["header"]))
    changed(path, header=np.array(json.dumps(header | entries)))


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("episodes\n"),
    "first half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one bit": flipped,
    "an array": lambda path: np.save(path.open("wb"), np.zeros(3)),
    "another archive": lambda path: np.savez(path, weights=np.zeros(3)),
    "a pickle in it": lambda path: changed(path, num_support=np.array([{}], dtype=object)),
    "another format": lambda path: with_header(path, format="grammars"),
    "a later version": lambda path: with_header(path, format_version=2),
    "other lists of symbols": lambda path: with_header(path, symbols={"inputs": []}),
    "too few symbols": lambda path: with_header(path, symbols={"inputs": ["dax"], "outputs": [], "rules": []}),
    "no lengths": lambda path: changed(path, inputs_lengths=None),
    "lengths of another kind": lambda path: changed(path, inputs_lengths=np.ones(240, np.float64)),
    "lengths that do not add up": lambda path: changed(path, inputs_lengths=np.ones(240, np.uint8)),
    "negative counts": lambda path: changed(path, rules_counts=np.array([-1] * 10 + [13] * 10, np.int32)),
    "too much support": lambda path: changed(path, num_support=np.full(20, 13, np.int32)),
    "too few episodes": lambda path: changed(path, num_support=np.full(19, 8, np.int32)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_packed_file_is_refused(tmp_path, damage):
    """One message with the file's name, whatever is wrong."""
    path = tmp_path / "train.npz"
    save_packed(path, pack(RANDOM, {}))
    DAMAGES[damage](path)
    with pytest.raises(ValueError, match=re.escape(f"{path}: no packed episodes, or a damaged file: ")):
        load_packed(path)


# Sets


def test_an_episode_depends_on_seed_split_and_number_alone():
    """However many are drawn with it; excluding a grammar changes no episode of another grammar."""
    train = EpisodeSet(3, "train", PILOT)
    some = list(train.drawn(12))
    assert list(train.drawn(5)) == some[:5] and train.episode(9) == some[9]
    for other in (EpisodeSet(4, "train", PILOT), EpisodeSet(3, "val", PILOT)):
        assert not {episode.support for episode in other.drawn(12)} & {one.support for one in some}
    kept = EpisodeSet(3, "train", PILOT, frozenset({some[2].grammar.identifier})).drawn(12)
    assert [one == other for one, other in zip(kept, some, strict=True)] == [True, True, False, *[True] * 9]


# The command


def run_generate(*arguments):
    """Run the command in this process, whose helpers can import it; gives its exit code, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["generate.py", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        run_script(biml.generate.main)
    return Outcome(end.value.code, out.getvalue(), err.getvalue())


SMALL = shlex.split(
    "--primitives 3 --functions 2 --longest_input 5 --longest_output 5 --num_support 8 --num_query 4 --num_val 5"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with the files of a small set, text files too."""
    folder = tmp_path_factory.mktemp("written")
    code, out, err = run_generate(*SMALL, "--num_train", 600, "--seed", 7, "--dir_out", folder, "--text")
    assert (code, err) == (0, "")
    assert "train: 250 of 600 episodes" in out and "train: 500 of 600" in out and "600 of 600" not in out
    assert f"{folder}/train.npz: 600 episodes" in out and "done in " in out
    return folder


def test_the_command_writes_both_splits(written):
    """The packed files have the sets' episodes and say what they are made with; the text files have the same."""
    val, train = load_packed(written / "val.npz"), load_packed(written / "train.npz")
    excluded = frozenset(episode.grammar.identifier for episode in words_of(val))
    assert words_of(val) == list(EpisodeSet(7, "val", PILOT).drawn(5))
    assert words_of(train)[::50] == [EpisodeSet(7, "train", PILOT, excluded).episode(n) for n in range(0, 600, 50)]
    told = {"seed": 7, "split": "train", "sizes": asdict(PILOT), "excluded": len(excluded), "count": 600}
    assert train.about.items() >= told.items() and {"python", "numpy"} == train.about["versions"].keys()
    names = {"val.npz", "train.npz", *(f"val/{n:06d}.txt" for n in range(1, 6))}
    assert contents(written).keys() == names | {f"train/{n:06d}.txt" for n in range(1, 601)}
    assert read_episode(written / "train" / "000600.txt") == train.episode(599)


def test_no_training_episode_has_a_validation_grammar(tmp_path):
    """There are 54 grammars: validation takes some of them, perhaps several times, and training all the others."""
    sizes = "--primitives 1 --functions 0 --longest_input 5 --longest_output 5 --num_support 2 --num_query 1"
    assert run_generate(*sizes.split(), "--num_val", 30, "--num_train", 300, "--dir_out", tmp_path).code == 0
    val, train = (
        {episode.grammar.identifier for episode in words_of(load_packed(tmp_path / f"{split}.npz"))}
        for split in ("val", "train")
    )
    assert len(val) < 30 and not val & train and len(val | train) == 54
    assert val <= {episode.grammar.identifier for episode in EpisodeSet(0, "train", TINY).drawn(300)}


@pytest.mark.slow
def test_the_files_do_not_depend_on_the_number_of_processes(written, tmp_path):
    """Two processes write the same bytes as one; with --overwrite they replace what is there."""
    (tmp_path / "val.npz").write_text("mine\n")
    command = (*SMALL, "--num_train", 600, "--seed", 7, "--jobs", 2, "--dir_out", tmp_path, "--overwrite")
    assert run_generate(*command)[::2] == (0, "")
    assert contents(tmp_path) == {name: (written / name).read_bytes() for name in ("val.npz", "train.npz")}


def test_text_files_can_be_packed_again(written, tmp_path):
    """A folder of folders, or one folder; the episodes are those they were made from."""
    assert run_generate("--from_text", written, "--dir_out", tmp_path)[::2] == (0, "")
    for split in ("val", "train"):
        packed, made = load_packed(tmp_path / f"{split}.npz"), load_packed(written / f"{split}.npz")
        assert packed.words == made.words
        assert all(np.array_equal(array, made.arrays[name]) for name, array in packed.arrays.items())
        assert packed.about == {"from_text": str(written / split), "count": len(made)}
    assert run_generate("--from_text", written / "val", "--dir_out", tmp_path / "one")[::2] == (0, "")
    assert list(contents(tmp_path / "one")) == ["val.npz"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder to make mistakes in, which leave it as it is: packed files in done/, text files in the others."""
    folder = tmp_path_factory.mktemp("world")
    texts = dict.fromkeys(("done/val.npz", "done/train.npz", "mixed/train/000009.txt", "texts/val/000001.txt"), GOOD)
    texts |= {"bad/good/1.txt": GOOD, "bad/wrong/1.txt": GOOD.replace("OUT", "UOT"), "empty/notes.md": "", "file": ""}
    texts["probes/1.txt"] = format_episode(BY_PEOPLE["probe"])
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


FEW = "--primitives 1 --functions 0 --longest_input 3 --num_support 3 --num_query 1"
MISTAKES = {  # the command line and what the message must say
    "--speed 3": ["--speed"],
    "--seed -1": ["--seed", "at least 0"],
    "--num_train 0": ["--num_train", "at least 1"],
    "--num_val 0": ["--num_val", "at least 1"],
    "--num_train many": ["--num_train", "many"],
    "--jobs 0": ["--jobs", "at least 1"],
    "--primitives 7": ["1 to 6 primitives", "found 7"],
    "--functions 8": ["at most 9 primitives and functions"],
    "--num_query 0": ["number of queries of at least 1"],
    f"{FEW} --num_train 1": ["only 3 of 4 different examples", "ask for fewer examples or longer ones"],
    f"{FEW} --num_val 300 --jobs 2": ["only 3 of 4 different examples"],
    f"{FEW} --longest_study 2": ["without functions copying answers every query", "--longest_study"],
    "--longest_study 8": ["shorter than the longest input, 8", "found 8"],
    "--primitives 1 --functions 0 --num_support 1 --num_query 1 --num_val 600 --num_train 1": ["100 grammars in a row"],
    "--dir_out {world}/done": ["done/val.npz is there already", "--overwrite"],
    "--text --dir_out {world}/texts": ["texts/val/000001.txt is there already"],
    "--text --overwrite --num_train 8 --dir_out {world}/mixed": ["mixed/train/000009.txt would stay among the new"],
    "--dir_out {world}/file": ["file"],
    "--dir_out {world}/file/data": ["file"],
    "--from_text {world}/texts --seed 3": ["--seed is about random episodes"],
    "--from_text {world}/texts --text": ["--text is about random episodes"],
    "--from_text {world}/empty": ["empty: expected *.txt files", "found none"],
    "--from_text {world}/nowhere": ["nowhere: expected *.txt files", "found none"],
    "--from_text {world}/probes": ["probes/1.txt: has allowed outputs", "stay text files"],
    "--from_text {world}/bad": ["bad/wrong/1.txt:2: expected 'IN: <words> OUT: <words>'"],
    "--from_text {world}/mixed --dir_out {world}/done": ["done/train.npz is there already"],
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(world, tmp_path, line):
    """Exit code 2, one line that says what is wrong, every file as it was and none added."""
    arguments = line.format(world=world).split()
    arguments += [] if "--dir_out" in arguments else ["--dir_out", tmp_path / "new"]
    before = contents(world)
    assert_one_line(run_generate(*arguments), "generate.py", *MISTAKES[line])
    assert contents(world) == before and contents(tmp_path) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("is_killed", "code", "said"), [(False, 130, "interrupted\n"), (True, 2, "--jobs")])
def test_ctrl_c_and_a_killed_helper_leave_nothing(tmp_path, is_killed, code, said):
    """All processes get Ctrl-C; a helper may be killed for want of memory. One line, no files, no waiting."""
    command = [sys.executable, "-m", "biml.generate", *SMALL, "--num_train", "50000", "--jobs", "2"]
    command += ["--dir_out", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, process_group=0, **pipes)
    try:
        assert process.stdout.readline().startswith("train: 5000 of 50000 episodes")
        if is_killed:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            helpers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            os.kill(int(helpers[0]), signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, err.count("\n"), said in err) == (code, 1, True), err
    assert contents(tmp_path) == {}


def test_paper_sizes_are_the_default():
    """The options' defaults are those of the published set."""
    code, out, err = run_generate("-h")
    assert (code, err) == (0, "")
    for name, size in (asdict(PAPER_SIZES) | {"num_train": 100_000}).items():
        shown = "all alike" if size is None else size
        assert re.search(rf"--{name} N\s+[^(]*\(default:\s+{shown}\)", out), name
