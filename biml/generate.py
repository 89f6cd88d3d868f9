"""Draw the training and validation episodes, or pack text files of episodes.

    python -m biml.generate --seed 0

writes train.npz and val.npz to --dir_out; --text adds each episode as a text file, train/000001.txt and so on. The
episodes depend on the seed, the sizes and (where a grammar is drawn a second time) on --num_val, not on --jobs.

    python -m biml.generate --from_text DIR --dir_out DIR

packs your own text files instead: DIR, or else every folder in it that holds some, becomes <its name>.npz.
"""

import argparse
import multiprocessing
import platform
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from biml.episode import PAPER_SIZES, Episode, EpisodeSizes, sample_episode
from biml.episode_files import episode_paths, format_episode, read_episode
from biml.packed_episodes import PackedEpisodes, pack, save_packed
from common.command_line import OneLineParser, folder_path, natural_int, positive_int, run_script
from common.errors import UserError
from common.files import failure_named
from common.run_loop import signals_handled

SIZES_HELP = {
    "primitives": "words that mean a colour",
    "functions": "words that take arguments",
    "longest_input": "words of an input",
    "longest_output": "words of an output",
    "num_support": "study examples of an episode",
    "num_query": "queries of an episode",
    "longest_study": "words of a studied input; queries are then longer, and copying answers none (default: all alike)",
}
STREAMS = {"val": 0, "train": 1}  # random streams of the splits, which are drawn in this order
AT_ONCE = 250  # episodes that a process draws before it hands them over
REPORTS = 10  # lines of progress for a split, at most


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    group = parser.add_argument_group("random episodes")
    group.add_argument("--seed", type=natural_int, default=0, help="seed of all episodes")
    group.add_argument("--num_train", type=positive_int, default=100_000, metavar="N", help="training episodes")
    group.add_argument("--num_val", type=positive_int, default=200, metavar="N", help="validation episodes")
    for size in fields(EpisodeSizes):
        help_text = SIZES_HELP[size.name]
        group.add_argument(f"--{size.name}", type=natural_int, default=size.default, metavar="N", help=help_text)
    group.add_argument("--text", action="store_true", help="also write a text file for each episode")
    group.add_argument("--jobs", type=positive_int, default=1, metavar="N", help="processes that share the work")
    help_text = "pack text files below this folder, instead of drawing episodes"
    parser.add_argument("--from_text", type=folder_path, metavar="DIR", help=help_text)
    group = parser.add_argument_group("files")
    default = Path("data/data_algebraic")
    group.add_argument("--dir_out", type=folder_path, default=default, metavar="DIR", help="folder of the packed files")
    group.add_argument("--overwrite", action="store_true", help="replace existing files")
    args = parser.parse_args()
    drawing = ("seed", "num_train", "num_val", *SIZES_HELP, "text", "jobs")
    given = [f"--{name}" for name in drawing if getattr(args, name) != parser.get_default(name)]
    if args.from_text is not None and given:
        parser.error(f"{given[0]} is about random episodes, --from_text packs others; leave one of them out")
    return args


@dataclass(frozen=True)
class EpisodeSet:
    """What determines the episodes of one split; each episode has a random stream of its own."""

    seed: int
    split: str  # a key of STREAMS
    sizes: EpisodeSizes = PAPER_SIZES
    excluded: frozenset[str] = field(default=frozenset(), repr=False)  # identifiers of grammars

    def episode(self, index: int) -> Episode:
        """Draw the episode of this number; UserError if there seem to be no episodes of these sizes."""
        stream = np.random.SeedSequence(self.seed, spawn_key=(STREAMS[self.split], index))
        return sample_episode(np.random.default_rng(stream), self.excluded, self.sizes)

    def drawn(self, count: int, jobs: int = 1) -> Iterator[Episode]:
        """Draw the first `count` episodes in their order, in `jobs` processes.

        Raises:
            OSError: if one of the processes is ended from outside.
        """
        if jobs == 1:
            yield from map(self.episode, range(count))
            return
        try:
            with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
                with signals_handled((signal.SIGINT,), signal.SIG_IGN):  # inherited: Ctrl-C is dealt with here alone
                    drawn = pool.map(self.episode, range(count), chunksize=AT_ONCE)  # starts all processes
                yield from drawn
        except BrokenProcessPool:
            raise OSError("a process that drew episodes was killed, perhaps for memory; try fewer --jobs") from None

    def about(self, count: int) -> dict[str, Any]:
        """Say what `count` episodes of the set are made with."""
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        described = {"seed": self.seed, "split": self.split, "sizes": asdict(self.sizes)}
        return {**described, "excluded": len(self.excluded), "versions": versions, "count": count}


def reported(episodes: Iterable[Episode], split: str, count: int) -> Iterator[Episode]:
    """Pass episodes on, and print how many there are, a few times in all."""
    started, every = time.monotonic(), max(count // REPORTS, AT_ONCE)
    for done, episode in enumerate(episodes, start=1):
        yield episode
        if done % every == 0 and done < count:
            print(f"{split}: {done} of {count} episodes, {time.monotonic() - started:.0f} s", flush=True)


def check_absent(paths: Collection[Path], overwrite: bool) -> None:
    """Refuse to replace files, unless told to."""
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise UserError(f"{existing[0]} is there already; name another folder with --dir_out, or pass --overwrite")


def text_paths(folder: Path, count: int, overwrite: bool) -> list[Path]:
    """Name the text files of a split, counted from 1; refuse to replace any, or to write them among others."""
    existing, paths = episode_paths(folder), [folder / f"{number:06d}.txt" for number in range(1, count + 1)]
    check_absent(existing, overwrite)
    if others := {*existing} - {*paths}:
        raise UserError(f"{min(others)} would stay among the new files; move it, or name another folder")
    return paths


def generate_files(args: argparse.Namespace) -> dict[Path, PackedEpisodes]:
    """Draw both splits and write their text files, if asked; gives what is to be packed where.

    No training episode has the grammar of a validation episode, in any order of rules.
    """
    folder, counts = args.dir_out, {"val": args.num_val, "train": args.num_train}
    sizes = EpisodeSizes(**{name: getattr(args, name) for name in SIZES_HELP})
    check_absent([folder / f"{split}.npz" for split in counts], args.overwrite)
    texts = {split: text_paths(folder / split, counts[split], args.overwrite) for split in counts if args.text}
    folder.mkdir(parents=True, exist_ok=True)  # before the work, should this not be possible
    packed: dict[str, PackedEpisodes] = {}
    excluded: frozenset[str] = frozenset()
    for split, count in counts.items():
        episodes = EpisodeSet(args.seed, split, sizes, excluded)
        packed[split] = pack(reported(episodes.drawn(count, args.jobs), split, count), episodes.about(count))
        if split == "val":
            grammars = map(packed[split].grammar, range(count))
            excluded = frozenset(grammar.identifier for grammar in grammars if grammar is not None)
    for split, paths in texts.items():
        (folder / split).mkdir(exist_ok=True)
        for index, path in enumerate(paths):
            with failure_named(path):
                path.write_text(format_episode(packed[split].episode(index)), encoding="utf-8")
    return {folder / f"{split}.npz": episodes for split, episodes in packed.items()}


def pack_folders(source: Path, target: Path, overwrite: bool) -> dict[Path, PackedEpisodes]:
    """Pack the text files of a folder, or of each folder in it; gives what is to be written where."""
    candidates = [source] if episode_paths(source) else sorted(source.glob("*/"))
    texts = {folder: found for folder in candidates if (found := episode_paths(folder))}
    if not texts:
        raise UserError(f"{source}: expected *.txt files, or folders that hold some; found none")
    paths = {folder: target / f"{folder.resolve().name}.npz" for folder in texts}
    check_absent(paths.values(), overwrite)
    packed = {}
    for folder, found in texts.items():
        packed[paths[folder]] = pack(map(packable, found), {"from_text": str(folder), "count": len(found)})
    return packed


def packable(path: Path) -> Episode:
    """Read an episode that a packed file can hold: no probe, whose answers may be made of some outputs only."""
    episode = read_episode(path)
    if episode.allowed_outputs:
        raise UserError(f"{path}: has allowed outputs, which a packed file does not hold; probes stay text files")
    return episode


def main() -> None:
    """Make packed files; they are written last, so where they are everything is."""
    args = parse_arguments()
    started = time.monotonic()
    is_drawn = args.from_text is None
    packed = generate_files(args) if is_drawn else pack_folders(args.from_text, args.dir_out, args.overwrite)
    for path, episodes in packed.items():
        save_packed(path, episodes)
        print(f"{path}: {len(episodes)} episodes, {path.stat().st_size / 1e6:.1f} MB")
    print(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    run_script(main)
