"""Training: an interrupted run equals an unbroken one, and a finished one is left alone."""

import itertools
import math
import os
import runpy
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from script_runs import rows, same_contents

import generate_episode
from common import plain_files
from common.run_loop import claimed

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--episode_type", "ME", "--emb_size", "6", "--cpu"]
OF_THE_COMMAND = {"seconds", "dir_model", "fn_out_model", "num_episodes", "overwrite"}  # need not be alike


@pytest.fixture
def train(data_dir, tmp_path, monkeypatch, capsys):
    """Run train.py in this process; gives its exit code and what it printed."""

    def run(*arguments, save_every=None, stop_after=None, stopped_by=None, named=False, lock_step=False):
        namespace = runpy.run_path(str(ROOT / "train.py"), run_name="train_under_test")
        globals_of = namespace["main"].__globals__
        if save_every:
            globals_of["SAVE_EVERY"] = save_every
        if stop_after:
            interrupt(namespace["Training"], stop_after, stopped_by)
        if lock_step:  # as on a GPU
            globals_of["in_lock_step"] = lambda device: True
        command = ["train.py", *TINY, "--data_dir", str(data_dir), "--dir_model", str(tmp_path / "models"), *arguments]
        if not named and "--fn_out_model" not in arguments:
            types = [value for flag, value in itertools.pairwise(command) if flag == "--episode_type"]
            command += ["--fn_out_model", f"net_{types[-1]}.tar"]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as caught:
            globals_of["run_script"](namespace["main"])
        printed = capsys.readouterr()
        return caught.value.code, printed.out, printed.err

    return run


def interrupt(training, episode, number=None):
    """Make a signal arrive while the next episode is drawn, or without a number an exception that nothing puts off."""
    draw, sent = training.draw, []

    def stop_or_draw(self):
        if self.episode == episode:
            if number is None:
                raise KeyboardInterrupt
            if not sent:
                sent.append(number)
                os.kill(os.getpid(), number)
        return draw(self)

    training.draw = stop_or_draw


@pytest.fixture(scope="module")
def unbroken():
    """What runs leave that are never stopped: checkpoint and curve, by episode type and schedule."""
    return {}


STOPS = [(3, None), (14, None), (3, signal.SIGINT), (9, signal.SIGINT), (14, signal.SIGTERM)]


@pytest.mark.slow
@pytest.mark.parametrize("episode_type", ["ME", "scan_around_right"])
@pytest.mark.parametrize(("stop_after", "number"), STOPS)
@pytest.mark.parametrize("schedule", [["4"], ["5"], ["6"], ["5", "--keep_moments"]], ids=" ".join)
def test_interrupted_and_resumed_equals_uninterrupted(
    train, tmp_path, unbroken, episode_type, stop_after, number, schedule
):
    """Stopped at any episode and started again by the same command, a run ends bit for bit as if never stopped.

    A signal waits for the end of the episode and has the run saved; torn out of it (no number), a run loses what it did
    since its last checkpoint, at 0, 5 or 10. The learning rate drops before, at and after such an episode.
    """
    run = ["--episode_type", episode_type, "--num_episodes", "15", "--lr_decay_schedule", *schedule]
    key = (episode_type, *schedule)
    if key not in unbroken:
        assert train(*run, "--fn_out_model", "whole.tar", save_every=5)[0] == 0
        unbroken[key] = torch.load(tmp_path / "models/whole.tar"), rows(tmp_path / "models/whole.csv")
    stopped = {"save_every": 5, "stop_after": stop_after, "stopped_by": number}
    code, _, error = train(*run, "--fn_out_model", "broken.tar", **stopped)
    assert (code, error.count("\n")) == (130, 1)
    assert f"goes on from episode {stop_after + 1 if number else stop_after // 5 * 5}" in error
    assert train(*run, "--fn_out_model", "broken.tar", save_every=5)[::2] == (0, "")
    whole, whole_rows = unbroken[key]
    assert same_contents(whole, torch.load(tmp_path / "models/broken.tar"), OF_THE_COMMAND)
    assert rows(tmp_path / "models/broken.csv") == whole_rows


@pytest.mark.slow
@pytest.mark.parametrize("drop", ["100", "104", "120"])
def test_an_extended_run_equals_a_longer_one(train, tmp_path, drop):
    """More --num_episodes go on from a finished run, with the same drops; the last line out of turn leaves no trace."""
    drop = ["--lr_decay_schedule", drop]
    assert train("--num_episodes", "130", "--fn_out_model", "long.tar", *drop)[0] == 0
    assert train("--num_episodes", "104", "--fn_out_model", "short.tar", *drop)[0] == 0
    assert [row["episode"] for row in rows(tmp_path / "models/short.csv")] == ["1", "100", "104"]
    assert train("--num_episodes", "130", "--fn_out_model", "short.tar", *drop)[0] == 0
    assert rows(tmp_path / "models/long.csv") == rows(tmp_path / "models/short.csv")
    assert same_contents(*(torch.load(tmp_path / f"models/{name}.tar") for name in ("long", "short")), OF_THE_COMMAND)


def test_a_finished_run_is_not_trained_again(train, tmp_path):
    """The script says so, prints the validation accuracy, and leaves every file as it is; --overwrite starts anew."""
    assert train("--num_episodes", "2")[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "models").iterdir()}
    code, printed, _ = train("--num_episodes", "2")
    assert code == 0
    assert "finished" in printed
    assert "ValAccGeneralize: 0.0" in printed
    assert {path.name: path.read_bytes() for path in (tmp_path / "models").iterdir()} == before
    assert train("--num_episodes", "2", "--seed", "2", "--overwrite")[0] == 0
    assert torch.load(tmp_path / "models/net_ME.tar")["arguments"]["seed"] == 2


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("seed", "2"),
        ("lr", "0.1"),
        ("emb_size", "7"),
        ("dropout", "0"),
        ("keep_moments", None),
        ("mask_padding", None),
        ("disable_memory", None),
        ("episode_type", "scan_length"),
    ],
)
def test_other_arguments_do_not_go_on_from_a_checkpoint(train, tmp_path, name, argument):
    """An argument that changes the result must agree with the checkpoint's; the message names it."""
    assert train("--num_episodes", "1", "--fn_out_model", "net.tar")[0] == 0
    before = (tmp_path / "models/net.tar").read_bytes()
    given = [f"--{name}"] + ([argument] if argument else [])
    code, _, error = train("--num_episodes", "3", "--fn_out_model", "net.tar", *given)
    assert (code, error.count("\n")) == (2, 1)
    assert f"--{name}" in error
    assert (tmp_path / "models/net.tar").read_bytes() == before


def without_arguments(path, names):
    """Rewrite a checkpoint as if the code that wrote it had not known some arguments."""
    saved = torch.load(path)
    kept = {name: value for name, value in saved["arguments"].items() if name not in names}
    torch.save(saved | {"arguments": kept}, path)


def test_a_checkpoint_goes_on_though_the_command_has_new_flags(train, tmp_path):
    """An argument that a file does not have counts as the flag's default, so files outlive new flags."""
    path = tmp_path / "models/net_ME.tar"
    assert train("--num_episodes", "1")[0] == 0
    without_arguments(path, ["mask_padding", "lr", "lr_decay_schedule"])
    code, _, error = train("--num_episodes", "2", "--mask_padding")
    assert (code, "--mask_padding False (now True)" in error) == (2, True)
    assert train("--num_episodes", "2")[0] == 0
    assert torch.load(path)["episode"] == 2


def test_a_checkpoint_from_before_keep_moments_goes_on_only_with_it(train, tmp_path):
    """Code that did not know the flag kept the moments; the message says so and what to type."""
    path = tmp_path / "models/net_ME.tar"
    assert train("--num_episodes", "1", "--keep_moments")[0] == 0
    without_arguments(path, ["keep_moments"])
    before = path.read_bytes()
    code, _, error = train("--num_episodes", "2")
    assert (code, error.count("\n")) == (2, 1)
    assert "moments kept" in error
    assert "--keep_moments" in error
    assert path.read_bytes() == before
    assert train("--num_episodes", "2", "--keep_moments")[0] == 0
    assert torch.load(path)["episode"] == 2


@pytest.mark.slow
def test_device_and_folders_may_differ_when_a_run_goes_on(train, tmp_path):
    """A run may be moved, given other threads, and have its data elsewhere."""
    assert train("--num_episodes", "2", "--episode_type", "scan_around_right")[0] == 0
    shutil.move(tmp_path / "models", tmp_path / "moved")
    moved = ["--dir_model", str(tmp_path / "moved"), "--data_dir", str(tmp_path / "elsewhere"), "--threads", "2"]
    threads = torch.get_num_threads()
    try:
        code, printed, _ = train("--num_episodes", "4", "--episode_type", "scan_around_right", *moved)
    finally:
        torch.set_num_threads(threads)
    assert code == 0
    assert "going on from episode 2" in printed


def test_retrieval_is_not_available_without_the_support_loss(train, tmp_path):
    """Without support items among the queries the log says n/a and the curve leaves the cell empty."""
    code, printed, _ = train("--num_episodes", "1", "--disable_recon_loss")
    assert code == 0
    assert "ValAccRetrieval: n/a" in printed
    (row,) = rows(tmp_path / "models/net_ME.csv")
    assert row["retrieval"] == ""
    assert math.isfinite(float(row["train_loss"]))


@pytest.mark.parametrize(
    "variant", [["--disable_memory"], ["--disable_attention"], ["--nlayers", "1"], ["--mask_padding"]]
)
def test_every_variant_trains(train, variant):
    """Each flag of the model runs through training and validation."""
    assert train("--num_episodes", "2", *variant)[0] == 0


def test_training_never_draws_a_validation_mapping(train, monkeypatch):
    """The mappings of the validation episodes are handed to the sampler as excluded, every time."""
    seen = []
    draw = generate_episode.EpisodeSampler.training_episode

    def spy(self, rng, excluded):
        seen.append(set(excluded))
        return draw(self, rng, excluded)

    monkeypatch.setattr(generate_episode.EpisodeSampler, "training_episode", spy)
    assert train("--num_episodes", "3")[0] == 0
    assert len(seen) == 3
    assert all(len(excluded) == 5 for excluded in seen)


def test_the_network_is_made_as_asked(train, tmp_path):
    """Every flag of the model arrives in the checkpoint's configuration."""
    flags = ["--dropout", "0.25", "--nlayers", "1", "--mask_padding", "--disable_memory", "--disable_attention"]
    assert train("--num_episodes", "1", *flags)[0] == 0
    config = torch.load(tmp_path / "models/net_ME.tar")["model_config"]
    expected = {"emb_size": 6, "dropout": 0.25, "nlayers": 1, "padded_length": 7, "input_size": 6, "output_size": 6}
    switches = {"mask_padding": True, "disable_memory": True, "disable_attention": True}
    assert config == expected | switches


@pytest.mark.slow
def test_the_curve_shows_the_learning_rate_of_its_episode(train, tmp_path):
    """The rate falls to a tenth after every lr_decay_schedule episodes, in the curve as in the optimizer."""
    assert train("--num_episodes", "201", "--lr_decay_schedule", "100")[0] == 0
    rates = {row["episode"]: float(row["lr"]) for row in rows(tmp_path / "models/net_ME.csv")}
    assert rates == pytest.approx({"1": 1e-3, "100": 1e-3, "200": 1e-4, "201": 1e-5})


def test_a_diverged_run_ends_with_advice(train):
    """A loss that is no number any more is an error that names --lr, not a result."""
    code, _, error = train("--num_episodes", "300", "--lr", "1e38")
    assert (code, error.count("\n")) == (2, 1)
    assert "--lr" in error


def test_another_vocabulary_is_not_trained_further(train, tmp_path):
    """A checkpoint whose words stand in another order would be scrambled by going on."""
    assert train("--num_episodes", "1")[0] == 0
    path = tmp_path / "models/net_ME.tar"
    contents = torch.load(path)
    torch.save(contents | {"input_words": contents["input_words"][::-1]}, path)
    code, _, error = train("--num_episodes", "2")
    assert (code, error.count("\n")) == (2, 1)
    assert "vocabulary" in error


def test_a_finished_scan_run_needs_no_data(train, tmp_path):
    """The same command with an empty --data_dir says that it is finished and writes no SCAN files."""
    assert train("--num_episodes", "1", "--episode_type", "scan_around_right")[0] == 0
    code, printed, _ = train(
        "--num_episodes", "1", "--episode_type", "scan_around_right", "--data_dir", str(tmp_path / "no")
    )
    assert (code, "finished" in printed, (tmp_path / "no").exists()) == (0, True, False)


def test_overwriting_loses_nothing_if_the_run_cannot_start(train, tmp_path):
    """The old network and its curve go only once the new run can write."""
    assert train("--num_episodes", "1")[0] == 0
    (tmp_path / "models/net_ME.csv").unlink()
    (tmp_path / "models/net_ME.csv").mkdir()
    before = (tmp_path / "models/net_ME.tar").read_bytes()
    assert train("--num_episodes", "1", "--overwrite")[0] == 2
    assert (tmp_path / "models/net_ME.tar").read_bytes() == before


def test_a_new_run_that_cannot_be_saved_leaves_the_old_one_and_its_curve(train, tmp_path, monkeypatch):
    """Whether there is room is known before anything is replaced."""
    assert train("--num_episodes", "1")[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "models").iterdir()}
    assert len(before) == 2

    def save(path, contents):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("checkpoint.save_plain", save)
    code, _, error = train("--num_episodes", "2", "--overwrite")
    assert (code, error.count("\n"), "net_ME.tar: No space left" in error) == (2, 1, True)
    assert {path: path.read_bytes() for path in (tmp_path / "models").iterdir()} == before


def test_interrupted_overwriting_says_to_leave_the_flag_out(train):
    """Typing the very same command would start anew."""
    assert train("--num_episodes", "1")[0] == 0
    _, _, error = train("--num_episodes", "9", "--overwrite", stop_after=2)
    assert "without --overwrite" in error


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
def test_the_name_tells_what_is_not_the_default(train, tmp_path, command):
    """So a second command does not meet the first one's network; how long and where a run goes is not in the name."""
    arguments = ["--num_episodes", "1", "--max_length_eval", "50", *command.split()]
    assert train(*arguments, named=True)[0] == 0
    assert [path.name for path in (tmp_path / "models").glob("*.tar")] == [NAMES[command]]


def test_several_seeds_leave_what_each_alone_leaves(train, tmp_path):
    """On a CPU they are trained one after the other, bit for bit as by themselves."""
    run = ["--num_episodes", "4", "--dropout", "0.5"]
    for seed in ("1", "2"):
        assert train(*run, "--seed", seed, "--fn_out_model", "alone{seed}.tar")[0] == 0
    code, printed, _ = train(*run, "--seeds", "1,2", "--fn_out_model", "both{seed}.tar")
    assert (code, printed.count("finished)")) == (0, 4)
    for seed in (1, 2):
        one, other = (torch.load(tmp_path / f"models/{name}{seed}.tar") for name in ("alone", "both"))
        assert same_contents(one, other, OF_THE_COMMAND)
        assert rows(tmp_path / f"models/alone{seed}.csv") == rows(tmp_path / f"models/both{seed}.csv")


def test_a_refused_seed_stops_all_before_any_is_trained(train, tmp_path):
    """Nothing is written if one of the seeds cannot go on."""
    assert train("--num_episodes", "1", "--seed", "2", "--lr", "0.5", "--fn_out_model", "net2.tar")[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "models").iterdir()}
    code, _, error = train("--num_episodes", "2", "--seeds", "1,2", "--fn_out_model", "net{seed}.tar")
    assert (code, error.count("\n")) == (2, 1)
    assert "net2.tar" in error
    assert {path.name: path.read_bytes() for path in (tmp_path / "models").iterdir()} == before


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

    A checkpoint is at 5, the rate drops at 5 and 6. A run that went in company can go on alone.
    """
    run = ["--num_episodes", "8", "--dropout", "0", "--lr_decay_schedule", "3"]
    together = ["--seeds", "1,2,3", "--fn_out_model", "both{seed}.tar"]
    for seed in ("1", "2", "3"):
        assert train(*run, "--seed", seed, "--fn_out_model", "alone{seed}.tar")[0] == 0
    if stop_after:
        code, _, error = train(*run, *together, save_every=5, stop_after=stop_after, lock_step=True)
        assert (code, f"goes on from episode {stop_after // 5 * 5}" in error) == (130, True)
    code, printed, _ = train(*run, *together, save_every=5, lock_step=True)
    assert code == 0
    assert all(f"seed {seed}: " in printed for seed in (1, 2, 3))
    skipped = OF_THE_COMMAND | {"random_states", "dropout_stream_of_seeds"}
    for seed in (1, 2, 3):
        one, other = (torch.load(tmp_path / f"models/{name}{seed}.tar") for name in ("alone", "both"))
        assert other["dropout_stream_of_seeds"] == [1, 2, 3]
        assert nearly_same(one, other, skipped)
        curves = [rows(tmp_path / f"models/{name}{seed}.csv") for name in ("alone", "both")]
        for row, its_row in zip(*curves, strict=True):
            assert {name: float(value) for name, value in row.items()} == pytest.approx(
                {name: float(value) for name, value in its_row.items()}, abs=1e-5
            )
    longer = [*run[2:], "--num_episodes", "9", "--seed", "2"]
    assert train(*longer, "--fn_out_model", "both{seed}.tar")[0] == 0
    assert train(*longer, "--fn_out_model", "alone{seed}.tar")[0] == 0
    alone, in_company = (torch.load(tmp_path / f"models/{name}2.tar") for name in ("alone", "both"))
    assert nearly_same(alone, in_company, skipped)
    assert in_company["dropout_stream_of_seeds"] == [1, 2, 3]  # what was shared stays on record


def test_in_lock_step_only_seeds_that_came_equally_far_go_together(train, tmp_path):
    """A finished seed is left alone, a new one starts, and one that was stopped goes on."""
    run = ["--fn_out_model", "net{seed}.tar", "--emb_size", "4"]
    assert train(*run, "--num_episodes", "3", "--seed", "1")[0] == 0
    assert train(*run, "--num_episodes", "2", "--seed", "2")[0] == 0
    code, printed, _ = train(*run, "--num_episodes", "3", "--seeds", "1,2,3,4", lock_step=True)
    assert code == 0
    assert "net1.tar is finished" in printed
    assert "seed 3: " in printed and "seed 4: " in printed
    assert "seed 2: " not in printed  # it was alone, with a lock step of its own
    assert [torch.load(tmp_path / f"models/net{seed}.tar")["episode"] for seed in (1, 2, 3, 4)] == [3] * 4


def test_overwriting_several_seeds_leaves_no_old_network_to_go_on_from(train, tmp_path):
    """Interrupted in the first, the same command without --overwrite trains all of them anew."""
    run = ["--num_episodes", "3", "--seeds", "1,2", "--fn_out_model", "net{seed}.tar"]
    assert train(*run)[0] == 0
    code, _, error = train(*run, "--overwrite", stop_after=1)
    assert (code, "without --overwrite" in error) == (130, True)
    assert [torch.load(path)["episode"] for path in (tmp_path / "models").glob("*.tar")] == [0]
    code, printed, _ = train(*run)
    assert (code, printed.count("is finished")) == (0, 0)


def twice_told(save):
    """Make two signals arrive while a checkpoint is written."""

    def told(path, contents):
        save(path, contents)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    return told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_all_runs_are_saved(train, tmp_path, number):
    """Runs in lock step are saved at the same episode, so that they can go on together."""
    run = ["--num_episodes", "8", "--seeds", "1,2,3", "--fn_out_model", "net{seed}.tar"]
    code, _, error = train(*run, save_every=5, stop_after=3, stopped_by=number, lock_step=True)
    assert (code, "goes on from episode 4" in error) == (130, True)
    assert [torch.load(tmp_path / f"models/net{seed}.tar")["episode"] for seed in (1, 2, 3)] == [4] * 3


def test_a_second_signal_ends_at_once(train, tmp_path, monkeypatch):
    """Whoever cannot wait for the end of the episode gets away, and goes on from the last checkpoint."""
    run = ["--num_episodes", "8", "--fn_out_model", "net.tar"]
    monkeypatch.setattr("checkpoint.save_plain", twice_told(plain_files.save_plain))
    code, _, error = train(*run, save_every=5)
    assert (code, "goes on from episode 0" in error) == (130, True)


def test_what_another_process_trains_is_left_alone(train, tmp_path):
    """A second run into the same checkpoint is refused before it has changed anything, also with other arguments."""
    run = ["--num_episodes", "2", "--fn_out_model", "net{seed}.tar"]
    with claimed([tmp_path / "models" / "net2.tar"], "try another"):
        for command in (["--seed", "2"], ["--seeds", "1,2"], ["--seed", "2", "--dropout", "0.1", "--overwrite"]):
            code, printed, error = train(*run, *command)
            assert (code, printed, error.count("\n")) == (2, "", 1)
            assert "another process is training" in error and "net2.tar" in error
        assert not list((tmp_path / "models").glob("*.tar"))
    assert train(*run, "--seeds", "1,2")[0] == 0
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "net1.csv", "net1.tar", "net2.csv", "net2.tar",
    ]  # fmt: skip


def test_finished_seeds_need_no_data_in_lock_step_either(train, tmp_path):
    """The same command with an empty --data_dir says of each that it is finished, and writes no SCAN files."""
    run = ["--num_episodes", "1", "--episode_type", "scan_around_right", "--seeds", "1,2"]
    run += ["--fn_out_model", "net{seed}.tar"]
    assert train(*run, lock_step=True)[0] == 0
    code, printed, _ = train(*run, "--data_dir", str(tmp_path / "no"), lock_step=True)
    assert (code, printed.count("is finished"), (tmp_path / "no").exists()) == (0, 2, False)
