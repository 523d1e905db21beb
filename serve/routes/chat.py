"""`POST /v1/chat/completions`."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from serve.auth import Direct, guarded
from serve.chat.answering import answer
from serve.chat.openapi import CHAT_COMPLETIONS

router = APIRouter(route_class=guarded("chat", Direct))


@router.post("/v1/chat/completions", response_class=Response, openapi_extra=CHAT_COMPLETIONS)
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions. With `n: 2` the answer is a comparison: two replies whose versions are hidden, and
    `comparison_id` to vote on.
    """
    return await answer(request.app.state.gateway, request, request.state.caller)
