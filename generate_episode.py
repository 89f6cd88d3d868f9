"""Episodes: one table of experiments, one sampler over it.

An episode is a small seq2seq problem: support items show what its words mean, query items are to be answered.
The sampler draws them without replacement from pools of items (SCAN's, or those of mutual exclusivity), and draws what
the slot words are called and mean this time. Pools are arrays of symbol numbers, so that an episode costs two table
look-ups. No torch, and no random source but the one handed in.

Standard seq2seq training, which the paper compares with, has an empty support set: its "episodes" are batches of
commands.

Source: Lake 2019, Sections 4.2 to 4.6.
"""

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import scan_util
from common.errors import UserError
from scan_util import ACTION_OF, SCAN_ADVICE, TESTED_SPLITS, TURN_OF, DataFile, Item, interpret, typed_items

IntArray = npt.NDArray[np.int64]
Meanings = dict[str, str]
"""What the slot words mean in one episode."""
Interpreter = Callable[[Sequence[str], Meanings], tuple[str, ...]]
"""Gives the output of input words under the meanings of one episode."""
Pool = Callable[[Path], list[Item]]
"""Gives the items of a pool; gets the folder of the SCAN files."""


class Pairs(NamedTuple):
    """Items as symbol numbers without EOS, filled up with any number: inputs (N, T), outputs (N, U), lengths (N,)."""

    inputs: IntArray
    input_lengths: IntArray
    outputs: IntArray
    output_lengths: IntArray

    def rows(self, chosen: IntArray) -> "Pairs":
        """Pick items by number."""
        return Pairs(*(array[chosen] for array in self))

    def followed_by(self, others: "Pairs") -> "Pairs":
        """Append items of the same widths."""
        return Pairs(*(np.concatenate(arrays) for arrays in zip(self, others, strict=True)))


class Episode(NamedTuple):
    """One seq2seq problem."""

    support: Pairs
    query: Pairs
    is_support: npt.NDArray[np.bool_]  # (Q,) whether the query is also a support item (the paper's support loss)
    mapping: str  # identifies what the words mean: "dax -> RED, lug -> BLUE, ..."


class Language(NamedTuple):
    """The words of the pools' items, and how many an input and an output may have, without EOS."""

    input_words: tuple[str, ...]
    output_words: tuple[str, ...]
    longest_input: int
    longest_output: int


ME_MEANINGS = {"dax": "RED", "lug": "YELLOW", "wif": "GREEN", "zup": "BLUE"}
ME = Language(tuple(ME_MEANINGS), tuple(ME_MEANINGS.values()), 6, 6)
SCAN = Language(scan_util.INPUT_WORDS, scan_util.OUTPUT_WORDS, 9, 48)


@dataclass(frozen=True)
class ScanPool:
    """The items of one part of a SCAN split whose outputs have `fewest` to `most` actions."""

    part: str
    split: str
    distinct: bool = False  # each item once, however often the file has it
    fewest: int = 1
    most: float = math.inf

    def __call__(self, data_dir: Path) -> list[Item]:
        """Read the items; a missing file is written."""
        items = scan_util.load_split(data_dir, self.part, self.split)
        chosen = [item for item in items if self.fewest <= len(item.output) <= self.most]
        return list(dict.fromkeys(chosen)) if self.distinct else chosen


def word_sequences(meanings: Meanings, lengths: Iterable[int]) -> list[Item]:
    """List every sequence of the words, each with what it means word by word."""
    sequences = itertools.chain.from_iterable(itertools.product(meanings, repeat=length) for length in lengths)
    return [Item(words, tuple(meanings[word] for word in words)) for words in sequences]


JUMP_AND_TEMPLATES = "jump_and_templates"
"""The pool whose commands get other primitives each time, see `EpisodeSampler._filled`."""
POOLS: dict[str, Pool] = {
    "me_words": lambda _: word_sequences(ME_MEANINGS, [1]),
    "me_sequences": lambda _: word_sequences(ME_MEANINGS, range(2, 7)),
    "scan": ScanPool("train", "all"),
    JUMP_AND_TEMPLATES: ScanPool("train", "all"),
    "length_train": ScanPool("train", "length", most=scan_util.LONGEST_TRAINING_OUTPUT),
    "length_train_short": ScanPool("train", "length", most=11),
    "length_train_long": ScanPool("train", "length", fewest=12, most=scan_util.LONGEST_TRAINING_OUTPUT),
    **{f"{split}_lines": ScanPool("train", split) for split in TESTED_SPLITS},
    **{f"{split}_distinct": ScanPool("train", split, distinct=True) for split in TESTED_SPLITS},
    **{f"{split}_test": ScanPool("test", split) for split in TESTED_SPLITS},
}


class Draw(NamedTuple):
    """From which pools, named as in POOLS, an episode's items are drawn, and how many.

    Items from one pool are never both support and query items. With `even_query_lengths` every input length is equally
    likely until its items run out. Without, every item of the pool is equally likely: 83 % of all sequences of 2 to 6
    out of six words have six. There is no default, so that nobody is surprised.
    """

    support_pool: str
    n_support: int
    query_pool: str
    n_query: int
    even_query_lengths: bool


@dataclass(frozen=True)
class Experiment:
    """One row of the table below: everything that tells one episode type from another.

    `slots` are the words whose meaning changes, with what they mean in the pools. An episode draws as many words and
    meanings as there are slots, from the slots and the further ones. No training episode contains all of `held_out`, or
    has the mapping of a validation episode. An experiment without slots is standard seq2seq training: its "episodes"
    are batches of training commands with an empty support set.

    A meaning is one output symbol, which replaces the pool's. With an `interpreter` a meaning is any text that this
    understands, such as several symbols: it gets an item's words and what the slot words mean, and gives the output.
    """

    name: str
    language: Language
    slots: Meanings
    training: Draw
    held_out: Meanings = field(default_factory=dict)
    further_words: tuple[str, ...] = ()
    further_meanings: tuple[str, ...] = ()
    n_validation: int = 5
    n_held_out_mappings: int = 0  # mappings drawn for validation; 0: validation has the original mapping
    validation: Draw | None = None  # None: as in training
    test_split: str | None = None  # tested on the pool <test_split>_test; None: the validation episodes are the test
    test_support: tuple[Item, ...] = ()  # what is in memory at test; (): each validation episode's support in turn
    interpreter: Interpreter | None = None
    pools: Mapping[str, Pool] = field(default_factory=dict)  # of this experiment alone, beside POOLS
    files: tuple[DataFile, DataFile] | None = None  # your own training and test file, for `experiment_on_files`

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

    @property
    def padded_length(self) -> int:
        """The length L to which every query counts as padded: the longest input with its EOS."""
        return self.language.longest_input + 1

    def items(self, pool: str, data_dir: Path) -> list[Item]:
        """Read the items of a pool."""
        return {**POOLS, **self.pools}[pool](data_dir)


EXTRA_DIRECTIONS = 2  # Lake 2019, Section 4.5
OWN_FILES = "standard_files"  # the episode type of a run with --train_file and --test_file
STANDARD_BATCH = 40  # Lake 2019, Section 4.3: as many items as an episode answers with the support loss
STANDARD_VALIDATION = 100  # test commands, and as many training commands
MOST_DRAWS = 100_000  # in search of a mapping that may be trained


def _with_further(row: Experiment, word: str, meaning: str, count: int) -> Experiment:
    """Add further words and meanings to a row, such as Primitive1, Primitive2, ... and Action1, Action2, ..."""
    words, meanings = (tuple(f"{name}{number}" for number in range(1, count + 1)) for name in (word, meaning))
    return replace(row, further_words=words, further_meanings=meanings)


def _standard(name: str, split: str, trained: str | None = None) -> Experiment:
    """Make a row of standard seq2seq training on a split or another pool; validation asks for training items too."""
    lines, distinct = trained or f"{split}_lines", trained or f"{split}_distinct"
    return Experiment(
        name=name,
        language=SCAN,
        slots={},
        training=Draw(lines, 0, lines, STANDARD_BATCH, even_query_lengths=False),
        n_validation=1,
        validation=Draw(distinct, STANDARD_VALIDATION, f"{split}_test", STANDARD_VALIDATION, even_query_lengths=False),
        test_split=split,
    )


_JUMP_SPLIT = Experiment(
    name="scan_prim_permutation",
    language=SCAN,
    slots=ACTION_OF,
    training=Draw("scan", 20, "scan", 20, even_query_lengths=False),
    held_out=ACTION_OF,
    test_split="addprim_jump",
    test_support=tuple(typed_items("walk -> I_WALK; look -> I_LOOK; run -> I_RUN; jump -> I_JUMP")),
)
_PRIMITIVES = ("Primitive", "Action", 20)
_DIRECTIONS = ("Direction", "I_TURN_DIRECTION")
_AUGMENTED = _with_further(_JUMP_SPLIT, *_PRIMITIVES)
_AROUND_RIGHT = replace(
    _JUMP_SPLIT,
    name="scan_around_right",
    slots=TURN_OF,
    held_out={"right": "I_TURN_RIGHT"},
    test_split="template_around_right",
    test_support=tuple(typed_items("turn left -> I_TURN_LEFT; turn right -> I_TURN_RIGHT")),
)

EXPERIMENTS = {
    row.name: row
    for row in (
        Experiment(
            name="ME",
            language=ME,
            slots=ME_MEANINGS,
            training=Draw("me_words", 3, "me_sequences", 20, even_query_lengths=True),
            n_held_out_mappings=5,
        ),
        _JUMP_SPLIT,
        replace(_AUGMENTED, name="scan_prim_augmentation", held_out={"jump": "I_JUMP"}),
        _with_further(_AROUND_RIGHT, *_DIRECTIONS, EXTRA_DIRECTIONS),
        replace(
            _AUGMENTED,
            name="scan_length",
            training=Draw("length_train_short", 100, "length_train_long", 20, even_query_lengths=False),
            validation=Draw("length_train", 100, "length_test", 20, even_query_lengths=False),
            test_split="length",
            test_support=(),
        ),
        _standard("standard_addprim_jump", "addprim_jump"),
        _with_further(
            _standard("standard_addprim_jump_augmentation", "addprim_jump", trained=JUMP_AND_TEMPLATES), *_PRIMITIVES
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
    return _with_further(experiment, *_DIRECTIONS, extra_directions)


def experiment_on_files(
    train: DataFile, test: DataFile, input_words: Sequence[str], output_words: Sequence[str]
) -> Experiment:
    """Make the experiment of standard seq2seq training on one file of your own and a test on another."""
    longest = max(train.longest_input, test.longest_input), max(train.longest_output, test.longest_output)
    row = _standard(OWN_FILES, "own")
    assert row.validation is not None
    return replace(
        row,
        language=Language(tuple(input_words), tuple(output_words), *longest),
        training=row.training._replace(n_query=min(STANDARD_BATCH, train.n_items)),
        validation=row.validation._replace(
            n_support=min(STANDARD_VALIDATION, train.n_distinct), n_query=min(STANDARD_VALIDATION, test.n_items)
        ),
        pools={
            "own_lines": lambda _: train.items(),
            "own_distinct": lambda _: list(dict.fromkeys(train.items())),
            "own_test": lambda _: test.items(),
        },
        files=(train, test),
    )


def find_own_experiment(train_path: Path, test_path: Path) -> Experiment:
    """Read two files of your own; their words, in alphabetical order, are the vocabularies.

    Raises:
        UserError: if a line is not as expected (the message has the file and the line number).
        OSError: if a file cannot be read.
    """
    train, test = scan_util.describe_file(train_path), scan_util.describe_file(test_path)
    inputs, outputs = zip(*train.items(), *test.items(), strict=True)
    words = [sorted(set(itertools.chain.from_iterable(side))) for side in (inputs, outputs)]
    return experiment_on_files(train, test, *words)


def scan_files(experiment: Experiment, of_test: bool, data_dir: Path) -> list[scan_util.SplitFile]:
    """Describe the SCAN files that an experiment is trained and validated on, or tested on; missing ones are written.

    Raises:
        UserError: if a line is not as expected.
        OSError: if a file cannot be read or written.
    """
    draws = [experiment.training, experiment.validation or experiment.training]
    names = [name for draw in draws for name in (draw.support_pool, draw.query_pool)]
    if of_test:  # standard seq2seq is scored on its training commands too
        names = [draws[1].support_pool] if experiment.is_standard else []
        names.append(f"{experiment.test_split}_test")
    pools = {**POOLS, **experiment.pools}
    files = dict.fromkeys((one.part, one.split) for one in map(pools.get, names) if isinstance(one, ScanPool))
    return [scan_util.describe_split(data_dir, *file) for file in files]


def number_sequences(
    sequences: Sequence[Sequence[str]], words: Sequence[str], width: int | None = None
) -> tuple[IntArray, IntArray]:
    """Write sequences of words as positions in `words`: numbers, (N, width) filled up with zeros, and lengths, (N,).

    By default the longest sequence just fits.

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


def number_items(
    items: Sequence[Item],
    input_words: Sequence[str],
    output_words: Sequence[str],
    widths: tuple[int | None, int | None] = (None, None),
) -> Pairs:
    """Number both sides of items; raises as `number_sequences`."""
    return Pairs(
        *number_sequences([item.input for item in items], input_words, widths[0]),
        *number_sequences([item.output for item in items], output_words, widths[1]),
    )


def number_pool(items: Sequence[Item], experiment: Experiment, further: tuple[str, ...] = ()) -> Pairs:
    """Number a pool, in which `further` words may occur; all pools of an experiment are equally wide."""
    language = experiment.language
    words, symbols = (*experiment.input_words, *further), (*experiment.output_words, *further)
    return number_items(items, words, symbols, (language.longest_input, language.longest_output))


def even_weights(pool: Pairs) -> npt.NDArray[np.float64]:
    """Give the chance of each item to be drawn first, (N,), that makes all input lengths equally likely."""
    weights: npt.NDArray[np.float64] = 1 / np.bincount(pool.input_lengths)[pool.input_lengths]
    return np.asarray(weights / weights.sum())


SLOTS = ("SLOT1", "SLOT2")  # stand for the primitives of a command, which has at most two


def _template(command: Sequence[str]) -> Item:
    """Replace a command's primitives by slots."""
    slots = iter(SLOTS)
    words = tuple(next(slots) if word in ACTION_OF else word for word in command)
    return Item(words, interpret(words, dict(zip(SLOTS, SLOTS, strict=True))))


class EpisodeSampler:
    """Draws the episodes of one experiment from the SCAN files in a folder; missing ones are written there.

    With `support_loss` the support items are also queries (Lake 2019, Section 3, "Meta-training").
    """

    def __init__(self, experiment: Experiment, data_dir: Path, support_loss: bool) -> None:
        self.experiment = experiment
        self.support_loss = support_loss
        self._data_dir = data_dir
        self._pools: dict[str, Pairs] = {}
        self._even_weights: dict[str, npt.NDArray[np.float64]] = {}
        self._words = (*experiment.slots, *experiment.further_words)
        self._meanings = (*experiment.slots.values(), *experiment.further_meanings)

    def training_episode(self, rng: np.random.Generator, excluded: Collection[str]) -> Episode:
        """Draw an episode whose mapping neither holds all of `held_out` nor is among `excluded` (identifiers).

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
        """Draw the validation episodes: all with the original mapping, or each with a held-out mapping of its own.

        Raises:
            UserError: if more mappings are to be held out than there are, or a pool has too few items.
        """
        experiment, n_slots = self.experiment, len(self.experiment.slots)
        n_mappings = math.comb(len(self._words), n_slots) * math.perm(len(self._meanings), n_slots)
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
        pool = self.experiment.validation.support_pool
        return self._drawn(pool, rng, at_most) if pool == JUMP_AND_TEMPLATES else self._pool(pool)

    def longest(self, pool: str) -> tuple[int, int]:
        """Find the longest input and output that a pool gives in any episode, in words without EOS.

        A mapping changes neither; but where outputs are interpreted, the longest is the language's.
        """
        items = self._pool(pool)
        is_interpreted = self.experiment.interpreter is not None
        longest_output = self.experiment.language.longest_output if is_interpreted else items.output_lengths.max()
        return int(items.input_lengths.max()), int(longest_output)

    def draw_mapping(self, rng: np.random.Generator) -> Meanings:
        """Draw as many words and meanings as there are slots, uniformly; slot by slot they belong together."""
        count = len(self.experiment.slots)
        words = rng.choice(len(self._words), count, replace=False)
        meanings = rng.choice(len(self._meanings), count, replace=False)
        return {self._words[w]: self._meanings[m] for w, m in zip(words, meanings, strict=True)}

    def _episode(self, rng: np.random.Generator, mapping: Meanings, draw: Draw) -> Episode:
        support_pool, n_support, query_pool, n_query, even_query_lengths = draw
        if support_pool == query_pool:
            both = self._drawn(support_pool, rng, n_support + n_query, even_query_lengths)
            support, query = both.rows(np.arange(n_support)), both.rows(np.arange(n_support, n_support + n_query))
        else:
            support = self._drawn(support_pool, rng, n_support)
            query = self._drawn(query_pool, rng, n_query, even_query_lengths)
        if self.support_loss:
            query = query.followed_by(support)
        is_support = np.arange(len(query.inputs)) >= n_query
        return Episode(self._remapped(support, mapping), self._remapped(query, mapping), is_support, identify(mapping))

    def _remapped(self, items: Pairs, mapping: Meanings) -> Pairs:
        """Rename the slot words and their meanings, or have the outputs interpreted."""
        experiment, words = self.experiment, self.experiment.input_words
        inputs = _renamed(items.inputs, words, experiment.slots, mapping)
        if experiment.interpreter is None:
            old, new = experiment.slots.values(), mapping.values()
            return items._replace(inputs=inputs, outputs=_renamed(items.outputs, experiment.output_words, old, new))
        rows = zip(inputs.tolist(), items.input_lengths.tolist(), strict=True)
        asked = [tuple(words[number] for number in row[:length]) for row, length in rows]
        return number_pool([Item(given, experiment.interpreter(given, mapping)) for given in asked], experiment)

    def _drawn(self, pool: str, rng: np.random.Generator, count: int, even_lengths: bool = False) -> Pairs:
        """Draw different items, all equally likely or all input lengths.

        Raises:
            UserError: if the pool has too few.
        """
        items, is_augmented = self._pool(pool), pool == JUMP_AND_TEMPLATES
        n_items, n_drawn = len(items.inputs), count - is_augmented
        if n_drawn > n_items:
            raise UserError(f"an episode needs {count} items, its pool has {n_items}; {SCAN_ADVICE}")
        weights = self._even_weights[pool] if even_lengths else None
        drawn = items.rows(rng.choice(n_items, n_drawn, replace=False, p=weights))
        return self._filled(drawn, rng) if is_augmented else drawn

    def _filled(self, templates: Pairs, rng: np.random.Generator) -> Pairs:
        """Fill every slot on its own with any primitive but jump, and put the isolated jump first.

        Source: Lake 2019, Section 4.4, "Seq2seq learning".
        """
        experiment, primitives = self.experiment, self._primitives
        chosen = rng.integers(1, len(primitives.inputs), size=(len(templates.inputs), len(SLOTS)))
        inputs, outputs = templates.inputs, templates.outputs
        for slot, filler in enumerate(chosen.T):
            word, symbol = len(experiment.input_words) + slot, len(experiment.output_words) + slot
            inputs = np.where(inputs == word, primitives.inputs[filler, :1], inputs)
            outputs = np.where(outputs == symbol, primitives.outputs[filler, :1], outputs)
        jump = primitives.rows(np.zeros(1, dtype=np.int64))
        return jump.followed_by(templates._replace(inputs=inputs, outputs=outputs))

    @functools.cached_property
    def _primitives(self) -> Pairs:
        """The isolated primitives of augmented commands, jump first."""
        further = dict(zip(self.experiment.further_words, self.experiment.further_meanings, strict=True))
        action_of = {"jump": ACTION_OF["jump"], **ACTION_OF, **further}
        return number_pool([Item((word,), (action,)) for word, action in action_of.items()], self.experiment)

    def _pool(self, name: str) -> Pairs:
        if name not in self._pools:
            items, has_slots = self.experiment.items(name, self._data_dir), name == JUMP_AND_TEMPLATES
            if has_slots:
                items = [_template(item.input) for item in items]
            try:
                pool = number_pool(items, self.experiment, SLOTS if has_slots else ())
            except UserError as error:
                raise UserError(f"pool {name}: {error}; {SCAN_ADVICE}") from None
            self._pools[name], self._even_weights[name] = pool, even_weights(pool)
        return self._pools[name]


def _renamed(numbers: IntArray, words: Sequence[str], old: Iterable[str], new: Iterable[str]) -> IntArray:
    """Replace the numbers of the old words by those of the new ones, each by its own."""
    name_of = dict(zip(old, new, strict=True))
    table = np.array([words.index(name_of.get(word, word)) for word in words])
    return np.asarray(table[numbers])


def identify(mapping: Meanings) -> str:
    """Name a mapping; equal mappings have equal names, whatever the order of their words."""
    return ", ".join(f"{word} -> {meaning}" for word, meaning in sorted(mapping.items()))
