"""Episodes: one table of experiments, one sampler over it.

An episode is a small seq2seq problem: support items that show what the words mean in it, query items to be answered.
It is made from a pool of items (of SCAN, or of the mutual exclusivity language) by drawing, without replacement, which
items take part and what the words in the pool's slots are called and mean this time. The pools are arrays of symbol
numbers, so that an episode costs two table look-ups. No torch, and no random source but the one handed in.

Standard seq2seq training, which the paper compares with, is the case of an empty support set: batches of commands.

Source: Lake 2019, Sections 4.2 to 4.6.
"""

import functools
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import scan_util
from common.errors import UserError
from own_files import DataFile, describe_file
from scan_util import ACTION_OF, LONGEST_TRAINING_OUTPUT, SCAN_ADVICE, TESTED_SPLITS, TURN_OF, Item, interpret

IntArray = npt.NDArray[np.int64]
Meanings = dict[str, str]
"""What the words in the slots mean in one episode."""
Interpreter = Callable[[Sequence[str], Meanings], tuple[str, ...]]
"""Gives the output of input words under the meanings of one episode."""


class Pairs(NamedTuple):
    """Items as symbol numbers without EOS, filled up with any number: inputs (N, T), outputs (N, U), lengths (N,)."""

    inputs: IntArray
    input_lengths: IntArray
    outputs: IntArray
    output_lengths: IntArray

    def rows(self, chosen: IntArray) -> "Pairs":
        """Pick items by number."""
        return Pairs(*(array[chosen] for array in self))


class Episode(NamedTuple):
    """One seq2seq problem."""

    support: Pairs
    query: Pairs
    is_support: npt.NDArray[np.bool_]  # (Q,) whether the query is also a support item (the paper's support loss)
    mapping: str  # identifies what the words mean: "dax -> RED, lug -> BLUE, ..."


Pool = Callable[[Path], list[Item]]
"""Gives the items of a pool, should it need them with the folder of the SCAN files."""


class Language(NamedTuple):
    """What the items of the pools are made of. The longest input counts words, without EOS."""

    input_words: tuple[str, ...]
    output_words: tuple[str, ...]
    longest_input: int
    longest_output: int


ME_MEANINGS = {"dax": "RED", "lug": "YELLOW", "wif": "GREEN", "zup": "BLUE"}
ME_QUERY_LENGTHS = range(2, 7)
ME = Language(tuple(ME_MEANINGS), tuple(ME_MEANINGS.values()), 6, 6)
SCAN = Language(scan_util.INPUT_WORDS, scan_util.OUTPUT_WORDS, 9, 48)


class Draw(NamedTuple):
    """From which pools, keys of POOLS, an episode's items are drawn, and how many.

    Items from one pool never stand in both the support and the query set. With `even_query_lengths` a query is as
    likely to have one input length as another, as long as there are any left; without, every item of the pool is as
    likely as another, and of all sequences of 2 to 6 out of six words 83 % have six. The table says which, so that
    nobody is surprised.
    """

    support_pool: str
    n_support: int
    query_pool: str
    n_query: int
    even_query_lengths: bool


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}{number}" for number in range(1, count + 1))


@dataclass(frozen=True)
class Experiment:
    """One row of the table below: everything that tells one episode type from another.

    `slots` are the words whose meaning changes and what they mean in the pool; an episode draws as many words and
    meanings as there are slots, from them and the further ones. No training episode contains all of `held_out`, nor
    has the mapping of a validation episode. An experiment without slots is standard seq2seq training: its "episodes"
    are batches of training commands with an empty support set.

    A meaning is one output symbol, which takes the place of the pool's, unless there is an `interpreter`: this gets the
    words of an item and what the slot words mean, and gives the output. Then a meaning is any text that it understands,
    such as several symbols, or what to do with the rest.
    """

    name: str
    language: Language
    slots: Meanings
    training: Draw
    held_out: Meanings
    further_words: tuple[str, ...] = ()
    further_meanings: tuple[str, ...] = ()
    n_validation: int = 5
    n_held_out_mappings: int = 0  # mappings drawn for validation; 0 means that validation has the original mapping
    validation: Draw | None = None  # None: as in training
    test_split: str | None = None  # tested on the pool <test_split>_test; None: the validation episodes are the test
    test_support: tuple[Item, ...] = ()  # what is in memory at test; (): each validation episode's support in turn
    interpreter: Interpreter | None = None
    pools: Mapping[str, Pool] = field(default_factory=dict)  # that only this experiment has, beside POOLS
    files: tuple[DataFile, DataFile] | None = None  # training and test file of one's own, for `experiment_on_files`

    @property
    def input_words(self) -> tuple[str, ...]:
        """Every input word the network may meet."""
        return self.language.input_words + self.further_words

    @property
    def output_words(self) -> tuple[str, ...]:
        """Every output symbol the network may meet or produce."""
        meanings = self.further_meanings if self.interpreter is None else ()
        return self.language.output_words + meanings

    @property
    def is_standard(self) -> bool:
        """Whether this is standard seq2seq training, without support set and memory."""
        return not self.slots

    def items(self, pool: str, data_dir: Path) -> list[Item]:
        """Read the items of a pool."""
        return {**POOLS, **self.pools}[pool](data_dir)

    @property
    def padded_length(self) -> int:
        """The length L to which every query counts as padded: the longest input with its EOS."""
        return self.language.longest_input + 1


EXTRA_DIRECTIONS = 2  # Lake 2019, Section 4.5
OWN_FILES = "standard_files"  # the episode type of a run with --train_file and --test_file
MOST_DRAWS = 100_000  # of a mapping that may be trained; if none is, the row of the table leaves none

STANDARD_BATCH = 40  # Lake 2019, Section 4.3: as many items as an episode answers with the support loss
JUMP_AND_TEMPLATES = "jump_and_templates"
SLOTS = ("SLOT1", "SLOT2")  # stand for the primitives of a command


def _standard(name: str, split: str) -> Experiment:
    """Make a row of standard seq2seq training on a SCAN split; its validation also asks for training commands."""
    return Experiment(
        name=name,
        language=SCAN,
        slots={},
        training=Draw(f"{split}_lines", 0, f"{split}_lines", STANDARD_BATCH, even_query_lengths=False),
        held_out={},
        n_validation=1,
        validation=Draw(f"{split}_distinct", 100, f"{split}_test", 100, even_query_lengths=False),
        test_split=split,
    )


def _explained(*commands: str) -> tuple[Item, ...]:
    """Make support items of SCAN commands."""
    return tuple(Item(tuple(command.split()), interpret(command.split())) for command in commands)


_JUMP_SPLIT = Experiment(
    name="scan_prim_permutation",
    language=SCAN,
    slots=ACTION_OF,
    training=Draw("scan", 20, "scan", 20, even_query_lengths=False),
    held_out=ACTION_OF,
    test_split="addprim_jump",
    test_support=_explained("walk", "look", "run", "jump"),
)
_AUGMENTED = replace(_JUMP_SPLIT, further_words=_numbered("Primitive", 20), further_meanings=_numbered("Action", 20))

EXPERIMENTS = {
    row.name: row
    for row in (
        Experiment(
            name="ME",
            language=ME,
            slots=ME_MEANINGS,
            training=Draw("me_words", 3, "me_sequences", 20, even_query_lengths=True),
            held_out={},
            n_held_out_mappings=5,
        ),
        _JUMP_SPLIT,
        replace(_AUGMENTED, name="scan_prim_augmentation", held_out={"jump": "I_JUMP"}),
        replace(
            _JUMP_SPLIT,
            name="scan_around_right",
            slots=TURN_OF,
            held_out={"right": "I_TURN_RIGHT"},
            further_words=_numbered("Direction", EXTRA_DIRECTIONS),
            further_meanings=_numbered("I_TURN_DIRECTION", EXTRA_DIRECTIONS),
            test_split="template_around_right",
            test_support=_explained("turn left", "turn right"),
        ),
        replace(
            _AUGMENTED,
            name="scan_length",
            training=Draw("length_train_short", 100, "length_train_long", 20, even_query_lengths=False),
            validation=Draw("length_train", 100, "length_test", 20, even_query_lengths=False),
            test_split="length",
            test_support=(),
        ),
        _standard("standard_addprim_jump", "addprim_jump"),
        replace(
            _standard("standard_addprim_jump_augmentation", "addprim_jump"),
            training=Draw(JUMP_AND_TEMPLATES, 0, JUMP_AND_TEMPLATES, STANDARD_BATCH, even_query_lengths=False),
            validation=Draw(JUMP_AND_TEMPLATES, 100, "addprim_jump_test", 100, even_query_lengths=False),
            further_words=_AUGMENTED.further_words,
            further_meanings=_AUGMENTED.further_meanings,
        ),
        _standard("standard_around_right", "template_around_right"),
        _standard("standard_length", "length"),
    )
}


def find_experiment(episode_type: str, extra_directions: int | None = None) -> Experiment:
    """Look up an episode type; `extra_directions` changes how many directions scan_around_right adds.

    Raises:
        UserError: if there is no such type, or if it has no directions to add.
    """
    if episode_type not in EXPERIMENTS:
        raise UserError(f"unknown episode type {episode_type!r}; choose from {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[episode_type]
    if extra_directions is None:
        return experiment
    if experiment.slots != TURN_OF:
        raise UserError(f"--extra_directions goes with scan_around_right only, not with {episode_type}")
    return replace(
        experiment,
        further_words=_numbered("Direction", extra_directions),
        further_meanings=_numbered("I_TURN_DIRECTION", extra_directions),
    )


def experiment_on_files(
    train: DataFile, test: DataFile, input_words: Sequence[str], output_words: Sequence[str]
) -> Experiment:
    """Make the experiment of standard seq2seq training on a file of one's own and a test on another."""
    longest = max(train.longest_input, test.longest_input), max(train.longest_output, test.longest_output)
    n_batch, n_shown, n_asked = min(STANDARD_BATCH, train.n_items), min(100, train.n_distinct), min(100, test.n_items)
    return Experiment(
        name=OWN_FILES,
        language=Language(tuple(input_words), tuple(output_words), *longest),
        slots={},
        training=Draw("own_lines", 0, "own_lines", n_batch, even_query_lengths=False),
        held_out={},
        n_validation=1,
        validation=Draw("own_distinct", n_shown, "own_test", n_asked, even_query_lengths=False),
        test_split="own",
        pools={
            "own_lines": lambda _: train.items(),
            "own_distinct": lambda _: list(dict.fromkeys(train.items())),
            "own_test": lambda _: test.items(),
        },
        files=(train, test),
    )


def find_own_experiment(train_path: Path, test_path: Path) -> Experiment:
    """Read two files of one's own; their words, in alphabetical order, are the vocabularies.

    Raises:
        UserError: if a line is not as expected (the message has the file and the line number).
        OSError: if a file cannot be read.
    """
    train, test = describe_file(train_path), describe_file(test_path)
    inputs, outputs = zip(*train.items(), *test.items(), strict=True)
    words = [sorted(set(itertools.chain.from_iterable(side))) for side in (inputs, outputs)]
    return experiment_on_files(train, test, *words)


def _me_words(data_dir: Path) -> list[Item]:
    return [Item((word,), (meaning,)) for word, meaning in ME_MEANINGS.items()]


def _me_sequences(data_dir: Path) -> list[Item]:
    sequences = itertools.chain.from_iterable(itertools.product(ME_MEANINGS, repeat=n) for n in ME_QUERY_LENGTHS)
    return [Item(words, tuple(ME_MEANINGS[word] for word in words)) for words in sequences]


def _length_train(data_dir: Path, fewest: int, most: int) -> list[Item]:
    items = scan_util.load_split(data_dir, "train", "length")
    return [item for item in items if fewest <= len(item.output) <= most]


def _split_pools(split: str) -> dict[str, Pool]:
    """Make the pools of a split: its training lines, each distinct one of them once, and its test lines."""
    return {
        f"{split}_lines": lambda data_dir: scan_util.load_split(data_dir, "train", split),
        f"{split}_distinct": lambda data_dir: list(dict.fromkeys(scan_util.load_split(data_dir, "train", split))),
        f"{split}_test": lambda data_dir: scan_util.load_split(data_dir, "test", split),
    }


POOLS: dict[str, Pool] = {
    "me_words": _me_words,
    "me_sequences": _me_sequences,
    "scan": lambda data_dir: scan_util.load_split(data_dir, "train", "all"),
    JUMP_AND_TEMPLATES: lambda data_dir: scan_util.load_split(data_dir, "train", "all"),
    "length_train": lambda data_dir: _length_train(data_dir, 1, LONGEST_TRAINING_OUTPUT),
    "length_train_short": lambda data_dir: _length_train(data_dir, 1, 11),
    "length_train_long": lambda data_dir: _length_train(data_dir, 12, LONGEST_TRAINING_OUTPUT),
    **{name: pool for split in TESTED_SPLITS for name, pool in _split_pools(split).items()},
}
SCAN_FILE_OF = {  # the split's file, part and name, in which a pool has its items
    "scan": ("train", "all"),
    JUMP_AND_TEMPLATES: ("train", "all"),
    **dict.fromkeys(("length_train", "length_train_short", "length_train_long"), ("train", "length")),
    **{
        f"{split}_{kind}": (part, split)
        for split in TESTED_SPLITS
        for kind, part in (("lines", "train"), ("distinct", "train"), ("test", "test"))
    },
}


def scan_files(experiment: Experiment, of_test: bool, data_dir: Path) -> list[scan_util.SplitFile]:
    """Tell which data an experiment is trained and validated on, or tested; files that are missing are written.

    Raises:
        UserError: if a line is not as expected.
        OSError: if a file cannot be read or written.
    """
    draws = [experiment.training, experiment.validation or experiment.training]
    pools = [pool for draw in draws for pool in (draw.support_pool, draw.query_pool)]
    if of_test:  # standard seq2seq is scored on its training commands too
        pools = [draws[1].support_pool] if experiment.is_standard else []
        pools.append(f"{experiment.test_split}_test")
    files = dict.fromkeys(SCAN_FILE_OF[pool] for pool in pools if pool in SCAN_FILE_OF)
    return [scan_util.describe_split(data_dir, *file) for file in files]


def number_sequences(
    sequences: Sequence[Sequence[str]], words: Sequence[str], width: int | None = None
) -> tuple[IntArray, IntArray]:
    """Write sequences of words as positions in `words`.

    Returns:
        The numbers, (N, width) filled up with zeros, and the lengths, (N,). By default the longest sequence fits just.
    Raises:
        UserError: if a word is not among `words`, or a sequence is longer than `width`.
    """
    number_of = {word: number for number, word in enumerate(words)}
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    longest = int(lengths.max(initial=0))
    width = longest if width is None else width
    if longest > width:
        raise UserError(f"found a sequence of {longest} words; expected at most {width}")
    numbers = np.zeros((len(sequences), width), dtype=np.int64)
    try:
        numbers[np.arange(width) < lengths[:, None]] = [number_of[w] for sequence in sequences for w in sequence]
    except KeyError as unknown:
        raise UserError(f"unknown word {unknown}; the known ones are {', '.join(words)}") from None
    return numbers, lengths


def number_pool(items: Sequence[Item], experiment: Experiment) -> Pairs:
    """Number the items of a pool, as wide as the experiment's longest sequences, so that all pools go together."""
    language = experiment.language
    return Pairs(
        *number_sequences([item.input for item in items], experiment.input_words, language.longest_input),
        *number_sequences([item.output for item in items], experiment.output_words, language.longest_output),
    )


def _longest(items: Pairs) -> tuple[int, int]:
    return int(items.input_lengths.max()), int(items.output_lengths.max())


class _Pool:
    """Items to draw from, all alike or every input length equally often."""

    def __init__(self, items: Sequence[Item], experiment: Experiment) -> None:
        self._items = number_pool(items, experiment)

    @functools.cached_property
    def _even_weights(self) -> npt.NDArray[np.float64]:
        """The chance of each item to be drawn first, (N,), with which all input lengths have the same."""
        weights: npt.NDArray[np.float64] = 1 / np.bincount(self._items.input_lengths)[self._items.input_lengths]
        return np.asarray(weights / weights.sum())

    def longest(self) -> tuple[int, int]:
        """Find the lengths of the longest input and of the longest output."""
        return _longest(self._items)

    def draw(self, rng: np.random.Generator, count: int, even_lengths: bool = False) -> Pairs:
        """Draw different items.

        Raises:
            UserError: if the pool has too few.
        """
        n_items = len(self._items.inputs)
        if count > n_items:
            raise UserError(f"an episode needs {count} items, its pool has {n_items}; {SCAN_ADVICE}")
        weights = self._even_weights if even_lengths else None
        return self._items.rows(rng.choice(n_items, count, replace=False, p=weights))


class _TemplatePool:
    """The isolated jump, and SCAN commands whose every primitive is replaced on its own by one of the 23 others.

    Source: Lake 2019, Section 4.4, "Seq2seq learning".
    """

    def __init__(self, items: Sequence[Item], experiment: Experiment) -> None:
        action_of = ACTION_OF | dict(zip(experiment.further_words, experiment.further_meanings, strict=True))
        words, meanings = experiment.input_words, experiment.output_words
        fillers = [(words.index(word), meanings.index(action)) for word, action in action_of.items() if word != "jump"]
        self._fillers = np.array(fillers)  # (23, 2): number of the word, number of its action
        self._jump = number_pool([Item(("jump",), interpret(("jump",)))], experiment)
        self._slot_numbers = [(len(words) + slot, len(meanings) + slot) for slot in range(len(SLOTS))]
        templates = [_template(item.input) for item in items]
        outputs = [interpret(template, dict(zip(SLOTS, SLOTS, strict=True))) for template in templates]
        self._templates = Pairs(
            *number_sequences(templates, (*words, *SLOTS), experiment.language.longest_input),
            *number_sequences(outputs, (*meanings, *SLOTS), experiment.language.longest_output),
        )

    def longest(self) -> tuple[int, int]:
        """Find the lengths of the longest input and of the longest output."""
        return _longest(self._templates)

    def draw(self, rng: np.random.Generator, count: int, even_lengths: bool = False) -> Pairs:
        """Draw commands, the isolated jump first."""
        assert not even_lengths, "not made for this pool"
        rows = rng.choice(len(self._templates.inputs), count - 1, replace=False)
        drawn = self._templates.rows(rows)
        chosen = self._fillers[rng.integers(len(self._fillers), size=(count - 1, len(SLOTS)))]  # (count - 1, slots, 2)
        inputs, outputs = drawn.inputs, drawn.outputs
        for slot, (word, meaning) in enumerate(self._slot_numbers):
            inputs = np.where(inputs == word, chosen[:, slot, :1], inputs)
            outputs = np.where(outputs == meaning, chosen[:, slot, 1:], outputs)
        filled = drawn._replace(inputs=inputs, outputs=outputs)
        return Pairs(*(np.concatenate(arrays) for arrays in zip(self._jump, filled, strict=True)))


def _template(command: Sequence[str]) -> tuple[str, ...]:
    """Put slots in the place of a command's primitives; there are at most two."""
    slots = iter(SLOTS)
    return tuple(next(slots) if word in ACTION_OF else word for word in command)


class EpisodeSampler:
    """Draws the episodes of one experiment.

    Args:
        experiment: a row of the table.
        data_dir: folder of the SCAN files; they are written there if missing.
        support_loss: whether the support items are also queries (Lake 2019, Section 3, "Meta-training").
    """

    def __init__(self, experiment: Experiment, data_dir: Path, support_loss: bool) -> None:
        self.experiment = experiment
        self.support_loss = support_loss
        self._data_dir = data_dir
        self._pools: dict[str, _Pool | _TemplatePool] = {}
        self._words = (*experiment.slots, *experiment.further_words)
        self._meanings = (*experiment.slots.values(), *experiment.further_meanings)

    def training_episode(self, rng: np.random.Generator, excluded: Collection[str]) -> Episode:
        """Draw an episode whose mapping holds not all of `held_out` and is none of `excluded` (identifiers).

        Raises:
            UserError: if no mapping is left, or a pool has too few items.
        """
        for _ in range(MOST_DRAWS):
            mapping = self.draw_mapping(rng)
            has_held_out = self.experiment.held_out and self.experiment.held_out.items() <= mapping.items()
            if self.experiment.is_standard or not (has_held_out or identify(mapping) in excluded):
                return self._episode(rng, mapping, self.experiment.training)
        raise UserError(f"{self.experiment.name}: no mapping is left to train on; hold fewer out")

    def validation_episodes(self, rng: np.random.Generator) -> list[Episode]:
        """Draw the validation episodes: the original mapping in all, or a held-out mapping of its own in each.

        Raises:
            UserError: if more mappings are to be held out than there are, or a pool has too few items.
        """
        experiment = self.experiment
        n_mappings = math.comb(len(self._words), len(experiment.slots)) * math.perm(
            len(self._meanings), len(experiment.slots)
        )
        if experiment.n_held_out_mappings > n_mappings:
            raise UserError(f"{experiment.name} has {n_mappings} mappings; hold fewer out")
        mappings: dict[str, Meanings] = {}
        while len(mappings) < experiment.n_held_out_mappings:
            mapping = self.draw_mapping(rng)
            mappings[identify(mapping)] = mapping
        each = list(mappings.values()) or [experiment.slots] * experiment.n_validation
        return [self._episode(rng, mapping, experiment.validation or experiment.training) for mapping in each]

    def training_commands(self, rng: np.random.Generator, at_most: int) -> Pairs:
        """List the commands of standard training, each distinct one once; of the endless augmented ones draw some."""
        assert self.experiment.is_standard and self.experiment.validation is not None
        name = self.experiment.validation.support_pool
        if name == JUMP_AND_TEMPLATES:
            return self._pool(name).draw(rng, at_most)
        return number_pool(self.experiment.items(name, self._data_dir), self.experiment)

    def longest(self, pool: str) -> tuple[int, int]:
        """Find the longest input and output that a pool gives in any episode, in words without EOS.

        A mapping changes neither; only where outputs are interpreted, the longest is the language's.
        """
        inputs, outputs = self._pool(pool).longest()
        return inputs, outputs if self.experiment.interpreter is None else self.experiment.language.longest_output

    def draw_mapping(self, rng: np.random.Generator) -> Meanings:
        """Draw as many words and meanings as there are slots, uniformly; slot by slot they belong together."""
        count = len(self.experiment.slots)
        words = rng.choice(len(self._words), count, replace=False)
        meanings = rng.choice(len(self._meanings), count, replace=False)
        return {self._words[w]: self._meanings[m] for w, m in zip(words, meanings, strict=True)}

    def _episode(self, rng: np.random.Generator, mapping: Meanings, draw: Draw) -> Episode:
        support_pool, n_support, query_pool, n_query, even_query_lengths = draw
        if support_pool == query_pool:
            both = self._pool(support_pool).draw(rng, n_support + n_query, even_query_lengths)
            support, query = both.rows(np.arange(n_support)), both.rows(np.arange(n_support, n_support + n_query))
        else:
            support = self._pool(support_pool).draw(rng, n_support)
            query = self._pool(query_pool).draw(rng, n_query, even_query_lengths)
        if self.support_loss:
            query = Pairs(*(np.concatenate(arrays) for arrays in zip(query, support, strict=True)))
        is_support = np.arange(len(query.inputs)) >= n_query
        return Episode(self._remapped(support, mapping), self._remapped(query, mapping), is_support, identify(mapping))

    def _remapped(self, items: Pairs, mapping: Meanings) -> Pairs:
        """Rename the slot words and their meanings; a pool's items may hold each slot any number of times."""
        experiment = self.experiment
        if experiment.interpreter is not None:
            return self._interpreted(items, mapping, experiment.interpreter)
        tables = []
        for words, old, new in (
            (experiment.input_words, experiment.slots.keys(), mapping.keys()),
            (experiment.output_words, experiment.slots.values(), mapping.values()),
        ):
            table = np.arange(len(words))
            table[[words.index(word) for word in old]] = [words.index(word) for word in new]
            tables.append(table)
        return items._replace(inputs=tables[0][items.inputs], outputs=tables[1][items.outputs])

    def _interpreted(self, items: Pairs, mapping: Meanings, interpreter: Interpreter) -> Pairs:
        """Rename the slot words, and have their meanings interpreted."""
        words = self.experiment.input_words
        renamed = list(words)
        for old, new in zip(self.experiment.slots, mapping, strict=True):
            renamed[words.index(old)] = new
        inputs = [
            tuple(renamed[number] for number in row[:length])
            for row, length in zip(items.inputs.tolist(), items.input_lengths.tolist(), strict=True)
        ]
        return number_pool([Item(given, interpreter(given, mapping)) for given in inputs], self.experiment)

    def _pool(self, name: str) -> "_Pool | _TemplatePool":
        if name not in self._pools:
            items = self.experiment.items(name, self._data_dir)
            try:
                if name == JUMP_AND_TEMPLATES:
                    self._pools[name] = _TemplatePool(items, self.experiment)
                else:
                    self._pools[name] = _Pool(items, self.experiment)
            except UserError as error:
                raise UserError(f"pool {name}: {error}; {SCAN_ADVICE}") from None
        return self._pools[name]


def identify(mapping: Meanings) -> str:
    """Name a mapping; equal mappings have equal names, whatever the order of their words."""
    return ", ".join(f"{word} -> {meaning}" for word, meaning in sorted(mapping.items()))
