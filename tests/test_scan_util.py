"""SCAN as generated here is the published SCAN, and its files survive users, crashes and company."""

import hashlib
import multiprocessing
from collections import Counter
from functools import cache
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scan_util
from scan_util import (
    ACTION_OF,
    DIRECTIONS,
    INPUT_WORDS,
    OUTPUT_WORDS,
    PRIMITIVES,
    SPLITS,
    Item,
    all_items,
    contains,
    describe_split,
    interpret,
    load_split,
    read_items,
    split_items,
    split_path,
    write_items,
)

PUBLISHED = [  # part, split, lines, SHA-256 of the bytewise sorted lines
    ("train", "all", 20910, "6be4b39bc8bf3a20be810b6991250d0493e608560609db6765dd679e1ed1c98e"),
    ("train", "addprim_jump", 14670, "0683daacfdce23cf8ed6f5077feda21785e93ac82e0d11363a9280b7b0c6561e"),
    ("test", "addprim_jump", 7706, "522454c6280eab957dfc4ea9579ef1d780a716ac34df09619970e1d98822d7e2"),
    ("train", "addprim_turn_left", 21890, "e0c26b51b6bba2658e02d69ad53fc15399842d57356d3551a3ed192bca0f9ad4"),
    ("test", "addprim_turn_left", 1208, "14dd6316d16204d2871678ee4bd35aba253416a9b4df36bb6dfdda153d46e549"),
    ("train", "length", 16990, "7ffb97f45029871c94bede7e723f7a4aa179eb99fe2b977a18283310422c719d"),
    ("test", "length", 3920, "3297fd0b676c391f7bc3a7385aa66a7fdf64f6f8e81ad584810c1d4ebd0eaa2c"),
    ("train", "template_around_right", 15225, "f2b91818e1216d5c95bf050c8d328ade7f773664fdc87e67d07f945e2134ebdc"),
    ("test", "template_around_right", 4476, "8e1297eb61d98ff61ef480e9d4641d1d8596fe21c20131a57411a3fbdfd653a9"),
]
SMALL = [Item(("jump",), ("I_JUMP",)), Item(("walk", "twice"), ("I_WALK", "I_WALK"))]

directed_phrases = st.builds(
    lambda verb, manner, direction: (verb, *manner, direction),
    st.sampled_from((*PRIMITIVES, "turn")),
    st.sampled_from(((), ("opposite",), ("around",))),
    st.sampled_from(DIRECTIONS),
)
verb_phrases = st.sampled_from(PRIMITIVES).map(lambda verb: (verb,)) | directed_phrases
sentence_parts = st.builds(
    lambda phrase, times: phrase + times, verb_phrases, st.sampled_from(((), ("twice",), ("thrice",)))
)


@pytest.fixture(scope="module")
def everything():
    return all_items()


@pytest.fixture(scope="module")
def workers():
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        yield pool


# The language


@pytest.mark.parametrize(
    ("command", "actions"),
    [
        ("jump", "JUMP"),
        ("turn left", "TURN_LEFT"),
        ("jump left", "TURN_LEFT JUMP"),
        ("turn opposite right", "TURN_RIGHT TURN_RIGHT"),
        ("look opposite left", "TURN_LEFT TURN_LEFT LOOK"),
        ("turn around left", "TURN_LEFT TURN_LEFT TURN_LEFT TURN_LEFT"),
        ("run around right", "TURN_RIGHT RUN TURN_RIGHT RUN TURN_RIGHT RUN TURN_RIGHT RUN"),
        ("walk right thrice", "TURN_RIGHT WALK TURN_RIGHT WALK TURN_RIGHT WALK"),
        ("jump and walk twice", "JUMP WALK WALK"),
        ("jump twice after run left", "TURN_LEFT RUN JUMP JUMP"),
    ],
)
def test_a_command_means_what_the_paper_says(command, actions):
    """One hand-worked command for each construction of the grammar."""
    assert interpret(command.split()) == tuple(f"I_{action}" for action in actions.split())


@given(sentence_parts, sentence_parts)
def test_and_means_one_after_the_other(first, second):
    """`x and y` does x, then y."""
    assert interpret((*first, "and", *second)) == interpret(first) + interpret(second)


@given(sentence_parts, sentence_parts)
def test_after_means_the_other_way_round(first, second):
    """`x after y` does y, then x."""
    assert interpret((*first, "after", *second)) == interpret(second) + interpret(first)


@given(verb_phrases)
def test_twice_and_thrice_repeat(phrase):
    """A repetition repeats the whole verb phrase."""
    assert interpret((*phrase, "twice")) == interpret(phrase) * 2
    assert interpret((*phrase, "thrice")) == interpret(phrase) * 3


@given(directed_phrases)
def test_a_direction_turns_before_each_act(phrase):
    """Once, twice for `opposite`, four times with an act after each for `around`; `turn` does not act."""
    turn = (f"I_TURN_{phrase[-1].upper()}",)
    act = () if phrase[0] == "turn" else (ACTION_OF[phrase[0]],)
    expected = {"opposite": turn + turn + act, "around": (turn + act) * 4}.get(phrase[1], turn + act)
    assert interpret(phrase) == expected


@given(sentence_parts, sentence_parts, st.sampled_from(("and", "after")))
def test_every_command_of_the_grammar_is_enumerated(first, second, conjunction):
    """The enumeration holds whatever the grammar makes, with its meaning."""
    for command in (first, (*first, conjunction, *second)):
        assert command in meanings()
        assert meanings()[command] == interpret(command)


@cache
def meanings():
    """The enumeration as a dict: command -> actions."""
    return dict(all_items())


@pytest.mark.parametrize(
    "words",
    (
        *("", "turn", "turn twice", "fly", "left", "twice", "jump jump", "jump around", "jump left right", "I_JUMP"),
        *("jump twice thrice", "jump opposite around left", "twice jump", "walk and", "after walk"),
    ),
)
def test_other_words_are_no_command(words):
    """What the grammar does not make is refused, with the offending words."""
    with pytest.raises(ValueError, match="not a SCAN command"):
        interpret(words.split())


def test_the_enumeration_has_each_command_once(everything):
    """20,910 different commands over 13 words, of at most 9 words and 48 actions over 6 symbols."""
    assert len(everything) == len({item.input for item in everything}) == 20910
    assert {word for item in everything for word in item.input} == set(INPUT_WORDS)
    assert {action for item in everything for action in item.output} == set(OUTPUT_WORDS)
    assert max(len(item.input) for item in everything) == 9
    assert max(len(item.output) for item in everything) == 48


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), min_size=1, max_size=3))
def test_contains_finds_phrases_of_whole_words(words, phrase):
    """A phrase is contained if its words stand in the sentence one after the other."""
    assert contains(words, phrase) == ("".join(phrase) in "".join(words))


# The splits


@pytest.mark.parametrize(("part", "split", "lines", "digest"), PUBLISHED, ids=lambda value: str(value)[:24])
def test_a_file_equals_the_published_one(data_dir, part, split, lines, digest):
    """Number of lines and SHA-256 of the sorted lines are those of the published files."""
    assert len(load_split(data_dir, part, split)) == lines
    written = split_path(data_dir, part, split).read_bytes().splitlines(keepends=True)
    assert len(written) == lines
    assert hashlib.sha256(b"".join(sorted(written))).hexdigest() == digest


@pytest.mark.parametrize(
    ("split", "primitive", "times"),
    [("addprim_jump", ("jump",), 1467), ("addprim_turn_left", ("turn", "left"), 2189)],
)
def test_an_added_primitive_is_trained_alone_and_tested_in_company(everything, split, primitive, times):
    """The primitive stands alone in a tenth of the training lines and in every test command; nothing is lost."""
    parts = split_items(split)
    trained = Counter(item.input for item in parts["train"])
    assert trained.pop(primitive) == times == len(parts["train"]) // 10
    assert set(trained.values()) == {1}
    assert not any(contains(command, primitive) for command in trained)
    assert all(contains(item.input, primitive) and item.input != primitive for item in parts["test"])
    assert {*parts["train"], *parts["test"]} == set(everything)


def test_the_length_split_divides_at_22_actions(everything):
    """Training outputs have at most 22 actions, test outputs 24 to 48."""
    parts = split_items("length")
    assert max(len(item.output) for item in parts["train"]) == 22
    assert {min(len(item.output) for item in parts["test"]), max(len(item.output) for item in parts["test"])} == {
        24,
        48,
    }
    assert sorted(parts["train"] + parts["test"]) == sorted(everything)


@pytest.mark.parametrize(
    ("split", "fillers", "slotless"),
    [
        ("template_around_right", PRIMITIVES, "around right"),
        ("template_jump_around_right", ("jump",), "around right"),
        ("template_opposite_right", PRIMITIVES, "opposite right"),
        ("template_right", PRIMITIVES, "right"),
    ],
)
def test_a_template_with_a_primitive_is_never_trained(everything, split, fillers, slotless):
    """Every test command and no training command has the filled template; those with `turn` in it are dropped."""
    parts = split_items(split)
    filled = [f"{filler} {slotless}" for filler in fillers]
    texts = {part: [f" {' '.join(item.input)} " for item in items] for part, items in parts.items()}
    assert all(any(f" {phrase} " in text for phrase in filled) for text in texts["test"])
    assert not any(f" {phrase} " in text for phrase in filled for text in texts["train"])
    assert not any(f" turn {slotless} " in text for text in texts["train"] + texts["test"])
    dropped = [item for item in everything if f" turn {slotless} " in f" {' '.join(item.input)} "]
    assert dropped
    assert sorted(parts["train"] + parts["test"] + dropped) == sorted(everything)


def test_an_unknown_split_is_named():
    """The message has the name that was given and those there are."""
    with pytest.raises(ValueError, match=r"'lenght'.*addprim_jump.*length"):
        split_items("lenght")


def test_the_script_writes_every_file(tmp_path, monkeypatch, capsys):
    """`scan_util.py` writes the parts of each split under their published names and says so; what is there stays."""
    monkeypatch.setattr(scan_util, "SPLITS", ("all", "template_right"))
    monkeypatch.setattr("sys.argv", ["scan_util.py", "--data_dir", str(tmp_path / "new" / "folder")])
    scan_util.main()
    names = ["tasks_test_template_right.txt", "tasks_train_all.txt", "tasks_train_template_right.txt"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == names
    assert "tasks_train_all.txt: 20910 lines" in capsys.readouterr().out
    (tmp_path / "new" / "folder" / names[0]).write_text("IN: mine OUT: MINE\n")
    (tmp_path / "new" / "folder" / names[1]).unlink()
    scan_util.main()
    assert (tmp_path / "new" / "folder" / names[0]).read_text() == "IN: mine OUT: MINE\n"
    out = capsys.readouterr().out
    assert "tasks_test_template_right.txt: there already" in out and "tasks_train_all.txt: 20910 lines" in out
    assert {name for _, name, _, _ in PUBLISHED} < set(SPLITS)


# The files


@settings(max_examples=30)
@given(st.lists(st.sampled_from(range(0, 20910, 97)), min_size=1, max_size=40))
def test_reading_undoes_writing(tmp_path_factory, numbers):
    """Items come back as they were, in their order, repeated ones too."""
    path = tmp_path_factory.mktemp("round") / "items.txt"
    known = list(meanings().items())
    items = [Item(*known[number]) for number in numbers]
    write_items(path, items)
    assert read_items(path) == items


def test_the_format_is_the_published_one(tmp_path):
    """One `IN: <command> OUT: <actions>` line an item, each ended by a line feed."""
    path = tmp_path / "items.txt"
    write_items(path, SMALL)
    assert path.read_bytes() == b"IN: jump OUT: I_JUMP\nIN: walk twice OUT: I_WALK I_WALK\n"


@pytest.mark.parametrize("end", ["\r\n", " \n", "  \t \r\n"], ids=["carriage return", "blank", "both"])
def test_line_ends_do_not_matter(tmp_path, end):
    """Blanks and a carriage return at a line's end change nothing."""
    path = tmp_path / "items.txt"
    write_items(path, SMALL)
    path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))
    assert read_items(path) == SMALL


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"IN: jump", "expected 'IN: <command> OUT: <actions>', found 'IN: jump'"),
        (b"IN: jump OUT:", "expected 'IN: <command> OUT: <actions>'"),
        (b"IN: OUT: I_JUMP", "expected 'IN: <command> OUT: <actions>'"),
        (b"IN:  OUT: I_JUMP", "expected 'IN: <command> OUT: <actions>'"),
        (b"jump OUT: I_JUMP", "expected 'IN: <command> OUT: <actions>'"),
        (b"jump\tI_JUMP", "expected 'IN: <command> OUT: <actions>'"),
        (b"OUT: I_JUMP IN: jump", "expected 'IN: <command> OUT: <actions>'"),
        (b"", "expected 'IN: <command> OUT: <actions>'"),
        (b"IN: hop OUT: I_JUMP", "'hop' is no word of SCAN"),
        (b"IN: jump OUT: JUMP", "'JUMP' is no word of SCAN"),
        (b"IN: Jump OUT: I_JUMP", "'Jump' is no word of SCAN"),
        (b"IN: I_JUMP OUT: jump", "'I_JUMP' is no word of SCAN"),
        (b"IN: jump OUT: I_JUMP OUT: I_JUMP", "'OUT:' is no word of SCAN"),
        (b"IN: jump OUT: I_JU", "'I_JU' is no word of SCAN"),
        (b"IN: jump\xff OUT: I_JUMP", "is no word of SCAN"),
        (b"\x00\x01\x02", "expected 'IN: <command> OUT: <actions>'"),
    ],
)
def test_a_malformed_line_is_reported_where_it_stands(tmp_path, line, complaint):
    """The message has the file, the line number and what is wrong."""
    path = tmp_path / "items.txt"
    write_items(path, SMALL)
    path.write_bytes(path.read_bytes() + line + b"\nIN: run OUT: I_RUN\n")
    with pytest.raises(ValueError) as error:
        read_items(path)
    assert str(error.value).startswith(f"{path}:3: ")
    assert complaint in str(error.value)


def test_an_empty_file_is_reported(tmp_path):
    """A file without a line is no data; the message says which and what to do."""
    path = tmp_path / "items.txt"
    path.touch()
    with pytest.raises(ValueError, match="empty; expected lines") as error:
        read_items(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_last_line_that_was_cut_is_reported(tmp_path):
    """A copy that broke off may leave a line that reads like a command of its own."""
    path = tmp_path / "items.txt"
    write_items(path, SMALL)
    path.write_bytes(path.read_bytes()[: -len(b" I_WALK\n")])
    with pytest.raises(ValueError, match="2: the file ends within a line") as error:
        read_items(path)
    assert str(error.value).startswith(f"{path}:2: ")


def test_a_generated_file_is_announced_once(tmp_path, capsys):
    """Whoever mistypes a folder sees that data were made there."""
    load_split(tmp_path / "dta", "test", "length")
    printed = capsys.readouterr().out
    assert f"{tmp_path}/dta/tasks_test_length.txt was not there; its 3920 lines are generated" in printed
    assert printed.count("\n") == 1
    load_split(tmp_path / "dta", "test", "length")
    assert capsys.readouterr().out == ""


SPOILT = {  # what becomes of the published lines, and how many are missing and further then
    "half": (lambda lines: lines[: len(lines) // 2], 1960, 0),
    "another meaning": (
        lambda lines: [line.replace("OUT: I_TURN_LEFT", "OUT: I_RUN", 1) for line in lines],
        None,
        None,
    ),
    "twice": (lambda lines: lines * 2, 0, 3920),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_other_lines_than_the_published_are_named(tmp_path, kind):
    """Half a file, lines that contradict the grammar, lines that stand there twice; the hash is another one."""
    change, missing, further = SPOILT[kind]
    whole = describe_split(tmp_path, "test", "length")
    path = split_path(tmp_path, "test", "length")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))
    found = describe_split(tmp_path, "test", "length")
    assert (whole.difference, whole.note) == ("", "")
    assert found.name == whole.name == "tasks_test_length.txt"
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != whole.sha256
    if missing is None:
        missing = further = sum("OUT: I_TURN_LEFT" in line for line in lines)
    assert found.difference == f"{missing} of 3920 are missing, {further} others are there"
    assert found.note.startswith("note: tasks_test_length.txt does not hold the published lines")


def test_the_order_of_lines_is_no_difference(tmp_path):
    """The published files have another; their hash tells them apart."""
    before = describe_split(tmp_path, "test", "length")
    path = split_path(tmp_path, "test", "length")
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    found = describe_split(tmp_path, "test", "length")
    assert (found.difference, found.sha256 != before.sha256) == ("", True)


def test_a_file_that_is_there_is_read_and_kept(tmp_path):
    """A file dropped in by the user counts, and stays as it is."""
    path = split_path(tmp_path, "test", "length")
    path.write_bytes(b"IN: jump OUT: I_JUMP \r\n")
    assert load_split(tmp_path, "test", "length") == SMALL[:1]
    assert path.read_bytes() == b"IN: jump OUT: I_JUMP \r\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_written_into_a_missing_folder(tmp_path):
    """The first use writes the file, folders included; the second reads it."""
    folder = tmp_path / "not" / "there"
    items = load_split(folder, "test", "addprim_turn_left")
    assert items == split_items("addprim_turn_left")["test"] == read_items(folder / "tasks_test_addprim_turn_left.txt")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """A file is replaced by a whole one or not at all, and nothing else is left in the folder."""
    path = tmp_path / "items.txt"
    write_items(path, SMALL)

    def breaking_off():
        yield SMALL[0]
        raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="the power is gone"):
        write_items(path, chain(all_items()[:1000], breaking_off()))
    assert read_items(path) == SMALL
    assert list(tmp_path.iterdir()) == [path]


def test_processes_that_need_the_same_file_all_get_it(tmp_path, workers):
    """Several processes may write what they miss at once: each reads the whole split, and one file is left."""
    loaded = workers.starmap(load_split, [(tmp_path, "test", "addprim_turn_left")] * 3, chunksize=1)
    assert loaded == [split_items("addprim_turn_left")["test"]] * 3
    assert list(tmp_path.iterdir()) == [split_path(tmp_path, "test", "addprim_turn_left")]


def test_a_reader_sees_whole_files_only(tmp_path, workers):
    """While processes write different contents under one name, every reading is one of the contents."""
    path = tmp_path / "items.txt"
    contents = [all_items()[start : start + 300] for start in (0, 5000, 10000)]
    write_items(path, contents[0])
    writing = workers.starmap_async(write_items, [(path, contents[n % 3]) for n in range(60)], chunksize=1)
    while not writing.ready():
        assert read_items(path) in contents
    writing.get()
    assert read_items(path) in contents
    assert list(tmp_path.iterdir()) == [path]
