"""Both replies of a comparison in one row after their prompt, through any causal language model.

What a row is, `learner.comparisons` says; here it is seen to that no model mixes up what stands in it.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from learner import small_llama
from learner.comparisons import ComparisonBatch, EncodedComparison
from learner.errors import ModelNotSupported
from learner.hardware import matmul_precision
from learner.language_model import hidden_states, states_at
from learner.sequences import Episodes


def pair_states(trunk: PreTrainedModel, batch: ComparisonBatch, read_C_T: Tensor) -> Tensor:
    """Hidden states [N, D] where `read_C_T` is True, in rows that hold a prompt and both replies."""
    if small_llama.fits(trunk, *batch.tokens_C_T.shape):
        return small_llama.hidden_states(
            trunk,
            batch.tokens_C_T,
            read_C_T,
            present_B_T=batch.present_C_T,
            positions_B_T=batch.positions_C_T,
            visible_B_T_T=batch.visible_C_T_T,
        )
    output = trunk(
        input_ids=batch.tokens_C_T,
        attention_mask=_attention_masks(trunk, batch),
        position_ids=batch.positions_C_T,
        use_cache=False,
    )
    return states_at(output.last_hidden_state, read_C_T)


def _attention_masks(trunk: PreTrainedModel, batch: ComparisonBatch) -> Tensor | dict[str, Tensor]:
    """What attention adds to its scores, [C, 1, T, T]; by kind of layer where some look back over a window only.

    The library takes such a mask as it is, for layers with a window too.
    """
    config = trunk.config.get_text_config()
    # In the format of the queries: autocast would round it anew in each layer.
    device = batch.tokens_C_T.device
    rounds = torch.is_autocast_enabled(device.type)
    number_format = torch.get_autocast_dtype(device.type) if rounds else trunk.dtype
    seen = torch.zeros((), dtype=number_format, device=device)

    def added(visible_C_T_T: Tensor) -> Tensor:
        return torch.where(visible_C_T_T, seen, torch.finfo(number_format).min)[:, None]

    everything = added(batch.visible_C_T_T)
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if window is None or batch.tokens_C_T.shape[1] <= window:
        return everything
    back_C_T_T = batch.positions_C_T[:, :, None] - batch.positions_C_T[:, None, :]
    near = added(batch.visible_C_T_T & (back_C_T_T < window))
    return near if kinds is None else {"full_attention": everything, "sliding_attention": near}


@torch.no_grad()
def require_pairs(model: PreTrainedModel) -> None:
    """Refuse a model for which two replies cannot share a row: one without positions or masks of attention."""
    pair = EncodedComparison([1, 2], ([3, 4], [5]), 0, 0.5, 1.0)
    batch = ComparisonBatch.pad([pair], model.device)
    alone = [Episodes.pad([pair.prompt], [reply], model.device) for reply in pair.replies]
    try:
        with matmul_precision("full", model):
            together_3_D = pair_states(model.base_model, batch, batch.is_reply_C_T)
            apart_3_D = torch.cat(
                [hidden_states(model, one.tokens_B_T, one.is_reply_B_T, one.present_B_T) for one in alone]
            )
        fits = torch.allclose(together_3_D.float(), apart_3_D.float(), rtol=1e-2, atol=1e-2)
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise ModelNotSupported(
            f"{model.config.model_type}: two replies after one prompt cannot be told apart by masks and positions, "
            "as votes are learnt from"
        )
