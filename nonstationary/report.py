"""Put the results of evaluate.py together: RESULTS.md and its pictures, in the folder of the results.

    python -m nonstationary.report
    python -m nonstationary.report --results_dir results/nonstationary

reads the JSON files of a folder; every number it writes is theirs, or a closed form. A network is what its training
command says, not the name of its file: copies count once, and networks whose training is unfinished are left out.
"""

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.command_line import OneLineParser, folder_path, run_script
from common.errors import UserError
from common.files import save_bytes
from nonstationary.closed_form import mean_segments, oracle_regret
from nonstationary.options import EVAL_SEED
from nonstationary.predictors import own_mixture
from nonstationary.result_files import (
    EXACT_NAMES,
    OF_DEPTH,
    RESULTS,
    Counted,
    Mean,
    counted,
    exact_in_order,
    identity,
    is_network,
    key_of,
    label,
    names_of,
    pooled,
    read_results,
    recipe,
    setting,
    source_label,
)
from nonstationary.sources import SEGMENTS, Source, ptw_depth

Result = dict[str, Any]

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


def find_results(folder: Path) -> Counted:
    """Read every result in bits that counts, sources in their order, then by length and network.

    Raises:
        UserError: if there is none.
    """
    paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith("bench_")]
    found = read_results(paths)
    results, left_out = counted(one for one in found if one["unit"] == "bits")
    left_out += [f"{one['path']}: it is in {one['unit']}, not in bits" for one in found if one["unit"] != "bits"]
    if not results:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise UserError(f"{folder}: no results in bits{why}; write some with `python -m nonstationary.evaluate`")
    order = list(SEGMENTS)
    return Counted(sorted(results, key=lambda one: (order.index(one["source"]["name"]), one["seq_length"])), left_out)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def exact_table(results: Sequence[Result]) -> str:
    """Put the exact predictors side by side, the oracle beside its closed form."""
    rows = []
    for one in results:
        source = Source(**one["source"])
        found = {row["predictor"]: f"{row['regret']:.2f} ± {row['regret_error']:.2f}" for row in one["predictors"]}
        cells = [f"**{found[name]}**" if name == one["reference"] else found.get(name, "—") for name in EXACT_NAMES]
        closed = "—"  # there is none for more symbols
        if source.num_symbols == 2:
            closed = f"{oracle_regret(source, one['seq_length']) / math.log(2):.4f}"
        segments = f"{mean_segments(source, one['seq_length']):.2f}"
        name = ", ".join([source_label(source.name), *further_settings(one)])
        length, n = str(one["seq_length"]), str(one["n_eval"])
        rows.append([name, length, n, *cells[:2], closed, *cells[2:], segments])
    header = ["source", "T", "sequences", *list(EXACT_NAMES.values())[:2], "KT oracle, closed form"]
    header += [*list(EXACT_NAMES.values())[2:], "mean segments"]
    return table(header, rows)


def share_closed(result: Result) -> float | None:
    """Tell how much of the gap from KT to the source's own mixture a network closes, in percent."""
    regrets = {row["predictor"]: row["regret"] for row in result["predictors"]}
    own = own_mixture(Source(**result["source"]), result["seq_length"], result["ptw_depth"])
    if "kt" not in regrets or result["reference"] != own or own in ("kt", "kt_oracle"):
        return None
    gap: float = regrets["kt"] - regrets[result["reference"]]
    reached: float = regrets["kt"] - regrets[result["network"]["config"]["model"]]
    return 100 * reached / gap


def network_table(results: Sequence[Result]) -> str:
    """Show each network on the source and the length that it was trained on."""
    rows = []
    for one in results:
        network = one["network"]
        row = next(row for row in one["predictors"] if is_network(one, row["predictor"]))
        share = share_closed(one)
        rows.append(
            [
                f"`{network['file']}`",
                f"{network['arguments'].get('seed', '—')}",
                label(one, row["predictor"]),
                str(one["seq_length"]),
                f"{row['regret']:.2f} ± {row['regret_error']:.2f}",
                f"{row['difference']:.3f} ± {row['difference_error']:.3f} above {label(one, one['reference'])}",
                "—" if share is None else f"{share:.1f} %",
                f"{row['gap']:.4f}",
                f"{network['step']}",
                "—" if network["training_seconds"] is None else f"{network['training_seconds'] / 60:.0f}",
            ]
        )
    header = ["file", "seed", "network", "T", "regret, bits", "paired difference", "gap closed", "mean \\|q - q*\\|"]
    return table([*header, "steps", "minutes"], rows)


def cross_table(results: Sequence[Result], among: Sequence[Result]) -> str:
    """Show everybody on every source, for sequences of one length; networks of several seeds averaged.

    Names tell networks apart from all in further results, so that one has the same name in every table.
    """
    sources = list(dict.fromkeys(one["source"]["name"] for one in results))
    by_source = pooled(results, among)
    columns = [by_source[name] for name in sources]
    rows = [[name, *(cell(column.get(name)) for column in columns)] for name in in_order(columns)]
    return table(["predictor", *(source_label(name) for name in sources)], rows)


def in_order(columns: Sequence[Mapping[str, Mean]]) -> list[str]:
    """List the names in any of several columns: networks first, then exact predictors."""
    found = {name for column in columns for name in column}
    exact = exact_in_order(found)
    return [*sorted(found - {*exact}), *exact]


def cell(mean: Mean | None) -> str:
    """Write a regret into a table."""
    if mean is None:
        return "—"
    return f"{mean.regret:.2f} ± {mean.error:.2f}" + (f" (n = {mean.n})" if mean.n > 1 else "")


def length_table(results: Sequence[Result]) -> str:
    """Show networks on sequences of several lengths of the one source that all of them were trained on."""
    lengths = sorted({one["seq_length"] for one in results})
    (source,) = {one["source"]["name"] for one in results}
    columns = [pooled([one for one in results if one["seq_length"] == n], results)[source] for n in lengths]
    names = names_of(results)
    trained = set()
    for one in results:
        model = one["network"]["config"]["model"]
        key = label(one, model), key_of(recipe(one, model))
        trained.add((names[key], one["network"]["arguments"]["seq_length"]))
    rows = []
    for name in in_order(columns):
        cells = [cell(column.get(name)) for column in columns]
        rows.append(
            [
                name,
                *(f"**{text}**" if (name, n) in trained else text for n, text in zip(lengths, cells, strict=True)),
            ]
        )
    return table(["predictor", *(f"T = {length}" for length in lengths)], rows)


def by_length(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Put results of networks on the source of their training together, under a title, if one is of another length."""
    groups: dict[str, list[Result]] = {}
    for one in results:
        is_usual = one["chunk_length"] is None and one["ptw_depth"] == ptw_depth(one["seq_length"])
        if one["network"] is not None and one["network"]["trained_on"] == one["source"] and is_usual:
            title = [source_label(one["source"]["name"]), f"{one['n_eval']} sequences", *further_settings(one)]
            groups.setdefault(", ".join(title), []).append(one)
    return {title: group for title, group in groups.items() if not all(on_own_ground(one) for one in group)}


def on_own_ground(result: Result) -> bool:
    """Tell whether a network is tested on the source and the length that it was trained on."""
    network = result["network"]
    at_home = network["trained_on"], network["arguments"]["seq_length"]
    return at_home == (result["source"], result["seq_length"])


def further_settings(result: Result) -> list[str]:
    """Name the settings of a result that are not as by default, those aside that have columns of their own."""
    default, source = asdict(Source()), result["source"]
    found = [f"{name} {value}" for name, value in source.items() if name != "name" and value != default[name]]
    if result["ptw_depth"] != ptw_depth(result["seq_length"]):
        found.append(f"PTW{OF_DEPTH}{result['ptw_depth']}")
    if result["eval_seed"] != EVAL_SEED:
        found.append(f"evaluation seed {result['eval_seed']}")
    return found


def by_setting(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Put the results of networks together that can stand side by side, under a title, short sequences first."""
    groups: dict[str, list[Result]] = {}
    for one in sorted((one for one in results if one["network"] is not None), key=lambda one: one["seq_length"]):
        groups.setdefault(setting(one), []).append(one)
    titled = {}
    for group in groups.values():
        first = group[0]
        chunks = [] if first["chunk_length"] is None else [f"read in chunks of {first['chunk_length']}"]
        title = [f"{first['seq_length']} symbols", f"{first['n_eval']} sequences", *further_settings(first), *chunks]
        titled[", ".join(title)] = group
    return titled


def by_network(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Group results by network, under a name for files; of networks that differ in their seeds alone, the first one."""
    groups: dict[str, list[Result]] = {}
    names: dict[str, str] = {}  # by identity, of the first network of each recipe
    first: dict[str, str] = {}  # identity, by recipe
    for one in results:
        who = key_of(identity(one))
        if first.setdefault(key_of(recipe(one, one["network"]["config"]["model"])), who) != who:
            continue
        if who not in names:
            stem = Path(one["network"]["file"]).stem
            candidates = (stem, *(f"{stem}_{number}" for number in range(2, len(results) + 2)))
            names[who] = next(name for name in candidates if name not in names.values())
        groups.setdefault(names[who], []).append(one)
    return groups


def draw_all(results: Sequence[Result], folder: Path) -> list[tuple[str, str]]:
    """Draw every picture into the folder; returns what each shows and its name."""
    from nonstationary.pictures import draw_bars, draw_curves, draw_partitions, draw_sequence, save

    save(draw_partitions(256, 1), folder / "partitions.png")
    drawn = [("Where the sources switch: a row a sequence, its shade the probability of symbol 1.", "partitions.png")]
    at_home = [one for one in results if one["network"] is not None and on_own_ground(one)]
    names = names_of(results)
    for stem, (one, *_) in by_network(at_home).items():
        name = f"sequence_{stem}.png"
        save(draw_sequence(one), folder / name)
        model = one["network"]["config"]["model"]
        who = names[label(one, model), key_of(recipe(one, model))]
        seen = f"{one['seq_length']} symbols, as the network `{stem}` ({who}) and the exact predictors see them."
        drawn.append((f"One sequence of {seen}", name))
    for number, (title, together) in enumerate(by_setting(results).items(), start=1):
        save(draw_bars(together, results), folder / f"bars_{number}.png")
        drawn.append((f"Cumulative regret by source and predictor: {title}.", f"bars_{number}.png"))
        for name, curves in by_network(together).items():
            if len(curves) > 1:
                save(draw_curves(curves), folder / f"curves_{number}_{name}.png")
                drawn.append(
                    (f"Mean regret so far of `{name}` and the exact predictors.", f"curves_{number}_{name}.png")
                )
    return drawn


def write_report(
    results: Sequence[Result], drawn: Sequence[tuple[str, str]], figures: str, left_out: Sequence[str]
) -> str:
    """Write the report in Markdown."""
    exact = [one for one in results if one["network"] is None]
    networks = [one for one in results if one["network"] is not None]
    parts = ["# Results: non-stationary sources", INTRODUCTION]
    if exact:
        parts += ["## Exact predictors", ABOUT_EXACT, exact_table(exact)]
    at_home = [one for one in networks if on_own_ground(one)]
    if at_home:
        parts += ["## Networks on the source they were trained on", ABOUT_NETWORKS, network_table(at_home)]
    for title, together in by_length(networks).items():
        parts += [f"## Other lengths than in training: {title}", ABOUT_LENGTH, length_table(together)]
    for title, together in by_setting(networks).items():
        parts += [f"## Every predictor on every source: {title}", ABOUT_CROSS, cross_table(together, results)]
    parts.append("## Pictures")
    parts += [f"{caption}\n\n![{Path(name).stem}]({figures}/{name})" for caption, name in drawn]
    seconds = {key_of(identity(one)): one["network"]["training_seconds"] or 0 for one in networks}
    parts.append(f"Training these networks took {sum(seconds.values()) / 3600:.1f} hours in all.")
    if left_out:
        parts += ["Left out:", "\n".join(f"- {reason}" for reason in left_out)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Read, draw, write."""
    folder: Path = parse_arguments().results_dir
    results, left_out = find_results(folder)
    drawn = draw_all(results, folder / "figures")
    text = write_report(results, drawn, "figures", left_out)
    save_bytes(folder / "RESULTS.md", text.encode())
    print("".join(f"left out: {reason}\n" for reason in left_out), end="")
    print(f"written to {folder / 'RESULTS.md'}, pictures to {folder / 'figures'}")


if __name__ == "__main__":
    run_script(main)
