"""The SCAN commands, their meanings, the published splits, and the files that hold them.

SCAN is generated here from its grammar and its interpretation function, so nothing is downloaded; files that are
already in the data folder are read instead. No torch, no vocabulary: an item is a pair of word tuples.

Source: Lake & Baroni 2018, "Generalization without systematicity" (grammar and interpretation, Figures 6 and 7);
Loula, Baroni & Lake 2018, "Rearranging the familiar" (the template splits).
"""

import argparse
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from common.command_line import OneLineParser, folder_path, run_script
from common.errors import UserError
from common.files import digest, written_whole


class Item(NamedTuple):
    """One input sequence and its output sequence, in words."""

    input: tuple[str, ...]
    output: tuple[str, ...]


PRIMITIVES = ("walk", "look", "run", "jump")
DIRECTIONS = ("left", "right")
ACTION_OF = {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"}
TURN_OF = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
INPUT_WORDS = (*PRIMITIVES, *DIRECTIONS, "turn", "opposite", "around", "twice", "thrice", "and", "after")
OUTPUT_WORDS = (*ACTION_OF.values(), *TURN_OF.values())

LONGEST_TRAINING_OUTPUT = 22  # the length split trains on outputs of at most this many actions
TEMPLATES = {
    "template_around_right": ("around", "right"),
    "template_jump_around_right": ("jump", "around", "right"),
    "template_opposite_right": ("opposite", "right"),
    "template_right": ("right",),
}
TESTED_SPLITS = ("addprim_jump", "addprim_turn_left", "length", *TEMPLATES)
SPLITS = ("all", *TESTED_SPLITS)


class Words(NamedTuple):
    """The words that may stand in a file of items, and whose they are."""

    inputs: Collection[str]
    outputs: Collection[str]
    whose: str


SCAN_WORDS = Words(frozenset(INPUT_WORDS), frozenset(OUTPUT_WORDS), "SCAN")
SCAN_ADVICE = "in another --data_dir SCAN is generated anew; your own data go to train.py --train_file and --test_file"


def interpret(command: Sequence[str], action_of: Mapping[str, str] = MappingProxyType(ACTION_OF)) -> tuple[str, ...]:
    """Translate a command of the grammar into its actions: SCAN's interpretation function.

    Args:
        command: the words.
        action_of: the primitives and their actions, should there be others than SCAN's four.
    Raises:
        UserError: if the words are no SCAN command.
    """
    words = tuple(command)
    conjunctions = [number for number, word in enumerate(words) if word in ("and", "after")]
    if len(conjunctions) == 1:
        at = conjunctions[0]
        first, second = _interpret_part(words[:at], action_of), _interpret_part(words[at + 1 :], action_of)
        return first + second if words[at] == "and" else second + first
    return _interpret_part(words, action_of)


def _interpret_part(words: tuple[str, ...], action_of: Mapping[str, str]) -> tuple[str, ...]:
    repetitions = {"twice": 2, "thrice": 3}.get(words[-1] if words else "", 1)
    return _interpret_verb_phrase(words if repetitions == 1 else words[:-1], action_of) * repetitions


def _interpret_verb_phrase(words: tuple[str, ...], action_of: Mapping[str, str]) -> tuple[str, ...]:
    match words:
        case (verb,) if verb in action_of:
            return (action_of[verb],)
        case (verb, *manner, direction) if direction in DIRECTIONS and (verb == "turn" or verb in action_of):
            turn = (TURN_OF[direction],)
            act = () if verb == "turn" else (action_of[verb],)
            if not manner:
                return turn + act
            if manner == ["opposite"]:
                return turn + turn + act
            if manner == ["around"]:
                return (turn + act) * 4
    raise UserError(f"not a SCAN command: {' '.join(words)!r}")


def all_items() -> list[Item]:
    """Enumerate SCAN: all 20,910 commands of the grammar, each once, with their actions."""
    manners = ((), ("opposite",), ("around",))
    directed = [(verb, *m, d) for verb in (*PRIMITIVES, "turn") for m in manners for d in DIRECTIONS]
    verb_phrases = [(verb,) for verb in PRIMITIVES] + directed
    parts = [phrase + times for phrase in verb_phrases for times in ((), ("twice",), ("thrice",))]
    joined = [(*a, conjunction, *b) for conjunction in ("and", "after") for a in parts for b in parts]
    return [Item(command, interpret(command)) for command in [*parts, *joined]]


def contains(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """Say whether the words of `phrase` stand in `words` one after the other."""
    return any(tuple(words[i : i + len(phrase)]) == tuple(phrase) for i in range(len(words) - len(phrase) + 1))


def split_items(split: str) -> dict[str, list[Item]]:
    """Make the lines of a split: {"train": items, "test": items}; `all` has no test part.

    Raises:
        UserError: if there is no such split.
    """
    items = all_items()
    if split == "all":
        return {"train": items}
    if split == "length":
        return _divide(items, [len(item.output) > LONGEST_TRAINING_OUTPUT for item in items])
    if split in ("addprim_jump", "addprim_turn_left"):
        return _added_primitive(items, tuple(split.split("_")[1:]))
    if split in TEMPLATES:
        return _held_out_template(items, TEMPLATES[split])
    raise UserError(f"unknown SCAN split {split!r}; choose from {', '.join(SPLITS)}")


def _added_primitive(items: list[Item], primitive: tuple[str, ...]) -> dict[str, list[Item]]:
    """Train on the primitive alone, as a tenth of all lines; test on every longer command that contains it."""
    isolated = Item(primitive, interpret(primitive))
    parts = _divide([i for i in items if i != isolated], [contains(i.input, primitive) for i in items if i != isolated])
    return {"train": parts["train"] + [isolated] * (len(parts["train"]) // 9), "test": parts["test"]}


def _held_out_template(items: list[Item], template: tuple[str, ...]) -> dict[str, list[Item]]:
    """Test on the commands in which a primitive fills the slot before the template; those with `turn` are dropped."""
    slotless = template[1:] if template[0] in PRIMITIVES else template
    fillers = (template[:1],) if template[0] in PRIMITIVES else tuple((p,) for p in PRIMITIVES)
    kept = [item for item in items if not contains(item.input, ("turn", *slotless))]
    return _divide(kept, [any(contains(item.input, filler + slotless) for filler in fillers) for item in kept])


def _divide(items: list[Item], is_test: list[bool]) -> dict[str, list[Item]]:
    return {
        "train": [item for item, test in zip(items, is_test, strict=True) if not test],
        "test": [item for item, test in zip(items, is_test, strict=True) if test],
    }


def split_path(data_dir: Path, part: str, split: str) -> Path:
    """Name the file of a split's "train" or "test" part, as it is published."""
    return data_dir / f"tasks_{part}_{split}.txt"


def load_split(data_dir: Path, part: str, split: str) -> list[Item]:
    """Read one part of a split; if its file is not there yet, it is written, which is said in a line.

    Raises:
        UserError: if a line of the file is not as expected (the message has the file and the line number).
        OSError: if the file cannot be read or written.
    """
    path = split_path(data_dir, part, split)
    if not path.exists():
        items = split_items(split)[part]
        write_items(path, items)
        print(f"note: {path} was not there; its {len(items)} lines are generated from SCAN's grammar", flush=True)
    try:
        return read_items(path)
    except UserError as error:
        raise UserError(f"{error}; {SCAN_ADVICE}") from None


class SplitFile(NamedTuple):
    """What is recorded of a split's file, to tell later which data they were."""

    name: str
    sha256: str
    difference: str  # how its lines differ from the published ones; empty if in their order only

    @property
    def note(self) -> str:
        """Name the data for what they are, for people; empty if there is nothing to say."""
        return f"note: {self.name} does not hold the published lines: {self.difference}" if self.difference else ""


def describe_split(data_dir: Path, part: str, split: str) -> SplitFile:
    """Compare a split's file with the published one; raises as `load_split`."""
    found, published = Counter(load_split(data_dir, part, split)), Counter(split_items(split)[part])
    missing, further = (published - found).total(), (found - published).total()
    difference = f"{missing} of {published.total()} are missing, {further} others are there"
    path = split_path(data_dir, part, split)
    return SplitFile(path.name, digest(path), difference if missing or further else "")


def read_items(path: Path, known: Words | None = SCAN_WORDS) -> list[Item]:
    """Read a file of `IN: <command> OUT: <actions>` lines; blanks and a carriage return at a line's end are allowed.

    Args:
        path: the file.
        known: the words that may stand in it; None: any.
    Raises:
        UserError: if a line is not as expected (the message has the file and the line number).
        OSError: if the file cannot be read.
    """
    items = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            command, marker, actions = line.strip().removeprefix("IN: ").partition(" OUT: ")
            item = Item(tuple(command.split()), tuple(actions.split()))
            if not (line.startswith("IN: ") and marker and all(item)):
                raise UserError(f"{path}:{number}: expected 'IN: <command> OUT: <actions>', found {line.strip()!r}")
            if known is not None:
                unknown = [word for word in item.input if word not in known.inputs]
                unknown += [word for word in item.output if word not in known.outputs]
                if unknown:
                    raise UserError(f"{path}:{number}: {unknown[0]!r} is no word of {known.whose}")
            elif "OUT:" in item.output or "\N{REPLACEMENT CHARACTER}" in line:
                raise UserError(f"{path}:{number}: expected one 'OUT:' and text in UTF-8, found {line.strip()!r}")
            items.append(item)
    if items and not line.endswith("\n"):
        raise UserError(f"{path}:{number}: the file ends within a line, {line!r}; end it if it is whole")
    if not items:
        raise UserError(f"{path}: the file is empty; expected lines 'IN: <command> OUT: <actions>'")
    return items


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Write the items as a file of the published format, whole or not at all."""
    with written_whole(path) as file:
        file.writelines(f"IN: {' '.join(item.input)} OUT: {' '.join(item.output)}\n".encode() for item in items)


def typed_items(text: str) -> list[Item]:
    """Parse items as they are typed on a command line, 'dax -> RED; lug -> BLUE'.

    Raises:
        ArgumentTypeError: if there is none, or one lacks its arrow, its input or its output.
    """
    items = []
    for part in filter(str.strip, text.split(";")):
        given, arrow, produced = part.partition("->")
        item = Item(tuple(given.split()), tuple(produced.split()))
        if not (arrow and all(item)):
            raise argparse.ArgumentTypeError(f"expected 'input words -> output words', found {part.strip()!r}")
        items.append(item)
    if not items:
        raise argparse.ArgumentTypeError("expected at least one 'input words -> output words', found none")
    return items


def add_data_folder(group: argparse._ActionsContainer) -> None:
    """Add --data_dir."""
    help_text = "folder of the SCAN files, which are written there if missing"
    group.add_argument("--data_dir", type=folder_path, default=Path("data"), metavar="DIR", help=help_text)


def main() -> None:
    """Write the files of every split that are not there yet."""
    parser = OneLineParser("Write the train and test files of every SCAN split; files that are there stay as they are.")
    add_data_folder(parser)
    args = parser.parse_args()
    for split in SPLITS:
        for part, items in split_items(split).items():
            path = split_path(args.data_dir, part, split)
            if path.exists():
                print(f"{path}: there already, left as it is")
                continue
            write_items(path, items)
            print(f"{path}: {len(items)} lines")


if __name__ == "__main__":
    run_script(main)
