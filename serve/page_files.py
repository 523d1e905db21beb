"""The files of the web pages: one document for every page, its scripts and styles beside it."""

import re
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "pages"
DOCUMENT = "index.html"
# Where the document's own router (`pages/router.js`) takes over.
PAGE = re.compile(r"\.|red-team|vote|vote/vote_\w+|operate|operate/v\d+")


class PageFiles(StaticFiles):
    """Static files; every page's path answers the document."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        return await super().get_response(DOCUMENT if PAGE.fullmatch(path) else path, scope)

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        # Asked for each time and mostly answered 304: an upgrade is seen at once.
        response.headers["cache-control"] = "no-cache"
        return response
