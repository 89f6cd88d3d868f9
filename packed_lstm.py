"""A packed LSTM for training on the CPU: what `torch.nn.LSTM` computes, laid out so that nothing is padded.

It runs over an nn.LSTM's own parameters, so a checkpoint does not know which of the two was used. The sequences come
as torch's PackedSequence: sorted by length and laid out step by step, so that step t of all sequences that are that
long is one block of rows. All inputs go through one large product before the loop over time and all weight gradients
through one after it; the loop keeps one small product per step. The backward direction of a biLSTM reads every
sequence from its own end, so its blocks are as large as the forward direction's and both run in lock step.

Shapes: P packed steps of N sequences, D directions (1 or 2), m units, K inputs. Gates: i, f, g, o.
Source: Hochreiter & Schmidhuber 1997, in the form of torch.nn.LSTM.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

STEPS_WORTH_A_TRANSPOSE = 6

State = tuple[Tensor, Tensor]
"""Hidden and cell state, each (layers * D, N, m)."""


class Layout(NamedTuple):
    """Where the steps of N packed sequences lie among the P rows."""

    sizes: list[int]  # rows of each time step; they never grow
    mirrored: Tensor  # (P,) row of the same sequence's step that is as far from its end as this one is from its start
    last: Tensor  # (N,) row of each sequence's last step
    previous: Tensor  # (P - N,) row of the step before, for every row after the first step


def layout_of(batch_sizes: Tensor) -> Layout:
    """Work out the layout from a PackedSequence's batch_sizes, (T,) int64."""
    sizes = batch_sizes.tolist()
    n_sequences = sizes[0]
    start = torch.cumsum(batch_sizes, 0) - batch_sizes  # (T,) first row of each step
    step = torch.repeat_interleave(batch_sizes)  # (P,) the time step of each row
    sequence = torch.arange(len(step)) - start[step]  # (P,) the sequence of each row
    length = torch.bincount(sequence, minlength=n_sequences)  # (N,)
    return Layout(
        sizes=sizes,
        mirrored=start[length[sequence] - 1 - step] + sequence,
        last=start[length - 1] + torch.arange(n_sequences),
        previous=start[step[n_sequences:] - 1] + sequence[n_sequences:],
    )


def random_keep_mask(shape: torch.Size, dropout: float) -> tuple[Tensor, float]:
    """Draw which units of `shape` dropout keeps, from the bits of torch's CPU generator.

    Sixteen bits decide on a unit, a quarter of the random numbers that `torch.nn.functional.dropout` draws; the
    probability is therefore a multiple of 2^-16 (0.5 is exact).

    Returns:
        The mask, boolean, and the share of units that are kept in expectation.
    """
    limits = torch.iinfo(torch.int16)
    threshold = round(dropout * 2**16)
    n_draws = -(-shape.numel() // 4)
    bits = torch.empty(n_draws, dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    keep = bits.view(torch.int16)[: shape.numel()].view(shape) >= threshold + limits.min
    return keep, 1 - threshold / 2**16


def dropped(values: Tensor, dropout: float, training: bool) -> Tensor:
    """Apply dropout as `torch.nn.functional.dropout` does, with cheaper masks on the CPU."""
    if not training or dropout == 0:
        return values
    if values.device.type != "cpu":
        return nn.functional.dropout(values, dropout)
    keep, kept_share = random_keep_mask(values.shape, dropout)
    return values * keep.to(values.dtype).div_(kept_share)


def packed_lstm(lstm: nn.LSTM, packed: PackedSequence, state: State | None = None) -> tuple[PackedSequence, State]:
    """Run an nn.LSTM over packed sequences, as `lstm(packed, state)` does.

    Args:
        lstm: one or more layers in one or two directions, with biases, without projections.
        packed: P rows of K inputs.
        state: hidden and cell state before the first step, (layers * D, N, m) each, in the callers' order of
            sequences; zeros if None.
    Returns:
        The top layer's output at each step, P rows of D * m, and the state after each sequence's last step.
    """
    layout = layout_of(packed.batch_sizes)
    directions = 2 if lstm.bidirectional else 1
    if state is not None and packed.sorted_indices is not None:
        state = (state[0][:, packed.sorted_indices], state[1][:, packed.sorted_indices])
    rows, hidden, cell = packed.data, [], []
    run_layer: Callable[..., tuple[Tensor, Tensor, Tensor]] = _PackedLayer.apply
    for layer in range(lstm.num_layers):
        if layer > 0:
            rows = dropped(rows, lstm.dropout, lstm.training)
        own = slice(layer * directions, (layer + 1) * directions)
        start = (None, None) if state is None else (state[0][own], state[1][own])
        weights = [weight for direction in lstm.all_weights[own] for weight in direction]
        rows, h, c = run_layer(layout, rows, *start, *weights)
        hidden.append(h)
        cell.append(c)
    after = torch.cat(hidden), torch.cat(cell)
    if packed.unsorted_indices is not None:
        after = after[0][:, packed.unsorted_indices], after[1][:, packed.unsorted_indices]
    return packed._replace(data=rows), after


class _PackedLayer(torch.autograd.Function):
    """One layer in D directions: (P, K) inputs -> (P, D * m) outputs and the states after each sequence, (D, N, m)."""

    @staticmethod
    def forward(ctx: Any, layout: Layout, rows: Tensor, h0: Tensor | None, c0: Tensor | None, *weights: Tensor) -> Any:
        w_inputs, w_hidden, b_inputs, b_hidden = weights[0::4], weights[1::4], weights[2::4], weights[3::4]
        reading = (rows,) if len(w_inputs) == 1 else (rows, rows[layout.mirrored])  # as each direction reads them
        gates = rows.new_empty(len(reading), len(rows), len(b_inputs[0]))
        for d, read in enumerate(reading):
            torch.addmm(b_inputs[d] + b_hidden[d], read, w_inputs[d].T, out=gates[d])
        output, cells = _run_forward(gates, w_hidden, layout.sizes, h0, c0)
        ctx.layout = layout
        ctx.save_for_backward(rows, gates, output, cells, h0, c0, *w_inputs, *w_hidden)
        joined = output[0] if len(reading) == 1 else torch.cat((output[0], output[1][layout.mirrored]), 1)
        return joined, output[:, layout.last], cells[:, layout.last]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_joined: Tensor, grad_h: Tensor, grad_c: Tensor) -> Any:
        layout = ctx.layout
        rows, gates, output, cells, h0, c0, *weights = ctx.saved_tensors
        directions, n_first = len(gates), layout.sizes[0]
        w_inputs, w_hidden = weights[:directions], weights[directions:]
        halves = grad_joined.chunk(directions, dim=1)
        grad_output = torch.stack([halves[0], *(half[layout.mirrored] for half in halves[1:])])
        grad_output.index_add_(1, layout.last, grad_h)
        grad_gates, grad_c0 = _run_backward(layout, gates, output, cells, c0, grad_output, grad_c, w_hidden)
        previous = output[:, layout.previous]
        grad_rows, grad_weights = None, []
        for d, grad in enumerate(grad_gates):
            read = rows if d == 0 else rows[layout.mirrored]
            grad_w_hidden = grad[n_first:].T @ previous[d]
            if h0 is not None:
                grad_w_hidden.addmm_(grad[:n_first].T, h0[d])
            grad_bias = grad.sum(0)
            grad_weights += [grad.T @ read, grad_w_hidden, grad_bias, grad_bias]
        if ctx.needs_input_grad[1]:
            grad_rows = grad_gates[0] @ w_inputs[0]
            if directions == 2:
                grad_rows += (grad_gates[1] @ w_inputs[1])[layout.mirrored]
        grad_h0 = None
        if h0 is not None:
            grad_h0 = torch.stack([grad[:n_first] @ w for grad, w in zip(grad_gates, w_hidden, strict=True)])
        return None, grad_rows, grad_h0, None if c0 is None else grad_c0, *grad_weights


def _run_forward(
    gates: Tensor, w_hidden: Sequence[Tensor], sizes: list[int], h0: Tensor | None, c0: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Step through time, all directions at once.

    Args:
        gates: (D, P, 4m) the inputs' share of each gate with the biases; replaced by the gates themselves.
        w_hidden: D times (4m, m), the recurrent weights.
        sizes: rows of each step.
        h0, c0: (D, N, m) each, or None for zeros.
    Returns:
        Hidden and cell state at each step, (D, P, m) each.
    """
    n_units = gates.shape[2] // 4
    # Small products are a third faster with the weights laid out this way; that pays from a handful of steps on.
    factors = [w.T.contiguous() if len(sizes) >= STEPS_WORTH_A_TRANSPOSE else w.T for w in w_hidden]
    output, cells = (gates.new_empty(*gates.shape[:2], n_units) for _ in range(2))
    parts = gates.split([2 * n_units, n_units, n_units], dim=2)
    views = [tensor.split(sizes, dim=1) for tensor in (gates, *parts, output, cells)]
    h, c = h0, c0
    for size, gate, in_forget, new, out, h_now, c_now in zip(sizes, *views, strict=True):
        if h is not None:
            for d, factor in enumerate(factors):
                gate[d].addmm_(h[d, :size], factor)
        in_forget.sigmoid_()
        new.tanh_()
        out.sigmoid_()
        torch.mul(in_forget[:, :, :n_units], new, out=c_now)
        if c is not None:
            c_now.addcmul_(in_forget[:, :, n_units:], c[:, :size])
        torch.tanh(c_now, out=h_now).mul_(out)
        h, c = h_now, c_now
    return output, cells


def _run_backward(
    layout: Layout,
    gates: Tensor,
    output: Tensor,
    cells: Tensor,
    c0: Tensor | None,
    grad_output: Tensor,
    grad_c: Tensor,
    w_hidden: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """Step back through time, all directions at once.

    All that the chain rule needs of the forward pass is worked out before the loop. The loop adds to `grad_output`,
    (D, P, m), what comes back from the following step.

    Returns:
        The gradients of the gates before their squashing, (D, P, 4m), and of the first cell state, (D, N, m).
    """
    f = gates.chunk(4, dim=2)[1]
    slopes, output_in_cell = _slopes(layout, gates, output, cells, c0)
    grad_c, grad_later = grad_c.clone(), None
    tensors = (slopes, slopes[:, :, :3], slopes[:, :, 3], grad_output, output_in_cell, f)
    views = [tensor.split(layout.sizes, dim=1)[::-1] for tensor in tensors]
    for grad_gate, through_cell, through_output, grad_h, slope, forget in zip(*views, strict=True):
        if grad_later is not None:
            for d, w in enumerate(w_hidden):
                grad_h[d, : grad_later.shape[1]].addmm_(grad_later[d], w)
        grad_c_now = grad_c[:, : grad_h.shape[1]]
        grad_c_now.addcmul_(grad_h, slope)
        through_cell.mul_(grad_c_now.unsqueeze(2))
        through_output.mul_(grad_h)
        grad_c_now.mul_(forget)
        grad_later = grad_gate.flatten(2)
    return slopes.flatten(2), grad_c


def _slopes(layout: Layout, gates: Tensor, output: Tensor, cells: Tensor, c0: Tensor | None) -> tuple[Tensor, Tensor]:
    """Work out what the chain rule needs of the forward pass, for all steps together.

    Returns:
        The slopes, (D, P, 4, m), of the cell state in i, f and g before their squashing and of the output in o, and
        that of the output in the cell state, (D, P, m).
    """
    i, f, g, o = gates.chunk(4, dim=2)
    first = torch.zeros_like(cells[:, : layout.sizes[0]]) if c0 is None else c0
    before = torch.cat((first, cells[:, layout.previous]), dim=1)  # the cell state one step earlier
    slopes = gates.new_empty(*output.shape[:2], 4, output.shape[2])
    new = i * g
    torch.addcmul(new, new, i, value=-1, out=slopes[:, :, 0])
    torch.addcmul(i, new, g, value=-1, out=slopes[:, :, 2])
    kept = f * before
    torch.addcmul(kept, kept, f, value=-1, out=slopes[:, :, 1])
    torch.addcmul(output, output, o, value=-1, out=slopes[:, :, 3])
    return slopes, torch.addcmul(o, output, cells.tanh(), value=-1)
