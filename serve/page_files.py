"""The files of the web pages: one document for every page, its scripts and styles beside it."""

import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "pages"
DOCUMENT = "index.html"
# Where the document's own router (`pages/router.js`) takes over.
PAGE = re.compile(r"\.|red-team|vote|vote/vote_\w+|operate|operate/v\d+")


class PageFiles(StaticFiles):
    """Static files; every page's path answers the document, and with 404 so does an address of nothing in a browser."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(DOCUMENT if PAGE.fullmatch(path) else path, scope)
        except HTTPException as error:
            looks = "text/html" in Headers(scope=scope).get("accept", "")
            if error.status_code != HTTPStatus.NOT_FOUND or path.startswith("v1/") or not looks:
                raise
            never_kept = {"cache-control": "no-store"}
            return FileResponse(FOLDER / DOCUMENT, status_code=HTTPStatus.NOT_FOUND, headers=never_kept)

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        # Asked for each time and mostly answered 304: an upgrade is seen at once.
        response.headers["cache-control"] = "no-cache"
        return response
