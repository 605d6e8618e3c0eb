"""What only the kitchen may do."""

from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Request

router = APIRouter()


@router.delete("/recipes")
async def clear(request: Request, x_key: Annotated[str, Header()]) -> dict[str, str]:
    if x_key != request.app.state.settings.key:
        raise HTTPException(403)
    return {"deleted": await request.app.state.pool.execute("delete from recipe")}
