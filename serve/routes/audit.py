"""The audit: who decided what, when and why; and whether its chain is whole."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from feedback.audit import DIGEST, START
from feedback.schema import AuditEntry
from feedback.store import audit
from serve.auth import guarded
from serve.routes.dependencies import Parts
from serve.routes.lists import Limit, Order, Page, page_of

router = APIRouter(route_class=guarded("operate"))

AfterEntry = Annotated[
    int | None, Query(ge=0, lt=2**31, description="The number of the last entry of the page before.")
]
Subject = Annotated[
    str | None, Query(max_length=200, description="Only entries about this: a version, a rater, a key, an iteration.")
]

Kept = Annotated[
    str, Query(pattern=f"^{DIGEST}$", description="The `head` of an earlier answer: the chain has to have it still.")
]


class AuditView(BaseModel):
    """One entry. `digest` covers all of it and `previous`, the digest of the entry before."""

    id: int
    object: Literal["audit_entry"] = "audit_entry"
    created: float
    actor: str
    action: str
    subject: str
    reason: str
    data: dict[str, Any]
    previous: str
    digest: str


class ChainView(BaseModel):
    """How far the chain holds; `head` is the last digest that does."""

    object: Literal["audit_chain"] = "audit_chain"
    entries: int
    head: str
    intact: bool
    broken_at: int | None
    problem: str | None


@router.get("/v1/audit")
async def list_audit(
    parts: Parts, limit: Limit = 20, after: AfterEntry = None, order: Order = "desc", subject: Subject = None
) -> Page[AuditView]:
    """Every decision, the newest first."""
    rows, more = await parts.record.read_once(audit.list_page, limit=limit, after=after, order=order, subject=subject)
    return page_of([_view(row) for row in rows], [str(row.seq) for row in rows], more)


@router.get("/v1/audit/chain")
async def verify_audit(parts: Parts, kept: Kept = START) -> ChainView:
    """Check the whole chain."""
    return ChainView(**(await parts.record.search(audit.verify, kept)).as_json())


def _view(entry: AuditEntry) -> AuditView:
    return AuditView(
        id=entry.seq,
        created=entry.created_at,
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        reason=entry.reason,
        data=entry.data,
        previous=entry.previous,
        digest=entry.digest,
    )
