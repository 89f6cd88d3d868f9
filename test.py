"""Score a trained network on the test commands of its experiment, or draw what it attends to.

    python test.py --fn_in_model net_scan_prim_permutation.tar

prints a report and writes <results_dir>/res_test_scan_prim_permutation.json. With --split or --support it is another
test, and they are in the name of what is written. What is there is not replaced by the result of a network that was
trained otherwise or on other data, nor a picture by another one, unless --overwrite is given.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checkpoint import Checkpoint, load_checkpoint, short_name, without_places
from common.command_line import (
    OneLineParser,
    add_model_folder,
    add_results_folder,
    checkpoint_name,
    natural_int,
    png_path,
    positive_int,
    run_script,
)
from common.devices import add_device_options, choose_device, describe_device
from common.errors import UserError
from common.files import digest, in_name, read_json_object, save_json
from common.provenance import provenance
from common.run_loop import with_what_was_done
from evaluate import (
    QUERIES_AT_ONCE,
    Answer,
    answer_episodes,
    break_down,
    count,
    explain,
    find_supports,
    find_test,
    find_training_commands,
    in_words,
    one_word,
)
from generate_episode import EXPERIMENTS, Episode, scan_files
from scan_util import TESTED_SPLITS, Item, SplitFile, add_data_folder, describe_split, typed_items

UNFINISHED = "UNFINISHED: this network has not been trained to its end"
DATA = ("scan_files", "training_scan_files", "data_files")  # what a result tells of the data, with their digests


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    group = parser.add_argument_group("files")
    group.add_argument("--fn_in_model", type=checkpoint_name, required=True, metavar="NAME.tar", help="the checkpoint")
    add_model_folder(group)
    add_results_folder(group)
    add_data_folder(group)
    help_text = "replace a result of another network, or another picture, that is there under the same name"
    group.add_argument("--overwrite", action="store_true", help=help_text)
    add = parser.add_argument_group("scoring").add_argument
    help_text = "must agree with the checkpoint's, which is taken if this is left out"
    add("--episode_type", choices=list(EXPERIMENTS), metavar="TYPE", help=help_text)
    help_text = "score on another test: the name of a SCAN split, or a file of lines 'IN: <words> OUT: <words>'"
    add("--split", metavar="NAME|FILE", help=help_text)
    help_text = "what is in memory instead of the test's support items: 'input words -> output words; ...'"
    add("--support", type=typed_items, default=(), metavar="ITEMS", help=help_text)
    help_text = "queries to answer at once; changes no answer"
    add("--batch_size", type=positive_int, default=QUERIES_AT_ONCE, metavar="N", help=help_text)
    help_text = "symbols after which an answer is cut off (default: as trained)"
    add("--max_length_eval", type=positive_int, metavar="N", help=help_text)
    help_text = "whether padded steps stay out of the decoder's attention (default: as trained)"
    add("--mask_padding", action=argparse.BooleanOptionalAction, help=help_text)
    add("--verbose", action="store_true", help="print every query with its output")
    add = parser.add_argument_group("attention").add_argument
    add("--plot_attention", metavar="QUERY", help="draw the attention weights for this query instead of scoring")
    help_text = "for the picture: the number of the episode whose support set is in memory"
    add("--support_set", type=natural_int, metavar="K", help=f"{help_text} (default: 0)")
    help_text = "the picture's file (default: <results_dir>/attention_<name>_<query>.png); its JSON goes beside it"
    add("--fn_out_plot", type=png_path, metavar="PATH.png", help=help_text)
    add_device_options(parser)
    args = parser.parse_args()
    if args.support_set is not None and args.plot_attention is None:
        parser.error("--support_set goes with --plot_attention; scoring uses every support set")
    if args.fn_out_plot is not None and args.plot_attention is None:
        parser.error("--fn_out_plot goes with --plot_attention")
    if (args.split is not None or args.support) and args.plot_attention is not None:
        parser.error("--split and --support go with scoring; query.py --plot draws the attention to any support items")
    args.support_set = args.support_set or 0
    args.results_dir = args.results_dir or args.dir_model
    return args


def unlike_training(checkpoint: Checkpoint, args: argparse.Namespace) -> list[str]:
    """Name the options by which a network is scored in another way than it was trained, for the result's name."""
    trained = {"mask_padding": False, **checkpoint.arguments}
    given = {name: getattr(args, name) for name in ("mask_padding", "max_length_eval")}
    return [f"{name}{value}" for name, value in given.items() if value is not None and value != trained[name]]


def result_name(name: str, split: str | None, support: Sequence[Item]) -> str:
    """Name the result file of a network's test; a test of another kind, split, file or support set has another name."""
    parts = ["res_test", name]
    if split is not None:
        is_file = split not in TESTED_SPLITS
        parts += ["on", f"{Path(split).stem}-{digest(Path(split))[:8]}" if is_file else split]
    if support:
        parts += ["shown", in_name(",".join(map(one_word, support)))]
    return "_".join(parts) + ".json"


def picture_name(name: str, query: str, support_set: int) -> str:
    """Name the picture of a network's attention; another query or support set has another name."""
    which = [f"set{support_set}"] if support_set else []
    return "_".join(["attention", name, *which, in_name("+".join(query.split()))]) + ".png"


def check_same_network(path: Path, about: dict[str, Any]) -> None:
    """Keep a result from being replaced by that of another network, or on other data; more episodes are no other.

    Raises:
        UserError: if the file holds one, or something else.
    """
    if not path.exists():
        return
    earlier = read_json_object(path)
    if earlier is None or not isinstance(earlier.get("arguments"), dict):
        raise UserError(f"{path} does not say of which network it is; pass --overwrite to replace it")
    told = earlier, json.loads(json.dumps(about))
    before, now = (
        {**with_what_was_done(one["arguments"]), **{name: one[name] for name in DATA if name in one}} for one in told
    )
    differing = sorted(name for name in {*before} & {*now} - {"num_episodes"} if before[name] != now[name])
    if now.get("num_episodes", 0) < before.get("num_episodes", 0):
        differing.append("num_episodes")
    if differing:
        raise UserError(
            f"{path} is of another network or test ({', '.join(differing)}); pass --overwrite to replace it"
        )


def report_of(
    checkpoint: Checkpoint, split: str, answered: Sequence[Answer], on_training: Sequence[Answer], seconds: float
) -> dict[str, Any]:
    """Gather everything that is printed or saved of a test, except the single answers.

    `on_training` are the answers to training commands, of standard seq2seq networks.

    Raises:
        UserError: if all queries are support items, so that none is new.
    """
    accuracy = count(answered)
    if not accuracy.generalize.total:
        raise UserError(f"no query of {split} is new: all of them are support items")
    counted = [one for one in answered if not one.is_support]
    report: dict[str, Any] = {
        "episode_type": checkpoint.experiment.name,
        "split": split,
        "accuracy": accuracy.generalize.percent,
        "correct": accuracy.generalize.correct,
        "total": accuracy.generalize.total,
    }
    if accuracy.retrieval.total:
        report["retrieval"] = accuracy.retrieval.percent
        report["retrieval_correct"], report["retrieval_total"] = accuracy.retrieval
    if on_training:
        trained = count(on_training).generalize
        report["train_accuracy"] = trained.percent
        report["train_correct"], report["train_total"] = trained
    return report | {
        "seconds": round(seconds, 2),
        "episode": checkpoint.episode,
        "num_episodes": checkpoint.num_episodes,
        "finished": checkpoint.episode >= checkpoint.num_episodes,
        "weights_only": "weights_only" in checkpoint.saved,
        "mask_padding": checkpoint.model.config.mask_padding,
        "mask_padding_in_training": bool(checkpoint.arguments.get("mask_padding", False)),
        "max_length_eval": checkpoint.max_length_eval,
        "arguments": without_places(checkpoint.arguments),
        "training_seconds": checkpoint.saved.get("seconds"),
        "training_device": checkpoint.saved.get("device"),
        "dropout_stream_of_seeds": checkpoint.saved.get("dropout_stream_of_seeds", [checkpoint.arguments.get("seed")]),
        "device": describe_device(checkpoint.device),
        "provenance": provenance(),
        "training_provenance": checkpoint.saved.get("provenance"),
        "breakdown": {name: [row._asdict() for row in rows] for name, rows in break_down(counted).items()},
    }


def print_report(report: dict[str, Any], path: Path) -> None:
    """Print a report for people."""
    trained = f"{report['episode']} of {report['num_episodes']} episodes"
    print(f"{path}: {report['episode_type']}, {trained}, scored on {report['split']}")
    if not report["finished"]:
        print(UNFINISHED)
    if report["weights_only"]:
        print("note: a network without its optimizer, which cannot be trained further")
    for file in (*report["scan_files"], *report["training_scan_files"]):
        if file["difference"]:
            print(SplitFile(**file).note)
    if report["mask_padding"] != report["mask_padding_in_training"]:
        print(f"note: scored with mask_padding {report['mask_padding']}, trained with the opposite")
    if "commit_note" in report["provenance"]:
        print(f"note: no commit is recorded: {report['provenance']['commit_note']}")
    if "support" in report:
        print(f"in memory: {'; '.join(report['support'])}; right is all the same what stands in {report['split']}")
    print(f"accuracy   {report['accuracy']:6.2f} %  ({report['correct']} of {report['total']})")
    if "retrieval" in report:
        print(
            f"retrieval  {report['retrieval']:6.2f} %  ({report['retrieval_correct']} of {report['retrieval_total']})"
        )
    if "train_accuracy" in report:
        trained_on = f"({report['train_correct']} of {report['train_total']} training commands)"
        print(f"training   {report['train_accuracy']:6.2f} %  {trained_on}")
    print(f"answered in {report['seconds']:.1f} s on {report['device']}")
    for name, rows in report["breakdown"].items():
        print(f"\n{name:24} {'%':>6} {'correct':>8} {'total':>8}")
        for row in rows:
            share = 100 * row["correct"] / row["total"]
            print(f"  {row['group']:22} {share:6.2f} {row['correct']:8} {row['total']:8}")


def print_answers(answered: Sequence[Answer]) -> None:
    """Print every query with its output and, where that is wrong, its target."""
    for one in answered:
        target = "" if one.is_right else f"  (target: {one.target})"
        print(f"{'ok   ' if one.is_right else 'WRONG'} {one.support_set}  {one.query}  ->  {one.output}{target}")


def files_of_test(checkpoint: Checkpoint, args: argparse.Namespace) -> list[SplitFile]:
    """Tell which of SCAN's files are scored on."""
    if args.split is None:
        return scan_files(checkpoint.experiment, of_test=True, data_dir=args.data_dir)
    return [describe_split(args.data_dir, "test", args.split)] if args.split in TESTED_SPLITS else []


def training_commands(checkpoint: Checkpoint, data_dir: Path) -> Episode | None:
    """Find the training commands that are scored beside the test; says so if a file of one's own is gone or changed.

    Raises:
        UserError: if a file of SCAN cannot be read.
    """
    try:
        return find_training_commands(checkpoint, data_dir)
    except UserError as error:
        if checkpoint.experiment.files is None:
            raise
        print(f"note: the training commands are not scored: {error}", file=sys.stderr)
        return None


def score(checkpoint: Checkpoint, args: argparse.Namespace, path: Path) -> None:
    """Answer the whole test, print the report and write it with all wrong answers."""
    split, episodes = find_test(checkpoint, args.data_dir, args.split, args.support)
    result_path = args.results_dir / result_name(
        "_".join([short_name(path), *unlike_training(checkpoint, args)]), args.split, args.support
    )
    about = {
        "arguments": without_places(checkpoint.arguments),
        "scan_files": [file._asdict() for file in files_of_test(checkpoint, args)],
        "training_scan_files": checkpoint.saved.get("scan_files", []),
    }
    if checkpoint.experiment.files is not None:
        about["data_files"] = [file._asdict() for file in checkpoint.experiment.files]
    if not args.overwrite:
        check_same_network(result_path, about)
    training = training_commands(checkpoint, args.data_dir) if args.split is None else None
    started = time.monotonic()
    answered = answer_episodes(checkpoint, episodes, args.batch_size)
    on_training = [] if training is None else answer_episodes(checkpoint, [training], args.batch_size)
    report = report_of(checkpoint, split, answered, on_training, time.monotonic() - started)
    if args.support:
        report["support"] = [" -> ".join(item) for item in in_words(args.support)]
    if args.split is not None and not about["scan_files"]:
        report["split_sha256"] = digest(Path(args.split))
    report |= about
    wrong = [
        {"support_set": one.support_set, "query": one.query, "output": one.output, "target": one.target}
        for one in answered
        if not one.is_right
    ]
    save_json(result_path, {**report, "wrong": wrong})  # before printing, which the reader may cut off
    if args.verbose:
        print_answers(answered)
    print_report(report, path)
    print(f"\nwritten to {result_path}")


def plot(checkpoint: Checkpoint, args: argparse.Namespace, picture_path: Path) -> None:
    """Draw the attention weights for one query."""
    supports = find_supports(checkpoint)
    if args.support_set >= len(supports):
        raise UserError(f"--support_set {args.support_set}: the test has support sets 0 to {len(supports) - 1}")
    labelled = explain(checkpoint, in_words(supports[args.support_set]), args.plot_attention)
    from attention_plot import save_attention  # here alone: matplotlib takes long

    save_attention(labelled, picture_path, args.overwrite)
    if checkpoint.episode < checkpoint.num_episodes:
        print(UNFINISHED)
    print(f"{labelled['query']}  ->  {labelled['output']}")
    print(f"written to {picture_path} and {picture_path.with_suffix('.json')}")


def main() -> None:
    """Score, or draw."""
    args = parse_arguments()
    path = args.dir_model / args.fn_in_model
    device = choose_device(args.gpu, args.cpu, args.threads)
    checkpoint = load_checkpoint(path, device, args.mask_padding)
    checkpoint.max_length_eval = args.max_length_eval or checkpoint.max_length_eval
    if args.episode_type not in (None, checkpoint.experiment.name):
        raise UserError(
            f"{path} was trained on {checkpoint.experiment.name}, not on --episode_type {args.episode_type}"
        )
    if args.plot_attention is not None:
        name = "_".join([short_name(path), *unlike_training(checkpoint, args)])
        default = args.results_dir / picture_name(name, args.plot_attention, args.support_set)
        plot(checkpoint, args, args.fn_out_plot or default)
    else:
        score(checkpoint, args, path)


if __name__ == "__main__":
    run_script(main)
