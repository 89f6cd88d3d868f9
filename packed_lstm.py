"""A packed LSTM for training on the CPU: what `torch.nn.LSTM` computes, laid out so that nothing is padded.

It runs over an nn.LSTM's own parameters, so a checkpoint does not know which of the two was used. All inputs go through
one large product before the loop over time and all weight gradients through one after it; the loop keeps one small
product per step. The backward direction of a biLSTM goes through the same rows from the last step to the first.

Shapes: P packed steps of N sequences, D directions (1 or 2), m units, K inputs. Gates: i, f, g, o.
Source: Hochreiter & Schmidhuber 1997, in the form of torch.nn.LSTM.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

State = tuple[Tensor, Tensor]
"""Hidden and cell state, each (layers * D, N, m)."""


class Packing:
    """Lays padded sequences out without their padding, in the order of torch's PackedSequence, and back.

    The sequences are sorted, the longest first, and laid out step by step: step t of all sequences that are that long
    is one block of rows, and every sequence has the same place in each block that it reaches.

    Args:
        lengths: (N,) int64 on the CPU, each at least 1.
        device: where the tensors to be packed are.
    """

    def __init__(self, lengths: Tensor, device: torch.device) -> None:
        order = lengths.argsort(descending=True, stable=True)  # (N,) the sequence at each place
        place = order.argsort()  # (N,) the place of each sequence
        self.shape = len(lengths), int(lengths[order[0]])
        step, place_of_row = (torch.arange(self.shape[1])[:, None] < lengths[order]).nonzero(as_tuple=True)
        self._batch_sizes = torch.bincount(step)
        self.sizes: list[int] = self._batch_sizes.tolist()  # rows of each block; they never grow
        block = self._batch_sizes.cumsum(0) - self._batch_sizes  # (T,) first row of each
        self.sequence_of_row = order[place_of_row]  # (P,), on the CPU
        later = slice(self.shape[0], None)  # the rows after the first block
        self.previous = block[step[later] - 1] + place_of_row[later]  # (P - N,) row of the step before each, on the CPU

        def on_device(numbers: Tensor) -> Tensor:
            return numbers.to(device, non_blocking=True)

        self.cells = on_device(self.sequence_of_row * self.shape[1] + step)  # (P,) each row's cell among the (N * T)
        self.order, self.first = on_device(order), on_device(place)  # first: (N,) row of each sequence's first step
        self.last = on_device(block[lengths - 1] + place)  # (N,) row of each sequence's last step

    def pack(self, padded: Tensor) -> Tensor:
        """(N, T, ...) -> (P, ...)."""
        return padded.flatten(0, 1).index_select(0, self.cells)

    def unpack(self, rows: Tensor) -> Tensor:
        """(P, K) -> (N, T, K), zero in the padding."""
        empty = rows.new_zeros(math.prod(self.shape), rows.shape[1])
        return empty.index_copy(0, self.cells, rows).view(*self.shape, -1)

    def sequence(self, rows: Tensor) -> PackedSequence:
        """(P, K) -> the PackedSequence that an nn.LSTM takes."""
        return PackedSequence(rows, self._batch_sizes, self.order, self.first)


def run_lstm(lstm: nn.LSTM, rows: Tensor, packing: Packing, start: State | None = None) -> Tensor:
    """Run an LSTM over packed rows: by cuDNN on a GPU, by the packed layers below on the CPU.

    Args:
        lstm: one or more layers with biases, without projections.
        rows: (P, K) inputs.
        packing: where the steps of each sequence are.
        start: the state before the first step, for an LSTM of one direction; zeros if None.
    Returns:
        The top layer's hidden state at each step, (P, D * m).
    """
    if rows.is_cuda:
        after: tuple[PackedSequence, State] = lstm(packing.sequence(rows), start)
        return after[0].data
    return packed_lstm(lstm, rows, packing, start)


def packed_lstm(lstm: nn.LSTM, rows: Tensor, packing: Packing, start: State | None = None) -> Tensor:
    """Do what `run_lstm` says, on the CPU."""
    assert start is None or not lstm.bidirectional, "a biLSTM starts from zero"
    directions = 2 if lstm.bidirectional else 1
    run_layer: Callable[..., Tensor] = _PackedLayer.apply
    for layer in range(lstm.num_layers):
        if layer > 0:
            rows = nn.functional.dropout(rows, lstm.dropout, lstm.training)
        own = lstm.all_weights[layer * directions : (layer + 1) * directions]
        h0, c0 = (None, None) if start is None else (state[layer, packing.order] for state in start)
        rows = run_layer(packing, rows, h0, c0, *(weight for direction in own for weight in direction))
    return rows


class _PackedLayer(torch.autograd.Function):
    """One layer in D directions: (P, K) inputs -> (P, D * m) hidden states, starting from h0 and c0, (N, m) or None."""

    @staticmethod
    def forward(
        ctx: Any, packing: Packing, rows: Tensor, h0: Tensor | None, c0: Tensor | None, *weights: Tensor
    ) -> Tensor:
        w_inputs, w_hidden, b_inputs, b_hidden = weights[0::4], weights[1::4], weights[2::4], weights[3::4]
        directions, n_units = len(w_inputs), w_hidden[0].shape[1]
        output = rows.new_empty(len(rows), directions * n_units)
        saved = []
        for d, h in enumerate(output.chunk(directions, dim=1)):
            gates = torch.addmm(b_inputs[d] + b_hidden[d], rows, w_inputs[d].T)
            saved += [gates, *_run_forward(packing.sizes, gates, w_hidden[d], h0, c0, h, is_backward=d == 1)]
        ctx.packing = packing
        ctx.save_for_backward(rows, output, h0, c0, *w_inputs, *w_hidden, *saved)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        packing = ctx.packing
        rows, output, h0, c0, *others = ctx.saved_tensors
        directions = len(others) // 5
        w_inputs, w_hidden, saved = others[:directions], others[directions : 2 * directions], others[2 * directions :]
        grad_rows, grad_h0, grad_c0, grad_weights = None, None, None, []
        pairs = zip(output.chunk(directions, 1), grad_output.clone().chunk(directions, 1), strict=True)
        for d, (h, grad_h) in enumerate(pairs):
            is_backward = d == 1
            gates, c, tanh_c = saved[3 * d : 3 * d + 3]
            grad_gates, slope = _slopes(gates, h, tanh_c, _one_step_before(packing, c, c0, is_backward))
            grad_c0 = _run_backward(packing.sizes, grad_gates, slope, gates, grad_h, w_hidden[d], is_backward)
            grad_gates = grad_gates.flatten(1)
            grad_w_hidden = grad_gates.T @ _one_step_before(packing, h, h0, is_backward)
            grad_bias = grad_gates.sum(0)
            grad_weights += [grad_gates.T @ rows, grad_w_hidden, grad_bias, grad_bias]
            if ctx.needs_input_grad[1]:
                grad_rows = grad_gates @ w_inputs[d] if grad_rows is None else grad_rows.addmm_(grad_gates, w_inputs[d])
            if h0 is not None:
                grad_h0 = grad_gates[: packing.sizes[0]] @ w_hidden[d]
        return None, grad_rows, grad_h0, None if c0 is None else grad_c0, *grad_weights


def _one_step_before(packing: Packing, state: Tensor, start: Tensor | None, is_backward: bool) -> Tensor:
    """Find the state that each row was computed from, (P, m).

    Args:
        state: (P, m) what each row led to.
        start: (N, m) what the sequences started from; None for zeros, as always in the backward direction.
        is_backward: whether the layer ran from the last step to the first.
    """
    n_first = packing.sizes[0]
    before = torch.zeros_like(state, memory_format=torch.contiguous_format)
    if is_backward:
        return before.index_copy_(0, packing.previous, state[n_first:])
    if start is not None:
        before[:n_first] = start
    torch.index_select(state, 0, packing.previous, out=before[n_first:])
    return before


def _run_forward(
    sizes: list[int],
    gates: Tensor,
    w_hidden: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    output: Tensor,
    is_backward: bool,
) -> tuple[Tensor, Tensor]:
    """Step through time in one direction.

    Args:
        sizes: rows of each block.
        gates: (P, 4m) what the inputs and the biases add to each gate; replaced by i, f, g, o.
        w_hidden: (4m, m), the recurrent weights.
        h0, c0: (N, m) each, or None for zeros.
        output: (P, m), receives the hidden state at each step.
        is_backward: whether to go from the last step to the first; a sequence then joins at its own last step.
    Returns:
        c and tanh(c) at each step, (P, m) each.
    """
    n_units = w_hidden.shape[1]
    factor = w_hidden.T.contiguous()  # laid out so for the loop: many small products read it
    c_all, tanh_all = (gates.new_empty(len(gates), n_units) for _ in range(2))
    h, c = (gates.new_empty(0, n_units) if state is None else state for state in (h0, c0))
    tensors = (gates, *gates.chunk(4, dim=1), c_all, tanh_all, output)
    for gate, i, f, g, o, c_now, tanh_c, h_now in _blocks(tensors, sizes, is_backward):
        n = min(len(h), len(gate))  # the sequences that have a step before this one
        gate[:n].addmm_(h[:n], factor)
        gate[:, : 2 * n_units].sigmoid_()  # i and f
        g.tanh_()
        o.sigmoid_()
        torch.mul(i, g, out=c_now)
        c_now[:n].addcmul_(f[:n], c[:n])
        torch.tanh(c_now, out=tanh_c)
        torch.mul(o, tanh_c, out=h_now)
        h, c = h_now, c_now
    return c_all, tanh_all


def _run_backward(
    sizes: list[int],
    slopes: Tensor,
    slope: Tensor,
    gates: Tensor,
    grad_output: Tensor,
    w_hidden: Tensor,
    is_backward: bool,
) -> Tensor:
    """Step back through time, against the direction in which the layer ran.

    Args:
        sizes: rows of each block.
        slopes: (P, 4, m) from `_slopes`; replaced by the gradients of the gates before their squashing.
        slope: (P, m) of the hidden state in the cell state.
        gates: (P, 4m) i, f, g, o.
        grad_output: (P, m); what comes back from the following step is added.
        w_hidden: (4m, m), the recurrent weights.
        is_backward: whether the layer ran from the last step to the first.
    Returns:
        The gradient of the first cell state, (N, m).
    """
    grad_c_all, later = grad_output.new_zeros(sizes[0], grad_output.shape[1]), slopes.new_empty(0, w_hidden.shape[0])
    tensors = (slopes.flatten(1), slopes[:, :3], slopes[:, 3], grad_output, slope, gates.chunk(4, dim=1)[1])
    for grad_gate, through_c, through_o, grad_h, slope_now, f in _blocks(tensors, sizes, not is_backward):
        n = min(len(later), len(grad_gate))  # the sequences that have a step after this one
        grad_h[:n].addmm_(later[:n], w_hidden)
        grad_c = grad_c_all[: len(grad_gate)]
        grad_c.addcmul_(grad_h, slope_now)
        through_c.mul_(grad_c.unsqueeze(1))
        through_o.mul_(grad_h)
        grad_c.mul_(f)
        later = grad_gate
    return grad_c_all


def _blocks(tensors: Iterable[Tensor], sizes: list[int], from_the_last: bool) -> list[tuple[Tensor, ...]]:
    """Cut tensors into the blocks of their rows, in the order in which a loop goes through them."""
    blocks = list(zip(*(tensor.split(sizes) for tensor in tensors), strict=True))
    return blocks[::-1] if from_the_last else blocks


def _slopes(gates: Tensor, h: Tensor, tanh_c: Tensor, c_before: Tensor) -> tuple[Tensor, Tensor]:
    """Work out, for all steps together, what the chain rule needs of the forward pass.

    Args:
        gates: (P, 4m) i, f, g, o.
        h, tanh_c, c_before: (P, m) hidden state, tanh of the cell state, and the cell state one step before.
    Returns:
        The slopes, (P, 4, m), of the cell state in i, f and g before their squashing and of the hidden state in o, and
        that of the hidden state in the cell state, (P, m).
    """
    i, f, g, o = gates.chunk(4, dim=1)
    slopes = gates.new_empty(len(h), 4, h.shape[1])
    new, kept = i * g, f * c_before
    torch.addcmul(new, new, i, value=-1, out=slopes[:, 0])
    torch.addcmul(kept, kept, f, value=-1, out=slopes[:, 1])
    torch.addcmul(i, new, g, value=-1, out=slopes[:, 2])
    torch.addcmul(h, h, o, value=-1, out=slopes[:, 3])
    return slopes, torch.addcmul(o, h, tanh_c, value=-1)
