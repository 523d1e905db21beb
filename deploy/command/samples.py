"""`tandem samples`: recorded replies."""

from typing import Annotated

import typer

from deploy.command.options import ApiKey, Home, Json, Url
from feedback.errors import NotFound

app = typer.Typer(help="Look at recorded replies.", no_args_is_help=True)


# So that there is a group though it has one command.
@app.callback()
def samples() -> None:
    pass


@app.command("find")
def find(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="What stood in `x-request-id` of the answer.")],
    json: Json = False,
    home: Home = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Show what was recorded for a request: its conversation, the reply or both of a pair, key, version and tokens.

    A retry that got the answer of the request before it has an id of its own, under which nothing is recorded.
    """
    from deploy.command.api import open_api
    from deploy.command.output import print_json
    from deploy.command.policies import outline

    with open_api(home, url, key) as api:
        found = list(api.pages("/v1/samples", request_id=request))
    if json:
        print_json(found)
    elif not found:
        raise NotFound(f"nothing is recorded for a request {request!r}")
    else:
        print("\n\n".join("\n".join(outline(sample)) for sample in found))
