"""Put our results beside the paper's: read the result files, draw the pictures, write the report.

    python -m paper.report                                  of the results that come with the code
    python -m paper.report --results_dir my_results         of those that paper.reproduce leaves

writes <results_dir>/RESULTS.md, and the pictures into <results_dir>/figures, and prints the mean of every cell. It
needs no trained network, and no number is written here that is not the paper's.
"""

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.command_line import OneLineParser, folder_path, run_script
from common.files import save_bytes
from paper.cells import CELLS, Cell
from paper.comparison import (
    MARGIN,
    MIN_RUNS,
    PAPER_RUNS,
    TABLES,
    Summary,
    paper_summary,
    shown,
    summarize,
    t_interval,
    t_quantile,
    verdict,
    wilson_interval,
)
from paper.run_results import CODE, EMPTY, TAKEN_OFF, Results, Run, read_results, take_off

FIGURES = "figures"  # folder of the pictures, beside the report
ATTENTION = {"me": "Figure A.1, mutual exclusivity", "jump_perm": "Figure A.2, add jump"}  # of the paper, redone


def write_report(results: Results) -> str:
    """Put the report together from its sections, in Markdown; one without content is left out."""
    sections = {
        "Beside the paper": compare_cells(results),
        "Cells that the paper does not have": show_own_cells(results),
        "The paper's tables": show_tables(results),
        "Standard seq2seq on its training commands": show_training_commands(results),
        "Findings": [f"### `{cell}`\n\n{text}" for cell, text in results.findings.items() if text],
        "Every run": show_single_runs(results),
        "Compute": show_compute(results),
        "Learning curves": show_curves(results),
        "Attention": show_attention(results),
        "Commands": show_commands(results),
    }
    introduction = (
        "Written by `python -m paper.report` from the result files in this folder: every number in tables and pictures"
        f" is computed from them, or is the paper's (Lake 2019, means and standard deviations over {PAPER_RUNS} runs);"
        " findings are written by hand. An answer"
        " is correct only if every symbol and the stopping point match. Only runs that were trained to their end are"
        " averaged."
    )
    parts = ["# Results", introduction]
    for title, content in sections.items():
        parts += [f"## {title}", *filter(None, content)] if content else []
    return "\n\n".join(parts) + "\n"


def table_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def shown_here(runs: Sequence[Run]) -> str:
    """Write what a cell's runs gave and how many of ME took off; failed and unfinished ones are named."""
    if not runs:
        return "not run"
    n_failed, n_finished = sum(run.error is not None for run in runs), sum(run.is_finished for run in runs)
    counts = {"failed": n_failed, "unfinished": len(runs) - n_failed - n_finished}
    summary = summarize(run.accuracy for run in runs if run.is_finished)
    here = shown(summary) if summary else "no finished run"
    here = ", ".join([here, *(f"{count} {word}" for word, count in counts.items() if count)])
    episodes = [take_off(run.curve) for run in runs if run.is_of_me and run.is_finished and run.curve]
    if not episodes:
        return here
    successes = len(episodes) - episodes.count(None)
    low, high = wilson_interval(successes, len(episodes))
    return f"{here}; took off: {successes} of {len(episodes)} ({low:.0f} to {high:.0f} %)"


def main_lines(results: Results) -> list[str]:
    """Write what is run of every cell and the paper's figure, in columns for a terminal."""
    rows = []
    for name, runs in results.runs.items():
        paper = paper_summary(CELLS[name]) if name in CELLS else None
        if runs:
            rows.append((name, shown_here(runs), f"paper: {shown(paper)}" if paper else results.description(name)))
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return [f"{name:<{widths[0]}}  {here:<{widths[1]}}  {other}" for name, here, other in rows]


def compared(ours: Summary | None, other: Summary | None) -> list[str]:
    """Write the interval of our mean, and whether another mean, if there is one, lies in it."""
    interval = t_interval(ours) if ours else None
    shown_interval = f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else EMPTY
    return [shown_interval, verdict(ours, other) if ours and other else EMPTY]


def compare_cells(results: Results) -> list[str]:
    """Show every cell beside the paper, and say what the comparison can and cannot tell."""
    rows = []
    for name, cell in CELLS.items():
        here, paper = shown_here(results.runs[name]), paper_summary(cell)
        comparison = compared(summarize(results.accuracies(name)), paper)
        rows.append([f"`{name}`", cell.description, shown(paper) if paper else "not in the paper", here, *comparison])
    header = ("Cell", "What", "Paper, % (SD, n)", "Here, % (SD, n)", "95 % interval of our mean", "Paper's mean in it")
    reach = t_quantile(PAPER_RUNS - 1) / math.sqrt(PAPER_RUNS)
    return [
        table_of(header, rows),
        "The **95 % interval** is mean ± t · SD / √n of our runs, cut to 0 to 100 %; t is the 97.5 % quantile of"
        " Student's distribution with n - 1 degrees of freedom. **Paper's mean in it** is “yes” if the paper's mean"
        " lies in this interval. Where our SD is 0 the interval is a point, and “yes” allows for a difference of"
        f" {MARGIN} percentage points, less than any of the paper's conclusions rests on. Fewer than {MIN_RUNS} runs"
        " have no interval.",
        f"“took off” counts the runs on mutual exclusivity that reach {TAKEN_OFF:.0f} % and stay there, with the 95 %"
        " interval of their share (Wilson's).",
        "A “no” says that the paper's mean is farther from ours than the scatter of our runs explains, a “yes” only"
        f" that no difference shows: with {PAPER_RUNS} runs the interval reaches {reach:.1f} SD to either side. It is"
        " rough where runs pile up at 0 or 100 %, and it takes the paper's mean as exact, although that is a mean of"
        f" {PAPER_RUNS} runs with an error of its own.",
    ]


def show_own_cells(results: Results) -> list[str]:
    """Show what cells gave that the paper does not have."""
    rows = []
    for cell, runs in results.runs.items():
        if cell not in CELLS:
            interval, _ = compared(summarize(results.accuracies(cell)), None)
            rows.append([f"`{cell}`", f"`{results.description(cell)}`", shown_here(runs), interval])
    header = ("Cell", "Flags of train.py", "Here, % (SD, n)", "95 % interval of our mean")
    return [table_of(header, rows)] if rows else []


def show_tables(results: Results) -> list[str]:
    """Show the paper's tables, our mean behind each of its figures."""

    def entry(cell: Cell) -> str:
        ours = summarize(results.accuracies(cell.name))
        here = f"{ours.mean:.2f}, n = {ours.n}" if ours else shown_here(results.runs[cell.name])
        return f"{cell.paper_mean:.2f} / {here}"

    entries = {name: entry(cell) for name, cell in CELLS.items() if cell.paper_mean is not None}
    quoted = "The figures for syntactic attention (Russin et al. 2019) are those that the paper quotes."
    return [TABLES.format_map(entries), quoted]


def show_training_commands(results: Results) -> list[str]:
    """Show how the standard networks do on what they were trained on."""
    rows = []
    for cell in CELLS:
        known = summarize(run.train_accuracy for run in results.finished(cell) if run.train_accuracy is not None)
        tested = summarize(results.accuracies(cell))
        if known and tested:
            rows.append([f"`{cell}`", shown(known), shown(tested)])
    explanation = (
        "In the paper standard seq2seq fails on the test commands of add jump although it answers more than 99 % of its"
        " training commands right."
    )
    header = ("Cell", "Training commands, % (SD, n)", "Test commands, % (SD, n)")
    return [explanation, table_of(header, rows)] if rows else []


def state(run: Run) -> str:
    """Write a run's accuracy and, of ME, when it took off; or why it has none."""
    if run.error is not None:
        return "failed"
    if not run.is_finished:
        return f"unfinished ({run.episode} of {run.num_episodes} episodes)"
    if not (run.is_of_me and run.curve):
        return f"{run.accuracy:.2f}"
    episode = take_off(run.curve)
    return f"{run.accuracy:.2f} ({'did not take off' if episode is None else f'took off at {episode}'})"


def show_single_runs(results: Results) -> list[str]:
    """List every run, with the end of the log of those that failed."""
    cells = {cell: runs for cell, runs in results.runs.items() if runs}
    rows = [[f"`{cell}`", ", ".join(f"seed {run.seed}: {state(run)}" for run in runs)] for cell, runs in cells.items()]
    lines = [
        f"- `{run.cell}`, seed {run.seed}, failed: {as_code(last_line(run.error))}"
        for runs in cells.values()
        for run in runs
        if run.error is not None
    ]
    lines += [f"- left out: {as_code(line)}" for line in results.left_out]
    return [table_of(("Cell", "Correct on the test, %"), rows), "\n".join(lines)] if rows or lines else []


def as_code(text: str) -> str:
    """Write a text as inline code, which cannot hold its own quotes."""
    return "`" + text.replace("`", "'") + "`"


def last_line(text: str) -> str:
    """Take the last line that says something, or its end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-200:] if lines else "no message"


def show_compute(results: Results) -> list[str]:
    """Add up the time spent, by device, and name the code that spent it."""
    spent: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    code: Counter[tuple[str, ...]] = Counter()
    for run in (run for runs in results.runs.values() for run in runs if run.error is None):
        spent[run.device].append(run.hours)
        code[run.code] += 1
    if not spent:
        return []
    rows = []
    for device, hours in [*sorted(spent.items()), ("all", [pair for pairs in spent.values() for pair in pairs])]:
        train, test = map(sum, zip(*hours, strict=True))
        rows.append([device, str(len(hours)), f"{train:.2f}", f"{test:.2f}", f"{train + test:.2f}"])
    explanation = (
        "Hours of every run that is not left out and did not fail, each as long as it took: of runs side by side on a"
        " device each one counts in full. A `+` after a commit says that files differed from it."
    )
    return [
        explanation,
        table_of(("Device", "Runs", "Training, h", "Scoring, h", "Together, h"), rows),
        table_of((*CODE, "runs"), [[*key, str(count)] for key, count in sorted(code.items())]),
    ]


def show_curves(results: Results) -> list[str]:
    """Show the learning curves of every cell that has some."""
    explanation = (
        "ValAccRetrieval counts validation queries that equal a support item, ValAccGeneralize all others; for standard"
        " seq2seq they count training commands and test commands. A seed's curve is thin, the mean thick, the range"
        " shaded."
    )
    pictures = [f"![Curves of {cell}]({FIGURES}/curves_{cell}.png)" for cell in results.runs if results.curves(cell)]
    return [explanation, *pictures] if pictures else []


def show_attention(results: Results) -> list[str]:
    """Show the paper's attention figures, redone."""
    parts = []
    for cell, title in ATTENTION.items():
        names = [name for name in results.attention if name.rpartition("_")[0] == cell]
        if names:
            parts.append(f"The paper's {title}, from seed 1 of `{cell}`:")
            parts += [f"![{results.attention[name]['query']}]({FIGURES}/attention_{name}.png)" for name in names]
    return parts


def show_commands(results: Results) -> list[str]:
    """Say what to type for each cell."""
    rows = []
    for cell in CELLS:
        seeds = sorted({run.seed for run in results.runs[cell]} | set(range(1, PAPER_RUNS + 1)))
        chosen = f" --seeds {','.join(map(str, seeds))}" if len(seeds) > PAPER_RUNS else ""
        rows.append([f"`{cell}`", f"`python -m paper.reproduce --only {cell}{chosen}`"])
    for cell, runs in results.runs.items():
        commands = [run.command for run in runs if run.command]
        if cell not in CELLS and commands:
            rows.append([f"`{cell}`", ", ".join(map(as_code, commands[0]))])
    repeated = "Results go to `my_results/` (`--results_dir`); a run that has one there is not repeated."
    return [repeated, table_of(("Cell", "Command"), rows)]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    help_text = "folder of the result files, and the report's"
    parser.add_argument("--results_dir", type=folder_path, default="results", metavar="DIR", help=help_text)
    return parser.parse_args()


def main() -> None:
    """Read everything, then draw and write."""
    folder: Path = parse_arguments().results_dir
    from paper.report_pictures import draw_pictures  # only now: run_script makes sure that it can be imported

    results = read_results(folder)
    draw_pictures(results, folder / FIGURES)
    report = folder / "RESULTS.md"
    save_bytes(report, write_report(results).encode())
    print("\n".join([*main_lines(results), *(f"left out: {folder / line}" for line in results.left_out)]))
    print(f"written to {report}, pictures to {folder / FIGURES}")


if __name__ == "__main__":
    run_script(main)
