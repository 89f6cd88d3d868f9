"""Draw the training and validation episodes, or pack text files of episodes.

    python -m biml.generate --seed 0

writes train.npz and val.npz to --dir_out; --text adds each episode as a text file, train/000001.txt and so on. The
episodes depend on the seed, the sizes and (where a grammar is drawn a second time) on --num_val, not on --jobs.

    python -m biml.generate --from_text DIR --dir_out DIR

packs your own text files instead: DIR, or else every folder in it that holds some, becomes <its name>.npz.
"""

import argparse
import time
from collections.abc import Callable, Collection
from dataclasses import fields
from pathlib import Path

from biml.episode import Episode, EpisodeSizes
from biml.episode_files import episode_paths, format_episode, read_episode
from biml.episode_sets import EpisodeSet, generate, identifiers
from biml.packed_episodes import PackedEpisodes, pack, save_packed
from common.command_line import OneLineParser, folder_path, natural_int, positive_int, run_script
from common.errors import UserError
from common.files import failure_named

SIZES_HELP = {
    "primitives": "words that mean a colour",
    "functions": "words that take arguments",
    "longest_input": "words of an input",
    "longest_output": "words of an output",
    "num_support": "study examples of an episode",
    "num_query": "queries of an episode",
    "longest_study": "words of a studied input; queries are then longer, and copying answers none (default: all alike)",
}
REPORTS = 10  # lines of progress for a split


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
    group.add_argument("--overwrite", action="store_true", help="replace files that are there")
    args = parser.parse_args()
    drawing = ("seed", "num_train", "num_val", *SIZES_HELP, "text", "jobs")
    given = [f"--{name}" for name in drawing if getattr(args, name) != parser.get_default(name)]
    if args.from_text is not None and given:
        parser.error(f"{given[0]} is about random episodes, --from_text packs others; leave one of them out")
    return args


def packed_path(folder: Path, name: str) -> Path:
    """Name the packed file of a split."""
    return folder / f"{name}.npz"


def text_path(folder: Path, split: str, index: int) -> Path:
    """Name the text file of an episode; they are counted from 1."""
    return folder / split / f"{index + 1:06d}.txt"


def check_absent(paths: Collection[Path], overwrite: bool) -> None:
    """Refuse to replace files.

    Raises:
        UserError: if one is there and may not be replaced.
    """
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise UserError(f"{there[0]} is there already; name another folder with --dir_out, or pass --overwrite")


def check_text_folder(folder: Path, split: str, count: int, overwrite: bool) -> None:
    """Refuse to replace text files, or to write among others.

    Raises:
        UserError: if there are files that may not be replaced, or would not be.
    """
    there = episode_paths(folder / split)
    check_absent(there, overwrite)
    others = set(there) - {text_path(folder, split, index) for index in range(count)}
    if others:
        raise UserError(f"{min(others)} would stay among the new files; move it, or name another folder")


def progress_printer(split: str, count: int) -> Callable[[int], None]:
    """Make a function that prints how many episodes there are, a few times in all."""
    started = time.monotonic()
    printed = 0

    def show(done: int) -> None:
        nonlocal printed
        if done * REPORTS // count > printed and done < count:
            printed = done * REPORTS // count
            print(f"{split}: {done} of {count} episodes, {time.monotonic() - started:.0f} s", flush=True)

    return show


def write_texts(folder: Path, split: str, packed: PackedEpisodes) -> None:
    """Write one text file an episode."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    for index in range(len(packed)):
        path = text_path(folder, split, index)
        with failure_named(path):
            path.write_text(format_episode(packed.episode(index)), encoding="utf-8")


def generate_files(args: argparse.Namespace) -> None:
    """Draw both splits; their packed files are written last, so where they are everything is.

    Raises:
        UserError: if a file is there already, or there are no episodes of these sizes.
    """
    counts = {"val": args.num_val, "train": args.num_train}
    sizes = EpisodeSizes(**{name: getattr(args, name) for name in SIZES_HELP})
    check_absent([packed_path(args.dir_out, split) for split in counts], args.overwrite)
    for split, count in counts.items():
        if args.text:
            check_text_folder(args.dir_out, split, count, args.overwrite)
    args.dir_out.mkdir(parents=True, exist_ok=True)  # before the work, should this not be possible
    packed_by_split: dict[str, PackedEpisodes] = {}
    for split, count in counts.items():
        excluded = identifiers(packed_by_split["val"]) if packed_by_split else frozenset()
        episodes = EpisodeSet(args.seed, split, sizes, excluded)
        packed_by_split[split] = generate(episodes, count, args.jobs, progress_printer(split, count))
    for split, packed in packed_by_split.items():
        if args.text:
            write_texts(args.dir_out, split, packed)
    for split, packed in packed_by_split.items():
        save_and_tell(packed_path(args.dir_out, split), packed)


def pack_folders(source: Path, target: Path, overwrite: bool) -> None:
    """Pack the text files of a folder, or of each folder in it.

    Raises:
        UserError: if there are none, one is not as expected, or a packed file is there already.
    """
    folders = (
        [source] if episode_paths(source) else [folder for folder in sorted(source.glob("*/")) if episode_paths(folder)]
    )
    if not folders:
        raise UserError(f"{source}: expected *.txt files, or folders that hold some; found none")
    paths = {folder: packed_path(target, folder.resolve().name) for folder in folders}
    check_absent(paths.values(), overwrite)
    packed_by_path: dict[Path, PackedEpisodes] = {}
    for folder, path in paths.items():
        texts = episode_paths(folder)
        packed_by_path[path] = pack(map(packable, texts), {"from_text": str(folder), "count": len(texts)})
    for path, packed in packed_by_path.items():
        save_and_tell(path, packed)


def packable(path: Path) -> Episode:
    """Read an episode that a packed file can hold.

    Raises:
        UserError: if it is a probe, whose answers may be made of some outputs only, or not as expected.
    """
    episode = read_episode(path)
    if episode.allowed_outputs:
        raise UserError(f"{path}: has allowed outputs, which a packed file does not hold; probes stay text files")
    return episode


def save_and_tell(path: Path, packed: PackedEpisodes) -> None:
    """Write a packed file and say so."""
    save_packed(path, packed)
    print(f"{path}: {len(packed)} episodes, {path.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Make packed files."""
    args = parse_arguments()
    started = time.monotonic()
    if args.from_text is None:
        generate_files(args)
    else:
        pack_folders(args.from_text, args.dir_out, args.overwrite)
    print(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    run_script(main)
