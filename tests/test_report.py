"""The report: what it reads, what it refuses, how it compares with the paper, and what it writes."""

import json
import struct
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from script_runs import run_file

from cells import CELLS
from reporting.paper_comparison import (
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
from reporting.run_results import CurvePoint, read_results, take_off
from reporting.text import write_report

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = {
    "rows": ["lug", "<EOS>"],
    "columns": ["lug → RED", "dax → BLUE", "(padding)"],
    "weights": [[0, 0.5, 0.5]] * 2,
}
LENGTHS = [{"group": str(length), "correct": 20, "total": 20} for length in (2, 3)]


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
        "arguments": {"lr_decay_schedule": 5000, "seed": seed, "mask_padding": False},
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
    save(folder, result("me_decay7500", 11, arguments={"lr_decay_schedule": 7500, "seed": 11}), [100, 100, 100])
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
    return run_file(ROOT / "report.py", "--results_dir", folder)


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
    assert taken[2:4] == ["4 of 5", "200 (200 to 200)"]
    assert taken[5:] == ["100.0", "100.0", "92.0"]
    assert row_of(text, "`me_decay7500`", "`--lr_decay_schedule 7500`")[2:4] == ["1 of 1", "100 (100 to 100)"]
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
    assert all(f"`python reproduce.py --only {cell}`" in commands for cell in CELLS)
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
    with mock.patch("reporting.paper_comparison.DRAWS", 1000):
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


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_no_folder_of_results(tmp_path, kind):
    path = tmp_path / "results"
    if kind == "a file":
        path.write_text("")
    code, _, err = run_report(path)
    assert code == 2
    assert f"no folder {path}" in err and "--results_dir" in err and err.count("\n") == 1
