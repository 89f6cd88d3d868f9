"""What several tests ask with: sequences of words as a network's input."""

from episode_batch import pad
from generate_episode import number_sequences


def encode_words(sequences, vocabulary):
    """Turn sequences of words into a batch."""
    return pad(*number_sequences(sequences, vocabulary.words), vocabulary)
