"""What a trace says of a reply, by OpenTelemetry's conventions for generative models: settings and counts, no text."""

from feedback import tracing
from feedback.schema import version_name
from feedback.tracing import Span
from serve.chat.reply import Reply
from serve.chat.request import MODEL, ChatRequest
from serve.engine.slot import Seat


def open_for(chat: ChatRequest, choice: int, seat: Seat) -> Span:
    """The span of an engine that is asked for a reply."""
    sampling = chat.sampling
    return tracing.begin(
        f"chat {chat.model}",
        "client",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "vllm",
            "gen_ai.request.model": chat.model,
            "gen_ai.request.choice.count": chat.best_of if chat.best_of > 1 else None,
            "gen_ai.request.stream": chat.stream,
            "gen_ai.request.max_tokens": sampling.get("max_completion_tokens") or sampling.get("max_tokens"),
            "gen_ai.request.temperature": sampling.get("temperature"),
            "gen_ai.request.top_p": sampling.get("top_p"),
            "gen_ai.request.top_k": sampling.get("top_k"),
            "gen_ai.request.frequency_penalty": sampling.get("frequency_penalty"),
            "gen_ai.request.presence_penalty": sampling.get("presence_penalty"),
            "gen_ai.request.seed": chat.seed_of(choice),
            "tandem.engine.slot": seat.slot.index,
            "tandem.choice": choice,
        },
    )


def close(span: Span, reply: Reply, error: str = "unfinished") -> None:
    """End it with what has come of the reply; again changes nothing."""
    if span is tracing.NOTHING:
        return
    seat = reply.seat
    version = None if seat is None else seat.version_first
    span.set(
        {
            "gen_ai.response.id": reply.id,
            "gen_ai.response.model": None if version is None else f"{MODEL}@{version_name(version)}",
            "gen_ai.response.finish_reasons": [reply.finish_reason] if reply.finish_reason else None,
            "gen_ai.usage.input_tokens": reply.usage["prompt_tokens"],
            "gen_ai.usage.output_tokens": reply.usage["completion_tokens"] or len(reply.token_ids),
        }
    )
    if reply.finish_reason is None:
        span.fail(error)
    span.end()
