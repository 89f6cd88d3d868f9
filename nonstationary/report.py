"""Put the results of evaluate.py together: RESULTS.md and its pictures, in the folder of the results.

    python -m nonstationary.report
    python -m nonstationary.report --results_dir results/nonstationary

reads the JSON files of a folder; every number it writes is theirs, or a closed form. A network is what its training
command says, not the name of its file: copies count once, and networks whose training is unfinished are left out.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from common.command_line import OneLineParser, folder_path, run_script
from common.errors import UserError
from common.files import save_bytes
from nonstationary.options import EVAL_SEED
from nonstationary.predictors import OWN_MIXTURE, PREDICTORS
from nonstationary.regret import NATS_IN, mean_segments, oracle_regret
from nonstationary.result_files import (
    OF_DEPTH,
    RESULTS,
    Result,
    counted,
    identity,
    key_of,
    label,
    place,
    pooled,
    read_results,
    source_name,
)
from nonstationary.sources import SEGMENTS, Source, ptw_depth

INTRODUCTION = """\
Written by `python -m nonstationary.report` from the result files in this folder; `nonstationary/README.md` says which
commands make such files. Regret is in bits, summed over symbols 2 to T and averaged over sequences, ± one standard
error. In a row all predictors see the same sequences. None of these numbers is the paper's: it gives its own in
figures."""
ABOUT_EXACT = """\
The predictor from which differences are taken is in bold: the source's own exact mixture, where it was asked for. The
closed form is what KT, told of the switches, must lose on average; the simulation has to agree with it. All rows of a
source share their seed, so they err together."""
ABOUT_NETWORKS = """\
The paired difference is taken sequence by sequence, from the source's own mixture where there is one. "Gap closed" says
how far the network came from KT, which knows of no switches, to that mixture. Minutes are wall time on cores shared
with other work."""
ABOUT_LENGTH = """\
Networks on the source that they were trained on: in bold at the length of their training, else at others. Where several
differ in their seed alone: their mean and its standard error over seeds."""
ABOUT_CROSS = """\
Where several networks differ in their seed alone: their mean and its standard error over seeds."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    help_text = "folder of the result files, and the report's"
    parser.add_argument("--results_dir", type=folder_path, default=str(RESULTS), metavar="DIR", help=help_text)
    return parser.parse_args()


def find_results(folder: Path) -> tuple[list[Result], list[str]]:
    """Read every result in bits that counts, by source, length and file; say why others are left out.

    Raises:
        UserError: if there is none.
    """
    found = read_results([path for path in sorted(folder.glob("*.json")) if not path.name.startswith("bench_")])
    results, left_out = counted(one for one in found if one["unit"] == "bits")
    left_out += [f"{one['path']}: it is in {one['unit']}, not in bits" for one in found if one["unit"] != "bits"]
    if not results:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise UserError(f"{folder}: no results in bits{why}; write some with `python -m nonstationary.evaluate`")
    order = list(SEGMENTS)
    return sorted(results, key=lambda one: (order.index(one["source"]["name"]), one["seq_length"])), left_out


def grouped(results: Iterable[Result], key: Callable[[Result], str]) -> dict[str, list[Result]]:
    """Group results by some text."""
    groups: dict[str, list[Result]] = {}
    for one in results:
        groups.setdefault(key(one), []).append(one)
    return groups


def further_settings(result: Result) -> list[str]:
    """Name the settings of a result that are not as by default, except those that have columns of their own."""
    default, source = asdict(Source()), result["source"]
    found = [f"{name} {value}" for name, value in source.items() if name != "name" and value != default[name]]
    if result["ptw_depth"] != ptw_depth(result["seq_length"]):
        found.append(f"PTW{OF_DEPTH}{result['ptw_depth']}")
    if result["eval_seed"] != EVAL_SEED:
        found.append(f"evaluation seed {result['eval_seed']}")
    if result["chunk_length"] is not None:
        found.append(f"read in chunks of {result['chunk_length']}")
    return found


def on_own_ground(result: Result) -> bool:
    """Tell whether a network is tested on the source and the length that it was trained on."""
    network = result["network"]
    return (network["trained_on"], network["arguments"]["seq_length"]) == (result["source"], result["seq_length"])


def by_setting(networks: Sequence[Result]) -> dict[str, list[Result]]:
    """Group results that can stand side by side, under a title, short sequences first."""

    def title(one: Result) -> str:
        return ", ".join([f"{one['seq_length']} symbols", f"{one['n_eval']} sequences", *further_settings(one)])

    return grouped(sorted(networks, key=lambda one: one["seq_length"]), title)


def by_length(networks: Sequence[Result]) -> dict[str, list[Result]]:
    """Group results on the source of the training, under a title, if one is of another length than in training."""

    def title(one: Result) -> str:
        return ", ".join([source_name(one), f"{one['n_eval']} sequences", *further_settings(one)])

    groups = grouped((one for one in networks if one["network"]["trained_on"] == one["source"]), title)
    return {name: group for name, group in groups.items() if not all(map(on_own_ground, group))}


def by_network(networks: Sequence[Result]) -> dict[str, list[Result]]:
    """Group results by network, under a name for files; of networks that differ in their seeds alone, the first one."""
    groups: dict[str, list[Result]] = {}
    for alike in grouped(networks, lambda one: one["name"]).values():
        stem = Path(alike[0]["network"]["file"]).stem
        names = stem, *(f"{stem}_{number}" for number in range(2, len(groups) + 2))
        name = next(name for name in names if name not in groups)
        groups[name] = [one for one in alike if identity(one) == identity(alike[0])]
    return groups


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Write a table in Markdown; each row has a text for each column."""
    lines = [[*rows[0]], ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def exact_row(result: Result) -> dict[str, str]:
    """Put the exact predictors side by side, the oracle beside its closed form."""
    source, length = Source(**result["source"]), result["seq_length"]
    found = {row["predictor"]: f"{row['regret']:.2f} ± {row['regret_error']:.2f}" for row in result["predictors"]}
    found[result["reference"]] = f"**{found[result['reference']]}**"
    row = {"source": ", ".join([source_name(result), *further_settings(result)])}
    row |= {"T": f"{length}", "sequences": f"{result['n_eval']}"}
    for name, title in PREDICTORS.items():
        row[title] = found.get(name, "—")
        if name == "kt_oracle":
            has_formula = source.num_symbols == 2
            row[f"{title}, closed form"] = (
                f"{oracle_regret(source, length) / NATS_IN['bits']:.4f}" if has_formula else "—"
            )
    return row | {"mean segments": f"{mean_segments(source, length):.2f}"}


def share_closed(result: Result) -> str:
    """Tell how much of the gap from KT to the source's own mixture a network closes."""
    regrets = {row["predictor"]: row["regret"] for row in result["predictors"]}
    own = OWN_MIXTURE[result["source"]["name"]]
    if "kt" not in regrets or result["reference"] != own or own in ("kt", "kt_oracle"):
        return "—"
    reached = regrets["kt"] - regrets[result["network"]["config"]["model"]]
    return f"{100 * reached / (regrets['kt'] - regrets[own]):.1f} %"


def network_row(result: Result) -> dict[str, str]:
    """Show a network on the source and the length that it was trained on."""
    network, model = result["network"], result["network"]["config"]["model"]
    (row,) = (row for row in result["predictors"] if row["predictor"] == model)
    difference, seconds = f"{row['difference']:.3f} ± {row['difference_error']:.3f}", network["training_seconds"]
    return {
        "file": f"`{network['file']}`",
        "seed": f"{network['arguments'].get('seed', '—')}",
        "network": label(result, model),
        "T": f"{result['seq_length']}",
        "regret, bits": f"{row['regret']:.2f} ± {row['regret_error']:.2f}",
        "paired difference": f"{difference} above {label(result, result['reference'])}",
        "gap closed": share_closed(result),
        "mean \\|q - q*\\|": f"{row['gap']:.4f}",
        "steps": f"{network['step']}",
        "minutes": "—" if seconds is None else f"{seconds / 60:.0f}",
    }


def regret_table(results: Sequence[Result], column: Callable[[Result], str], mark_training: bool = False) -> str:
    """Show every predictor's regret in columns of results; networks of several seeds averaged.

    With `mark_training` the columns with the source and length of a network's training are in bold.
    """
    means = pooled(results, column)
    bold = {(one["name"], column(one)) for one in results if mark_training and on_own_ground(one)}
    rows = []
    for name in sorted({name for found in means.values() for name in found}, key=place):
        cells = {title: str(found.get(name, "—")) for title, found in means.items()}
        cells = {title: f"**{text}**" if (name, title) in bold else text for title, text in cells.items()}
        rows.append({"predictor": name, **cells})
    return table(rows)


def draw_all(networks: Sequence[Result], folder: Path) -> dict[str, str]:
    """Draw every picture into the folder; returns captions by file name."""
    from nonstationary.pictures import draw_bars, draw_curves, draw_partitions, draw_sequence, save

    captions = {"partitions.png": "Where the sources switch: a row a sequence, its shade the probability of symbol 1."}
    save(draw_partitions(256, 1), folder / "partitions.png")
    for stem, (one, *_) in by_network([one for one in networks if on_own_ground(one)]).items():
        name = f"sequence_{stem}.png"
        save(draw_sequence(one), folder / name)
        who = f"the network `{stem}` ({one['name']}) and the exact predictors"
        captions[name] = f"One sequence of {one['seq_length']} symbols, as {who} see them."
    for number, (title, together) in enumerate(by_setting(networks).items(), start=1):
        name = f"bars_{number}.png"
        save(draw_bars(together), folder / name)
        captions[name] = f"Cumulative regret by source and predictor: {title}."
        for stem, curves in by_network(together).items():
            if len(curves) > 1:
                name = f"curves_{number}_{stem}.png"
                save(draw_curves(curves), folder / name)
                captions[name] = f"Mean regret so far of `{stem}` and the exact predictors."
    return captions


def write_report(results: Sequence[Result], captions: Mapping[str, str], left_out: Sequence[str]) -> str:
    """Write the report in Markdown."""
    exact = [one for one in results if one["network"] is None]
    networks = [one for one in results if one["network"] is not None]
    parts = ["# Results: non-stationary sources", INTRODUCTION]
    if exact:
        parts += ["## Exact predictors", ABOUT_EXACT, table([*map(exact_row, exact)])]
    at_home = [one for one in networks if on_own_ground(one)]
    if at_home:
        parts += ["## Networks on the source they were trained on", ABOUT_NETWORKS, table([*map(network_row, at_home)])]
    for title, together in by_length(networks).items():
        lengths = regret_table(together, lambda one: f"T = {one['seq_length']}", mark_training=True)
        parts += [f"## Other lengths than in training: {title}", ABOUT_LENGTH, lengths]
    for title, together in by_setting(networks).items():
        parts += [f"## Every predictor on every source: {title}", ABOUT_CROSS, regret_table(together, source_name)]
    parts.append("## Pictures")
    parts += [f"{caption}\n\n![{Path(name).stem}](figures/{name})" for name, caption in captions.items()]
    seconds = {key_of(identity(one)): one["network"]["training_seconds"] or 0 for one in networks}
    parts.append(f"Training these networks took {sum(seconds.values()) / 3600:.1f} hours in all.")
    if left_out:
        parts += ["Left out:", "\n".join(f"- {reason}" for reason in left_out)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Read, draw, write."""
    folder: Path = parse_arguments().results_dir
    results, left_out = find_results(folder)
    captions = draw_all([one for one in results if one["network"] is not None], folder / "figures")
    save_bytes(folder / "RESULTS.md", write_report(results, captions, left_out).encode())
    print("".join(f"left out: {reason}\n" for reason in left_out), end="")
    print(f"written to {folder / 'RESULTS.md'}, pictures to {folder / 'figures'}")


if __name__ == "__main__":
    run_script(main)
