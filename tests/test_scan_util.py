"""SCAN as generated here is the published SCAN, and its files survive users, crashes and other processes."""

import hashlib
import multiprocessing
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scan_util
from scan_util import (
    PRIMITIVES,
    SPLITS,
    all_items,
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
LINES = b"IN: jump OUT: I_JUMP\nIN: walk twice OUT: I_WALK I_WALK\n"
SOME_ITEMS = all_items()[::97]
FORM = "expected 'IN: <command> OUT: <actions>'"


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
    """One hand-worked command for each construction; that all have their meaning shows in the published files below."""
    assert interpret(command.split()) == tuple(f"I_{action}" for action in actions.split())


@pytest.mark.parametrize(
    "words",
    (
        *("", "turn", "turn twice", "fly", "left", "twice", "jump jump", "jump around", "jump left right", "I_JUMP"),
        *("jump twice thrice", "jump opposite around left", "twice jump", "walk and", "after walk"),
        "jump and walk after run",
    ),
)
def test_other_words_are_no_command(words):
    """What the grammar does not make is refused, with the offending words."""
    with pytest.raises(ValueError, match="not a SCAN command"):
        interpret(words.split())


# The splits


@pytest.mark.parametrize(("part", "split", "lines", "digest"), PUBLISHED, ids=lambda value: str(value)[:24])
def test_a_file_equals_the_published_one(data_dir, part, split, lines, digest):
    """Number of lines and SHA-256 of the sorted lines are those of the published files."""
    assert len(load_split(data_dir, part, split)) == lines
    written = split_path(data_dir, part, split).read_bytes().splitlines(keepends=True)
    assert len(written) == lines
    assert hashlib.sha256(b"".join(sorted(written))).hexdigest() == digest


@pytest.mark.parametrize(
    ("split", "fillers"), [("jump_around_right", ("jump",)), ("opposite_right", PRIMITIVES), ("right", PRIMITIVES)]
)
def test_a_template_with_a_primitive_is_never_trained(split, fillers):
    """Every test command and no training command has the filled template; those with `turn` in it are dropped."""
    slotless = split.removeprefix("jump_").replace("_", " ")
    parts = split_items(f"template_{split}")

    def has(item, fillers):
        return any(f" {filler} {slotless} " in f" {' '.join(item.input)} " for filler in fillers)

    assert all(has(item, fillers) for item in parts["test"])
    assert not any(has(item, [*fillers, "turn"]) for item in parts["train"])
    dropped = [item for item in all_items() if has(item, ["turn"])]
    assert dropped
    assert Counter(parts["train"] + parts["test"] + dropped) == Counter(all_items())


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match=r"'lenght'.*addprim_jump.*length"):
        split_items("lenght")


def test_the_script_writes_every_file(tmp_path, monkeypatch, capsys):
    """`scan_util.py` writes the parts of each split under their published names and says so; existing files stay."""
    assert {name for _, name, _, _ in PUBLISHED} < set(SPLITS)
    monkeypatch.setattr(scan_util, "SPLITS", ("all", "template_right"))
    monkeypatch.setattr("sys.argv", ["scan_util.py", "--data_dir", str(tmp_path / "new")])
    mine = split_path(tmp_path / "new", "test", "template_right")
    mine.parent.mkdir()
    mine.write_text("IN: mine OUT: MINE\n")
    scan_util.main()
    assert mine.read_text() == "IN: mine OUT: MINE\n"
    names = ["tasks_test_template_right.txt", "tasks_train_all.txt", "tasks_train_template_right.txt"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    out = capsys.readouterr().out
    assert "tasks_test_template_right.txt: there already" in out and "tasks_train_all.txt: 20910 lines" in out


# The files


@settings(max_examples=30)
@given(st.lists(st.sampled_from(SOME_ITEMS), min_size=1, max_size=40), st.sampled_from(["", "\r", " ", "  \t \r"]))
def test_reading_undoes_writing(tmp_path_factory, items, end):
    """One `IN: <command> OUT: <actions>` line an item; blanks and a carriage return at its end change nothing."""
    path = tmp_path_factory.mktemp("round") / "items.txt"
    write_items(path, items)
    lines = [f"IN: {' '.join(item.input)} OUT: {' '.join(item.output)}\n" for item in items]
    assert path.read_bytes() == "".join(lines).encode()
    path.write_bytes(path.read_bytes().replace(b"\n", f"{end}\n".encode()))
    assert read_items(path) == items


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"IN: jump", f"{FORM}, found 'IN: jump'"),
        *((line, FORM) for line in (b"IN: jump OUT:", b"IN: OUT: I_JUMP", b"IN:  OUT: I_JUMP", b"jump OUT: I_JUMP")),
        *((line, FORM) for line in (b"jump\tI_JUMP", b"OUT: I_JUMP IN: jump", b"", b"\x00\x01\x02")),
        (b"IN: hop OUT: I_JUMP", "'hop' is no word of SCAN"),
        (b"IN: jump OUT: JUMP", "'JUMP' is no word of SCAN"),
        (b"IN: Jump OUT: I_JUMP", "'Jump' is no word of SCAN"),
        (b"IN: I_JUMP OUT: jump", "'I_JUMP' is no word of SCAN"),
        (b"IN: jump OUT: I_JUMP OUT: I_JUMP", "'OUT:' is no word of SCAN"),
        (b"IN: jump\xff OUT: I_JUMP", "is no word of SCAN"),
    ],
)
def test_a_malformed_line_is_reported_where_it_stands(tmp_path, line, complaint):
    """The message has the file, the line number and what is wrong."""
    path = tmp_path / "items.txt"
    path.write_bytes(LINES + line + b"\nIN: run OUT: I_RUN\n")
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}:3: .*{re.escape(complaint)}"):
        read_items(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(LINES.removesuffix(b" I_WALK\n"), ":2: the file ends within a line"), (b"", ": the file is empty")],
)
def test_a_file_that_was_cut_is_reported(tmp_path, content, complaint):
    """A copy that broke off may end in a line that reads like a command of its own, or be empty."""
    (tmp_path / "items.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"items.txt{complaint}"):
        read_items(tmp_path / "items.txt")


def test_a_missing_file_is_written_and_announced_once(tmp_path, capsys):
    """Whoever mistypes a folder sees that data were made there; the next use reads the file, also one of the user's."""
    folder, path = tmp_path / "not" / "there", split_path(tmp_path / "not" / "there", "test", "length")
    items = load_split(folder, "test", "length")
    note = f"note: {path} was not there; its 3920 lines are generated from SCAN's grammar\n"
    assert capsys.readouterr().out == note
    assert items == load_split(folder, "test", "length") == read_items(path) == split_items("length")["test"]
    path.write_bytes(LINES)
    assert load_split(folder, "test", "length") == [(("jump",), ("I_JUMP",)), (("walk", "twice"), ("I_WALK", "I_WALK"))]
    assert (capsys.readouterr().out, path.read_bytes(), list(folder.iterdir())) == ("", LINES, [path])


@pytest.mark.parametrize(
    ("change", "missing", "further"),
    [
        (lambda lines: lines[: len(lines) // 2], 1960, 0),
        (lambda lines: [lines[0].replace("OUT: ", "OUT: I_RUN "), *lines[1:]], 1, 1),
        (lambda lines: lines * 2, 0, 3920),
        (lambda lines: lines[::-1], 0, 0),
    ],
    ids=["half", "another meaning", "twice", "another order"],
)
def test_other_lines_than_the_published_are_named(tmp_path, change, missing, further):
    """Half a file, lines that contradict the grammar, lines twice; the order is no difference, but in the hash."""
    whole = describe_split(tmp_path, "test", "length")
    path = split_path(tmp_path, "test", "length")
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    found = describe_split(tmp_path, "test", "length")
    assert (whole.difference, whole.note) == ("", "")
    assert found.name == whole.name == "tasks_test_length.txt"
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != whole.sha256
    differs = bool(missing or further)
    assert found.difference == f"{missing} of 3920 are missing, {further} others are there" * differs
    assert found.note.startswith("note: tasks_test_length.txt does not hold the published lines" * differs)


def test_processes_that_share_a_file_see_whole_ones_only(tmp_path):
    """Several may write what they miss at once, each then reads it all; whoever reads meanwhile gets a whole file."""
    folder, shared = tmp_path / "data", tmp_path / "items.txt"
    contents = [SOME_ITEMS[start : start + 70] for start in (0, 70, 140)]
    write_items(shared, contents[0])
    with multiprocessing.get_context("spawn").Pool(2) as workers:
        loaded = workers.starmap(load_split, [(folder, "test", "addprim_turn_left")] * 2, chunksize=1)
        writing = workers.starmap_async(write_items, [(shared, contents[n % 3]) for n in range(60)], chunksize=1)
        while not writing.ready():
            assert read_items(shared) in contents
        writing.get()
    assert loaded == [split_items("addprim_turn_left")["test"]] * 2
    assert list(folder.iterdir()) == [split_path(folder, "test", "addprim_turn_left")]
    assert read_items(shared) in contents
    assert set(tmp_path.iterdir()) == {shared, folder}
