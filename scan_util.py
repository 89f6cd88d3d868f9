"""SCAN's commands, their meanings, the published splits, and the files of items: SCAN's and your own.

SCAN is generated here from its grammar and its interpretation function, so nothing is downloaded; files that are
already in the data folder are read instead. Your own files have the same lines, `IN: <words> OUT: <words>`, with any
words. No torch, no vocabulary: an item is a pair of word tuples.

Source: Lake & Baroni 2018, "Generalization without systematicity" (grammar and interpretation, Figures 6 and 7);
Loula, Baroni & Lake 2018, "Rearranging the familiar" (the template splits).
"""

import argparse
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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

LONGEST_TRAINING_OUTPUT = 22  # actions, in the length split
TESTED_SPLITS = (
    *("addprim_jump", "addprim_turn_left", "length", "template_around_right"),
    *("template_jump_around_right", "template_opposite_right", "template_right"),
)
SPLITS = ("all", *TESTED_SPLITS)


class Words(NamedTuple):
    """The words that a file of items may contain, and whose words they are."""

    inputs: Collection[str]
    outputs: Collection[str]
    whose: str


SCAN_WORDS = Words(frozenset(INPUT_WORDS), frozenset(OUTPUT_WORDS), "SCAN")
SCAN_ADVICE = "in another --data_dir SCAN is generated anew; your own data go to train.py --train_file and --test_file"


def interpret(command: Sequence[str], action_of: Mapping[str, str] = MappingProxyType(ACTION_OF)) -> tuple[str, ...]:
    """Translate a command of the grammar into its actions: SCAN's interpretation function.

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
    """Say whether `words` include `phrase`, word after word."""
    return any(tuple(words[i : i + len(phrase)]) == tuple(phrase) for i in range(len(words) - len(phrase) + 1))


def split_items(split: str) -> dict[str, list[Item]]:
    """Make the lines of a split: {"train": items, "test": items}; `all` has no test part.

    Raises:
        UserError: if there is no such split.
    """
    if split not in SPLITS:
        raise UserError(f"unknown SCAN split {split!r}; choose from {', '.join(SPLITS)}")
    items = all_items()
    kind, *phrase = split.split("_")
    if kind == "addprim":
        return _added_primitive(items, tuple(phrase))
    if kind == "template":
        return _held_out_template(items, tuple(phrase))
    if kind == "length":
        return _divide(items, lambda item: len(item.output) > LONGEST_TRAINING_OUTPUT)
    return {"train": items}


def _added_primitive(items: list[Item], primitive: tuple[str, ...]) -> dict[str, list[Item]]:
    """Train on the primitive alone, as a tenth of all lines; test on every longer command that contains it."""
    isolated = Item(primitive, interpret(primitive))
    parts = _divide([item for item in items if item != isolated], lambda item: contains(item.input, primitive))
    return {"train": parts["train"] + [isolated] * (len(parts["train"]) // 9), "test": parts["test"]}


def _held_out_template(items: list[Item], template: tuple[str, ...]) -> dict[str, list[Item]]:
    """Test on the commands in which a primitive stands before the template; commands with `turn` there are dropped."""
    is_filled = template[0] in PRIMITIVES
    fillers, slotless = (template[:1], template[1:]) if is_filled else (PRIMITIVES, template)
    kept = [item for item in items if not contains(item.input, ("turn", *slotless))]
    return _divide(kept, lambda item: any(contains(item.input, (filler, *slotless)) for filler in fillers))


def _divide(items: list[Item], is_test: Callable[[Item], bool]) -> dict[str, list[Item]]:
    parts: dict[str, list[Item]] = {"train": [], "test": []}
    for item in items:
        parts["test" if is_test(item) else "train"].append(item)
    return parts


def split_path(data_dir: Path, part: str, split: str) -> Path:
    """Give the published name of a split's "train" or "test" part."""
    return data_dir / f"tasks_{part}_{split}.txt"


def load_split(data_dir: Path, part: str, split: str) -> list[Item]:
    """Read one part of a split. A missing file is written first, and a printed line says so.

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
    """What a checkpoint or a result records of a SCAN file."""

    name: str
    sha256: str
    difference: str  # how its lines differ from the published ones; empty if only their order differs

    @property
    def note(self) -> str:
        """Tell people that the lines are not the published ones; empty if they are."""
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

    Words must be `known`; None: any may occur.

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


class DataFile(NamedTuple):
    """What a checkpoint records of a file of your own, to find it again and to notice changes; lengths without EOS."""

    path: str
    sha256: str
    n_items: int
    n_distinct: int
    longest_input: int
    longest_output: int

    def items(self) -> list[Item]:
        """Read the file again.

        Raises:
            UserError: if it is missing or has changed.
        """
        path = Path(self.path)
        if not path.is_file() or digest(path) != self.sha256:
            raise UserError(
                f"{path}, with which the network was trained, is not there any more or has changed; "
                "test.py --split FILE scores on any other file"
            )
        return read_items(path, known=None)


def describe_file(path: Path) -> DataFile:
    """Read and describe a file of your own; raises as `read_items`."""
    items = read_items(path, known=None)
    longest = [max(len(words) for words in side) for side in zip(*items, strict=True)]
    return DataFile(str(path.resolve()), digest(path), len(items), len(set(items)), *longest)


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
