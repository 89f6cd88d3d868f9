"""Episodes come back from files as they were, a set depends on its seed alone, and a mistake is one line."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from script_runs import contents, run_file

from biml.episode import PAPER_SIZES, Episode, EpisodeSizes, Example, sample_episode
from biml.episode_files import format_episode, read_episode
from biml.episode_sets import PART, EpisodeSet, generate, identifiers
from biml.grammar import INPUT_WORDS, MINI_SCAN, OUTPUT_WORDS, parse_grammar
from biml.packed_episodes import join, load_packed, pack, save_packed
from biml.vocabulary import Language, Vocabulary

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
every_episode = pytest.mark.parametrize("episode", [*BY_PEOPLE.values(), *RANDOM[:2]], ids=[*BY_PEOPLE, "one", "two"])


# Text files


def through_text(path, text):
    path.write_bytes(text.encode())
    return read_episode(path)


@every_episode
def test_reading_undoes_writing(tmp_path, episode):
    """Whatever episodes there are, random and of people."""
    assert through_text(tmp_path / "1.txt", format_episode(episode)) == episode


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
    "no last newline": lambda text: text.rstrip("\n"),
    "trailing blanks": lambda text: text.replace("\n", "  \t\n"),
    "leading blanks": lambda text: " " + text.replace("\n", "\n "),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "no blank lines": lambda text: text.replace("\n\n", "\n"),
    "more blank lines": lambda text: "\n\n" + text.replace("\n", "\n\n\n"),
    "allowed outputs on a line of their own": lambda text: text.replace("outputs: ", "outputs:\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_episode
def test_blanks_do_not_matter(tmp_path, episode, layout):
    """The published files have stray ones."""
    assert through_text(tmp_path / "1.txt", LAYOUTS[layout](format_episode(episode))) == episode


GOOD = "*SUPPORT*\nIN: dax OUT: RED\n\n*QUERY*\nIN: dax dax OUT: RED RED\n\n*GRAMMAR*\ndax -> RED\n"
MALFORMED = {  # what is replaced, by what, and what the message says after the file's name
    "no IN": ("IN: dax OUT", "dax OUT", ":2: expected 'IN: <words> OUT: <words>', found 'dax OUT: RED'"),
    "I for IN": ("IN: dax OUT", "I: dax OUT", ":2: expected 'IN: <words> OUT: <words>'"),
    "no blank after IN": ("IN: dax OUT", "IN:dax OUT", ":2: expected 'IN: <words> OUT: <words>'"),
    "no OUT": (" OUT: RED RED", " RED RED", ":5: expected 'IN: <words> OUT: <words>'"),
    "two OUT": ("RED RED", "RED OUT: RED", ":5: expected 'IN: <words> OUT: <words>'"),
    "two IN": ("IN: dax OUT", "IN: IN: dax OUT", ":2: expected words of letters, digits and _"),
    "no input": ("IN: dax OUT", "IN: OUT", ":2: expected 'IN: <words> OUT: <words>'"),
    "no output": ("OUT: RED RED", "OUT:", ":5: expected 'IN: <words> OUT: <words>'"),
    "a word with a bracket": ("dax dax", "dax [dax]", ":5: expected words of letters"),
    "half a colour": ("RED RED", "color:#ff00; RED", ":5: expected words of letters"),
    "no text at all": (GOOD, "", ": expected *SUPPORT*, *QUERY*, *GRAMMAR* in this order, found no *SUPPORT*"),
    "no support marker": ("*SUPPORT*\n", "", ":1: expected *SUPPORT*, found 'IN: dax OUT: RED'"),
    "no query marker": ("*QUERY*\n", "", ":6: expected *QUERY*, found '*GRAMMAR*'"),
    "no grammar marker": ("*GRAMMAR*\ndax -> RED\n", "", ": expected *SUPPORT*, *QUERY*, *GRAMMAR* in this order"),
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


def test_packing_keeps_everything(tmp_path):
    """Random episodes and those of people come back as they were, in memory and from a file, and `about` too."""
    episodes = [*RANDOM, *(episode for name, episode in BY_PEOPLE.items() if name != "probe")]
    packed = pack(iter(episodes), {"made": "here"})
    save_packed(tmp_path / "all.npz", packed)
    loaded = load_packed(tmp_path / "all.npz")
    for one in (packed, loaded):
        assert [one.episode(index) for index in range(len(one))] == episodes
        assert one.about == {"made": "here"}
    assert loaded.symbols == packed.symbols
    assert loaded.symbols.inputs[: len(INPUT_WORDS)] == INPUT_WORDS
    assert loaded.symbols.outputs[: len(OUTPUT_WORDS)] == OUTPUT_WORDS


def test_equal_episodes_make_equal_files(tmp_path):
    """Nothing of the time or place gets into the bytes."""
    for name in ("a.npz", "b.npz"):
        save_packed(tmp_path / name, pack(RANDOM, {}))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_words_of_an_episode_are_numbered():
    """Support examples first, then queries; each episode has its own."""
    packed = pack(RANDOM, {})
    for index, episode in enumerate(RANDOM):
        inputs, outputs, num_support = packed.numbered(index)
        both = (*episode.support, *episode.query)
        assert num_support == len(episode.support)
        assert [tuple(INPUT_WORDS[number] for number in text) for text in inputs] == [one.input for one in both]
        assert [tuple(OUTPUT_WORDS[number] for number in text) for text in outputs] == [one.output for one in both]
        assert packed.grammar(index) == episode.grammar


def test_other_numbers_are_the_same_episodes():
    """Lists of symbols in another order, with others among them; a list that lacks a word is refused."""
    packed = pack(RANDOM, {"made": "here"})
    inputs, outputs = ("jump", *reversed(INPUT_WORDS)), (*OUTPUT_WORDS[3:], "JUMP", *OUTPUT_WORDS[:3])
    renumbered = packed.renumbered(Language(Vocabulary(inputs), Vocabulary(outputs)))
    assert renumbered.symbols[:2] == (inputs, outputs)
    assert renumbered.about == packed.about
    for index in range(len(packed)):
        assert renumbered.numbered(index) != packed.numbered(index)
        assert renumbered.episode(index) == packed.episode(index)
    for lists in ((INPUT_WORDS[1:], OUTPUT_WORDS), (INPUT_WORDS, OUTPUT_WORDS[1:])):
        with pytest.raises(ValueError, match="unknown word"):
            packed.renumbered(Language(*map(Vocabulary, lists)))


@pytest.mark.parametrize("index", [-1, len(RANDOM)])
def test_an_episode_out_of_range_is_refused(index):
    """Negative numbers do not count from the end."""
    for look_up in (pack(RANDOM, {}).numbered, pack(RANDOM, {}).episode, pack(RANDOM, {}).grammar):
        with pytest.raises(IndexError, match="from 0 to 19"):
            look_up(index)


def test_joining_parts_is_packing_all():
    """Wherever they are cut; but parts that number their words in other ways are refused."""
    parts = [pack(RANDOM[:1], {}), pack(RANDOM[1:15], {}), pack(RANDOM[15:], {})]
    joined = join(parts, {})
    assert [joined.episode(index) for index in range(len(joined))] == RANDOM
    with pytest.raises(ValueError, match="same lists of symbols"):
        join([parts[0], pack([BY_PEOPLE["mini-SCAN"]], {})], {})


@pytest.mark.parametrize(
    "episode",
    [by_people([], [f"{'dax ' * 256} : RED"]), by_people([], [f"{' '.join(f'w{n}' for n in range(250))} : RED"])],
    ids=["too long", "too many words"],
)
def test_what_does_not_fit_into_bytes_is_refused(episode):
    """Sequences of 255 words, and 256 different words in all, are the limit."""
    with pytest.raises(ValueError, match="up to 255 words"):
        pack([episode], {})


def test_probes_are_not_packed():
    """A packed file does not say what an answer may be made of, and leaves nothing out without a word."""
    with pytest.raises(ValueError, match="stay text files"):
        pack([*RANDOM, BY_PEOPLE["probe"]], {})


def test_files_with_a_further_column_are_read(tmp_path):
    """Those written when packed files had a column of allowed outputs, as long as it is empty."""
    path, lengths = tmp_path / "old.npz", np.zeros(len(RANDOM), np.uint8)
    save_packed(path, pack(RANDOM, {}))
    changed(path, allowed_outputs_lengths=lengths)
    assert [load_packed(path).episode(index) for index in range(len(RANDOM))] == RANDOM
    lengths[3] = 2
    changed(path, allowed_outputs_lengths=lengths)
    with pytest.raises(ValueError, match="use their text files"):
        load_packed(path)


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


def test_a_missing_packed_file_is_reported_with_what_to_do(tmp_path):
    """The message names the command that makes it."""
    with pytest.raises(ValueError, match=r"no packed episodes at .*train.npz; make them with .python -m biml.generate"):
        load_packed(tmp_path / "train.npz")


# Sets


def words_of(packed):
    return [packed.episode(index) for index in range(len(packed))]


def test_an_episode_depends_on_seed_split_and_number_alone():
    """However many are drawn with it, and in whatever parts."""
    train = EpisodeSet(3, "train", PILOT)
    some = words_of(generate(train, 12))
    assert words_of(generate(train, 5)) == some[:5]
    assert words_of(train.part(range(7, 12))) == some[7:]
    assert train.episode(9) == some[9]
    for other in (EpisodeSet(4, "train", PILOT), EpisodeSet(3, "val", PILOT)):
        assert not {episode.support for episode in words_of(generate(other, 12))} & {one.support for one in some}


def test_no_training_episode_has_a_validation_grammar():
    """There are 54 grammars: validation takes some of them, perhaps several times, and training only the others."""
    val = generate(EpisodeSet(0, "val", TINY), 30)
    taken = identifiers(val)
    free = generate(EpisodeSet(0, "train", TINY), 300)
    train = generate(EpisodeSet(0, "train", TINY, taken), 300)
    assert len(taken) < 30
    assert taken <= identifiers(free) and not taken & identifiers(train)
    assert len(identifiers(train)) == 54 - len(taken)


def test_exclusion_changes_no_other_episode():
    """An episode whose grammar was free stays as it was."""
    free, excluded = (
        EpisodeSet(0, "train", PILOT),
        frozenset({EpisodeSet(0, "train", PILOT).episode(2).grammar.identifier}),
    )
    kept = EpisodeSet(0, "train", PILOT, excluded)
    assert [kept.episode(n) == free.episode(n) for n in range(5)] == [True, True, False, True, True]


def test_progress_is_told():
    """The number of episodes done goes up to all of them."""
    told = []
    generate(EpisodeSet(0, "train", TINY), 2 * PART + 1, progress=told.append)
    assert told == [PART, 2 * PART, 2 * PART + 1]


# The command


def run_generate(*arguments):
    """Run `python -m biml.generate` in this process; gives its exit code, output and errors."""
    return run_file(ROOT / "biml" / "generate.py", *arguments)


SMALL = shlex.split(
    "--primitives 3 --functions 2 --longest_input 5 --longest_output 5 --num_support 8 --num_query 4 --num_val 5"
)
COMMAND = [sys.executable, "-m", "biml.generate", *SMALL]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with the files of a small set, text files too."""
    folder = tmp_path_factory.mktemp("written")
    code, out, err = run_generate(*SMALL, "--num_train", 600, "--seed", 7, "--dir_out", folder, "--text")
    assert (code, err) == (0, "")
    assert "train: 500 of 600 episodes" in out
    assert f"{folder}/train.npz: 600 episodes" in out and "done in " in out
    return folder


def test_the_command_writes_both_splits(written):
    """The packed files have the sets' episodes and say what they are made with; the text files have the same."""
    val, train = load_packed(written / "val.npz"), load_packed(written / "train.npz")
    excluded = identifiers(val)
    assert words_of(val) == [EpisodeSet(7, "val", PILOT).episode(index) for index in range(5)]
    assert words_of(train)[::50] == [EpisodeSet(7, "train", PILOT, excluded).episode(n) for n in range(0, 600, 50)]
    assert not excluded & identifiers(train)
    told = {"seed": 7, "split": "train", "sizes": asdict(PILOT), "excluded": len(excluded), "count": 600}
    assert train.about.items() >= told.items() and {"python", "numpy"} == train.about["versions"].keys()
    names = {"val.npz", "train.npz", *(f"val/{n:06d}.txt" for n in range(1, 6))}
    assert contents(written).keys() == names | {f"train/{n:06d}.txt" for n in range(1, 601)}
    assert read_episode(written / "train" / "000600.txt") == train.episode(599)


def test_the_files_do_not_depend_on_the_number_of_processes(written, tmp_path):
    """Two processes, started as people do it, write the same bytes as one."""
    command = [*COMMAND, "--num_train", "600", "--seed", "7", "--jobs", "2", "--dir_out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    expected = contents(written)
    assert contents(tmp_path) == {name: expected[name] for name in ("val.npz", "train.npz")}


def test_text_files_can_be_packed_again(written, tmp_path):
    """A folder of folders, or one folder; the episodes are those they were made from."""
    assert run_generate("--from_text", written, "--dir_out", tmp_path)[::2] == (0, "")
    for split in ("val", "train"):
        packed, made = load_packed(tmp_path / f"{split}.npz"), load_packed(written / f"{split}.npz")
        assert (
            packed.symbols == made.symbols
            and packed.columns.inputs.counts.tolist() == made.columns.inputs.counts.tolist()
        )
        assert words_of(packed)[:20] == words_of(made)[:20]
        assert packed.about == {"from_text": str(written / split), "count": len(made)}
    assert run_generate("--from_text", written / "val", "--dir_out", tmp_path / "one")[::2] == (0, "")
    assert list(contents(tmp_path / "one")) == ["val.npz"]


@pytest.fixture
def world(tmp_path):
    """A folder to make mistakes in: packed files in done/, text files in texts/ and mixed/, a malformed one in bad/,
    a probe in probes/.
    """
    for name in ("done/val.npz", "done/train.npz", "mixed/train/000009.txt", "texts/val/000001.txt", "empty/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(GOOD)
    for name in ("good/1.txt", "wrong/1.txt"):
        (tmp_path / "bad" / name).parent.mkdir(parents=True)
        (tmp_path / "bad" / name).write_text(GOOD if "good" in name else GOOD.replace("OUT", "UOT"))
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "1.txt").write_text(format_episode(BY_PEOPLE["probe"]))
    (tmp_path / "file").write_text("no folder\n")
    return tmp_path


MISTAKES = {  # the command line and what the message must say
    "unknown option": ("--speed 3", ["--speed"]),
    "negative seed": ("--seed -1", ["--seed", "at least 0"]),
    "no training episodes": ("--num_train 0", ["--num_train", "at least 1"]),
    "no validation episodes": ("--num_val 0", ["--num_val", "at least 1"]),
    "episodes in words": ("--num_train many", ["--num_train", "many"]),
    "no processes": ("--jobs 0", ["--jobs", "at least 1"]),
    "too many primitives": ("--primitives 7", ["1 to 6 primitives", "found 7"]),
    "too many words": ("--functions 8", ["at most 9 primitives and functions"]),
    "no query": ("--num_query 0", ["number of queries of at least 1"]),
    "more examples than there are": (
        "--primitives 1 --functions 0 --longest_input 3 --num_support 3 --num_query 1 --num_train 1",
        ["only 3 of 4 different examples", "ask for fewer examples or longer ones"],
    ),
    "more examples than there are, in two processes": (
        "--primitives 1 --functions 0 --longest_input 3 --num_support 3 --num_query 1 --num_val 300 --jobs 2",
        ["only 3 of 4 different examples"],
    ),
    "no function to ask for": (
        "--primitives 1 --functions 0 --longest_input 3 --longest_study 2 --num_support 1 --num_query 1 --num_val 1",
        ["without functions copying answers every query", "--longest_study"],
    ),
    "study examples as long as queries": ("--longest_study 8", ["shorter than the longest input, 8", "found 8"]),
    "every grammar taken": (
        "--primitives 1 --functions 0 --num_support 1 --num_query 1 --num_val 600 --num_train 1",
        ["100 grammars in a row were excluded"],
    ),
    "files are there": ("--dir_out {world}/done", ["done/val.npz is there already", "--overwrite"]),
    "text files are there": ("--text --dir_out {world}/texts", ["texts/val/000001.txt is there already"]),
    "other text files are there": (
        "--text --overwrite --num_train 8 --dir_out {world}/mixed",
        ["mixed/train/000009.txt would stay among the new files"],
    ),
    "folder is a file": ("--dir_out {world}/file", ["file"]),
    "folder below a file": ("--dir_out {world}/file/data", ["file"]),
    "seed of text files": ("--from_text {world}/texts --seed 3", ["--seed is about random episodes"]),
    "text files as text": ("--from_text {world}/texts --text", ["--text is about random episodes"]),
    "no text files": ("--from_text {world}/empty", ["empty: expected *.txt files", "found none"]),
    "no folder of text files": ("--from_text {world}/nowhere", ["nowhere: expected *.txt files", "found none"]),
    "text files of probes": ("--from_text {world}/probes", ["probes/1.txt: has allowed outputs", "stay text files"]),
    "malformed text files": ("--from_text {world}/bad", ["bad/wrong/1.txt:2: expected 'IN: <words> OUT: <words>'"]),
    "packed already": ("--from_text {world}/mixed --dir_out {world}/done", ["done/train.npz is there already"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(world, case):
    """Exit code 2, one line that says what is wrong, every file as it was and none added."""
    line, said = MISTAKES[case]
    arguments = shlex.split(line.format(world=world))
    arguments += [] if "--dir_out" in arguments else ["--dir_out", world / "new"]
    before = contents(world)
    code, _, err = run_generate(*arguments)
    assert code == 2
    assert err.startswith("generate.py: error: ") and err.endswith("\n") and err.count("\n") == 1
    assert all(text in err for text in said), err
    assert contents(world) == before


def run_shortcuts(*arguments):
    return run_file(ROOT / "biml" / "shortcuts.py", *arguments)


def test_shortcuts_are_counted_over_episodes(tmp_path):
    """Means over the validation episodes of the shares of their queries; the lines, and JSON."""
    study = (example("dax : RED"), example("dax lug : RED RED"))
    first = "dax dax : RED RED", "lug : PINK"
    asked = [first, ("dax lug lug : RED RED RED", "wif dax lug : BLUE RED RED"), ("dax dax lug : RED RED RED",)]
    grammar = parse_grammar(["dax -> RED", "wif -> BLUE", "u1 lug -> [u1] [u1]", "u1 x1 -> [u1] [x1]"])
    episodes = [Episode(study, tuple(map(example, queries)), grammar) for queries in asked]
    save_packed(tmp_path / "data_algebraic" / "val.npz", pack(episodes, {}))
    code, out, err = run_shortcuts("--data_dir", tmp_path, "--fn_out_results", tmp_path / "found.json")
    assert (code, err) == (0, "")
    copied, by_word, by_part = 100 * 0.5 / 3, 100 * 0.5 / 3, 100 * (0.5 + 1) / 3
    shown = f"a study example's answer: {copied:.2f} %\nthe colours of its words: {by_word:.2f} %\n"
    assert f"of 3 validation episodes that could be answered by\n{shown}" in out
    found = json.loads((tmp_path / "found.json").read_text())
    together = 100 * (0.5 + 0.5 + 1) / 3  # "wif" was not studied, but has a colour
    assert list(found["percent"].values()) == pytest.approx([copied, by_word, by_part, together, together])
    assert found["n_episodes"] == 3 and "commit" in found["provenance"]


def test_episodes_without_new_queries_have_no_shortcuts(tmp_path):
    """One line says so."""
    save_packed(tmp_path / "data_algebraic" / "val.npz", pack([Episode((example("dax : RED"),), (), None)], {}))
    code, _, err = run_shortcuts("--data_dir", tmp_path)
    assert (code, err) == (2, "shortcuts.py: error: the episodes have no new queries\n")


def test_overwriting_has_to_be_asked_for(world):
    """With --overwrite the files that were there are replaced."""
    code, _, err = run_generate(*SMALL, "--num_train", 3, "--dir_out", world / "done", "--overwrite")
    assert (code, err) == (0, "")
    assert [len(load_packed(world / "done" / f"{split}.npz")) for split in ("val", "train")] == [5, 3]


def test_ctrl_c_is_one_line_and_leaves_nothing(tmp_path):
    """Also with several processes, which the terminal interrupts, too."""
    process = subprocess.Popen(
        [*COMMAND, "--num_train", "5000", "--jobs", "2", "--dir_out", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        # what runs the tests in the background may have it ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout.readline().startswith("train: 500 of 5000 episodes")
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, err) == (130, "generate.py: interrupted\n")
    assert contents(tmp_path) == {}


def test_a_process_that_is_killed_ends_the_command(tmp_path):
    """As when memory runs out: one line, no files, no waiting for what will not come."""
    process = subprocess.Popen(
        [*COMMAND, "--num_train", "50000", "--jobs", "2", "--dir_out", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        assert process.stdout.readline().startswith("train: 5000 of 50000 episodes")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(workers[0]), signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 2
    assert err.startswith("generate.py: error: ") and err.count("\n") == 1 and "--jobs" in err
    assert contents(tmp_path) == {}


def test_paper_sizes_are_the_default():
    """The options' defaults are those of the published set."""
    code, out, err = run_generate("-h")
    assert (code, err) == (0, "")
    for name, size in asdict(PAPER_SIZES).items():
        shown = "all alike" if size is None else size
        assert re.search(rf"--{name} N\s+[^(]*\(default:\s+{shown}\)", out), name
    assert re.search(r"--num_train N\s+[^(]*\(default:\s+100000\)", out)
