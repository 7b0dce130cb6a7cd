"""What follows from the numbers of a model's architecture: parameters, bytes of weights, bytes of its cache."""

from __future__ import annotations

from dataclasses import dataclass

CACHE_BYTES = 2
"""Bytes of one key or value in the cache that llama.cpp keeps by default, float16."""


@dataclass(frozen=True)
class Architecture:
    """The numbers of a decoder-only language model, as its published configuration states them.

    Attributes:
        source: The page or file that states them.
        layers: Count of blocks.
        hidden_size: Width of the residual stream.
        query_heads: Count of query heads.
        key_value_heads: Count of key/value heads.
        head_size: Width of one head.
        feed_forward: Width of the MLP's hidden layer, of one expert where there are experts.
        vocabulary_size: Rows of the embedding.
        tied: Whether the output projection shares the embedding's weight.
        gated: Whether the MLP has a gate beside its up projection.
        experts: Count of MLPs of which a router chooses; 0: one MLP for all tokens.
        experts_used: How many experts see a token.
        sliding_window: Tokens that a windowed layer looks back; None where every layer sees the whole context.
        sliding_layers: Count of layers that have that window.
        convolution_layers: Count of layers that hold a short convolution in place of attention, hence no cache.
    """

    source: str
    layers: int
    hidden_size: int
    query_heads: int
    key_value_heads: int
    head_size: int
    feed_forward: int
    vocabulary_size: int
    tied: bool
    gated: bool = True
    experts: int = 0
    experts_used: int = 0
    sliding_window: int | None = None
    sliding_layers: int = 0
    convolution_layers: int = 0

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding, and of the output projection where it has its own."""
        return self.vocabulary_size * self.hidden_size * (1 if self.tied else 2)

    @property
    def _mixer(self) -> int:
        """Weights of everything but MLPs in all blocks: attention or convolution, norms, router."""
        attention = self.hidden_size * self.head_size * (2 * self.query_heads + 2 * self.key_value_heads)
        convolution = 4 * self.hidden_size**2
        rest = self.layers * self.hidden_size * (2 + self.experts)
        return (self.layers - self.convolution_layers) * attention + self.convolution_layers * convolution + rest

    @property
    def _mlp(self) -> int:
        """Weights of one MLP, or of one expert."""
        return self.hidden_size * self.feed_forward * (3 if self.gated else 2)

    @property
    def parameters(self) -> int:
        """Count of weights; biases, which are few, are left out.

        Example:
            >>> smollm2 = Architecture("", 30, 576, 9, 3, 64, 1536, 49152, tied=True)
            >>> smollm2.parameters
            134514432
        """
        blocks = self._mixer + self.layers * max(1, self.experts) * self._mlp
        return self.embedding_parameters + blocks

    @property
    def active_parameters(self) -> int:
        """Count of weights that one generated token reads: without the experts that it is not routed to.

        The embedding that is not the output projection counts for nothing: one row of it is read.
        """
        used = self.experts_used if self.experts else 1
        head = self.vocabulary_size * self.hidden_size
        return head + self._mixer + self.layers * used * self._mlp

    @property
    def cache_bytes_per_token(self) -> int:
        """Bytes of keys and values that one more token adds while every window still grows.

        Example:
            >>> Architecture("", 30, 576, 9, 3, 64, 1536, 49152, tied=True).cache_bytes_per_token
            23040
        """
        return (self.layers - self.convolution_layers) * self._cache_per_layer

    @property
    def _cache_per_layer(self) -> int:
        return 2 * self.key_value_heads * self.head_size * CACHE_BYTES

    def cache_bytes(self, context: int) -> int:
        """Return the bytes of keys and values at a context of so many tokens; windowed layers keep their window.

        Example:
            >>> gemma3 = Architecture("", 18, 640, 4, 1, 256, 2048, 262144, True, sliding_window=512, sliding_layers=15)
            >>> gemma3.cache_bytes(512), gemma3.cache_bytes(4096)
            (9437184, 20447232)
        """
        whole = self.layers - self.convolution_layers - self.sliding_layers
        windowed = min(context, self.sliding_window) if self.sliding_window else context
        return (whole * context + self.sliding_layers * windowed) * self._cache_per_layer

    def weight_bytes(self, bits: float) -> int:
        """Return the bytes of all weights, each stored in so many bits.

        Example:
            >>> Architecture("", 30, 576, 9, 3, 64, 1536, 49152, tied=True).weight_bytes(4.5)
            75664368
        """
        return int(self.parameters * bits / 8)
