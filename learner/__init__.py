"""Learning: preference models from votes, PPO against them, evaluation.

Tensor names end in their shape, one letter an axis:

    B  episodes or rows of a batch     P  tokens of the prompts, padded     D  width of the model
    R  tokens of the replies, padded   T  tokens of prompt and reply        V  vocabulary
    N  reply tokens of a batch without padding, row after row               O  objectives
    C  comparisons                     E  members of an ensemble            F  features

Rows are prompts followed at once by replies and then padding, so causal attention needs no mask. A mask is True where
something counts. `logprobs` are natural logarithms; KL is in nats.
"""
