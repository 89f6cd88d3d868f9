"""A gradient step is what its definition says, networks learn, and an interrupted run equals an unbroken one."""

import itertools
import math
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from script_runs import assert_left_alone_while_claimed, assert_one_line, contents, rows, run_file, same_contents
from test_nonstationary_networks import BLOCKWISE, TRANSFORMERS, VARIANTS, WHOLE, WINDOWED, WITH_STATE, drawn, shaken
from torch.nn import functional
from torch.nn.utils import parameters_to_vector

import nonstationary.training
import nonstationary.training_step
from common.devices import N_WARM_UP
from nonstationary.network_config import RECURRENT, NetworkConfig
from nonstationary.networks import load_network, log_probs, make_network
from nonstationary.regret import estimate, exact_predictor, expected_entropy, fixed_sequences, network_predictor, score
from nonstationary.sources import Source, sample
from nonstationary.training_step import GraphedStep, learning_rate, sequence_loss, train_on_batch

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")


def trained_parameters(network):
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def assert_loss_and_gradient(network, symbols, chunk_length, loss):
    """sequence_loss gives this loss and its gradient in every weight; a weight that nothing reaches may have none."""
    weights = trained_parameters(network)
    expected = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    found_loss, state = sequence_loss(network, symbols, None, chunk_length)
    torch.testing.assert_close(found_loss, loss.detach())
    for weight, wanted in zip(weights, expected, strict=True):
        found = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    return state


def plain_loss(network, symbols):
    """Mean of -log q over the symbols from the second on, picked one by one."""
    log_q = network(symbols)[0].log_softmax(2)
    batch, length = symbols.shape
    picked = [log_q[row, step - 1, symbols[row, step]] for row in range(batch) for step in range(1, length)]
    return -torch.stack(picked).mean()


def plain_truncated_loss(network, symbols, chunk_length):
    """The same read symbol by symbol, the state being cut off before every chunk."""
    state, losses = None, []
    for step in range(symbols.shape[1] - 1):
        if state is not None and step % chunk_length == 0:
            state = tuple(part.detach() for part in state)
        logits, state = network(symbols[:, step : step + 1], state)
        losses.append(functional.cross_entropy(logits[:, 0], symbols[:, step + 1]))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("name", VARIANTS)
def test_the_gradient_is_that_of_the_mean_log_loss(name):
    """Every network: the loss of the symbols from the second on, and its gradient in every trained weight."""
    network, symbols = shaken(VARIANTS[name]), drawn()
    state = assert_loss_and_gradient(network, symbols, None, plain_loss(network, symbols))
    assert (state is None) == (name in TRANSFORMERS)


@pytest.mark.parametrize(("length", "chunk_length"), [(12, 1), (12, 5), (9, 4), (12, 99)])
@pytest.mark.parametrize("name", WITH_STATE)
def test_gradients_stop_at_the_borders_of_chunks(name, length, chunk_length):
    """The loss is that of the whole, each target counting alike; the gradient is that of states cut at each border.

    Nine symbols in chunks of four leave a last one without a target, which is read for the state.
    """
    network, symbols = shaken(WITH_STATE[name]), drawn(length=length)
    state = assert_loss_and_gradient(
        network, symbols, chunk_length, plain_truncated_loss(network, symbols, chunk_length)
    )
    with torch.inference_mode():
        _, last = network(symbols)
        followed = network(symbols.flip(1), last)[0][:, :-1].transpose(1, 2)
    for part, whole in zip(state, last, strict=True):
        torch.testing.assert_close(part, whole, rtol=0, atol=1e-5)
    assert not any(part.requires_grad for part in state)
    loss, _ = sequence_loss(network, symbols.flip(1), state, chunk_length)  # a batch may start from a state
    torch.testing.assert_close(loss, functional.cross_entropy(followed, symbols.flip(1)[:, 1:]))
    torch.testing.assert_close(log_probs(network, symbols, chunk_length), log_probs(network, symbols))


@pytest.mark.parametrize("name", WHOLE)
def test_chunks_of_a_transformer_are_sequences_of_their_own(name):
    """Nothing passes from chunk to chunk; each predicts its own symbols and the first of the next, all alike."""
    network, symbols = shaken(WHOLE[name]), drawn(length=12)
    logits = torch.cat([network(part)[0] for part in symbols.split(5, dim=1)], dim=1)
    loss = functional.cross_entropy(logits[:, :-1].transpose(1, 2), symbols[:, 1:])
    assert_loss_and_gradient(network, symbols, 5, loss)
    torch.testing.assert_close(log_probs(network, symbols, 5), logits[:, :-1].double().log_softmax(2))


# The step of a GPU

has_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
on_a_gpu = pytest.param("cuda", marks=(pytest.mark.gpu, has_gpu))
DROPOUT = replace(WHOLE["sincos"], dropout=0.5)
GRAPHED = WHOLE | WINDOWED | BLOCKWISE | WITH_STATE
CASES = [(name, None) for name in GRAPHED] + [(name, 5) for name in WITH_STATE]
LENGTHS = (12, 12, 8, 12, 8)


class StandIn:
    """What a recorded graph promises, on a CPU: warming up has run the work, a replay runs it again."""

    def __init__(self, work, device):
        for _ in range(N_WARM_UP + 1):
            work()
        self.replay = work


def steps_taken(config, device, has_moments, take):
    """Losses and gradient norms of steps on batches of two lengths at falling rates, and the weights after them.

    The state is carried on from each batch but the third.
    """
    network = shaken(config).to(device)
    torch.manual_seed(5)  # dropout
    rate = torch.tensor(1e-2, device=device)
    optimizer = torch.optim.Adam(trained_parameters(network), rate, fused=True, capturable=device == "cuda")
    if has_moments:  # as of a run that is resumed
        train_on_batch(network, optimizer, drawn(3, 8).to(device))
    take = take(network, optimizer)
    found, state = [], None
    for number, length in enumerate(LENGTHS):
        optimizer.param_groups[0]["lr"].fill_(1e-2 / (number + 1))
        symbols = torch.randint(3, (3, length), generator=torch.Generator().manual_seed(number)).to(device)
        result = take(symbols, state)
        state = None if number == 2 else result.state
        found += [result.loss.item(), result.gradient_norm.item()]
    return torch.tensor(found), parameters_to_vector(network.parameters()).detach().cpu()


@pytest.mark.parametrize("device", ["cpu", on_a_gpu])
@pytest.mark.parametrize(("name", "chunk_length"), CASES)
def test_a_recorded_step_is_a_step(monkeypatch, name, chunk_length, device):
    """Replays do what steps do that are taken one by one, bit for bit on a CPU, within rounding on a GPU.

    With carried states, Adam's moments, rates, and a recording for every length. On a CPU, where random numbers are the
    same, a replay has the dropout that the step would have had.
    """
    is_cpu = device == "cpu"
    if is_cpu:
        monkeypatch.setattr(nonstationary.training_step, "recorded", StandIn)
    config = DROPOUT if name == "sincos" and is_cpu else GRAPHED[name]

    def eager(network, optimizer):
        return lambda symbols, state: train_on_batch(network, optimizer, symbols, state, chunk_length)

    def graphed(network, optimizer):
        return GraphedStep(network, optimizer, chunk_length, carries_state=config.model in RECURRENT)

    for has_moments in (chunk_length is not None or name in WHOLE,) if is_cpu else (False, True):
        both = (steps_taken(config, device, has_moments, take) for take in (graphed, eager))
        for found, wanted in zip(*both, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0 if is_cpu else 1e-4, atol=0 if is_cpu else 1e-5)


@pytest.mark.gpu
@has_gpu
def test_every_replay_draws_dropout():
    """The same batch with the same weights has another loss each time."""
    network = shaken(DROPOUT).to("cuda")
    rate = torch.zeros((), device="cuda")
    take = GraphedStep(network, torch.optim.Adam(trained_parameters(network), rate, fused=True, capturable=True))
    symbols = drawn(3, 12).to("cuda")
    assert len({take(symbols).loss.item() for _ in range(4)}) > 1


@pytest.mark.parametrize("clip", [0.0, 0.01, 100.0])
def test_long_gradients_are_cut_to_the_norm(clip):
    """A step of plain descent is as long as the norm allows, 0 for any; the norm reported is that before the cut."""
    network, symbols = shaken(WITH_STATE["lstm"]), drawn()
    weights = trained_parameters(network)
    expected = parameters_to_vector(torch.autograd.grad(plain_loss(network, symbols), weights))
    before = parameters_to_vector(weights).detach()
    result = train_on_batch(network, torch.optim.SGD(weights, lr=1.0), symbols, clip_grad_norm=clip)
    moved = before - parameters_to_vector(weights).detach()
    torch.testing.assert_close(result.gradient_norm, expected.norm(), rtol=1e-4, atol=0)
    length = min(clip or math.inf, expected.norm().item())
    assert moved.norm().item() == pytest.approx(length, rel=1e-3)
    torch.testing.assert_close(moved, expected * (length / expected.norm()), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_step_forgets_the_gradients_before_and_has_dropout(dropout):
    """The same batch twice, nothing learned in between: the same gradient, or another mask even after evaluating."""
    network, symbols = make_network(replace(VARIANTS["alibi"], dropout=dropout), 1), drawn()
    optimizer = torch.optim.SGD(trained_parameters(network), lr=0.0)
    torch.manual_seed(0)
    one, two = (train_on_batch(network.eval(), optimizer, symbols).gradient_norm for _ in range(2))
    assert (one == two) == (dropout == 0.0) and one > 0


def test_the_rate_is_constant_or_rises_and_falls_linearly():
    """Four steps up to the peak, then evenly down, so as to reach the fraction at the end of the last step."""
    assert {learning_rate(step, 0.3, 0, 100, 1.0) for step in range(100)} == {0.3}
    rates = [learning_rate(step, 8.0, 4, 12, 0.5) for step in range(13)]
    assert rates == pytest.approx([2, 4, 6, 8, 8, 7.5, 7, 6.5, 6, 5.5, 5, 4.5, 4])


def test_a_short_run_beats_kt_and_not_the_exact_mixture():
    """200 steps on PTW sequences of 32 symbols teach an LSTM to follow switches, as KT does not; PTW stays ahead."""
    source, steps = Source("ptw"), 200
    network = make_network(NetworkConfig(model="lstm", hidden_size=16), 1)
    optimizer = torch.optim.Adam(trained_parameters(network), lr=0.01)
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, 0.01, 10, steps, 0.1)
        train_on_batch(network, optimizer, sample(source, 64, 32, generator).symbols)
    predictors = {
        "network": network_predictor(network),
        **{name: exact_predictor(name, source) for name in ("kt", "ptw")},
    }
    scores = score(predictors, fixed_sequences(source, 1000, 32, 12345), 1000, CPU)
    above_kt, above_ptw = (estimate(scores["network"].totals - scores[name].totals) for name in ("kt", "ptw"))
    assert above_kt.mean < -0.7  # nats; seeds give -1.0
    assert above_ptw.mean > 3 * above_ptw.error


def run_module(name, *arguments):
    """Run a script of nonstationary/ in this process."""
    return run_file(ROOT / "nonstationary" / f"{name}.py", *arguments)


STEPS = 9
TINY = ("--cpu", "--seq_length", 8, "--batch_size", 3, "--n_eval", 4, "--train_steps", STEPS, "--log_every", 2)


def tiny(*arguments):
    """Add the sizes of a tiny run, and of a tiny network of the kind that the arguments ask for."""
    small = ("--emb_size", 8, "--nheads", 2, "--nlayers", 1) if "transformer" in arguments else ("--hidden_size", 4)
    return (*TINY, *small, *arguments)


@pytest.fixture
def train(tmp_path):
    """Run the script at a tiny size; gives how it ended. Ctrl-C may arrive in some step."""

    def run(name, *arguments, stop_in=None, step=train_on_batch):
        steps = [step] * 1000
        if stop_in is not None:
            steps[stop_in - 1] = mock.Mock(side_effect=KeyboardInterrupt)
        coming = iter(steps)
        with (
            mock.patch.object(nonstationary.training, "train_on_batch", lambda *given: next(coming)(*given)),
            mock.patch("common.run_loop.provenance", dict),
        ):
            path = tmp_path / f"{name}.tar"
            return run_module("train", *tiny("--dir_model", path.parent, "--fn_out_model", path.name, *arguments))

    return run


@pytest.fixture
def net(train, tmp_path):
    """A finished run of two steps as net.tar."""
    assert train("net", "--train_steps", 2).code == 0
    return tmp_path / "net.tar"


def assert_same_run(folder, one, other):
    saved = (torch.load(folder / f"{name}.tar", weights_only=True) for name in (one, other))
    assert same_contents(*saved, {"seconds", "sittings"})
    assert rows(folder / f"{one}.csv") == rows(folder / f"{other}.csv")


RUNS = {
    "carried state": ("--carry_state", "--chunk_length", 3),
    "random length, carried state": ("--random_length", "--carry_state", "--model", "stack_lstm"),
    "dropout": ("--model", "transformer", "--pos_enc", "relative", "--dropout", 0.5),
    "schedule": ("--warmup_steps", 3, "--final_lr_fraction", 0.1, "--model", "rnn", "--data_distribution", "lin"),
}


@pytest.mark.parametrize("kind", RUNS)
def test_interrupted_and_resumed_equals_uninterrupted(train, tmp_path, kind):
    """Stopped in some step and started again, a run ends bit for bit as if never stopped.

    Folder, name and the rate of saving may change, as they are no part of what is computed.
    """
    assert train("whole", *RUNS[kind]).code == 0
    arguments = ("broken", *RUNS[kind], "--save_every", 3)
    for stop_in, saved in ((2, 1), (5, 3)):  # saved at the first step, then between two log lines
        stopped = train(*arguments, stop_in=stop_in)
        assert (stopped.code, stopped.err.count("\n")) == (130, 1)
        assert f"the same command resumes from step {saved}\n" in stopped.err
    (tmp_path / "moved").mkdir()
    for ending in ("tar", "csv"):
        (tmp_path / f"broken.{ending}").rename(tmp_path / "moved" / f"two.{ending}")
    resumed = train("moved/two", *RUNS[kind], "--save_every", 1)
    assert (resumed.code, resumed.err) == (0, "")
    assert "resuming from step 3" in resumed.out
    assert_same_run(tmp_path, "whole", "moved/two")


@pytest.mark.gpu
@has_gpu
@pytest.mark.parametrize("kind", ["random length, carried state", "carried state"])
def test_on_a_gpu_a_run_is_resumed_and_on_a_cpu_too(tmp_path, kind):
    """In two sittings as in one but for rounding; and a CPU resumes what a GPU trained."""

    def run(name, n_steps, *device):
        arguments = [one for one in tiny(*RUNS[kind]) if one != "--cpu"]
        files = ("--dir_model", tmp_path, "--fn_out_model", f"{name}.tar", "--train_steps", n_steps)
        outcome = run_module("train", *arguments, *device, *files)
        assert (outcome.code, outcome.err) == (0, "")
        return [float(row.split(",")[4]) for row in (tmp_path / f"{name}.csv").read_text().splitlines()[1:]]

    run("part", 4, "--gpu", 0)
    assert run("part", 8, "--gpu", 0) == pytest.approx(run("whole", 8, "--gpu", 0), rel=1e-4)
    assert len(run("part", 12, "--cpu")) > len(run("whole", 8, "--gpu", 0))


def test_a_finished_run_is_left_alone_or_trained_longer(train, tmp_path):
    """The same command changes nothing; --train_steps may grow, and the last line, out of turn, leaves no trace."""
    assert train("long", "--train_steps", 13).code == 0
    assert train("short").code == 0
    assert [row["step"] for row in rows(tmp_path / "short.csv")] == ["2", "4", "6", "8", "9"]
    before = contents(tmp_path)
    again = train("short")
    assert (again.code, again.err) == (0, "") and f"is finished ({STEPS} steps)" in again.out
    assert contents(tmp_path) == before
    assert train("short", "--train_steps", 13).code == 0
    assert_same_run(tmp_path, "long", "short")


def test_overwriting_starts_anew(train, tmp_path, net):
    """Whatever is there; stopped in its second step it leaves the new run's first."""
    assert train("whole").code == 0
    stopped = train("net", "--overwrite", stop_in=2)
    assert stopped.code == 130 and "the same command without --overwrite resumes from step 1\n" in stopped.err
    assert load_network(net, CPU).step == 1
    outcome = train("net", "--overwrite")
    assert outcome.code == 0 and "resuming" not in outcome.out
    assert_same_run(tmp_path, "whole", "net")


@pytest.mark.parametrize(
    "argument",
    [
        *("--seed 2", "--model_init_seed 2", "--model rnn", "--hidden_size 5", "--after_mlp 3", "--carry_state"),
        *("--data_distribution lin", "--alpha 1.0", "--seq_length 9", "--random_length", "--batch_size 4", "--lr 0.5"),
        *("--warmup_steps 2", "--final_lr_fraction 0.5", "--clip_grad_norm 2", "--chunk_length 4"),
        *("--n_eval 5", "--log_every 3", "--competitors kt", "--eval_seq_length 9"),
    ],
)
def test_other_arguments_do_not_resume_a_network(train, tmp_path, net, argument):
    """Whatever changes the result or the curve must be as it was; the message names the flag."""
    before = contents(tmp_path)
    flag = argument.split()[0]
    outcome = train("net", *argument.split())
    assert_one_line(outcome, "train.py", "net.tar was trained with", f"{flag} ", "--overwrite")
    assert contents(tmp_path) == before


def test_what_another_process_trains_is_left_alone(train, net):
    """A second run is refused before it looks at what is there, which may be another run's by the time it begins."""
    finished = net.read_bytes()
    net.unlink()
    assert_left_alone_while_claimed(train, net, finished)


def test_the_number_of_steps_grows_only(train, net):
    """A network of two steps does not become one of one; with a falling rate every step depends on their number."""
    assert_one_line(train("net", "--train_steps", 1), "train.py", "2 steps", "--train_steps 1")
    falling = ("other", "--final_lr_fraction", 0.5)
    assert train(*falling).code == 0
    assert_one_line(train(*falling, "--train_steps", 13), "train.py", "--train_steps 9 (now 13)")


def with_arguments(path, **changes):
    saved = torch.load(path, weights_only=True)
    saved["arguments"] |= changes
    torch.save(saved, path)


def test_a_network_of_an_earlier_version_is_resumed_unless_it_used_an_option_that_is_gone(train, net):
    """Its file names options that there are no more; only their defaults are what happens now."""
    with_arguments(net, eval_every=250, eval_seed=12345)
    outcome = train("net", "--train_steps", 3)
    assert outcome.code == 0 and "resuming from step 2" in outcome.out
    with_arguments(net, eval_every=4, eval_seed=3)
    said = "was trained with --eval_every 4 (now 250), --eval_seed 3 (now 12345)"
    assert_one_line(train("net", "--train_steps", 4), "train.py", said, "--overwrite")


@pytest.mark.parametrize(
    "entry", ["optimizer_state", "random_states", "carried_state", "symbols", "loss_sum", "seconds"]
)
def test_a_network_without_what_resuming_takes_is_refused(train, net, entry):
    """A file that holds weights only, say, can be evaluated; resuming it is an error of one line."""
    saved = torch.load(net, weights_only=True)
    torch.save({name: value for name, value in saved.items() if name != entry}, net)
    assert_one_line(train("net"), "train.py", "net.tar cannot be trained further")


# What the script trains on and what it says


@pytest.fixture
def spied(train):
    """Run the script; gives how it ended, the batches it trained on, and the results of the steps."""
    given = []

    def spy(network, optimizer, symbols, state, *rest):
        rate = optimizer.param_groups[0]["lr"]
        result = train_on_batch(network, optimizer, symbols, state, *rest)
        given.append((symbols, state, rate, result))
        return result

    def run(*arguments):
        return train("net", *arguments, step=spy), given

    return run


def test_random_lengths_are_powers_of_two(spied):
    """From 2 up to the longest that fits, each about as often; never 1, which has nothing to predict."""
    _, steps = spied("--random_length", "--seq_length", 20, "--train_steps", 60, "--log_every", 60)
    lengths = Counter(symbols.shape[1] for symbols, *_ in steps)
    assert set(lengths) == {2, 4, 8, 16} and min(lengths.values()) >= 5


@pytest.mark.parametrize("carried", [True, False])
def test_batches_are_fresh_and_states_are_carried_only_if_asked(spied, carried):
    """Every step sees other sequences of --seq_length symbols, from zeros or from the state in which the last ended."""
    _, steps = spied("--batch_size", 20, *["--carry_state"] * carried)
    assert all(symbols.shape == (20, 8) for symbols, *_ in steps)
    assert len({tuple(symbols.flatten().tolist()) for symbols, *_ in steps}) == STEPS
    assert steps[0][1] is None
    for (*_, before), (_, state, *_) in itertools.pairwise(steps):
        if carried:
            assert all(torch.equal(one, other) for one, other in zip(state, before.state, strict=True))
        else:
            assert state is None


def test_the_curve_says_what_happened(spied, tmp_path):
    """Loss: mean since the line before; symbols predicted so far; the step's rate; regrets."""
    outcome, steps = spied("--warmup_steps", 3, "--final_lr_fraction", 0.1, "--lr", 0.01)
    assert outcome.out.count("\nstep ") == 5
    last = 0
    for row in rows(tmp_path / "net.csv"):
        step = int(row["step"])
        losses = [result.loss.item() for *_, result in steps[last:step]]
        assert float(row["loss"]) == pytest.approx(sum(losses) / len(losses))
        assert float(row["gradient_norm"]) == pytest.approx(steps[step - 1][3].gradient_norm.item())
        assert int(row["symbols"]) == step * 3 * 7
        assert float(row["lr"]) == steps[step - 1][2] == pytest.approx(learning_rate(step - 1, 0.01, 3, STEPS, 0.1))
        assert float(row["regret"]) - float(row["exact_regret"]) == pytest.approx(float(row["difference"]))
        last = step


@pytest.mark.parametrize(("source", "lengths"), [("ptw", [8]), ("ptw", [2, 4, 8]), ("random_uniform", [8])])
def test_the_lowest_loss_to_expect_is_that_of_the_own_mixture(train, tmp_path, source, lengths):
    """Entropy plus the mixture's mean regret a symbol, over all lengths."""
    arguments = ["--data_distribution", source] + ["--random_length"] * (lengths == [2, 4, 8])
    assert train("net", *arguments, "--train_steps", 1, "--n_eval", 50).code == 0
    (row,) = rows(tmp_path / "net.csv")
    own, predictor, regrets = Source(source), exact_predictor(source, Source(source)), []
    for length in lengths:
        scores = score({"own": predictor}, fixed_sequences(own, 50, length, 12345), 50, CPU)
        regrets.append(scores["own"].totals.mean().item() / (length - 1))
    assert float(row["optimal_loss"]) == pytest.approx(expected_entropy(own) + sum(regrets) / len(regrets))


def test_a_network_in_training_is_evaluated_on_what_one_asks_for(train, tmp_path):
    """Another source, another length, in chunks: regrets are those there, and the training is the same bit for bit."""
    shown = ("--competitors", "kt,lin", "--n_eval", 20)
    there = ("--eval_data_distribution", "random_uniform", "--max_segment", 4, "--eval_seq_length", 12)
    assert train("here", *shown).code == 0
    outcome = train("there", *shown, *there, "--eval_chunk_length", 5)
    assert (outcome.code, outcome.err) == (0, "")
    assert "20 sequences of 12 symbols of random_uniform" in outcome.out
    here, saved = (torch.load(tmp_path / f"{name}.tar", weights_only=True) for name in ("here", "there"))
    assert same_contents(here["network_state"], saved["network_state"])
    source = Source("random_uniform", max_segment=4)
    network = load_network(tmp_path / "there.tar", CPU).network
    predictors = {"network": network_predictor(network), "lin": exact_predictor("lin", source)}
    scores = score(predictors, fixed_sequences(source, 20, 12, 12345), 20, CPU)
    last, before = rows(tmp_path / "there.csv")[-1], rows(tmp_path / "here.csv")[-1]
    for name, predictor in (("regret", "network"), ("exact_regret", "lin")):
        expected = scores[predictor].totals.mean().item() / math.log(2)
        assert float(last[name]) == pytest.approx(expected, rel=1e-4)
        assert float(before[name]) != pytest.approx(expected, rel=1e-4)
    assert last["optimal_loss"] == before["optimal_loss"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--data_distribution static", "of static, in bits: kt "),
        ("--data_distribution lin --eval_data_distribution regular", "of regular, in bits: kt_oracle "),
    ],
)
def test_a_network_in_training_is_compared_with_the_own_mixture_of_what_it_is_evaluated_on(train, arguments, said):
    """Unless other predictors are asked for."""
    assert said in train("net", *arguments.split(), "--train_steps", 1).out


def test_seed_and_longest_segment_arrive(train, tmp_path):
    """First weights have a seed of their own; a mixture off its source has the longest segment that is asked for."""
    given = ("--lr", 1e-30, "--model_init_seed", 5, "--competitors", "random_uniform", "--train_steps", 1)
    for name, further in (("usual", ()), ("short", ("--max_segment", 2)), ("other", ("--seed", 2))):
        assert train(name, *given, *further).code == 0
    usual, short = (rows(tmp_path / f"{name}.csv")[-1] for name in ("usual", "short"))
    assert usual["exact_regret"] != short["exact_regret"] and usual["regret"] == short["regret"]
    saved = [torch.load(tmp_path / f"{name}.tar", weights_only=True) for name in ("short", "other")]
    assert saved[0]["source"] == asdict(Source("ptw"))
    expected = make_network(NetworkConfig(hidden_size=4), 5).state_dict()
    assert all(one["network_state"][name].allclose(expected[name]) for one in saved for name in expected)


@pytest.mark.parametrize("arguments", ["--lr 1e38 --clip_grad_norm 0 --model rnn", "--lr 1e38 --save_every 1"])
def test_a_run_that_diverges_ends_in_one_line_and_saves_nothing(train, tmp_path, arguments):
    """Neither a checkpoint nor a row of the curve holds a number that is infinite or NaN."""
    assert_one_line(train("net", *arguments.split()), "train.py", "smaller --lr")
    text = "".join(path.read_text() for path in tmp_path.glob("net.csv"))
    assert "nan" not in text and "inf" not in text
    assert not (tmp_path / "net.tar").exists()
