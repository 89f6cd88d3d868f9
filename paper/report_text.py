"""Write the report in Markdown: every cell beside the paper, the paper's tables, ME by recipe, what it all cost.

Takes results that were read and checked, returns text. No number is written here that is not the paper's.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from paper.cells import CELLS, Cell
from paper.comparison import (
    MARGIN,
    MIN_RUNS,
    PAPER_RUNS,
    T_QUANTILES,
    TABLES,
    PaperTable,
    Summary,
    paper_summary,
    shown,
    summarize,
    t_interval,
    verdict,
)
from paper.rates import wilson_interval
from paper.run_results import TAKEN_OFF, Results, Run, take_off

FIGURES = "figures"  # folder of the pictures, beside the report
MASKED = {"me_masked": "me", "jump_perm_masked": "jump_perm"}  # and what is the same without the mask
ATTENTION = {"me": "Figure A.1, mutual exclusivity", "jump_perm": "Figure A.2, add jump"}  # of the paper, redone
CODE = ("commit", "python", "torch", "numpy")  # what a result says of the code that made it
BY_LENGTH = "output length"  # a table of the breakdown
EMPTY = "—"


def write_report(results: Results) -> str:
    """Put the report together from its sections, in Markdown."""
    sections = (
        introduction(),
        compare_cells(results),
        show_own_cells(results),
        show_tables(results),
        show_training_commands(results),
        show_masked(results),
        show_mutual_exclusivity(results),
        show_findings(results),
        show_single_runs(results),
        show_compute(results),
        show_curves(results),
        show_attention(results),
        show_commands(results),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def introduction() -> str:
    """Say what the numbers are."""
    return (
        "# Results\n\n"
        "Written by `python -m paper.report` from the result files in this folder: every number in tables and pictures"
        f" is computed from them, or is the paper's (Lake 2019, means and standard deviations over {PAPER_RUNS} runs);"
        " findings are written by hand. An answer"
        " is correct only if every symbol and the stopping point match. Only runs that were trained to their end are"
        " averaged."
    )


def section(title: str, *parts: str) -> str:
    """Write a section, without the parts that are empty; nothing if all are."""
    filled = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *filled]) if filled else ""


def table_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def shown_here(runs: Sequence[Run]) -> str:
    """Write what a cell's runs gave, failed and unfinished ones named."""
    if not runs:
        return "not run"
    failed = sum(run.error is not None for run in runs)
    unfinished = sum(run.error is None and not run.is_finished for run in runs)
    aside = [f"{count} {word}" for count, word in ((failed, "failed"), (unfinished, "unfinished")) if count]
    summary = summarize(run.accuracy for run in runs if run.is_finished)
    return ", ".join([shown(summary) if summary else "no finished run", *aside])


def shown_paper(cell: Cell) -> str:
    """Write the paper's figures for a cell."""
    paper = paper_summary(cell)
    return shown(paper) if paper else "not in the paper"


def compare_cells(results: Results) -> str:
    """Show every cell beside the paper, and say what the comparison can and cannot tell."""
    rows = []
    for cell in CELLS.values():
        runs, ours = results.runs[cell.name], summarize(results.accuracies(cell.name))
        here = shown_here(runs) + (f"; {took_off}" if (took_off := shown_take_offs(runs)) else "")
        comparison = compared(ours, paper_summary(cell)) if ours else [EMPTY] * 2
        rows.append([f"`{cell.name}`", cell.description, shown_paper(cell), here, *comparison])
    header = ("Cell", "What", "Paper, % (SD, n)", "Here, % (SD, n)", "95 % interval of our mean", "Paper's mean in it")
    return section("Beside the paper", table_of(header, rows), criterion())


def main_lines(results: Results) -> list[str]:
    """Write what is run of every cell and the paper's figure, in columns for a terminal."""
    rows = []
    for name, runs in results.runs.items():
        paper = paper_summary(CELLS[name]) if name in CELLS else None
        if runs:
            rows.append((name, shown_here(runs), f"paper: {shown(paper)}" if paper else results.description(name)))
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return [f"{name:<{widths[0]}}  {here:<{widths[1]}}  {other}" for name, here, other in rows]


def show_own_cells(results: Results) -> str:
    """Show what cells gave that the paper does not have."""
    rows = []
    for cell, runs in results.runs.items():
        ours = summarize(results.accuracies(cell))
        if cell not in CELLS:
            interval = compared(ours, None)[0] if ours else EMPTY
            rows.append([f"`{cell}`", f"`{results.description(cell)}`", shown_here(runs), interval])
    if not rows:
        return ""
    header = ("Cell", "Flags of train.py", "Here, % (SD, n)", "95 % interval of our mean")
    return section("Cells that the paper does not have", table_of(header, rows))


def shown_take_offs(runs: Sequence[Run]) -> str:
    """Write how many ME runs took off, which says more than their mean; nothing for other cells."""
    episodes = take_offs(runs) if are_mutual_exclusivity(runs) else []
    return f"took off: {shown_rate(episodes)}" if episodes else ""


def compared(ours: Summary, other: Summary | None) -> list[str]:
    """Write the interval of our mean, and whether another mean, if there is one, lies in it."""
    interval = t_interval(ours)
    shown_interval = f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else EMPTY
    return [shown_interval, verdict(ours, other) if other else EMPTY]


def criterion() -> str:
    """Explain the intervals and the verdicts."""
    reach = T_QUANTILES[PAPER_RUNS - 2] / math.sqrt(PAPER_RUNS)
    return (
        "The **95 % interval** is mean ± t · SD / √n of our runs, cut to 0 to 100 %; t is the 97.5 % quantile of"
        " Student's distribution with n - 1 degrees of freedom. **Paper's mean in it** is “yes” if the paper's mean"
        " lies in this interval. Where our SD is 0 the interval is a point, and “yes” allows for a difference of"
        f" {MARGIN} percentage points, less than any of the paper's conclusions rests on. Fewer than {MIN_RUNS} runs"
        " have no interval.\n\n"
        f"“took off” counts the runs on mutual exclusivity that reach {TAKEN_OFF:.0f} % and stay there, with the 95 %"
        " interval of their share (Wilson's).\n\n"
        "A “no” says that the paper's mean is farther from ours than the scatter of our runs explains, a “yes” only"
        f" that no difference shows: with {PAPER_RUNS} runs the interval reaches {reach:.1f} SD to either side. It is"
        " rough where runs pile up at 0 or 100 %, and it takes the paper's mean as exact, although that is a mean of"
        f" {PAPER_RUNS} runs with an error of its own."
    )


def show_tables(results: Results) -> str:
    """Show the paper's tables, and the picture of both and of mutual exclusivity."""
    tables = [show_table(table, results) for table in TABLES]
    quoted = "The figures for syntactic attention (Russin et al. 2019) are those that the paper quotes."
    return section(
        "The paper's tables",
        *tables,
        quoted,
        f"![Mutual exclusivity and the paper's tables as bars]({FIGURES}/tables.png)",
    )


def show_table(table: PaperTable, results: Results) -> str:
    """Show one of the paper's tables in its own shape."""

    def entry(content: str | float | None) -> str:
        if content is None:
            return EMPTY
        if not isinstance(content, str):
            return f"{content:.2f}"
        ours = summarize(results.accuracies(content))
        here = f"{ours.mean:.2f}, n = {ours.n}" if ours else shown_here(results.runs[content])
        return f"{CELLS[content].paper_mean:.2f} / {here}"

    rows = [[model, *(entry(content) for content in row)] for model, row in table.rows]
    return f"{table.title} (% correct, paper / here)\n\n{table_of(['Model', *table.columns], rows)}"


def show_training_commands(results: Results) -> str:
    """Show how the standard networks do on what they were trained on."""
    rows = []
    for cell in CELLS:
        known = summarize(run.train_accuracy for run in results.finished(cell) if run.train_accuracy is not None)
        tested = summarize(results.accuracies(cell))
        if known and tested:
            rows.append([f"`{cell}`", shown(known), shown(tested)])
    if not rows:
        return ""
    explanation = (
        "In the paper standard seq2seq fails on the test commands of add jump although it answers more than 99 % of its"
        " training commands right."
    )
    header = ("Cell", "Training commands, % (SD, n)", "Test commands, % (SD, n)")
    return section("Standard seq2seq on its training commands", explanation, table_of(header, rows))


def show_masked(results: Results) -> str:
    """Show what changes when the decoder's attention cannot reach the padded steps."""
    rows = []
    for masked, plain in MASKED.items():
        ours, other = summarize(results.accuracies(masked)), summarize(results.accuracies(plain))
        if ours and other:
            rows.append([f"`{masked}`", f"`{plain}`", shown(other), shown(ours), *compared(ours, other)])
    if not rows:
        return ""
    explanation = (
        "The networks of the paper may attend to padded steps while they decode; here they may not (`--mask_padding`)."
        " The last columns compare the two as above, with the mean of the unmasked runs in place of the paper's."
    )
    header = (
        "Masked",
        "Unmasked",
        "Unmasked, % (SD, n)",
        "Masked, % (SD, n)",
        "95 % interval of the masked mean",
        "Unmasked mean in it",
    )
    return section("Padded steps masked", explanation, table_of(header, rows))


def show_mutual_exclusivity(results: Results) -> str:
    """Show for the ME runs of every recipe whether and when they took off, and their accuracy by output length."""
    cells = {cell: runs for cell, runs in results.runs.items() if are_mutual_exclusivity(runs)}
    if not cells:
        return ""
    groups = {name for runs in cells.values() for run in runs for name in run.group_percents(BY_LENGTH)}
    lengths = sorted(groups, key=lambda name: (len(name.partition("-")[0]), name))
    columns = [f"length {name}" for name in lengths]
    explanation = (
        f"A run has taken off at the first log line from which its ValAccGeneralize stays at {TAKEN_OFF:.0f} % or above"
        " to the end; the 95 % confidence interval of their share (Wilson's) stands beside their number. The recipe is"
        " what differs from the default. Accuracy is on the validation episodes, which are the test here as in the"
        " paper; by length of the output it is the mean over the finished runs."
    )
    plain = next(iter([*results.finished("me"), *results.finished("me_kept_moments")]), None)
    sums = [recipe_row(cell, runs, plain, lengths) for cell, runs in cells.items()]
    picture = f"![ME with Adam started anew and with its moments kept]({FIGURES}/curves_me_recipes.png)"
    single = [run_row(run, lengths) for runs in cells.values() for run in runs]
    return section(
        "Mutual exclusivity: which runs take off",
        explanation,
        table_of(["Cell", "Recipe", "Took off", "At episode, median (range)", "Here, % (SD, n)", *columns], sums),
        picture if results.me_curves() else "",
        table_of(["Cell", "Seed", "Took off at episode", "Accuracy, %", *columns], single),
    )


def recipe_row(cell: str, runs: Sequence[Run], plain: Run | None, lengths: Sequence[str]) -> list[str]:
    """Sum up the ME runs of one recipe."""
    finished = [run for run in runs if run.is_finished]
    episodes = [episode for episode in take_offs(runs) if episode is not None]
    percents = [run.group_percents(BY_LENGTH) for run in finished]
    by_length = [[groups[name] for groups in percents if name in groups] for name in lengths]
    return [
        f"`{cell}`",
        recipe(finished[0], plain) if finished and plain else EMPTY,
        shown_rate(take_offs(runs)),
        f"{statistics.median(episodes):.0f} ({min(episodes)} to {max(episodes)})" if episodes else EMPTY,
        shown_here(runs),
        *(f"{statistics.fmean(values):.1f}" if values else EMPTY for values in by_length),
    ]


def are_mutual_exclusivity(runs: Sequence[Run]) -> bool:
    """Say whether a cell's runs, those that failed aside, are of ME."""
    return any(run.error is None and run.arguments.get("episode_type") == "ME" for run in runs)


def take_offs(runs: Sequence[Run]) -> list[int | None]:
    """Find the episode at which each finished run with a learning curve took off, None for those that did not."""
    return [take_off(run.curve) for run in runs if run.is_finished and run.curve]


def shown_rate(episodes: Sequence[int | None]) -> str:
    """Write how many runs took off, with the interval of the chance in percent; without runs there is none."""
    if not episodes:
        return EMPTY
    successes = sum(episode is not None for episode in episodes)
    low, high = wilson_interval(successes, len(episodes))
    return f"{successes} of {len(episodes)} ({low:.0f} to {high:.0f} %)"


def recipe(run: Run, plain: Run) -> str:
    """Name the arguments in which a run differs from a plain ME run that starts Adam anew; `plain` may keep moments."""
    theirs, ours = {**plain.arguments, "keep_moments": None}, run.arguments
    changed = [name for name in ours if ours[name] != theirs.get(name)]
    flags = [f"--{name}" if ours[name] is True else f"--{name} {ours[name]}" for name in changed]
    return f"`{' '.join(flags)}`" if flags else "the default"


def run_row(run: Run, lengths: Sequence[str]) -> list[str]:
    """Show one ME run."""
    if not run.is_finished:
        return [f"`{run.cell}`", str(run.seed), EMPTY, state(run), *[EMPTY] * len(lengths)]
    episode, percents = take_off(run.curve), run.group_percents(BY_LENGTH)
    when = "no learning curve" if not run.curve else "never" if episode is None else str(episode)
    by_length = (f"{percents[name]:.1f}" if name in percents else EMPTY for name in lengths)
    return [f"`{run.cell}`", str(run.seed), when, state(run), *by_length]


def state(run: Run) -> str:
    """Write a run's accuracy, or why it has none."""
    if run.error is not None:
        return "failed"
    unfinished = f"unfinished ({run.result['episode']} of {run.result['num_episodes']} episodes)"
    return f"{run.accuracy:.2f}" if run.is_finished else unfinished


def show_findings(results: Results) -> str:
    """Take over what was written down about single cells."""
    parts = (f"### `{cell}`\n\n{text}" for cell, text in results.findings.items() if text)
    return section("Findings", *parts)


def show_single_runs(results: Results) -> str:
    """List every run, with the end of the log of those that failed."""
    cells = {cell: runs for cell, runs in results.runs.items() if runs}
    rows = [[f"`{cell}`", ", ".join(f"seed {run.seed}: {state(run)}" for run in runs)] for cell, runs in cells.items()]
    failed = [run for runs in cells.values() for run in runs if run.error is not None]
    errors = [f"- `{run.cell}`, seed {run.seed}, failed: {as_code(last_line(run.error or ''))}" for run in failed]
    left_out = [f"- left out: {as_code(line)}" for line in results.left_out]
    if not rows and not left_out:
        return ""
    lines = "\n".join([*errors, *left_out])
    return section("Every run", table_of(("Cell", "Correct on the test, %"), rows), lines)


def as_code(text: str) -> str:
    """Write a text as inline code, which cannot hold its own quotes."""
    return "`" + text.replace("`", "'") + "`"


def last_line(text: str) -> str:
    """Take the last line that says something, or its end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-200:] if lines else "no message"


def show_compute(results: Results) -> str:
    """Add up the time spent, by device, and name the code that spent it."""
    spent: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])  # runs, hours of training, hours of scoring
    code: Counter[tuple[str, ...]] = Counter()
    for result in (run.result for runs in results.runs.values() for run in runs if run.error is None):
        hours = [(result.get(name) or 0) / 3600 for name in ("training_seconds", "seconds")]
        device = result.get("training_device") or result.get("device") or "not recorded"
        spent[device] = [old + new for old, new in zip(spent[device], (1, *hours), strict=True)]
        versions = result.get("training_provenance") or result.get("provenance") or {}
        code[tuple(str(versions.get(name) or EMPTY) for name in CODE)] += 1
    if not spent:
        return ""
    rows = [*sorted(spent.items()), ("all", [sum(column) for column in zip(*spent.values(), strict=True)])]
    shown_rows = [
        [device, f"{count:.0f}", f"{train:.2f}", f"{test:.2f}", f"{train + test:.2f}"]
        for device, (count, train, test) in rows
    ]
    explanation = (
        "Hours of every run that is not left out and did not fail, each as long as it took: of runs side by side on a"
        " device each one counts in full. A `+` after a commit says that files differed from it."
    )
    return section(
        "Compute",
        explanation,
        table_of(("Device", "Runs", "Training, h", "Scoring, h", "Together, h"), shown_rows),
        table_of((*CODE, "runs"), [[*key, str(count)] for key, count in sorted(code.items())]),
    )


def show_curves(results: Results) -> str:
    """Show the learning curves of every cell that has some."""
    cells = [cell for cell in results.runs if results.curves(cell)]
    if not cells:
        return ""
    explanation = (
        "ValAccRetrieval counts validation queries that equal a support item, ValAccGeneralize all others; for standard"
        " seq2seq they count training commands and test commands. A seed's curve is thin, the mean thick, the range"
        " shaded."
    )
    pictures = (f"![Curves of {cell}]({FIGURES}/curves_{cell}.png)" for cell in cells)
    return section("Learning curves", explanation, *pictures)


def show_attention(results: Results) -> str:
    """Show the paper's attention figures, redone."""
    parts = []
    for cell, title in ATTENTION.items():
        names = [name for name in results.attention if name.rpartition("_")[0] == cell]
        if names:
            missing = "" if any(run.seed == 1 for run in results.runs[cell]) else " (its result is not here)"
            parts.append(f"The paper's {title}, from seed 1 of `{cell}`{missing}:")
            parts += [f"![{results.attention[name]['query']}]({FIGURES}/attention_{name}.png)" for name in names]
    return section("Attention", *parts)


def show_commands(results: Results) -> str:
    """Say what to type for each cell."""
    rows = []
    for cell in CELLS:
        seeds = sorted({run.seed for run in results.runs[cell]} | set(range(1, PAPER_RUNS + 1)))
        chosen = f" --seeds {','.join(map(str, seeds))}" if len(seeds) > PAPER_RUNS else ""
        rows.append([f"`{cell}`", f"`python -m paper.reproduce --only {cell}{chosen}`"])
    for cell, runs in results.runs.items():
        commands = [run.result["command"] for run in runs if run.result.get("command")]
        if cell not in CELLS and commands:
            rows.append([f"`{cell}`", ", ".join(as_code(str(line)) for line in commands[0])])
    repeated = "Results go to `my_results/` (`--results_dir`); a run that has one there is not repeated."
    return section("Commands", repeated, table_of(("Cell", "Command"), rows))
