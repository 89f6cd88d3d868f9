"""What a network is made of, and which combinations make no sense."""

from dataclasses import dataclass

from common.errors import UserError

RECURRENT = ("rnn", "lstm", "stack_rnn", "stack_lstm")
MODELS = (*RECURRENT, "transformer")
POSITIONS = ("none", "sincos", "alibi", "relative")


@dataclass(frozen=True)
class NetworkConfig:
    """A network's kind and sizes; those of other kinds are not looked at."""

    model: str = "lstm"
    num_symbols: int = 2  # K
    hidden_size: int = 128  # H, units of the recurrent core
    before_mlp: tuple[int, ...] = ()  # widths of layers before and after the recurrent core
    after_mlp: tuple[int, ...] = ()
    n_stacks: int = 1
    stack_size: int = 30  # cells of a stack, S
    stack_cell_size: int = 8  # width of a cell, C
    emb_size: int = 64  # E, width of the transformer
    nlayers: int = 5
    nheads: int = 8
    ff_mult: int = 4  # width of the feed-forward layers, in E
    dropout: float = 0.1
    pos_enc: str = "none"
    context_length: int | None = None  # cut the input into blocks of this length; one block if None
    attention_window: int | None = None  # attend to this many steps around a step, those to come left out; all if None
    head_size: int | None = None  # units of a head, d; E / heads if None
    emb_init_scale: float = 0.02  # standard deviation of the embedding's first weights
    max_time: float = 10000.0  # the sinusoids' largest period, in steps / (2 pi)

    @property
    def width_of_heads(self) -> int:
        """Units of all heads together, h d."""
        return self.nheads * (self.head_size or self.emb_size // self.nheads)


FIELDS_OF = {
    "recurrent networks": ("hidden_size", "before_mlp", "after_mlp"),
    "networks with stacks": ("n_stacks", "stack_size", "stack_cell_size"),
    "transformers": (
        *("emb_size", "nlayers", "nheads", "ff_mult"),
        *("dropout", "pos_enc", "context_length", "attention_window"),
        *("head_size", "emb_init_scale", "max_time"),
    ),
}


def n_layers_of(config: NetworkConfig) -> int:
    """Say how many layers a network has beside embedding, recurrent core and output."""
    return config.nlayers if config.model == "transformer" else len(config.before_mlp) + len(config.after_mlp)


def check_unused(config: NetworkConfig) -> None:
    """Raise UserError, naming the flag, if a size differs from its default although the network has no use for it."""
    used = {
        "recurrent networks": config.model in RECURRENT,
        "networks with stacks": config.model.startswith("stack_"),
        "transformers": config.model == "transformer",
    }
    for family, names in FIELDS_OF.items():
        for name in names:
            if not used[family] and getattr(config, name) != getattr(NetworkConfig(), name):
                raise UserError(f"--{name} is for {family} only; --model is {config.model}")


def check_network(config: NetworkConfig) -> None:
    """Raise UserError, naming the flags, if the sizes do not fit one another."""
    if config.model not in MODELS:
        raise UserError(f"--model: expected one of {', '.join(MODELS)}, found {config.model!r}")
    if config.model != "transformer":
        return
    if config.pos_enc not in POSITIONS:
        raise UserError(f"--pos_enc: expected one of {', '.join(POSITIONS)}, found {config.pos_enc!r}")
    if config.head_size is None and config.emb_size % config.nheads:
        raise UserError(f"--emb_size {config.emb_size} cannot be shared by --nheads {config.nheads}")
    if config.pos_enc == "sincos" and config.emb_size % 2:
        raise UserError(f"--pos_enc sincos needs an even --emb_size, found {config.emb_size}")
    if config.pos_enc == "relative" and config.width_of_heads % 2:
        found = f"found {config.width_of_heads} (--emb_size, or --nheads times --head_size)"
        raise UserError(f"--pos_enc relative needs an even number of units in all heads, {found}")


def check_length(config: NetworkConfig, length: int, flag: str = "a length of") -> None:
    """Raise UserError, naming the flag if there is one, if a network cannot read `length` symbols at a time."""
    block = config.context_length
    if config.model == "transformer" and block is not None and length % block:
        raise UserError(f"{flag} {length} is not divisible by the network's context_length {block}")


def check_state(config: NetworkConfig) -> None:
    """Raise UserError if a network without a state is to carry it on."""
    if config.model not in RECURRENT:
        raise UserError(
            f"--carry_state needs a network with a state ({', '.join(RECURRENT)}); --model is {config.model}"
        )
