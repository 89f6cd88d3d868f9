"""A short time on a GPU, tried out on the CPU: what is fastest is trained in time, and a later call goes on."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import assert_one_line, contents, run_file

import biml.gpu
import biml.steps
from biml.network_file import load_network
from common.session import PACKING_SECONDS, Session

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the script; gives what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--cpu", *map(str, arguments)])
        biml.gpu.main()
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_two_calls_train_and_evaluate_a_network(call, tmp_path, monkeypatch):
    """All parts work at a tiny size; what is worth keeping is all that a call elsewhere goes on from."""
    monkeypatch.setattr(biml.gpu, "PIECE", 2**18)
    monkeypatch.setattr(biml.gpu, "EPOCHS", 3)
    one, other = tmp_path / "one", tmp_path / "other"
    printed = call("--out", one, "--minutes", 9, "--data_dir", tmp_path)
    assert "float32: losses differ from the CPU's by up to 0.0e+00: right" in printed
    assert "few-shot queries right" in printed and "people's answers are left out" in printed
    assert printed == (one / "log.txt").read_text()
    kept = {path.name for path in one.iterdir() if path.is_file()}
    assert {"net_BIML.tar.0", "net_BIML.tar.1", "net_BIML_weights.tar", "net_BIML.csv", "plan.json"} < kept
    assert len(kept) <= 8
    assert json.loads((one / "gold.json").read_text())["epoch"] == 3
    # The call was stopped before its last epoch, say: the plan is of one more.
    whole = torch.load(one / "work" / "net_BIML.tar", weights_only=True)
    plan = json.loads((one / "plan.json").read_text())
    assert whole["epoch"] == plan["epochs"] == 3
    torch.save({**whole, "epoch": 2, "step": whole["step"] * 2 // 3}, tmp_path / "shorter.tar")
    other.mkdir()
    for name in kept - {"net_BIML.tar.0", "net_BIML.tar.1"}:
        (other / name).write_bytes((one / name).read_bytes())
    shorter = (tmp_path / "shorter.tar").read_bytes()
    for number in range(2):
        (other / f"net_BIML.tar.{number}").write_bytes(shorter[number * 2**18 :][: None if number else 2**18])
    printed = call("--out", other, "--minutes", 9, "--data_dir", tmp_path, "--parts", "train")
    assert "going on from step 6" in printed and "biml.steps" not in printed
    assert load_network(other / "net_BIML_weights.tar", CPU).epoch == 3


@pytest.fixture
def lease(tmp_path, monkeypatch):
    """A call whose commands are only taken down, with results that the test makes up."""
    begun, results = [], {}

    def run(self, arguments, seconds):
        begun.append((arguments, seconds))
        path = Path(arguments[arguments.index("--fn_out_results") + 1]) if "--fn_out_results" in arguments else None
        found = results.get(path.stem if path else arguments[1])
        if found is None:
            return None
        if path:
            path.write_text(json.dumps(found))
        return 1.0

    monkeypatch.setattr(Session, "run", run)
    monkeypatch.setattr(biml.gpu, "load_random", lambda *_: argparse.Namespace(num_support=np.zeros(100_000)))

    def make(minutes=9.0, more_minutes=0.0):
        given = {"out": tmp_path, "work": None, "data_dir": tmp_path, "gpu": 0, "cpu": False, "commit": None}
        args = argparse.Namespace(minutes=minutes, more_minutes=more_minutes, **given)
        made = biml.gpu.Lease(args, Session(args, sys.stderr))
        made.work.mkdir(exist_ok=True)
        return made

    return make, begun, results


def steps(milliseconds, last=2.0):
    return {"milliseconds": milliseconds, "validation_milliseconds": 0.0, "losses": [2.2] * 150 + [last] * 60}


@pytest.mark.parametrize(
    ("measured", "chosen"),
    [
        ({"float32": steps(20), "bf16": steps(9), "bf16+compile": steps(6)}, "bf16+compile"),
        ({"float32": steps(20), "bf16": steps(9), "bf16+compile": steps(6, last=1.8)}, "bf16"),
        ({"float32": steps(20), "bf16": None, "bf16+compile": None}, "float32"),
        ({"float32": None, "bf16": steps(9), "bf16+compile": steps(10)}, "bf16"),
    ],
)
def test_the_fastest_setting_that_is_right_is_chosen(lease, measured, chosen):
    """Other losses at the end than in float32 are wrong, and so is a setting that failed."""
    make, _, results = lease
    results.update({f"steps_{name}": found for name, found in measured.items()})
    one = make()
    one.bench()
    assert one.plan["setting"] == chosen


@pytest.mark.parametrize(("minutes", "more_minutes"), [(9.0, 0.0), (9.0, 5.0), (2.0, 0.0), (600.0, 0.0), (2.0, 9.0)])
def test_the_schedule_fits_into_the_time(lease, minutes, more_minutes):
    """With what is kept for the evaluation and the end of each call; at most the paper's epochs, at least 2."""
    make, _, results = lease
    results["steps_float32"] = steps(5.0)
    one = make(minutes, more_minutes)
    one.bench()
    kept = biml.gpu.EVAL_SECONDS + biml.gpu.START_SECONDS
    free = [60 * minutes - PACKING_SECONDS - kept - 0.5, 60 * more_minutes - PACKING_SECONDS - kept]
    epoch = 100_000 / 25 * 5.0e-3 * biml.gpu.SPARE
    expected = sum(int(max(seconds, 0) / epoch) for seconds in free)
    assert one.plan["epochs"] == min(max(expected, 2), 50)


def test_a_later_call_keeps_to_the_plan(lease):
    """Its rates would not be those of one run otherwise; a second bench changes nothing where there is a checkpoint."""
    make, begun, results = lease
    results.update({"steps_float32": steps(20), "steps_bf16+compile": steps(6), "biml.train": True})
    make(9.0, 5.0).bench()
    one = make(5.0)
    plan = one.plan
    one.checkpoint.write_bytes(b"network")
    one.bench()
    assert {name: one.plan[name] for name in ("setting", "epochs")} == {
        name: plan[name] for name in ("setting", "epochs")
    }
    one.train()
    command, seconds = begun[-1]
    assert command[command.index("--nepochs") + 1] == str(plan["epochs"])
    assert {"--bf16", "--compile", "--save_weights"} <= {*command}
    assert 60 * float(command[command.index("--minutes") + 1]) < seconds <= one.session.left - biml.gpu.EVAL_SECONDS + 1


@pytest.mark.parametrize("wrong", ["missing", "other"])
def test_nothing_is_trained_where_float32_is_wrong(lease, wrong):
    """Losses off by a hundredth, or a check that failed; the difference is written down."""
    make, _, results = lease
    results["steps_cpu"] = results["steps_check_bf16"] = {"losses": [2.0, 1.9]}
    one = make()
    if wrong == "other":
        results["steps_check_float32"] = {"losses": [2.0, 1.8]}
    assert not one.check()
    assert ("float32" in one.plan["difference_from_cpu"]) == (wrong == "other")
    results["steps_check_float32"] = {"losses": [2.0, 1.9001]}
    assert one.check()


@pytest.mark.parametrize(("gold", "human", "said"), [(84.9, -529.6, "not reached"), (85.0, -529.5, ": reached")])
def test_the_verdict_is_that_which_was_fixed_beforehand(lease, capsys, tmp_path, gold, human, said):
    """At least 85 % of the queries, and likelier than -529.56 nats."""
    make, _, results = lease
    results.update({"gold": {"max": {"novel": gold}}, "human": {"ll": {"total": human}}})
    one = make()
    one.checkpoint.write_bytes(b"network")
    (tmp_path / "data_human").mkdir()
    one.evaluate()
    assert capsys.readouterr().out.count(said) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_begun(tmp_path):
    """One line says that there is none; nor is anything mixed up with other files."""
    script = ROOT / "biml" / "gpu.py"
    assert_one_line(run_file(script, "--out", tmp_path / "out"), "gpu.py", "no usable GPU")
    (tmp_path / "file").touch()
    assert_one_line(run_file(script, "--cpu", "--out", tmp_path), "gpu.py", "name another folder")
    assert [*contents(tmp_path)] == ["file"]


def test_steps_beyond_the_schedule_are_refused(tmp_path):
    """There is no learning rate for them."""
    sizes = "--primitives 1 --functions 1 --longest_input 2 --num_support 1 --num_query 1 --num_train 4 --num_val 1"
    drawn = run_file(ROOT / "biml" / "generate.py", *sizes.split(), "--dir_out", tmp_path / "data_algebraic")
    assert drawn.code == 0, drawn.err
    given = "--cpu --episode_type algebraic --emb_size 8 --nepochs 1 --warm_up 1 --steps 400 --no_validation"
    outcome = run_file(ROOT / "biml" / "steps.py", "--data_dir", tmp_path, *given.split())
    assert_one_line(outcome, "steps.py", "1 and 400 steps", "--nepochs 1 has")


@pytest.mark.parametrize(
    ("options", "said"),
    [("--steps 0", "--steps"), ("--lr 0", "--lr"), ("--minutes", "--minutes"), ("--episode_type x", "--episode_type")],
)
def test_a_mistake_in_timing_steps_is_one_line(tmp_path, options, said):
    """Its own options and those of training."""
    outcome = run_file(ROOT / "biml" / "steps.py", "--fn_out_results", tmp_path / "x.json", *options.split())
    assert outcome.code == 2 and said in outcome.err and outcome.err.count("\n") == 1
