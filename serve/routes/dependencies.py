"""How a route gets at the parts of the process and at who calls."""

from typing import Annotated

from fastapi import Depends, Request

from serve.auth import Caller, caller_of
from serve.gateway import Gateway


# Both are coroutines although they wait for nothing: FastAPI runs plain functions in a thread, which costs more than
# a vote takes to record.
async def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


Parts = Annotated[Gateway, Depends(gateway_of)]
ByKey = Annotated[Caller, Depends(caller_of)]
