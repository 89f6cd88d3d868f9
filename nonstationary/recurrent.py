"""Recurrent networks: ReLU-RNN, LSTM, and both with differentiable stacks.

Letters: B sequences, T steps, K symbols, H hidden units; n stacks of S cells of width C.

Source: Genewein et al. 2023, Section 5; Joulin and Mikolov 2015 (stacks).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nonstationary.network_config import NetworkConfig, linear, truncated_normal_

State = tuple[Tensor, ...]  # every part has a dimension for the sequences of the batch
FORGET_BIAS = 1.0  # keeps the memory open at the start


class RecurrentNetwork(nn.Module):
    """Optional layers, recurrent core, optional layers, ReLU, linear output.

    Shape: symbols (B, T) int64, state or None -> logits (B, T, K), state.
    """

    def __init__(self, config: NetworkConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.num_symbols = config.num_symbols
        before = config.num_symbols, *config.before_mlp
        after = config.hidden_size, *config.after_mlp
        self.before = _layers(before, generator)
        core = StackCore if config.model.startswith("stack_") else FusedCore
        self.core = core(before[-1], config, generator)
        self.after = _layers(after, generator)
        has_rectified = config.model.endswith("rnn") and not config.after_mlp  # its states are not negative
        self.rectify = nn.Identity() if has_rectified else nn.ReLU()
        self.output = linear(after[-1], config.num_symbols, generator)

    def forward(self, symbols: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict what follows each symbol."""
        inputs = functional.one_hot(symbols.T, self.num_symbols).to(self.output.weight.dtype)  # (T, B, K)
        steps, state = self.core(self.before(inputs), state)
        return self.output(self.rectify(self.after(steps))).transpose(0, 1), state


def _layers(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Stack linear layers with ReLU between them, none after the last; the identity for a single width."""
    parts: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths):
        parts += [nn.ReLU(), linear(width_in, width_out, generator)]
    return nn.Sequential(*parts[1:])


class FusedCore(nn.Module):
    """torch's own RNN (ReLU) or LSTM of one layer, with other first weights.

    An LSTM has one bias, torch two: the second stays zero.

    Shape: (T, B, I), state or None -> (T, B, H), state of (1, B, H) parts.
    """

    def __init__(self, input_size: int, config: NetworkConfig, generator: torch.Generator) -> None:
        super().__init__()
        hidden, is_lstm = config.hidden_size, config.model == "lstm"
        self.rnn: nn.RNN | nn.LSTM
        self.rnn = nn.LSTM(input_size, hidden) if is_lstm else nn.RNN(input_size, hidden, nonlinearity="relu")
        fan_in = (input_size + hidden,) * 2 if is_lstm else (input_size, hidden)  # an LSTM has one map of both
        weights = dict(self.rnn.named_parameters())
        truncated_normal_(weights["weight_ih_l0"], 1 / math.sqrt(fan_in[0]), generator)
        truncated_normal_(weights["weight_hh_l0"], 1 / math.sqrt(fan_in[1]), generator)
        nn.init.zeros_(weights["bias_ih_l0"])
        nn.init.zeros_(weights["bias_hh_l0"])
        if is_lstm:
            nn.init.constant_(weights["bias_ih_l0"][hidden : 2 * hidden], FORGET_BIAS)
            weights["bias_hh_l0"].requires_grad = False

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Read T steps."""
        if isinstance(self.rnn, nn.LSTM):
            steps, (hidden, cell) = self.rnn(inputs, state)
            return steps, (hidden, cell)
        if inputs.device.type == "cpu":  # where torch's own takes longer
            input_weight, hidden_weight, *biases = self.rnn.parameters()
            first = inputs.new_zeros(inputs.shape[1], self.rnn.hidden_size) if state is None else state[0][0]
            given = inputs, first, input_weight, hidden_weight, biases[0] + biases[1]
            steps = ReluSteps.apply(*given)  # type: ignore[no-untyped-call]
            return steps, (steps[-1:].clone(),)  # a view would keep all steps in memory and in the checkpoint
        steps, hidden = self.rnn(inputs, None if state is None else state[0])
        return steps, (hidden,)


class ReluSteps(torch.autograd.Function):
    """h_t = ReLU(V x_t + W h_{t-1} + b); what does not depend on the step before is one product over all steps.

    Shape: all x_t (T, B, I), h_0 (B, H), V (H, I), W (H, H), b (H,) -> all h_t (T, B, H).
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, first: Tensor, input_weight: Tensor, hidden_weight: Tensor, bias: Tensor
    ) -> Tensor:
        """Read T steps."""
        states = inputs.new_empty(len(inputs) + 1, *first.shape)
        states[0] = first
        torch.addmm(bias, inputs.flatten(0, 1), input_weight.T, out=states[1:].flatten(0, 1))
        transposed = hidden_weight.T
        for before, now in itertools.pairwise(states.unbind(0)):
            now.addmm_(before, transposed).relu_()
        ctx.save_for_backward(inputs, states, input_weight, hidden_weight)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
        """Go back from the last step to the first; a step's gradient comes from above and from the step after it."""
        inputs, states, input_weight, hidden_weight = ctx.saved_tensors
        gradients = torch.empty_like(states)
        gradients[0], gradients[1:] = 0, above
        steps = list(zip(gradients.unbind(0), states.unbind(0), strict=True))
        for (now, state), (before, _) in itertools.pairwise(reversed(steps)):
            torch.ops.aten.threshold_backward.grad_input(now, state, 0, grad_input=now)
            before.addmm_(now, hidden_weight)
        pulled = gradients[1:].flatten(0, 1)
        of_inputs = (pulled @ input_weight).view_as(inputs) if ctx.needs_input_grad[0] else None
        of_input_weight = (inputs.flatten(0, 1).T @ pulled).T  # faster than the other way round, as inputs are narrow
        of_hidden_weight = pulled.T @ states[:-1].flatten(0, 1)
        return of_inputs, gradients[0], of_input_weight, of_hidden_weight, pulled.sum(0)


class StackCore(nn.Module):
    """An RNN or LSTM that reads the top of n stacks at each step, then pushes, pops or leaves them as they are.

    A softmax weights the three actions of each stack; the new contents are the mixture.

    Shape: (T, B, I), state or None -> (T, B, H), state: stacks (B, n, S, C), hidden (B, H), an LSTM's cell (B, H).
    """

    def __init__(self, input_size: int, config: NetworkConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.is_lstm = config.model == "stack_lstm"
        self.hidden_size = hidden = config.hidden_size
        self.stacks_shape = config.n_stacks, config.stack_size, config.stack_cell_size
        tops = config.n_stacks * config.stack_cell_size
        gates = 4 * hidden if self.is_lstm else hidden
        fan_in = input_size + tops + hidden if self.is_lstm else None  # an LSTM has one map of all
        self.from_input = linear(input_size + tops, gates, generator, fan_in=fan_in)
        self.from_hidden = linear(hidden, gates, generator, bias=not self.is_lstm, fan_in=fan_in)
        if self.is_lstm:  # gates in torch's order: input, forget, cell, output
            nn.init.constant_(self.from_input.bias[hidden : 2 * hidden], FORGET_BIAS)
        self.to_stacks = linear(hidden, tops + 3 * config.n_stacks, generator)  # what to push, and the actions

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Read T steps, one after the other."""
        if state is None:
            batch = inputs.shape[1]
            hidden = inputs.new_zeros(batch, self.hidden_size)
            state = inputs.new_zeros(batch, *self.stacks_shape), hidden, *([hidden] * self.is_lstm)
        stacks, *core = state
        from_symbols, from_tops = self.from_input.weight.tensor_split([inputs.shape[2]], dim=1)
        recurrent = torch.cat([from_tops, self.from_hidden.weight], dim=1).T
        bias = self.from_input.bias if self.is_lstm else self.from_input.bias + self.from_hidden.bias
        outputs = []
        for given in functional.linear(inputs, from_symbols, bias).unbind(0):
            read = torch.cat([stacks[:, :, 0].flatten(1), core[0]], dim=1)
            core = self._core_step(torch.addmm(given, read, recurrent), core)
            outputs.append(core[0])
            stacks = self._stack_step(stacks, core[0])
        return torch.stack(outputs), (stacks, *core)

    def _core_step(self, gates: Tensor, core: list[Tensor]) -> list[Tensor]:
        if not self.is_lstm:
            return [gates.relu()]
        i, f, g, o = gates.chunk(4, dim=1)
        cell = f.sigmoid() * core[1] + i.sigmoid() * g.tanh()
        return [o.sigmoid() * cell.tanh(), cell]

    def _stack_step(self, stacks: Tensor, hidden: Tensor) -> Tensor:
        n, size, width = self.stacks_shape
        pushed, actions = self.to_stacks(hidden).split([n * width, 3 * n], dim=1)
        push, pop, stay = actions.view(-1, n, 3, 1, 1).softmax(2).unbind(2)
        around = torch.cat([pushed.view(-1, n, 1, width), stacks, stacks.new_zeros(len(stacks), n, 1, width)], dim=2)
        mixed: Tensor = push * around[:, :, :size] + pop * around[:, :, 2:] + stay * stacks
        return mixed
