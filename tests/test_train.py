"""Training: an interrupted run equals an unbroken one, a finished one is left alone, and nothing is lost on the way."""

import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from script_runs import contents, rows, same_contents

import earlier_runs
import generate_episode
import train as script
from common import plain_files, run_loop
from common.command_line import run_script
from common.run_loop import claimed

TINY = ["--episode_type", "ME", "--emb_size", "6", "--cpu"]
OF_THE_COMMAND = {"seconds", "sittings", "dir_model", "fn_out_model", "num_episodes", "overwrite"}  # need not be alike


@pytest.fixture
def train(data_dir, tmp_path, monkeypatch, capsys):
    """Run train.py in this process; gives its exit code and what it printed.

    A signal sent to the tests as a whole ends them: a training notices signals only where a test sends it one.
    """

    def run(*arguments, save_every=1000, stop_after=None, stopped_by=None, named=False, lock_step=False):
        command = ["train.py", *TINY, "--data_dir", str(data_dir), "--dir_model", str(tmp_path / "models"), *arguments]
        if not named and "--fn_out_model" not in arguments:
            types = [value for flag, value in itertools.pairwise(command) if flag == "--episode_type"]
            command += ["--fn_out_model", f"net_{types[-1]}.tar"]
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as caught:
            patched.setattr(sys, "argv", command)
            patched.setattr(script, "SAVE_EVERY", save_every)
            patched.setattr(run_loop, "STOPPING", [stopped_by] if stopped_by else [])
            if stop_after is not None:
                patched.setattr(script.Training, "step", interrupted_at(stop_after, stopped_by))
            if lock_step:  # as on a GPU
                for module in (script, earlier_runs):
                    patched.setattr(module, "trains_in_lock_step", lambda device: True)
            run_script(script.main)
        printed = capsys.readouterr()
        return caught.value.code, printed.out, printed.err

    return run


def interrupted_at(episode, number):
    """Make a signal arrive within the step after an episode, or without a number an exception that nothing puts off."""
    step, sent = script.Training.step, []

    def stop_and_step(self):
        if self.done == episode and not sent:
            sent.append(number)
            if number is None:
                raise KeyboardInterrupt
            os.kill(os.getpid(), number)
        step(self)

    return stop_and_step


def load(tmp_path, name):
    return torch.load(tmp_path / f"models/{name}.tar")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("episode_type", "stop_after", "number", "schedule"),
    [  # every pair of a type, a way to be stopped, and a schedule; checkpoints are at 1, 5 and 10
        ("ME", 7, None, ["5"]),
        ("scan_around_right", 7, None, ["4", "--keep_moments"]),
        ("scan_around_right", 3, signal.SIGINT, ["5"]),
        ("ME", 3, signal.SIGHUP, ["4", "--keep_moments"]),
        ("ME", 13, signal.SIGTERM, ["5"]),
        ("scan_around_right", 13, signal.SIGUSR1, ["4", "--keep_moments"]),
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(train, tmp_path, episode_type, stop_after, number, schedule):
    """Stopped at any episode and started again by the same command, a run ends bit for bit as if never stopped.

    A signal waits for the end of the episode and has the run saved; torn out of it (no number), a run loses what it did
    since its last checkpoint.
    """
    run = ["--episode_type", episode_type, "--num_episodes", "15", "--lr_decay_schedule", *schedule]
    assert train(*run, "--fn_out_model", "whole.tar", save_every=5)[0] == 0
    broken = [*run, "--fn_out_model", "broken.tar"]
    code, _, error = train(*broken, save_every=5, stop_after=stop_after, stopped_by=number)
    assert (code, error.count("\n")) == (130, 1)
    resumed_from = stop_after + 1 if number else stop_after // 5 * 5
    assert f"resumes from episode {resumed_from}" in error
    code, printed, error = train(*broken, save_every=5)
    assert (code, error) == (0, "")
    assert f"resuming from episode {resumed_from}" in printed
    assert same_contents(load(tmp_path, "whole"), load(tmp_path, "broken"), OF_THE_COMMAND)
    assert rows(tmp_path / "models/broken.csv") == rows(tmp_path / "models/whole.csv")
    assert [one["from"] for one in load(tmp_path, "broken")["sittings"]] == [0, resumed_from]


@pytest.mark.slow
@pytest.mark.parametrize("drop", ["100", "104"])
def test_an_extended_run_equals_a_longer_one(train, tmp_path, drop):
    """More --num_episodes extend a finished run, with the same drops; the last line out of turn leaves no trace."""
    drop = ["--lr_decay_schedule", drop]
    assert train("--num_episodes", "120", "--fn_out_model", "long.tar", *drop)[0] == 0
    assert train("--num_episodes", "104", "--fn_out_model", "short.tar", *drop)[0] == 0
    rates = {row["episode"]: float(row["lr"]) for row in rows(tmp_path / "models/short.csv")}
    assert rates == pytest.approx({"1": 1e-3, "100": 1e-3, "104": 1e-4 if drop[1] == "100" else 1e-3})
    assert train("--num_episodes", "120", "--fn_out_model", "short.tar", *drop)[0] == 0
    assert rows(tmp_path / "models/long.csv") == rows(tmp_path / "models/short.csv")
    assert same_contents(load(tmp_path, "long"), load(tmp_path, "short"), OF_THE_COMMAND)


def test_a_finished_run_is_not_trained_again(train, tmp_path, monkeypatch):
    """The script says so, also where no file can be locked, and leaves every file as it is."""
    assert train("--num_episodes", "2")[0] == 0
    before = contents(tmp_path / "models")
    opened = Path.open
    for refused in ((), ("ab",)):

        def guarded(path, mode="r", refused=refused, **named):
            if mode in refused:
                raise PermissionError(13, "Permission denied")
            return opened(path, mode, **named)

        monkeypatch.setattr(Path, "open", guarded)
        code, printed, _ = train("--num_episodes", "2")
        assert (code, "finished" in printed, "ValAccGeneralize: 0.0" in printed) == (0, True, True)
    monkeypatch.undo()
    assert contents(tmp_path / "models") == before


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("seed", "2"),
        ("lr", "0.1"),
        ("emb_size", "7"),
        ("dropout", "0"),
        ("keep_moments", None),
        ("mask_padding", None),
        ("episode_type", "scan_length"),
    ],
)
def test_other_arguments_do_not_resume_a_checkpoint(train, tmp_path, name, argument):
    """An argument that changes the result must agree with the checkpoint's; the message names it."""
    assert train("--num_episodes", "1", "--fn_out_model", "net.tar")[0] == 0
    before = contents(tmp_path / "models")
    given = [f"--{name}"] + ([argument] if argument else [])
    code, _, error = train("--num_episodes", "3", "--fn_out_model", "net.tar", *given)
    assert (code, error.count("\n"), f"--{name}" in error) == (2, 1, True)
    assert contents(tmp_path / "models") == before


def change(tmp_path, edit):
    """Rewrite a checkpoint."""
    path = tmp_path / "models/net_ME.tar"
    torch.save(edit(torch.load(path)), path)


def without(saved, *names):
    return {name: value for name, value in saved.items() if name not in names}


def test_a_checkpoint_resumes_though_the_command_has_new_flags(train, tmp_path):
    """An argument that a file does not have counts as the flag's default, so files outlive new flags."""
    assert train("--num_episodes", "1")[0] == 0
    names = "mask_padding", "lr", "lr_decay_schedule"
    change(tmp_path, lambda saved: saved | {"arguments": without(saved["arguments"], *names)})
    code, _, error = train("--num_episodes", "2", "--mask_padding")
    assert (code, "--mask_padding False (now True)" in error) == (2, True)
    assert train("--num_episodes", "2")[0] == 0
    assert load(tmp_path, "net_ME")["episode"] == 2


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda saved: saved | {"input_words": saved["input_words"][::-1]}, "vocabulary"),
        (lambda saved: without(saved, "adam_state"), "without what resuming its training takes"),
        (lambda saved: without(saved, "seconds"), "cannot be trained further"),
        (lambda saved: saved | {"adam_state": {}}, "cannot be trained further"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(train, tmp_path, edit, said):
    """One whose words stand in another order would be scrambled; one without Adam's state would train otherwise."""
    assert train("--num_episodes", "1")[0] == 0
    change(tmp_path, edit)
    before = contents(tmp_path / "models")
    code, _, error = train("--num_episodes", "2")
    assert (code, error.count("\n"), said in error) == (2, 1, True)
    assert contents(tmp_path / "models") == before


@pytest.mark.slow
def test_device_and_folders_may_differ_when_a_run_resumes(train, tmp_path):
    """A run may be moved, given other threads, and have its data elsewhere; other threads are said in a line."""
    run = ["--episode_type", "scan_around_right"]
    assert train("--num_episodes", "2", *run)[0] == 0
    shutil.move(tmp_path / "models", tmp_path / "moved")
    moved = ["--dir_model", str(tmp_path / "moved"), "--data_dir", str(tmp_path / "elsewhere")]
    threads = torch.get_num_threads()
    more = ["--threads", "2"] if len(os.sched_getaffinity(0)) > 1 else []
    try:
        code, printed, _ = train("--num_episodes", "4", *run, *moved, *more)
    finally:
        torch.set_num_threads(threads)
    assert code == 0
    assert "resuming from episode 2" in printed
    assert ("note: device was CPU (1 thread(s)) before, and is CPU (2 thread(s)) now" in printed) == bool(more)


def test_retrieval_is_not_available_without_the_support_loss(train, tmp_path):
    """Without support items among the queries the log says n/a and the curve leaves the cell empty."""
    code, printed, _ = train("--num_episodes", "1", "--disable_recon_loss")
    assert code == 0
    assert "ValAccRetrieval: n/a" in printed
    (row,) = rows(tmp_path / "models/net_ME.csv")
    assert row["retrieval"] == ""
    assert math.isfinite(float(row["train_loss"]))


def test_no_time_is_foretold_before_there_is_anything_to_judge_by(train):
    """The first line, which follows start-up and one episode, leaves the time that is left open."""
    _, printed, _ = train("--num_episodes", "2")
    assert [line.split("(")[1].split(")")[0] for line in printed.splitlines()[1:]] == ["- ?", "- 0m 0s"]


def test_training_never_draws_a_validation_mapping(train, monkeypatch):
    """The mappings of the validation episodes are handed to the sampler as excluded, every time."""
    seen = []
    draw = generate_episode.EpisodeSampler.training_episode

    def spy(self, rng, excluded):
        seen.append(set(excluded))
        return draw(self, rng, excluded)

    monkeypatch.setattr(generate_episode.EpisodeSampler, "training_episode", spy)
    assert train("--num_episodes", "3")[0] == 0
    assert [len(excluded) for excluded in seen] == [5, 5, 5]


@pytest.mark.parametrize(
    "flags",
    [["--mask_padding", "--disable_memory"], ["--dropout", "0.25", "--nlayers", "1", "--disable_attention"]],
)
def test_the_network_is_made_as_asked(train, tmp_path, flags):
    """Every flag of the model arrives in the checkpoint's configuration, and each variant trains and validates."""
    assert train("--num_episodes", "1", *flags)[0] == 0
    given = dict.fromkeys([flag[2:] for flag in flags if flag.startswith("--")], True)
    if "dropout" in given:
        given |= {"dropout": 0.25, "nlayers": 1}
    sizes = {"emb_size": 6, "dropout": 0.5, "nlayers": 2, "padded_length": 7, "input_size": 6, "output_size": 6}
    switches = {"mask_padding": False, "disable_memory": False, "disable_attention": False}
    assert load(tmp_path, "net_ME")["model_config"] == sizes | switches | given


def test_a_diverged_run_ends_with_advice(train):
    """A loss that is no number any more is an error that names --lr, not a result."""
    code, _, error = train("--num_episodes", "300", "--lr", "1e38")
    assert (code, error.count("\n"), "--lr" in error) == (2, 1, True)


def no_space(path, saved):
    raise OSError(28, "No space left on device", str(path))


def no_step(self):
    raise run_loop.UserError("no item fits")


@pytest.mark.parametrize("fault", ["the curve is a folder", "no space", "no first step"])
def test_overwriting_loses_nothing_if_the_new_run_cannot_begin(train, tmp_path, monkeypatch, fault):
    """The old network and its curve go only once the new run has taken a step and saved it."""
    assert train("--num_episodes", "2")[0] == 0
    curve = tmp_path / "models/net_ME.csv"
    if fault == "the curve is a folder":
        curve.unlink()
        curve.mkdir()
    elif fault == "no space":
        monkeypatch.setattr("checkpoint.save_plain", no_space)
    else:
        monkeypatch.setattr(script.Training, "step", no_step)
    before = contents(tmp_path / "models")
    code, _, error = train("--num_episodes", "2", "--overwrite")
    assert (code, error.count("\n")) == (2, 1)
    assert contents(tmp_path / "models") == before


def test_interrupted_overwriting_says_to_leave_the_flag_out(train, tmp_path):
    """Typing the very same command would start anew."""
    assert train("--num_episodes", "2")[0] == 0
    _, _, error = train("--num_episodes", "9", "--seed", "2", "--overwrite", stop_after=2)
    assert "without --overwrite" in error
    assert load(tmp_path, "net_ME")["arguments"]["seed"] == 2


NAMES = {  # of the checkpoint, by the command
    "--emb_size 200": "net_ME.tar",
    "--emb_size 200 --seed 2 --lr_decay_schedule 7500": "net_ME_lr_decay_schedule7500_seed2.tar",
    "--keep_moments --num_episodes 3 --overwrite": "net_ME_keep_moments_emb_size6.tar",
    "--episode_type scan_around_right --extra_directions 20": "net_scan_around_right_extra_directions20_emb_size6.tar",
    "--episode_type scan_around_right --extra_directions 2": "net_scan_around_right_emb_size6.tar",
    "--episode_type scan_around_right --extra_directions 0": "net_scan_around_right_extra_directions0_emb_size6.tar",
    "--seed 0": "net_ME_seed0_emb_size6.tar",
    "--episode_type standard_length --disable_memory": "net_standard_length_emb_size6.tar",
    "--fn_out_model net_{seed}_a.tar --seed 3": "net_3_a.tar",
}


@pytest.mark.parametrize("command", NAMES)
def test_the_name_tells_what_is_not_the_default(command):
    """So a second command does not meet the first one's network; how long and where a run goes is not in the name."""
    parser = script.make_parser()
    args = parser.parse_args([*TINY, "--num_episodes", "1", "--max_length_eval", "50", *command.split()])
    assert script.complete(args, args.seed, parser).fn_out_model == NAMES[command]


def test_several_seeds_leave_what_each_alone_leaves(train, tmp_path):
    """On a CPU they are trained one after the other, bit for bit as by themselves."""
    run = ["--num_episodes", "4", "--dropout", "0.5"]
    for seed in ("1", "2"):
        assert train(*run, "--seed", seed, "--fn_out_model", "alone{seed}.tar")[0] == 0
    code, printed, _ = train(*run, "--seeds", "1,2", "--fn_out_model", "both{seed}.tar")
    assert (code, printed.count("finished)")) == (0, 4)
    for seed in (1, 2):
        assert same_contents(load(tmp_path, f"alone{seed}"), load(tmp_path, f"both{seed}"), OF_THE_COMMAND)
        assert rows(tmp_path / f"models/alone{seed}.csv") == rows(tmp_path / f"models/both{seed}.csv")


def test_a_refused_seed_stops_all_before_any_is_trained(train, tmp_path):
    """Nothing is written if one of the seeds cannot resume."""
    assert train("--num_episodes", "1", "--seed", "2", "--lr", "0.5", "--fn_out_model", "net2.tar")[0] == 0
    before = contents(tmp_path / "models")
    code, _, error = train("--num_episodes", "2", "--seeds", "1,2", "--fn_out_model", "net{seed}.tar")
    assert (code, error.count("\n"), "net2.tar" in error) == (2, 1, True)
    assert contents(tmp_path / "models") == before


def nearly_same(one, other, skipped):
    """Compare what two checkpoints hold; numbers may differ by rounding, random states are left out."""
    if isinstance(one, torch.Tensor) and one.is_floating_point():
        return torch.allclose(one, other, rtol=0, atol=2e-5)
    if isinstance(one, dict):
        return one.keys() - skipped == other.keys() - skipped and all(
            nearly_same(one[key], other[key], skipped) for key in one.keys() - skipped
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(nearly_same(*pair, skipped) for pair in zip(one, other, strict=True))
    if isinstance(one, float):
        return one == pytest.approx(other, abs=1e-5)
    return same_contents(one, other, skipped)


@pytest.mark.parametrize("stop_after", [None, 3, 7])
def test_in_lock_step_each_seed_leaves_what_it_leaves_alone(train, tmp_path, stop_after):
    """Without dropout, which has one stream for all: checkpoints and curves, stopped on the way or not.

    The rate drops at 3 and 6. A run that was trained among others can resume alone.
    """
    run = ["--num_episodes", "8", "--dropout", "0", "--lr_decay_schedule", "3"]
    together = ["--seeds", "1,2", "--fn_out_model", "both{seed}.tar"]
    for seed in ("1", "2"):
        assert train(*run, "--seed", seed, "--fn_out_model", "alone{seed}.tar")[0] == 0
    if stop_after:
        code, _, error = train(*run, *together, save_every=5, stop_after=stop_after, lock_step=True)
        assert (code, f"resumes from episode {max(1, stop_after // 5 * 5)}" in error) == (130, True)
    code, printed, _ = train(*run, *together, save_every=5, lock_step=True)
    assert code == 0
    assert all(f"seed {seed}: " in printed for seed in (1, 2))
    skipped = OF_THE_COMMAND | {"random_states", "dropout_stream_of_seeds"}
    for seed in (1, 2):
        one, other = load(tmp_path, f"alone{seed}"), load(tmp_path, f"both{seed}")
        assert other["dropout_stream_of_seeds"] == [1, 2]
        assert nearly_same(one, other, skipped)
        assert all(weight.untyped_storage().nbytes() == weight.nbytes for weight in other["model_state"].values())
        curves = [rows(tmp_path / f"models/{name}{seed}.csv") for name in ("alone", "both")]
        numbers = [[{name: float(value) for name, value in row.items()} for row in curve] for curve in curves]
        assert numbers[0] == [pytest.approx(row, abs=1e-5) for row in numbers[1]]
    longer = [*run[2:], "--num_episodes", "9", "--seed", "2"]
    assert train(*longer, "--fn_out_model", "both{seed}.tar")[0] == 0
    assert train(*longer, "--fn_out_model", "alone{seed}.tar")[0] == 0
    assert nearly_same(load(tmp_path, "alone2"), load(tmp_path, "both2"), skipped)
    assert load(tmp_path, "both2")["dropout_stream_of_seeds"] == [1, 2]  # what was shared stays on record


def test_in_lock_step_only_seeds_that_came_equally_far_go_together(train, tmp_path):
    """A finished seed is left alone, a new one starts, and one that was stopped resumes."""
    run = ["--fn_out_model", "net{seed}.tar", "--emb_size", "4"]
    assert train(*run, "--num_episodes", "3", "--seed", "1")[0] == 0
    assert train(*run, "--num_episodes", "2", "--seed", "2")[0] == 0
    code, printed, _ = train(*run, "--num_episodes", "3", "--seeds", "1,2,3,4", lock_step=True)
    assert code == 0
    assert "net1.tar is finished" in printed
    assert "seed 3: " in printed and "seed 4: " in printed
    assert "seed 2: " not in printed  # it was alone, with a lock step of its own
    assert [load(tmp_path, f"net{seed}")["episode"] for seed in (1, 2, 3, 4)] == [3] * 4


def test_overwriting_several_seeds_leaves_no_old_network_to_resume(train, tmp_path):
    """Interrupted in the first, the same command without --overwrite trains all of them anew."""
    run = ["--num_episodes", "3", "--seeds", "1,2", "--fn_out_model", "net{seed}.tar"]
    assert train(*run)[0] == 0
    code, _, error = train(*run, "--overwrite", stop_after=1)
    assert (code, "without --overwrite" in error) == (130, True)
    assert [torch.load(path)["episode"] for path in (tmp_path / "models").glob("*.tar")] == [1]
    code, printed, _ = train(*run)
    assert (code, printed.count("is finished")) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_all_runs_are_saved(train, tmp_path, number):
    """Runs in lock step are saved at the same episode, so that they can resume together."""
    run = ["--num_episodes", "8", "--seeds", "1,2,3", "--fn_out_model", "net{seed}.tar"]
    code, _, error = train(*run, save_every=5, stop_after=3, stopped_by=number, lock_step=True)
    assert (code, "resumes from episode 4" in error) == (130, True)
    assert [load(tmp_path, f"net{seed}")["episode"] for seed in (1, 2, 3)] == [4] * 3


@pytest.mark.parametrize(("number", "saved"), [(signal.SIGINT, 1), (signal.SIGTERM, 4)])
def test_only_a_second_ctrl_c_ends_at_once(train, tmp_path, monkeypatch, number, saved):
    """A scheduler may signal again while the last step is saved; that changes nothing."""
    save, calls = plain_files.save_plain, []

    def signalled(path, saved):
        calls.append(path)
        if len(calls) > 2:  # the first two are after the first step
            os.kill(os.getpid(), number)
        save(path, saved)

    monkeypatch.setattr("checkpoint.save_plain", signalled)
    code, _, error = train("--num_episodes", "8", "--fn_out_model", "net.tar", stop_after=3, stopped_by=number)
    assert (code, f"resumes from episode {saved}" in error) == (130, True)
    assert load(tmp_path, "net")["episode"] == saved


@pytest.mark.slow
def test_a_closed_pipe_loses_nothing(tmp_path):
    """`train.py | head -2` saves the run at the episode whose line nobody reads any more."""
    command = (
        f"{sys.executable} train.py {' '.join(TINY)} --num_episodes 900 --dir_model {tmp_path / 'models'} | head -2"
    )
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=Path(script.__file__).parent)
    assert (done.stdout.count("finished)"), done.stderr) == (1, "")
    assert load(tmp_path, "net_ME_emb_size6")["episode"] in range(100, 900, 100)


def test_a_full_standard_output_loses_nothing(train, tmp_path, monkeypatch):
    """Whatever keeps a line from being printed, training stops when it has saved, and says why."""

    def failing(*texts, **named):
        if "(100 33% finished)" in str(texts[0]):
            raise OSError(28, "No space left on device")
        print(*texts, **named)

    monkeypatch.setattr(run_loop, "print", failing, raising=False)
    code, _, error = train("--num_episodes", "300")
    assert (code, "No space left on device" in error, load(tmp_path, "net_ME")["episode"]) == (2, True, 100)


def test_what_another_process_trains_is_left_alone(train, tmp_path):
    """A second run into the same checkpoint is refused before it has changed anything, also with other arguments."""
    run = ["--num_episodes", "2", "--fn_out_model", "net{seed}.tar"]
    with claimed([tmp_path / "models" / "net2.tar"], "try another"):
        for command in (["--seed", "2"], ["--seeds", "1,2"], ["--seed", "2", "--dropout", "0.1", "--overwrite"]):
            code, printed, error = train(*run, *command)
            assert (code, printed, error.count("\n")) == (2, "", 1)
            assert "another process is training" in error and "net2.tar" in error
        assert not list((tmp_path / "models").glob("*.tar"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models/.net1.tar.0123abcd.part").touch()  # of a process that was killed while saving
    assert train(*run, "--seeds", "1,2")[0] == 0
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "net1.csv", "net1.tar", "net2.csv", "net2.tar",
    ]  # fmt: skip


@pytest.mark.parametrize("lock_step", [False, True])
def test_finished_runs_need_no_data(train, tmp_path, lock_step):
    """The same command with an empty --data_dir says of each seed that it is finished, and writes no SCAN files."""
    run = ["--num_episodes", "1", "--episode_type", "scan_around_right", "--seeds", "1,2"]
    run += ["--fn_out_model", "net{seed}.tar"]
    assert train(*run, lock_step=lock_step)[0] == 0
    code, printed, _ = train(*run, "--data_dir", str(tmp_path / "no"), lock_step=lock_step)
    assert (code, printed.count("is finished"), (tmp_path / "no").exists()) == (0, 2, False)
