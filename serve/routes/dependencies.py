"""How a route gets at the parts of the process and at who calls."""

from typing import Annotated

from fastapi import Depends, Request

from serve.auth import Caller, caller_of
from serve.gateway import Gateway


def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


Parts = Annotated[Gateway, Depends(gateway_of)]
ByKey = Annotated[Caller, Depends(caller_of)]
