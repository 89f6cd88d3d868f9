"""The report: what it reads, what it refuses, how it compares with the paper, and what it writes."""

import json
import struct
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from matplotlib.text import Text
from script_runs import run_file

from checkpoint import PLACES
from paper.cells import CELLS, flag_values
from paper.comparison import (
    DRAWS,
    LEVEL,
    MARGIN,
    TABLES,
    Summary,
    agreeing_means,
    agrees,
    p_value,
    pool,
    summarize,
    verdict,
)
from paper.rates import wilson_interval
from paper.report_pictures import draw_pictures
from paper.report_text import write_report
from paper.run_results import NOT_THE_RECIPE, CurvePoint, read_results, take_off

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
        "episode": 300,
        "num_episodes": 300,
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
    found = [row for row in rows if row[: len(starts)] == list(starts)]
    assert len(found) == 1, found
    return found[0]


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_cell_stands_beside_the_paper(grid):
    """Only finished runs are averaged; failed, unfinished and missing ones are named."""
    text = section(write_report(read_results(grid)), "Beside the paper")
    assert row_of(text, "`me`")[2:5] == ["100.00 (0.00)", "92.00 (17.89, n = 5), 1 failed, 1 unfinished", "-8.00"]
    assert row_of(text, "`jump_perm`")[2:] == ["99.95 (0.08)", "100.00 (0.00, n = 2)", "+0.05", "—", "too few runs"]
    assert row_of(text, "`jump_standard`")[3] == "0.00 (n = 1)"
    assert row_of(text, "`jump_aug`")[3:] == ["no finished run, 1 failed", "—", "—", "—"]
    assert row_of(text, "`around_right_standard`")[2:4] == ["0.00", "not run"]
    assert row_of(text, "`me_masked`")[2:] == ["not in the paper", "95.00 (n = 1)", "—", "—", "—"]
    assert sum(line.startswith("| `") for line in text.splitlines()) == len(CELLS)


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
    assert row_of(text, "`me`", "7")[2:4] == ["—", "unfinished (100 of 300 episodes)"]
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
    commands = section(text, "Commands")
    assert all(f"`python -m paper.reproduce --only {cell}`" in commands for cell in CELLS)
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


def test_summary_and_pooling_by_hand():
    """10, 20, 30: mean 20, SD 10. With a second side of mean 50, SD 20, n 2: squares 200 + 400 + 3*12**2 + 2*18**2."""
    ours = summarize([10, 20, 30])
    assert ours == Summary(20.0, 10.0, 3)
    assert summarize([5]) == Summary(5.0, None, 1)
    assert summarize([]) is None
    mean, variance = pool(ours, Summary(50.0, 20.0, 2))
    assert mean == pytest.approx(0.32)
    assert variance == pytest.approx((200 + 400 + 432 + 648) / 5 / 10000)


def test_p_value_of_all_against_nothing_by_hand():
    """Five runs at 0, five at 100: pooled, each run is a fair coin; two of 2 ** 10 outcomes are as far apart."""
    p = p_value(Summary(0.0, 0.0, 5), Summary(100.0, 0.0, 5))
    assert p == pytest.approx(2 / 2**10, abs=4 * (2 / 2**10 / DRAWS) ** 0.5)


def test_p_value_far_from_the_bounds_is_that_of_a_normal_distribution():
    """Means 48 and 52, pooled SD 4: two means of five differ with an SD of 4 * sqrt(2 / 5), and 4 is 1.581 of these."""
    squares_within = 10 * 4.0**2 - 5 * 2**2 - 5 * 2**2
    sd = (squares_within / 8) ** 0.5
    assert p_value(Summary(48.0, sd, 5), Summary(52.0, sd, 5)) == pytest.approx(0.1138, abs=0.015)


def test_p_value_without_any_spread():
    """All runs alike: nothing speaks against one kind; a missing SD counts as 0."""
    assert p_value(Summary(100.0, 0.0, 5), Summary(100.0, 0.0, 5)) == 1
    assert p_value(Summary(0.0, 0.0, 3), Summary(0.0, None, 5)) == 1


def test_verdicts():
    """The margin decides where there is no spread; below three runs nothing does; spread hides what it must."""
    paper = Summary(99.95, 0.08, 5)
    assert verdict(Summary(100.0, 0.0, 5), paper) == "yes"
    assert verdict(Summary(97.0, 0.5, 5), paper) == "no"
    assert verdict(Summary(97.0, 0.5, 2), paper) == "too few runs"
    assert verdict(Summary(40.0, None, 1), paper) == "too few runs"
    assert verdict(Summary(100.0 - MARGIN + 0.01, 0.0, 5), Summary(100.0, 0.0, 5)) == "yes"
    assert verdict(Summary(100.0 - MARGIN, 0.0, 5), Summary(100.0, 0.0, 5)) == "no"
    assert verdict(Summary(84.0, 20.0, 5), Summary(100.0, 0.0, 5)) == "yes"


def test_range_of_agreeing_means_stays_within_bounds_and_splits_yes_from_no():
    ours, paper = Summary(88.0, 19.0, 5), Summary(95.0, 1.5, 5)
    low, high = agreeing_means(ours, paper)
    assert 0 < low < ours.mean < high <= 100
    assert agrees(ours, paper._replace(mean=low + 0.05))
    assert not agrees(ours, paper._replace(mean=low - 0.05))


@pytest.mark.parametrize(("mean", "sd"), [(0.9995, 0.0008), (0.0929, 0.1307), (0.36, 0.07)])
def test_runs_of_one_kind_seldom_get_a_no(mean, sd):
    """Drawn from one distribution as the paper's cells have them, about one in twenty comparisons fails at most."""
    rng = np.random.default_rng(1)
    precision = mean * (1 - mean) / sd**2 - 1
    runs = 100 * rng.beta(mean * precision, (1 - mean) * precision, (100, 2, 5))
    with mock.patch("paper.comparison.DRAWS", 1000):
        p_values = [p_value(summarize(one), summarize(other)) for one, other in runs.tolist()]
    assert np.mean(np.array(p_values) < LEVEL) <= 0.1


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


def test_the_script_prints_and_writes_report_and_pictures(grid):
    """Every picture is in the report, has content, and is drawn only for cells with curves; a stray folder is named."""
    save(grid, result("jump_prem", 1))
    code, out, err = run_report(grid)
    assert (code, err) == (0, "")
    text = (grid / "RESULTS.md").read_text()
    assert text in out
    assert "jump_prem" in out.removeprefix(text)
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
    name, text, said = BAD[case]
    damage(grid, name, text)
    code, out, err = run_report(grid)
    assert (code, out) == (2, "")
    assert err.startswith("report.py: error: ") and err.count("\n") == 1, err
    assert str(grid / name) in err and said in err, err
    assert not (grid / "RESULTS.md").exists() and not (grid / "figures").exists()


# Recipes: what is averaged, what is marked, what is refused

OLDER = {"as earlier code wrote it": None, "with the flag": True}  # keep_moments of runs with kept moments


def older(cell, seed, correct=20, keep_moments=None, **changed):
    """A result from before Adam started anew when the learning rate drops."""
    return result(cell, seed, correct, arguments=arguments_of(cell, seed, keep_moments=keep_moments), **changed)


def marked_rows(text):
    """The table rows that speak of kept moments."""
    return [line for line in text.splitlines() if line.startswith("|") and "kept moments" in line.replace("`", "")]


CHANGED = {
    "an argument": ({"lr_decay_schedule": 7500}, {}, "lr_decay_schedule"),
    "a flag that one file lacks": ({"new_flag": True}, {}, "new_flag"),
    "a value that one file lacks": ({"emb_size": 100}, {}, "emb_size"),
    "a value of 0": ({"dropout": 0}, {}, "dropout"),
    "how long it was trained": ({}, {"num_episodes": 200, "episode": 200}, "num_episodes"),
}


@pytest.mark.parametrize("cell", ["me", "me_decay7500"])
@pytest.mark.parametrize("case", CHANGED)
@pytest.mark.parametrize("seeds", [(1, 2), (2, 1)])
def test_runs_of_different_recipes_are_not_averaged(tmp_path, cell, case, seeds):
    """One line names both files and the argument; nothing is written."""
    arguments, changed, name = CHANGED[case]
    save(tmp_path, result(cell, seeds[0]))
    save(tmp_path, result(cell, seeds[1], arguments=arguments_of(cell, seeds[1], **arguments), **changed))
    code, out, err = run_report(tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    for said in (str(tmp_path / cell / "seed1.json"), str(tmp_path / cell / "seed2.json"), f"--{name} "):
        assert said in err
    assert not (tmp_path / "RESULTS.md").exists()


def test_seed_place_and_what_is_not_set_may_differ(tmp_path):
    """Nor does it matter whether a flag that is off, or a value that is missing, is written down."""
    ran = {"gpu": 0, "cpu": True, "threads": 4, "data_dir": "x", "dir_model": "y", "fn_out_model": "z"}
    save(tmp_path, result("me", 1))
    save(tmp_path, result("me", 2, arguments=arguments_of("me", 2, **ran, overwrite=True)))
    save(tmp_path, result("me", 3, arguments={**arguments_of("me", 3, new_flag=False), "extra_directions": None}))
    assert summarize(read_results(tmp_path).accuracies("me")).n == 3


def test_what_may_differ_is_the_seed_and_what_the_checkpoint_calls_places():
    assert set(NOT_THE_RECIPE) == {"seed", *PLACES}


@pytest.mark.parametrize(
    ("cell", "changed"),
    [
        ("me", {"mask_padding": True}),
        ("jump_perm", {"episode_type": "scan_prim_augmentation"}),
        ("me_kept_moments", {"keep_moments": False}),
        ("around_right", {"extra_directions": 20}),
    ],
)
def test_a_run_that_is_not_of_its_cell_is_refused(tmp_path, cell, changed):
    save(tmp_path, result(cell, 1, arguments=arguments_of(cell, 1, **changed)))
    with pytest.raises(ValueError, match=rf"{cell}/seed1.json: expected .* {cell} .* --{next(iter(changed))} "):
        read_results(tmp_path)


@pytest.mark.parametrize("kept", OLDER)
def test_older_runs_beside_new_ones_are_named_and_left_out_of_everything_else(grid, kept):
    """Means, take-offs, masks, compute, curves: all as if they were not there, but for the list of every run."""

    def rest_of(text):
        return [line for line in text.splitlines() if line and "seed 1: " not in line and " marks runs " not in line]

    before = read_results(grid)
    save(grid, older("me", 8, 3, OLDER[kept]), [1, 1, 1])
    save(grid, older("jump_perm", 2, 3, OLDER[kept]))
    results = read_results(grid)
    assert results.curves("me") == before.curves("me")
    text = write_report(results)
    assert rest_of(text) == rest_of(write_report(before))
    every_run = section(text, "Every run")
    assert row_of(every_run, "`me`")[1].endswith("; left out above: seed 8: 15.00 (kept moments)")
    assert row_of(every_run, "`jump_perm`")[1] == (
        "seed 1: 100.00, seed 3: 100.00; left out above: seed 2: 15.00 (kept moments)"
    )
    assert " marks runs " in text


@pytest.mark.parametrize("kept", OLDER)
def test_older_runs_alone_are_shown_marked_and_compared_with_nothing(tmp_path, kept):
    """In each table that shows them, and without a verdict, a difference or a range."""
    for seed in (1, 2, 3):
        save(tmp_path, older("me", seed, 12, OLDER[kept]), [1, 1, 60])
        save(tmp_path, older("length", seed, 12, OLDER[kept]))
    (tmp_path / "length" / "finding.md").write_text("Long.\n")
    save(tmp_path, older("jump_standard", 1, 0, OLDER[kept], train_correct=9, train_total=10))
    text = write_report(read_results(tmp_path))
    beside = section(text, "Beside the paper")
    assert row_of(beside, "`length`")[3:] == ["60.00 (0.00, n = 3, kept moments)", "—", "—", "—"]
    assert row_of(beside, "`me`")[3:] == ["60.00 (0.00, n = 3, kept moments)", "—", "—", "—"]
    assert row_of(beside, "`jump_standard`")[3] == "0.00 (n = 1, kept moments)"
    tables = section(text, "The paper's tables")
    assert row_of(tables, "meta seq2seq learning", "99.96 / not run")[2] == "16.64 / 60.00, n = 3, kept moments"
    on_training = row_of(section(text, "Standard seq2seq on its training commands"), "`jump_standard`")
    assert on_training[1:] == ["90.00 (n = 1, kept moments)", "0.00 (n = 1, kept moments)"]
    exclusivity = section(text, "Mutual exclusivity: which runs take off")
    assert row_of(exclusivity, "`me`", "`--keep_moments`")[4] == "60.00 (0.00, n = 3, kept moments)"
    assert row_of(exclusivity, "`me`", "2")[3] == "60.00 (kept moments)"
    assert row_of(section(text, "Every run"), "`jump_standard`")[1] == "seed 1: 0.00 (kept moments)"
    assert "### `length` (kept moments)\n\nLong." in section(text, "Findings")
    assert "`kept moments` marks" in text


def test_nothing_is_marked_where_every_run_is_of_its_cells_recipe(grid):
    save(grid, result("me_kept_moments", 1), [1, 1, 1])
    assert "kept moments" not in write_report(read_results(grid))


@pytest.mark.parametrize("other", [{"cell": "length", "seed": 2, "error": "killed"}, None])
def test_a_failed_run_has_no_recipe_and_hides_no_older_ones(tmp_path, other):
    save(tmp_path, older("length", 1))
    if other:
        save(tmp_path, other)
    said = "100.00 (n = 1, kept moments)" + (", 1 failed" if other else "")
    assert row_of(section(write_report(read_results(tmp_path)), "Beside the paper"), "`length`")[3] == said


def test_pictures_mark_older_runs_that_stand_in(tmp_path):
    """In words, and by a hatched bar that the legend explains; where there are others nothing is hatched."""
    save(tmp_path, older("length", 1, 12), [1, 1, 60])
    marked = figures_of(tmp_path)
    assert any("(n = 1, kept moments)" in said for said in marked["curves_length.png"][0])
    said, hatched = marked["tables.png"]
    assert "60.00, kept moments  (paper 16.64)" in said and "here: mean, kept moments" in said
    assert hatched == 1
    save(tmp_path, result("length", 2, 13))
    said, hatched = figures_of(tmp_path)["tables.png"]
    assert "65.00  (paper 16.64)" in said and "here: mean, kept moments" not in said
    assert hatched == 0


def figures_of(folder):
    """By the name of each picture: what stands in it, and how many bars are hatched."""
    drawn = {}
    with mock.patch("paper.report_pictures._save", lambda figure, path: drawn.update({path.name: figure})):
        draw_pictures(read_results(folder), folder / "figures")
    return {
        name: (
            [text.get_text() for text in figure.findobj(Text)],
            sum(bool(patch.get_hatch()) for ax in figure.axes for patch in ax.patches),
        )
        for name, figure in drawn.items()
    }


def test_a_folder_that_is_no_cell_holds_one_recipe_which_is_marked(tmp_path):
    """There kept moments beside others are refused as any other difference is."""
    save(tmp_path, older("me_decay7500", 1))
    text = write_report(read_results(tmp_path))
    assert len(marked_rows(text)) == 3
    assert "`--keep_moments`" in row_of(section(text, "Commands"), "`me_decay7500`")[1]
    save(tmp_path, result("me_decay7500", 2))
    with pytest.raises(ValueError, match="keep_moments"):
        read_results(tmp_path)


def masked_rows(folder):
    text = write_report(read_results(folder))
    title = "Padded steps masked"
    lines = section(text, title).splitlines() if f"## {title}" in text else []
    return [tuple(line.split(" | ")[:2]) for line in lines if line.startswith("| `")]


def test_masked_runs_are_compared_only_with_their_twins(tmp_path):
    """Kept moments with kept moments, started anew with started anew."""
    for seed in (1, 2, 3):
        save(tmp_path, older("me_masked", seed))
        save(tmp_path, older("jump_perm_masked", seed))
        save(tmp_path, result("me", seed))
    assert masked_rows(tmp_path) == []
    save(tmp_path, result("me_kept_moments", 1))
    save(tmp_path, older("jump_perm", 1))
    kept = [("| `me_masked`", "`me_kept_moments`"), ("| `jump_perm_masked`", "`jump_perm`")]
    assert masked_rows(tmp_path) == kept
    save(tmp_path, result("jump_perm", 2))
    assert masked_rows(tmp_path) == kept[:1]
    save(tmp_path, result("me_masked", 4))
    save(tmp_path, result("jump_perm_masked", 4))
    assert masked_rows(tmp_path) == [("| `me_masked`", "`me`"), ("| `jump_perm_masked`", "`jump_perm`")]
    for path in (tmp_path / "me_masked").iterdir():
        path.unlink()
    save(tmp_path, result("me_masked", 4, num_episodes=200, episode=200))
    assert masked_rows(tmp_path) == [("| `jump_perm_masked`", "`jump_perm`")]


@pytest.mark.parametrize("has_me", [True, False])
def test_each_me_recipe_says_whether_moments_were_kept(tmp_path, has_me):
    """Also as long as `me` itself has no run."""
    if has_me:
        save(tmp_path, result("me", 1), [100])
    save(tmp_path, older("me_kept_moments", 1), [100])
    save(tmp_path, older("me_masked", 1), [100])
    later = arguments_of("me_decay7500", 1, lr_decay_schedule=7500)
    save(tmp_path, result("me_decay7500", 1, arguments=later), [100])
    text = section(write_report(read_results(tmp_path)), "Mutual exclusivity: which runs take off")
    rows = [line.split(" | ") for line in text.splitlines() if "1 of 1" in line]
    recipes = {row[0].strip("| `"): set(row[1].strip("`").split("--")) - {""} for row in rows}
    expected = {
        "me_kept_moments": {"keep_moments"},
        "me_masked": {"keep_moments", "mask_padding"},
        "me_decay7500": {"lr_decay_schedule 7500"},
    }
    found = {cell: {flag.strip() for flag in flags} for cell, flags in recipes.items()}
    assert found == ({"me": {"the default"}} if has_me else {}) | expected


def test_attention_without_a_run_and_of_an_older_run(grid):
    """The weights stay when the result goes; it is said whose they are."""
    for path in (grid / "me").glob("seed*"):
        path.unlink()
    (grid / "jump_perm" / "seed1.json").unlink()
    save(grid, older("jump_perm", 1))
    text = section(write_report(read_results(grid)), "Attention")
    assert "from seed 1 of `me` (its result is not here):" in text
    assert "from seed 1 of `jump_perm` (kept moments):" in text


def test_both_recipes_of_me_are_drawn_once_both_have_curves(grid):
    """One more picture, in the section on ME; not for older runs that stand in for the cell's own."""
    path = grid / "figures" / "curves_me_recipes.png"
    shown = "(figures/curves_me_recipes.png)"
    save(grid, result("me_kept_moments", 1))
    run_report(grid)
    assert not path.exists() and shown not in (grid / "RESULTS.md").read_text()
    save(grid, older("me_kept_moments", 2), [1, 50, 100])
    assert run_report(grid)[0] == 0
    width, height, raw = pixels(path)
    assert min(width, height) > 200 and len(set(raw)) > 10
    assert shown in section((grid / "RESULTS.md").read_text(), "Mutual exclusivity: which runs take off")
    for seed in (1, 2, 3, 4, 5, 7):
        save(grid, older("me", seed), [1, 50, 100])
    assert read_results(grid).me_curves() == {}


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
    assert f"no folder {path}" in err and "--results_dir" in err and err.count("\n") == 1
