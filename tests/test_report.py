"""The report: what it reads, what it refuses, how it compares with the paper, and what it writes."""

import itertools
import json
import math
import re
from pathlib import Path
from unittest import mock

import pytest
from script_runs import assert_one_line, run_file

from paper.cells import CELLS, recipe_of
from paper.comparison import MARGIN, TABLES, Summary, summarize, t_interval, t_quantile, t_share, verdict
from paper.comparison import wilson_interval as wilson
from paper.report import write_report
from paper.report_pictures import curves_figure
from paper.run_results import CurvePoint, read_results, take_off

ROOT = Path(__file__).resolve().parent.parent
HEADER = "episode,seconds,lr,train_loss,retrieval,generalize\n"
WEIGHTS = {
    "rows": ["lug", "<EOS>"],
    "columns": ["lug → RED", "dax → BLUE", "(padding)"],
    "weights": [[0, 0.5, 0.5]] * 2,
}


def arguments_of(cell, seed, **changed):
    """What a cell's training command was given, as result files have it; None takes an argument out."""
    flags = CELLS[cell].flags if cell in CELLS else "--episode_type ME"
    done = {**recipe_of(flags), "seed": seed, **changed}
    return {name: value for name, value in done.items() if value is not None}


def result(cell, seed, correct=20, **changed):
    """A result file's contents: a network scored on 20 commands."""
    contents = {
        "cell": cell,
        "seed": seed,
        "command": [f"python train.py --seed {seed}", "python test.py"],
        "correct": correct,
        "total": 20,
        "seconds": 360.0,
        "episode": 10000,
        "num_episodes": 10000,
        "arguments": arguments_of(cell, seed),
        "training_seconds": 3600.0,
        "device": "CPU (1 thread(s))",
        "provenance": {"commit": "abc", "python": "3.11", "torch": "2.13", "numpy": "2.0"},
    }
    return contents | changed


def save(folder, contents, generalize=None):
    """Write a result file and, if asked to, its learning curve."""
    path = folder / contents["cell"] / f"seed{contents['seed']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contents))
    if generalize is not None:
        rows = [f"{100 * n},{n}.5,{0.001 if n < 3 else 0.0001},{1 / n},,{one}" for n, one in enumerate(generalize, 1)]
        path.with_suffix(".csv").write_text(HEADER + "\n".join([*rows, ""]))


@pytest.fixture
def grid(tmp_path):
    """A bit of everything: five seeds, missing seeds, a failed run, an unfinished one, another recipe, attention."""
    folder = tmp_path / "results"
    for seed, correct in enumerate((20, 20, 12, 20, 20), 1):
        save(folder, result("me", seed, correct), [50, 100, 99 if correct == 20 else 98])
    save(folder, {"cell": "me", "seed": 6, "error": "Traceback\nRuntimeError: out | of memory\n\n"})
    save(folder, result("me", 7, 1, episode=100), [1])
    later = arguments_of("me_decay7500", 11, lr_decay_schedule=7500)
    save(folder, result("me_decay7500", 11, arguments=later), [100, 100, 100])
    save(folder, result("me_masked", 1, 19))
    for seed in (1, 3):
        save(folder, result("jump_perm", seed))
    save(folder, {"cell": "jump_aug", "seed": 1, "error": "killed"})
    save(folder, result("jump_standard", 1, 0, train_correct=999, train_total=1000))
    for cell, panel in (("me", WEIGHTS), ("jump_perm", None)):
        labelled = {"query": f"a query of {cell}", "output": "RED", "memory": WEIGHTS, "decoder": panel}
        (folder / cell / "attention_seed1_1.json").write_text(json.dumps(labelled))
    return folder


@pytest.fixture
def run_report():
    """Run the script as if from the command line, without drawing: exit code, stdout, stderr."""
    with mock.patch("paper.report_pictures.draw_pictures"):
        yield lambda folder: run_file(ROOT / "paper" / "report.py", "--results_dir", folder)


def report_of(folder):
    return write_report(read_results(folder))


def row_of(text, *starts):
    """The cells of the only table row that starts with these cells."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    matching = [row for row in rows if row[: len(starts)] == list(starts)]
    assert len(matching) == 1, matching
    return matching[0]


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


# What stands in it


def test_every_cell_stands_beside_the_paper(grid):
    """Only finished runs are averaged; failed, unfinished and missing ones are named."""
    text = section(report_of(grid), "Beside the paper")
    me = "92.00 (17.89, n = 5), 1 failed, 1 unfinished; took off: 4 of 5 (38 to 96 %)"
    assert row_of(text, "`me`")[2:] == ["100.00 (0.00, n = 5)", me, "69.79 to 100.00", "yes"]
    jump = ["99.95 (0.08, n = 5)", "100.00 (0.00, n = 2)", "—", "too few runs"]
    assert row_of(text, "`jump_perm`")[2:] == jump
    assert row_of(text, "`jump_standard`")[2:] == ["0.03 (0.02, n = 5)", "0.00 (n = 1)", "—", "too few runs"]
    assert row_of(text, "`jump_aug`")[3:] == ["no finished run, 1 failed", "—", "—"]
    assert row_of(text, "`around_right_standard`")[2:] == ["0.00 (n = 5)", "not run", "—", "—"]
    assert row_of(text, "`me_masked`")[2:] == ["not in the paper", "95.00 (n = 1)", "—", "—"]
    assert sum(line.startswith("| `") for line in text.splitlines()) == len(CELLS)
    for part in ("mean ± t · SD / √n", f"{MARGIN} percentage points", "Fewer than 3 runs", "1.2 SD", "of its own"):
        assert part in text


@pytest.mark.parametrize(
    ("cell", "corrects", "shown"),
    [
        ("length", (4, 3, 3), ["16.67 (2.89, n = 3)", "9.50 to 23.84", "yes"]),  # of 20; the paper's mean is 16.64
        ("length", (2, 1, 1), ["6.67 (2.89, n = 3)", "0.00 to 13.84", "no"]),
        ("length", (20, 20, 20), ["100.00 (0.00, n = 3)", "100.00 to 100.00", "no"]),
        ("length", (4, 3), ["17.50 (3.54, n = 2)", "—", "too few runs"]),
        ("length", (4,), ["20.00 (n = 1)", "—", "too few runs"]),
        ("me_kept_moments", (12, 14, 16), ["70.00 (10.00, n = 3)", "45.16 to 94.84", "—"]),  # the paper lacks it
    ],
)
def test_a_reader_can_check_each_verdict_in_its_row(tmp_path, cell, corrects, shown):
    for seed, correct in enumerate(corrects, 1):
        save(tmp_path, result(cell, seed, correct))
    assert row_of(section(report_of(tmp_path), "Beside the paper"), f"`{cell}`")[3:] == shown


def test_the_papers_tables_keep_their_shape(grid):
    text = section(report_of(grid), "The paper's tables")
    full = row_of(text, "meta seq2seq learning", "—")
    assert full == ["meta seq2seq learning", "—", "99.95 / 100.00, n = 2", "98.71 / no finished run, 1 failed"]
    assert row_of(text, "meta seq2seq learning", "99.96 / not run")[2] == "16.64 / not run"
    quoted = [line for line in text.splitlines() if line.startswith("| syntactic attention")]
    assert [line.split(" | ", 1)[1] for line in quoted] == ["78.40 | — | — |", "28.90 | 15.20 |"]
    cells = re.findall(r"{(\w+)}", TABLES)
    assert {cell: CELLS[cell].paper_mean for cell in cells if CELLS[cell].paper_mean is None} == {}
    assert len(cells) == len(set(cells)) == 12


def test_what_else_the_report_holds(grid):
    (grid / "me" / "finding.md").write_text("Long queries come late.\n")
    text = report_of(grid)
    assert "Long queries come late." in section(text, "Findings")
    runs = section(text, "Every run")
    assert "`me`, seed 6, failed: `RuntimeError: out | of memory`" in runs
    me = "seed 1: 100.00 (took off at 200), seed 2: 100.00 (took off at 200), seed 3: 60.00 (did not take off), "
    assert row_of(runs, "`me`")[1].startswith(me)
    assert row_of(runs, "`me`")[1].endswith("seed 6: failed, seed 7: unfinished (100 of 10000 episodes)")
    assert row_of(runs, "`me_masked`")[1] == "seed 1: 95.00"  # no curve tells when
    known = row_of(section(text, "Standard seq2seq on its training commands"), "`jump_standard`")
    assert known[1:] == ["99.90 (n = 1)", "0.00 (n = 1)"]
    assert row_of(section(text, "Compute"), "all")[1:] == ["11", "11.00", "1.10", "12.10"]
    assert row_of(section(text, "Compute"), "abc")[1:] == ["3.11", "2.13", "2.0", "11"]
    own = row_of(section(text, "Cells that the paper does not have"), "`me_decay7500`")
    here = "100.00 (n = 1); took off: 1 of 1 (21 to 100 %)"
    assert own[1:] == ["`--episode_type ME --lr_decay_schedule 7500`", here, "—"]
    commands = section(text, "Commands")
    assert all(f"`python -m paper.reproduce --only {cell}`" in commands for cell in CELLS if cell != "me")
    assert "`python -m paper.reproduce --only me --seeds 1,2,3,4,5,6,7`" in commands  # it has more than five
    assert "`python train.py --seed 11`, `python test.py`" in row_of(commands, "`me_decay7500`")[1]
    assert text.endswith("|\n")


def test_nothing_run_yet_is_a_report_too(tmp_path):
    text = report_of(tmp_path)
    assert all(row_of(section(text, "Beside the paper"), f"`{cell}`")[3] == "not run" for cell in CELLS)
    assert re.findall("^## (.*)$", text, re.M) == ["Beside the paper", "The paper's tables", "Commands"]


def test_the_script_writes_report_and_pictures(grid):
    """A line a cell that has runs, and where the report is; every picture is in the report."""
    save(grid, result("my_own", 1, arguments=arguments_of("my_own", 1, nlayers=1)))
    code, out, err = run_file(ROOT / "paper" / "report.py", "--results_dir", grid)
    assert (code, err) == (0, "")
    text = (grid / "RESULTS.md").read_text()
    assert text == report_of(grid)
    pictures = {path.name for path in (grid / "figures").iterdir()}
    assert pictures == {f"{name}.png" for name in re.findall(r"\(figures/(.*)\.png\)", text)} == {
        "curves_me.png", "curves_me_decay7500.png", "attention_me_1.png", "attention_jump_perm_1.png"
    }  # fmt: skip
    assert all((grid / "figures" / name).read_bytes().startswith(b"\x89PNG\r\n") for name in pictures)
    *lines, last = out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "me", "jump_perm", "jump_aug", "jump_standard", "me_masked", "me_decay7500", "my_own"
    ]  # fmt: skip
    assert " ".join(lines[1].split()) == "jump_perm 100.00 (0.00, n = 2) paper: 99.95 (0.08, n = 5)"
    assert " ".join(lines[-1].split()) == "my_own 100.00 (n = 1) --episode_type ME --nlayers 1"
    assert last == f"written to {grid / 'RESULTS.md'}, pictures to {grid / 'figures'}"


def test_a_picture_of_curves_shows_every_run_their_mean_and_the_drop():
    """A panel that has no values is left out."""
    runs = [[CurvePoint(n, 0.1 if n < 3 else 0.01, loss / n, None, loss) for n in range(1, 5)] for loss in (10, 20)]
    figure = curves_figure("two runs", runs)
    assert [ax.get_title() for ax in figure.axes] == ["training loss, nats per symbol", "ValAccGeneralize, %"]
    *lines, mean, drop = [list(line.get_ydata()) for line in figure.axes[1].get_lines()]
    assert (lines, mean) == ([[10] * 4, [20] * 4], [15] * 4)
    assert list(figure.axes[1].get_lines()[-1].get_xdata()) == [2, 2] and drop == [0, 1]


# What is read, left out or refused

RUN, CURVE, ATTENTION = "me/seed1.json", "me/seed1.csv", "me/attention_seed1_1.json"
ODD = {"query": "a", "output": "A", "memory": WEIGHTS | {"weights": [[1]]}}
BAD = [  # file, contents, complaint
    (RUN, "{", "it holds no JSON object"),
    (RUN, '{"correct": NaN}', "it holds no JSON object"),
    (RUN, json.dumps(result("me", 1)).replace("3600.0", "1e999"), "it holds no JSON object"),
    (RUN, [], "it holds no JSON object"),
    (RUN, {}, "KeyError"),
    (RUN, result("me", 1, arguments=None), "TypeError"),
    (RUN, result("me", 1, 0, total=0), "0 of 0"),
    (RUN, result("me", 1, 21), "21 of 20"),
    (RUN, result("me", 1, episode="1"), "TypeError"),
    (RUN, result("me_masked", 1), "cell me_masked"),
    ("me_decay7500/seed11.json", result("me_decay7500", 2), "seed 2"),
    ("length/seed1.json", result("length", 1, scan_files=["a.txt"]), "TypeError"),
    ("length/seed1.json", result("length", 1, scan_files=[{"name": "a"}]), "KeyError"),
    (CURVE, "episode,lr\n1,0.1\n", "seed1.csv:2"),
    (CURVE, f"{HEADER}1,2,0.1,1.5\n", "seed1.csv:2"),
    (CURVE, f"{HEADER}a,b,c,d,e,f\n", "seed1.csv:2"),
    (ATTENTION, {"query": "a", "output": "A"}, "'memory' or 'decoder'"),
    (ATTENTION, ODD, "rows and columns"),
]


@pytest.mark.parametrize(("name", "held", "complaint"), BAD)
def test_a_bad_file_is_named_and_nothing_is_written(grid, run_report, name, held, complaint):
    """One line on stderr, exit code 2, no report and no picture."""
    (grid / name).parent.mkdir(exist_ok=True)
    (grid / name).write_text(held if isinstance(held, str) else json.dumps(held))
    assert_one_line(run_report(grid), "report.py", str(grid / name), complaint)
    assert not (grid / "RESULTS.md").exists() and not (grid / "figures").exists()


CHANGED = [
    ("lr_decay_schedule", 7500),
    ("new_flag", True),
    ("extra_directions", 3),
    ("dropout", 0),
    ("num_episodes", 200),
]


@pytest.mark.parametrize(("name", "value"), CHANGED)
@pytest.mark.parametrize("seeds", [(1, 2), (2, 1)])
def test_runs_of_different_recipes_are_not_averaged(tmp_path, run_report, name, value, seeds):
    """One line names both files and the argument; nothing is written."""
    save(tmp_path, result("own", seeds[0]))
    save(tmp_path, result("own", seeds[1], arguments=arguments_of("own", seeds[1], **{name: value})))
    said = f"{tmp_path / 'own/seed1.json'} and {tmp_path / 'own/seed2.json'} differ in --{name} ("
    assert_one_line(run_report(tmp_path), "report.py", said)
    assert not (tmp_path / "RESULTS.md").exists()


@pytest.mark.parametrize(("name", "value"), CHANGED)
@pytest.mark.parametrize("cell", ["me", "length"])
def test_a_run_that_is_not_of_its_cell_changes_nothing_and_is_named(tmp_path, run_report, cell, name, value):
    """Whether it stands beside others or alone: one line in the report, and the same one on the terminal."""
    save(tmp_path, result(cell, 2, 7, arguments=arguments_of(cell, 2, **{name: value})), [1, 1])
    assert row_of(section(report_of(tmp_path), "Beside the paper"), f"`{cell}`")[3] == "not run"
    save(tmp_path, result(cell, 1))
    save(tmp_path, result(cell, 3, 16))
    code, out, err = run_report(tmp_path)
    assert (code, err) == (0, "")
    text = (tmp_path / "RESULTS.md").read_text()
    (line,) = [line for line in text.splitlines() if "left out: " in line]
    assert line.startswith(f"- left out: `{cell}/seed2.json: --{name} is {value}, the cell's ")
    said = f"left out: {tmp_path}/{line.removeprefix('- left out: ').strip('`')}"
    assert [line for line in out.splitlines() if line.startswith("left out: ")] == [said]
    for path in (tmp_path / cell).glob("seed2.*"):
        path.unlink()
    assert text == report_of(tmp_path).replace("\n\n## Compute", f"\n\n{line}\n\n## Compute")


@pytest.mark.parametrize("part", ["scan_files", "training_scan_files"])
def test_a_run_on_other_data_than_the_published_is_named_and_left_out(tmp_path, run_report, part):
    """Its recipe may be the cell's; lines in another order are the same data. Your own cells have one kind of data."""

    def on_data(cell, seed, difference):
        file = {"name": "tasks_train_length.txt", "sha256": f"of {difference}", "difference": difference}
        save(tmp_path, result(cell, seed, seed, **{part: [file]}))

    on_data("length", 1, "")
    on_data("length", 2, "3 of 9 are missing")
    for seed in (1, 2):
        on_data("mine", seed, "3 of 9 are missing")
    results = read_results(tmp_path)
    assert [run.seed for run in results.runs["length"]] == [1]
    assert results.left_out == ["length/seed2.json: tasks_train_length.txt did not hold the published lines"]
    assert len(results.runs["mine"]) == 2
    on_data("mine", 3, "4 of 9 are missing")
    assert_one_line(run_report(tmp_path), "report.py", "mine/seed3.json are of other data")


@pytest.mark.parametrize("cell", ["me", "me_own"])
@pytest.mark.parametrize("seeds", [(1, 2), (2, 1)])
def test_two_files_of_one_run_count_once(tmp_path, cell, seeds):
    """The seed that it was trained with counts, not the file's name; the second file is named."""
    for place in seeds:
        save(tmp_path, result(cell, place, arguments=arguments_of(cell, 7, threads=place)))
    save(tmp_path, result(cell, 3, 16))
    for seed in (4, 5):
        save(tmp_path, {"cell": cell, "seed": seed, "error": "killed"})
    results = read_results(tmp_path)
    assert results.accuracies(cell) == [100.0, 80.0]
    assert results.left_out == [f"{cell}/seed2.json: trained with the seed and the arguments of seed1.json"]
    assert len(results.runs[cell]) == 4


@pytest.mark.parametrize("cell", ["me", "me_own"])
def test_seed_place_and_what_is_not_set_may_differ(tmp_path, cell):
    """Nor does it matter whether a flag that is off, a value that is missing or a default is written down."""
    ran = {"gpu": 0, "cpu": True, "threads": 4, "data_dir": "x", "dir_model": "y", "fn_out_model": "z"}
    save(tmp_path, result(cell, 1))
    save(tmp_path, result(cell, 2, arguments=arguments_of(cell, 2, **ran, overwrite=True, dropout=None)))
    save(tmp_path, result(cell, 3, arguments={**arguments_of(cell, 3, new_flag=False), "extra_directions": None}))
    assert summarize(read_results(tmp_path).accuracies(cell)).n == 3


@pytest.mark.parametrize("said", ["no folder {}", "{} is a file, not a folder"])
def test_no_folder_of_results(tmp_path, run_report, said):
    path = tmp_path / "results"
    if "file" in said:
        path.touch()
    assert_one_line(run_report(path), "report.py", said.format(path), "--results_dir")


# The numbers


@pytest.mark.parametrize(
    ("generalize", "episode"),
    [([0, 99, 100, 99.5], 2), ([99, 98.9, 99, 100], 3), ([100, 100, 98], None), ([100, None, 100], 3), ([], None)],
)
def test_a_run_takes_off_where_it_stays_up(generalize, episode):
    curve = [CurvePoint(number, 0.001, 1.0, None, value) for number, value in enumerate(generalize, 1)]
    assert take_off(curve) == episode


@pytest.mark.parametrize(
    ("freedom", "t"),
    [(1, 12.7062047361747), (2, 4.30265272974946), (3, 3.18244630528371), (4, 2.77644510519779), (9, 2.2621571627982)],
)
def test_t_is_right_to_ten_digits(freedom, t):
    """The quantiles are those of printed tables; the share between -t and t rises with freedom."""
    assert t_quantile(freedom) == pytest.approx(t, abs=1e-11)
    assert t_share(t, freedom) == pytest.approx(0.95, abs=1e-11)
    assert t_share(2.0, freedom) < t_share(2.0, freedom + 0.5) < t_share(2.0, freedom + 1)


@pytest.mark.parametrize("sd", [0.0, 0.02, 3.0, 19.26, 54.77])
@pytest.mark.parametrize("mean", [0.0, 0.03, 40.0, 93.8, 100.0])
def test_t_interval_holds_the_mean_keeps_to_bounds_and_never_grows_with_n(mean, sd):
    """For runs mirrored about 50 % it is mirrored. There is none for fewer than three."""
    assert t_interval(Summary(mean, sd, 2)) is t_interval(Summary(mean, None, 1)) is None
    intervals = [t_interval(Summary(mean, sd, n)) for n in (3, 4, 5, 10, 31, 32, 100)]
    assert all(0 <= low <= mean <= high <= 100 for low, high in intervals)
    assert all(a[0] <= b[0] and b[1] <= a[1] for a, b in itertools.pairwise(intervals))
    low, high = t_interval(Summary(100 - mean, sd, 5))
    assert (100 - high, 100 - low) == pytest.approx(intervals[2])


@pytest.mark.parametrize("ours", [Summary(88.0, 19.0, 5), Summary(3.0, 0.4, 3), Summary(90.0, 0.0, 3)])
def test_verdict_is_yes_exactly_within_the_interval(ours):
    """The ends belong to it. The margin decides where all runs are alike."""
    low, high = t_interval(ours) if ours.sd else (ours.mean - MARGIN, ours.mean + MARGIN)
    answers = [verdict(ours, Summary(mean, 5.0, 5)) for mean in (low, ours.mean, high, low - 0.01, high + 0.01)]
    assert answers == ["yes"] * 3 + ["no"] * 2


@pytest.mark.parametrize("cell", ["jump_perm_no_attention", "jump_aug", "jump_aug_standard", "around_right_20"])
def test_welchs_test_gives_what_a_finding_says(cell):
    """Welch's t of two means with unequal spreads, and its p; Welch 1947, Biometrika 34:28-35."""
    ours = summarize(read_results(ROOT / "results").accuracies(cell))
    finding = (ROOT / "results" / cell / "finding.md").read_text().replace("\n", " ")
    t, p = map(float, re.search(r"Welch's t is ([-.\d]+), p = (\d\.\d+)", finding).groups())
    paper = CELLS[cell]
    errors = ours.sd**2 / ours.n, paper.paper_sd**2 / 5
    found = (ours.mean - paper.paper_mean) / math.sqrt(sum(errors))
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / (ours.n - 1) + errors[1] ** 2 / 4)
    assert round(found, 2) == t
    assert round(1 - t_share(abs(found), freedom), 2) == p


@pytest.mark.parametrize("trials", [1, 2, 5, 10, 37])
def test_wilson_interval_holds_the_share_keeps_to_bounds_and_is_symmetric(trials):
    """What holds for successes holds for failures, mirrored; more of either narrow it, and move both ends.

    The values are of Newcombe 1998, Statistics in Medicine 17:857-872, Table I, method 3.
    """
    assert wilson(81, 263) + wilson(0, 20) == pytest.approx((25.53, 36.62, 0, 16.11), abs=0.006)
    intervals = [wilson(successes, trials) for successes in range(trials + 1)]
    for successes, (low, high) in enumerate(intervals):
        assert 0 <= low <= 100 * successes / trials <= high <= 100
        assert (100 - high, 100 - low) == pytest.approx(intervals[trials - successes])
        more = wilson(2 * successes, 2 * trials)
        assert 0 < more[1] - more[0] < high - low
    assert intervals == sorted(intervals)
    assert (intervals[0][0], intervals[-1][1]) == (0, 100)
