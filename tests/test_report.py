"""The report: what it reads, what it refuses, how it compares with the paper, and what it writes."""

import itertools
import json
import math
import struct
import zlib
from pathlib import Path
from unittest import mock

import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Text
from script_runs import run_file

from paper.cells import CELLS, flag_values
from paper.comparison import MARGIN, T_QUANTILES, TABLES, Summary, shown, summarize, t_interval, verdict
from paper.rates import wilson_interval
from paper.report_pictures import draw_pictures
from paper.report_text import write_report
from paper.run_results import CurvePoint, read_results, take_off

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = {
    "rows": ["lug", "<EOS>"],
    "columns": ["lug → RED", "dax → BLUE", "(padding)"],
    "weights": [[0, 0.5, 0.5]] * 2,
}
LENGTHS = [{"group": str(length), "correct": 20, "total": 20} for length in (2, 3)]


def arguments_of(cell, seed, **changed):
    """What a cell's training command was given, as result files have it; None takes an argument out."""
    flags = flag_values(CELLS[cell].flags) if cell in CELLS else {"episode_type": "ME"}
    done = {"lr_decay_schedule": 5000, "seed": seed, "mask_padding": False, "keep_moments": False, **flags, **changed}
    return {name: value for name, value in done.items() if value is not None}


def result(cell, seed, correct=20, **changed):
    """A result file's contents: a network scored on 20 commands."""
    contents = {
        "cell": cell,
        "seed": seed,
        "command": [f"python train.py --seed {seed}", "python test.py"],
        "wall_seconds": 3700.0,
        "accuracy": 5.0 * correct,
        "correct": correct,
        "total": 20,
        "seconds": 360.0,
        "episode": 10000,
        "num_episodes": 10000,
        "finished": True,
        "arguments": arguments_of(cell, seed),
        "training_seconds": 3600.0,
        "device": "CPU (1 thread(s))",
        "provenance": {"commit": "abc", "python": "3.11", "torch": "2.13", "numpy": "2.0"},
        "breakdown": {"output length": [*LENGTHS, {"group": "10", "correct": correct, "total": 20}]},
    }
    return contents | changed


def save(folder, contents, generalize=None):
    """Write a result file and, if asked to, its learning curve."""
    path = folder / contents["cell"] / f"seed{contents['seed']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contents))
    if generalize is not None:
        rows = [
            f"{100 * n},{n}.5,{0.001 if n < 3 else 0.0001},{1 / n},,{value}" for n, value in enumerate(generalize, 1)
        ]
        path.with_suffix(".csv").write_text(
            "\n".join(["episode,seconds,lr,train_loss,retrieval,generalize", *rows, ""])
        )


def save_grid(folder):
    """A bit of everything: five seeds, missing seeds, a failed run, an unfinished one, another recipe, attention."""
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
    save(folder, result("jump_standard", 1, 0, train_correct=999, train_total=1000, train_accuracy=99.9))
    for cell, panel in (("me", WEIGHTS), ("jump_perm", None)):
        labelled = {"query": f"a query of {cell}", "output": "RED", "memory": WEIGHTS, "decoder": panel}
        (folder / cell / "attention_seed1_1.json").write_text(json.dumps(labelled))
    return folder


@pytest.fixture
def grid(tmp_path):
    return save_grid(tmp_path / "results")


def run_report(folder):
    """Run the script as if from the command line: exit code, stdout, stderr."""
    return run_file(ROOT / "paper" / "report.py", "--results_dir", folder)


def row_of(text, *starts):
    """The cells of the only table row that starts with these cells."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")
    ]
    matching = [row for row in rows if row[: len(starts)] == list(starts)]
    assert len(matching) == 1, matching
    return matching[0]


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_cell_stands_beside_the_paper(grid):
    """Only finished runs are averaged; failed, unfinished and missing ones are named."""
    text = section(write_report(read_results(grid)), "Beside the paper")
    me = "92.00 (17.89, n = 5), 1 failed, 1 unfinished; took off: 4 of 5 (38 to 96 %)"
    assert row_of(text, "`me`")[2:] == ["100.00 (0.00, n = 5)", me, "69.79 to 100.00", "yes"]
    jump = ["99.95 (0.08, n = 5)", "100.00 (0.00, n = 2)", "—", "too few runs"]
    assert row_of(text, "`jump_perm`")[2:] == jump
    assert row_of(text, "`jump_standard`")[2:] == ["0.03 (0.02, n = 5)", "0.00 (n = 1)", "—", "too few runs"]
    assert row_of(text, "`jump_aug`")[3:] == ["no finished run, 1 failed", "—", "—"]
    assert row_of(text, "`around_right_standard`")[2:] == ["0.00 (n = 5)", "not run", "—", "—"]
    assert row_of(text, "`me_masked`")[2:] == ["not in the paper", "95.00 (n = 1)", "—", "—"]
    assert sum(line.startswith("| `") for line in text.splitlines()) == len(CELLS)


@pytest.mark.parametrize(
    ("corrects", "interval", "answer"),
    [
        ((4, 3, 3), "9.50 to 23.84", "yes"),  # of 20 each; the paper's mean is 16.64
        ((2, 1, 1), "0.00 to 13.84", "no"),
        ((20, 20, 20), "100.00 to 100.00", "no"),
        ((4, 3), "—", "too few runs"),
    ],
)
def test_a_reader_can_check_each_verdict_in_its_row(tmp_path, corrects, interval, answer):
    for seed, correct in enumerate(corrects, 1):
        save(tmp_path, result("length", seed, correct))
    text = section(write_report(read_results(tmp_path)), "Beside the paper")
    assert row_of(text, "`length`")[4:] == [interval, answer]


def test_a_cell_that_the_paper_lacks_has_an_interval_and_no_verdict(tmp_path):
    for seed, correct in enumerate((12, 14, 16), 1):
        save(tmp_path, result("me_kept_moments", seed, correct), [100])
    text = section(write_report(read_results(tmp_path)), "Beside the paper")
    here = "70.00 (10.00, n = 3); took off: 3 of 3 (44 to 100 %)"
    assert row_of(text, "`me_kept_moments`")[2:] == ["not in the paper", here, "45.16 to 94.84", "—"]


def test_the_report_says_what_an_interval_is_and_what_it_cannot_show(tmp_path):
    text = section(write_report(read_results(tmp_path)), "Beside the paper")
    for part in (
        "mean ± t · SD / √n",
        f"{MARGIN} percentage points",
        "Fewer than 3 runs",
        "1.2 SD",
        "error of its own",
    ):
        assert part in text


def test_the_papers_tables_keep_their_shape(grid):
    text = section(write_report(read_results(grid)), "The paper's tables")
    full = row_of(text, "meta seq2seq learning", "—")
    assert full == ["meta seq2seq learning", "—", "99.95 / 100.00, n = 2", "98.71 / no finished run, 1 failed"]
    assert row_of(text, "meta seq2seq learning", "99.96 / not run")[2] == "16.64 / not run"
    quoted = [line for line in text.splitlines() if line.startswith("| syntactic attention")]
    assert [line.split(" | ", 1)[1] for line in quoted] == ["78.40 | — | — |", "28.90 | 15.20 |"]


def test_each_cell_of_the_papers_tables_is_a_cell_with_a_figure():
    cells = [cell for table in TABLES for _, row in table.rows for cell in row if isinstance(cell, str)]
    assert all(CELLS[cell].paper_mean is not None for cell in cells)
    assert len(cells) == len(set(cells)) == 12
    assert all(len(row) == len(table.columns) for table in TABLES for _, row in table.rows)


def test_mutual_exclusivity_by_recipe_and_by_run(grid):
    """Which runs took off and when, and the accuracy by output length, shorter ones first."""
    text = section(write_report(read_results(grid)), "Mutual exclusivity: which runs take off")
    assert "| length 2 | length 3 | length 10 |" in text
    taken = row_of(text, "`me`", "the default")
    assert taken[2:4] == ["4 of 5 (38 to 96 %)", "200 (200 to 200)"]
    assert taken[5:] == ["100.0", "100.0", "92.0"]
    assert row_of(text, "`me_decay7500`", "`--lr_decay_schedule 7500`")[2:4] == [
        "1 of 1 (21 to 100 %)",
        "100 (100 to 100)",
    ]
    assert row_of(text, "`me`", "3")[2:] == ["never", "60.00", "100.0", "100.0", "60.0"]
    assert row_of(text, "`me`", "6")[2:4] == ["—", "failed"]
    assert row_of(text, "`me`", "7")[2:4] == ["—", "unfinished (100 of 10000 episodes)"]
    assert row_of(text, "`me_masked`", "1")[2] == "no learning curve"


def test_what_else_the_report_holds(grid):
    (grid / "me" / "finding.md").write_text("Long queries come late.\n")
    text = write_report(read_results(grid))
    assert "Long queries come late." in section(text, "Findings")
    assert "`me`, seed 6, failed: `RuntimeError: out | of memory`" in section(text, "Every run")
    assert row_of(section(text, "Padded steps masked"), "`me_masked`")[-1] == "too few runs"
    assert row_of(section(text, "Standard seq2seq on its training commands"), "`jump_standard`")[1:] == [
        "99.90 (n = 1)",
        "0.00 (n = 1)",
    ]
    spent = row_of(section(text, "Compute"), "all")
    assert spent[1:] == ["11", "11.00", "1.10", "12.10"]
    own = row_of(section(text, "Cells that the paper does not have"), "`me_decay7500`")
    assert own[1:] == ["`--episode_type ME --lr_decay_schedule 7500`", "100.00 (n = 1)", "—"]
    commands = section(text, "Commands")
    assert all(f"`python -m paper.reproduce --only {cell}`" in commands for cell in CELLS if cell != "me")
    assert "`python -m paper.reproduce --only me --seeds 1,2,3,4,5,6,7`" in commands  # it has more than five
    assert "`python train.py --seed 11`, `python test.py`" in row_of(commands, "`me_decay7500`")[1]
    assert text.endswith("|\n")


def test_nothing_run_yet_is_a_report_too(tmp_path):
    text = write_report(read_results(tmp_path))
    assert all(row_of(section(text, "Beside the paper"), f"`{cell}`")[3] == "not run" for cell in CELLS)
    assert "nan" not in text.lower().replace("name", "")


@pytest.mark.parametrize(
    ("generalize", "episode"),
    [
        ([0, 99, 100, 99.5], 2),
        ([99, 98.9, 99, 100], 3),
        ([100, 100, 98], None),
        ([0, 0, 99], 3),
        ([100, None, 100], 3),
        ([], None),
    ],
)
def test_a_run_takes_off_where_it_stays_up(generalize, episode):
    curve = [CurvePoint(number, 0.001, 1.0, None, value) for number, value in enumerate(generalize, 1)]
    assert take_off(curve) == episode


def test_summary_by_hand():
    """10, 20, 30: mean 20, SD 10; one run has no SD."""
    assert summarize([10, 20, 30]) == Summary(20.0, 10.0, 3)
    assert summarize([5]) == Summary(5.0, None, 1)
    assert summarize([]) is None
    assert shown(Summary(20.0, 10.0, 3)) == "20.00 (10.00, n = 3)"
    assert shown(Summary(5.0, None, 1)) == "5.00 (n = 1)"


def share_within(t, degrees):
    """Share of Student's t distribution between -t and t.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4, exact sums for a whole number of degrees of freedom.
    """
    angle = math.atan(t / math.sqrt(degrees))
    term, total = (math.cos(angle) if degrees % 2 else 1.0), 0.0
    for k in range(2 if degrees % 2 else 1, degrees, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    return (angle + math.sin(angle) * total) * 2 / math.pi if degrees % 2 else math.sin(angle) * total


@pytest.mark.parametrize("degrees", range(1, len(T_QUANTILES) + 1))
def test_t_quantiles_leave_a_fortieth_on_either_side(degrees):
    """Each is right to its last digit: 95 % is passed between half a digit below and half a digit above."""
    t = T_QUANTILES[degrees - 1]
    assert share_within(t - 0.00051, degrees) < 0.95 < share_within(t + 0.00051, degrees)


def test_t_interval_by_hand():
    """Five runs reach 2.776 / sqrt(5) = 1.2415 SD, three 4.303 / sqrt(3) = 2.4843; without a third there is none."""
    assert t_interval(Summary(50.0, 10.0, 5)) == pytest.approx((37.585, 62.415), abs=0.001)
    assert t_interval(Summary(50.0, 10.0, 3)) == pytest.approx((25.157, 74.843), abs=0.001)
    assert t_interval(Summary(50.0, 10.0, 2)) is None
    assert t_interval(Summary(50.0, None, 1)) is None


@pytest.mark.parametrize("sd", [0.0, 0.02, 3.0, 19.26, 54.77])
@pytest.mark.parametrize("mean", [0.0, 0.03, 40.0, 93.8, 100.0])
def test_t_interval_holds_the_mean_keeps_to_bounds_and_never_grows_with_n(mean, sd):
    """Also beyond the end of the table; for runs mirrored about 50 % it is mirrored."""
    intervals = [t_interval(Summary(mean, sd, n)) for n in (3, 4, 5, 10, 31, 32, 100)]
    assert all(0 <= low <= mean <= high <= 100 for low, high in intervals)
    assert all(a[0] <= b[0] and b[1] <= a[1] for a, b in itertools.pairwise(intervals))
    low, high = t_interval(Summary(100 - mean, sd, 5))
    assert (100 - high, 100 - low) == pytest.approx(intervals[2])


@pytest.mark.parametrize("ours", [Summary(88.0, 19.0, 5), Summary(3.0, 0.4, 3), Summary(50.0, 2.0, 10)])
def test_verdict_is_yes_exactly_within_the_interval(ours):
    """The ends belong to it."""
    low, high = t_interval(ours)
    others = {mean: Summary(mean, 5.0, 5) for mean in (low, ours.mean, high, low - 0.01, high + 0.01)}
    assert [verdict(ours, other) for other in others.values()] == ["yes"] * 3 + ["no"] * 2


def test_verdicts_without_spread_or_with_too_few_runs():
    """The margin decides where all runs are alike; below three runs on either side nothing does."""
    for n in (3, 5):
        assert verdict(Summary(100.0, 0.0, n), Summary(100.0 - MARGIN, None, 5)) == "yes"
        assert verdict(Summary(100.0, 0.0, n), Summary(100.0 - MARGIN - 0.01, 0.08, 5)) == "no"
    paper = Summary(97.0, 0.5, 5)
    for few in (Summary(97.0, 0.5, 2), Summary(40.0, None, 1)):
        assert verdict(few, paper) == verdict(paper, few) == "too few runs"


def pixels(path):
    """Width, height and the raw picture data of a PNG."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    place, packed = 8, b""
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind == b"IDAT":
            packed += data[place + 8 : place + 8 + length]
        place += length + 12
    return *struct.unpack(">II", data[16:24]), zlib.decompress(packed)


def test_the_script_writes_report_and_pictures(grid):
    """Every picture is in the report, has content, and is drawn only for cells with curves."""
    assert run_report(grid)[::2] == (0, "")
    text = (grid / "RESULTS.md").read_text()
    assert text == write_report(read_results(grid))
    pictures = {path.name for path in (grid / "figures").iterdir()}
    assert pictures == {
        "tables.png",
        "curves_me.png",
        "curves_me_decay7500.png",
        "attention_me_1.png",
        "attention_jump_perm_1.png",
    }
    for name in pictures:
        assert f"(figures/{name})" in text
        width, height, raw = pixels(grid / "figures" / name)
        assert min(width, height) > 200
        assert len(set(raw)) > 10


def test_the_script_prints_a_line_a_cell_that_has_runs_and_where_the_report_is(grid):
    """The mean and the paper's, not the document."""
    save(grid, result("my_own", 1, arguments=arguments_of("my_own", 1, nlayers=1)))
    out = run_report(grid).out.splitlines()
    assert [line.split()[0] for line in out[:-1]] == [
        "me", "jump_perm", "jump_aug", "jump_standard", "me_masked", "me_decay7500", "my_own"
    ]  # fmt: skip
    assert " ".join(out[1].split()) == "jump_perm 100.00 (0.00, n = 2) paper: 99.95 (0.08, n = 5)"
    assert " ".join(out[-2].split()) == "my_own 100.00 (n = 1) --episode_type ME --nlayers 1"
    assert out[-1] == f"written to {grid / 'RESULTS.md'}, pictures to {grid / 'figures'}"


def test_the_same_files_give_the_same_report(grid):
    assert write_report(read_results(grid)) == write_report(read_results(grid))


def damage(grid, name, text):
    path = grid / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


BAD = {
    "not JSON": ("me/seed1.json", "{", "not a JSON file"),
    "not a number": ("me/seed1.json", '{"correct": NaN}', "NaN"),
    "an infinite time": ("me/seed1.json", '{"training_seconds": 1e999}', "1e999"),
    "a count without end": ("me/seed1.json", f'{{"correct": 1{"0" * 400}}}', "1000"),
    "a list": ("me/seed1.json", "[]", "JSON object"),
    "no counts": ("me/seed1.json", "{}", "'correct'"),
    "no accuracy": ("me/seed1.json", json.dumps(result("me", 1, 0, total=0)), "0 of 0"),
    "impossible counts": ("me/seed1.json", json.dumps(result("me", 1, 21)), "21 of 20"),
    "a text for a count": ("me/seed1.json", json.dumps(result("me", 1, episode="1")), "'episode'"),
    "another cell's": ("me/seed1.json", json.dumps(result("me_masked", 1)), "cell me_masked"),
    "another seed's": ("me_decay7500/seed11.json", json.dumps(result("me_decay7500", 2)), "seed 2"),
    "odd breakdown": ("me/seed1.json", json.dumps(result("me", 1, breakdown={"output length": [3]})), "'breakdown'"),
    "error of another type": ("me/seed1.json", '{"error": 3}', "'error'"),
    "a curve without columns": ("me/seed1.csv", "episode,lr\n1,0.1\n", "seed1.csv:2"),
    "a curve cut off": (
        "me/seed1.csv",
        "episode,seconds,lr,train_loss,retrieval,generalize\n1,2,0.1,1.5\n",
        "seed1.csv:2",
    ),
    "a curve of words": (
        "me/seed1.csv",
        "episode,seconds,lr,train_loss,retrieval,generalize\na,b,c,d,e,f\n",
        "seed1.csv:2",
    ),
    "attention without weights": ("me/attention_seed1_1.json", '{"query": "", "output": ""}', "'memory' or 'decoder'"),
    "attention of odd shape": (
        "me/attention_seed1_1.json",
        json.dumps({"query": "", "output": "", "memory": WEIGHTS | {"weights": [[1]]}}),
        "rows, columns",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_and_nothing_is_written(grid, case):
    """One line on stderr, exit code 2, no report and no picture."""
    name, text, complaint = BAD[case]
    damage(grid, name, text)
    code, out, err = run_report(grid)
    assert (code, out) == (2, "")
    assert err.startswith("report.py: error: ") and err.count("\n") == 1, err
    assert str(grid / name) in err and complaint in err, err
    assert not (grid / "RESULTS.md").exists() and not (grid / "figures").exists()


# Recipes: what is averaged, what is left out, what is refused

CHANGED = {
    "an argument": ({"lr_decay_schedule": 7500}, {}, "lr_decay_schedule"),
    "a flag that one file lacks": ({"new_flag": True}, {}, "new_flag"),
    "a value that one file lacks": ({"emb_size": 100}, {}, "emb_size"),
    "a value of 0": ({"dropout": 0}, {}, "dropout"),
    "how long it was trained": ({}, {"num_episodes": 200, "episode": 200}, "num_episodes"),
}


@pytest.mark.parametrize("case", CHANGED)
@pytest.mark.parametrize("seeds", [(1, 2), (2, 1)])
def test_runs_of_different_recipes_are_not_averaged(tmp_path, case, seeds):
    """One line names both files and the argument; nothing is written."""
    arguments, changed, name = CHANGED[case]
    cell = "me_decay7500"
    save(tmp_path, result(cell, seeds[0]))
    save(tmp_path, result(cell, seeds[1], arguments=arguments_of(cell, seeds[1], **arguments), **changed))
    code, out, err = run_report(tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    for part in (str(tmp_path / cell / "seed1.json"), str(tmp_path / cell / "seed2.json"), f"--{name} "):
        assert part in err
    assert not (tmp_path / "RESULTS.md").exists()


@pytest.mark.parametrize("case", CHANGED)
@pytest.mark.parametrize("cell", ["me", "length"])
def test_a_run_that_is_not_of_its_cell_changes_nothing_and_is_named(tmp_path, cell, case):
    """Whether it stands beside others or alone: one line in the report, and the same one on the terminal."""
    arguments, changed, name = CHANGED[case]
    changed = {"arguments": arguments_of(cell, 2, **arguments), **changed}
    save(tmp_path, result(cell, 2, 7, **changed), [1, 1])
    assert row_of(section(write_report(read_results(tmp_path)), "Beside the paper"), f"`{cell}`")[3] == "not run"
    save(tmp_path, result(cell, 1))
    save(tmp_path, result(cell, 3, 16))
    code, out, err = run_report(tmp_path)
    assert (code, err) == (0, "")
    text = (tmp_path / "RESULTS.md").read_text()
    (line,) = [line for line in text.splitlines() if "left out: " in line]
    value = {**arguments, **changed}[name]
    assert line.startswith(f"- left out: `{cell}/seed2.json: --{name} is {value}, the cell's ")
    assert [line for line in out.splitlines() if line.startswith("left out: ")] == [
        f"left out: {tmp_path}/{line.removeprefix('- left out: ').strip('`')}"
    ]
    for path in (tmp_path / cell).glob("seed2.*"):
        path.unlink()
    assert text == write_report(read_results(tmp_path)).replace("\n\n## Compute", f"\n\n{line}\n\n## Compute")


def on_other_data(cell, seed, difference="3 of 9 are missing, 2 others are there", part="training_scan_files"):
    files = [{"name": "tasks_train_length.txt", "sha256": f"of {difference}", "difference": difference}]
    return result(cell, seed, 1, **{part: files})


@pytest.mark.parametrize("part", ["scan_files", "training_scan_files"])
def test_a_run_on_other_data_than_the_published_is_named_and_left_out(tmp_path, part):
    """Its recipe may be the cell's; lines in another order are the same data."""
    save(tmp_path, on_other_data("length", 1, "", part))
    save(tmp_path, on_other_data("length", 2, part=part))
    results = read_results(tmp_path)
    assert [run.seed for run in results.runs["length"]] == [1]
    assert results.left_out == ["length/seed2.json: tasks_train_length.txt did not hold the published lines"]


def test_runs_of_ones_own_have_one_kind_of_data(tmp_path):
    """Whatever it is; runs on several have no mean."""
    for seed in (1, 2):
        save(tmp_path, on_other_data("mine", seed))
    assert len(read_results(tmp_path).runs["mine"]) == 2
    save(tmp_path, on_other_data("mine", 3, "4 of 9 are missing, 2 others are there"))
    code, _, err = run_report(tmp_path)
    assert (code, err.count("\n"), "mine/seed3.json are of other data" in err) == (2, 1, True)


@pytest.mark.parametrize("files", [3, ["tasks_train_length.txt"], [{"name": "tasks_train_length.txt"}]])
def test_damaged_records_of_data_are_refused(tmp_path, files):
    """One line that names the result."""
    save(tmp_path, result("length", 1, scan_files=files))
    code, _, err = run_report(tmp_path)
    assert (code, err.count("\n"), "length/seed1.json: expected" in err) == (2, 1, True)


@pytest.mark.parametrize("cell", ["me", "me_decay7500"])
@pytest.mark.parametrize("seeds", [(1, 2), (2, 1)])
def test_two_files_of_one_run_count_once(tmp_path, cell, seeds):
    """The seed that it was trained with counts, not the file's name; the second file is named."""
    for place in seeds:
        one = result(cell, place, arguments=arguments_of(cell, 7, threads=place))
        save(tmp_path, {name: value for name, value in one.items() if name != "seed"} | {"seed": place})
    save(tmp_path, result(cell, 3, 16))
    save(tmp_path, {"cell": cell, "seed": 4, "error": "killed"})
    save(tmp_path, {"cell": cell, "seed": 5, "error": "killed"})
    results = read_results(tmp_path)
    assert results.accuracies(cell) == [100.0, 80.0]
    assert results.left_out == [f"{cell}/seed2.json: trained with the seed and the arguments of seed1.json"]
    assert len(results.runs[cell]) == 4


def test_seed_place_and_what_is_not_set_may_differ(tmp_path):
    """Nor does it matter whether a flag that is off, or a value that is missing, is written down."""
    ran = {"gpu": 0, "cpu": True, "threads": 4, "data_dir": "x", "dir_model": "y", "fn_out_model": "z"}
    save(tmp_path, result("me", 1))
    save(tmp_path, result("me", 2, arguments=arguments_of("me", 2, **ran, overwrite=True)))
    save(tmp_path, result("me", 3, arguments={**arguments_of("me", 3, new_flag=False), "extra_directions": None}))
    assert summarize(read_results(tmp_path).accuracies("me")).n == 3


@pytest.mark.parametrize(
    ("cell", "changed"),
    [
        ("me", {"mask_padding": True}),
        ("jump_perm", {"episode_type": "scan_prim_augmentation"}),
        ("me_kept_moments", {"keep_moments": False}),
        ("around_right", {"extra_directions": 20}),
    ],
)
def test_a_run_of_another_cells_recipe_is_left_out(tmp_path, cell, changed):
    save(tmp_path, result(cell, 1, arguments=arguments_of(cell, 1, **changed)))
    results = read_results(tmp_path)
    assert results.runs[cell] == []
    (line,) = results.left_out
    assert line.startswith(f"{cell}/seed1.json: --{next(iter(changed))} is {next(iter(changed.values()))}, the cell's ")


def figures_of(folder):
    """The pictures of a report, by name."""
    drawn = {}
    with mock.patch("paper.report_pictures._save", lambda figure, path: drawn.update({path.name: figure})):
        draw_pictures(read_results(folder), folder / "figures")
    return drawn


def texts_of(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def spreads_of(ax):
    """The ends of each line that shows an SD, from the top of a group down, those without length left out."""
    lines = [bars for bars in ax.containers if isinstance(bars, ErrorbarContainer)]
    segments = sorted((line.lines[2][0].get_segments()[0] for line in lines), key=lambda ends: ends[0][1])
    return [(low, high) for (low, _), (high, _) in segments if low < high]


def test_the_picture_of_the_tables_shows_mean_sd_and_n_of_both_sides(grid):
    """Mutual exclusivity is the first group; a line of one SD to either side ends at 0 or 100 % at the latest."""
    figure = figures_of(grid)["tables.png"]
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[0] == "mutual exclusivity" and len(titles) == 1 + sum(len(table.columns) for table in TABLES)
    texts = texts_of(figure)
    for text in (
        "here: 92.00 (17.89, n = 5)",
        "paper: 100.00 (0.00, n = 5)",
        "here: no finished run",
        "here: not run",
        "paper: 78.40, quoted",
        "paper: 0.00 (n = 5)",
    ):
        assert text in texts
    assert spreads_of(figure.axes[0]) == [pytest.approx((92 - 17.889, 100), abs=0.001)]
    paper = [(CELLS[cell].paper_mean, CELLS[cell].paper_sd) for cell in ("length", "length_standard")]
    assert spreads_of(figure.axes[-1]) == [pytest.approx((mean - sd, mean + sd)) for mean, sd in paper]
    assert spreads_of(figure.axes[2])[1] == pytest.approx((0, 5.43 + 7.6))


def test_no_two_texts_of_the_picture_of_the_tables_overlap(grid):
    """With the longest entries there are, and inside the picture."""
    for seed, correct in enumerate((20, 20, 0), 1):
        save(grid, result("around_right", seed, correct))
    figure = figures_of(grid)["tables.png"]
    figure.draw_without_rendering()
    written = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    axis_labels = [
        label for ax in figure.axes[:-1] for label in ax.get_xticklabels()
    ]  # shared, drawn at the bottom only
    boxes = [(text.get_text(), text.get_window_extent()) for text in written if text not in axis_labels]
    assert not [(a, b) for (a, box_a), (b, box_b) in itertools.combinations(boxes, 2) if box_a.overlaps(box_b)]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for _, box in boxes)


def test_a_command_of_a_cell_of_ones_own_is_shown_whole(tmp_path):
    """However long it is."""
    command = "python train.py --episode_type ME --keep_moments " + "--lr 0.01 " * 40
    save(tmp_path, result("me_keep_moments", 1) | {"command": [command.strip()]})
    assert f"`{command.strip()}`" in write_report(read_results(tmp_path))


def test_runs_of_earlier_code_kept_moments(tmp_path):
    """It always did, without an argument that says so: such a run counts where the cell keeps them, and only there."""
    for cell in ("me", "me_kept_moments"):
        save(tmp_path, result(cell, 1, arguments=arguments_of(cell, 1, keep_moments=None)))
    results = read_results(tmp_path)
    assert [cell for cell, runs in results.runs.items() if runs] == ["me_kept_moments"]
    assert results.left_out == ["me/seed1.json: --keep_moments is True, the cell's False"]


def test_an_argument_that_earlier_code_did_not_know_counts_as_its_default(tmp_path):
    """In one recipe with others, and as a copy of the same run."""
    for folder, seeds in (("me_small", (1, 2)), ("me", (1, 1))):
        for number, seed in enumerate(seeds, 1):
            run = result(folder, number)
            run["arguments"] |= {"episode_type": "ME", "emb_size": 200 if folder == "me" else 50, "seed": seed}
            run["arguments"] |= {"dropout": 0.5, "keep_moments": False}
            if number == 2:
                del run["arguments"]["dropout"]
            save(tmp_path, run)
    results = read_results(tmp_path)
    assert len(results.runs["me_small"]) == 2 and len(results.runs["me"]) == 1
    assert results.left_out == ["me/seed2.json: trained with the seed and the arguments of seed1.json"]


def masked_rows(folder):
    text = write_report(read_results(folder))
    title = "Padded steps masked"
    lines = section(text, title).splitlines() if f"## {title}" in text else []
    return [tuple(line.split(" | ")[:2]) for line in lines if line.startswith("| `")]


@pytest.mark.parametrize(("unmasked", "answer"), [(14, "yes"), (19, "no")])
def test_masked_runs_are_compared_by_the_interval_of_their_mean(tmp_path, unmasked, answer):
    """12, 14, 16 of 20: mean 70, SD 10; the mean of the unmasked runs takes the place of the paper's."""
    for seed, correct in enumerate((12, 14, 16), 1):
        save(tmp_path, result("me_masked", seed, correct))
        save(tmp_path, result("me", seed, unmasked))
    row = row_of(section(write_report(read_results(tmp_path)), "Padded steps masked"), "`me_masked`", "`me`")
    assert row[2:] == [f"{5 * unmasked}.00 (0.00, n = 3)", "70.00 (10.00, n = 3)", "45.16 to 94.84", answer]


@pytest.mark.parametrize("has_me", [True, False])
def test_each_me_recipe_says_whether_moments_were_kept(tmp_path, has_me):
    """Also as long as `me` itself has no run."""
    if has_me:
        save(tmp_path, result("me", 1), [100])
    save(tmp_path, result("me_kept_moments", 1), [100])
    save(tmp_path, result("me_masked", 1), [100])
    later = arguments_of("me_decay7500", 1, lr_decay_schedule=7500)
    save(tmp_path, result("me_decay7500", 1, arguments=later), [100])
    text = section(write_report(read_results(tmp_path)), "Mutual exclusivity: which runs take off")
    rows = [line.split(" | ") for line in text.splitlines() if "1 of 1" in line]
    recipes = {row[0].strip("| `"): set(row[1].strip("`").split("--")) - {""} for row in rows}
    expected = {
        "me_kept_moments": {"keep_moments"},
        "me_masked": {"mask_padding"},
        "me_decay7500": {"lr_decay_schedule 7500"},
    }
    stripped = {cell: {flag.strip() for flag in flags} for cell, flags in recipes.items()}
    assert stripped == ({"me": {"the default"}} if has_me else {}) | expected


def test_attention_without_a_run(grid):
    """The weights stay when the result goes; the report says so."""
    for path in (grid / "me").glob("seed*"):
        path.unlink()
    text = section(write_report(read_results(grid)), "Attention")
    assert "from seed 1 of `me` (its result is not here):" in text
    assert "from seed 1 of `jump_perm`:" in text


def test_both_recipes_of_me_are_drawn_once_both_have_curves(grid):
    """One more picture, in the section on ME."""
    path = grid / "figures" / "curves_me_recipes.png"
    shown = "(figures/curves_me_recipes.png)"
    save(grid, result("me_kept_moments", 1))
    run_report(grid)
    assert not path.exists() and shown not in (grid / "RESULTS.md").read_text()
    save(grid, result("me_kept_moments", 2), [1, 50, 100])
    assert run_report(grid)[0] == 0
    width, height, raw = pixels(path)
    assert min(width, height) > 200 and len(set(raw)) > 10
    assert shown in section((grid / "RESULTS.md").read_text(), "Mutual exclusivity: which runs take off")


# Rates


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.0, 16.11), (1, 29, 0.61, 17.18)],
)
def test_wilson_interval_has_the_values_of_newcombe_1998(successes, trials, low, high):
    """Statistics in Medicine 17:857-872, Table I, method 3; there as shares with four digits."""
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=0.006)


@pytest.mark.parametrize("trials", [1, 2, 5, 10, 37])
def test_wilson_interval_holds_the_share_keeps_to_bounds_and_is_symmetric(trials):
    """What holds for successes holds for failures, mirrored; more successes never lower either end."""
    ends = []
    for successes in range(trials + 1):
        low, high = wilson_interval(successes, trials)
        assert 0 <= low <= 100 * successes / trials <= high <= 100
        assert low < high
        other_low, other_high = wilson_interval(trials - successes, trials)
        assert (other_low, other_high) == pytest.approx((100 - high, 100 - low))
        ends.append((low, high))
    assert ends == sorted(ends)
    assert (ends[0][0], ends[-1][1]) == (0, 100)


@pytest.mark.parametrize("tenths", [0, 3, 5, 10])
def test_wilson_interval_shrinks_with_the_number_of_trials(tenths):
    widths = [high - low for low, high in (wilson_interval(tenths * n, 10 * n) for n in (1, 2, 5, 20, 100))]
    assert widths == sorted(set(widths), reverse=True)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_interval_of_impossible_counts(successes, trials):
    with pytest.raises(ValueError, match=f"found {successes} in {trials}"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_no_folder_of_results(tmp_path, kind):
    path = tmp_path / "results"
    if kind == "a file":
        path.write_text("")
    code, _, err = run_report(path)
    assert code == 2
    said = f"{path} is a file, not a folder" if kind == "a file" else f"no folder {path}"
    assert said in err and "--results_dir" in err and err.count("\n") == 1
