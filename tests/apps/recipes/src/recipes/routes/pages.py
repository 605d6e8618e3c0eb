"""What readers see."""

from pathlib import Path

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.templating import Jinja2Templates

router = APIRouter()
templates = Jinja2Templates(Path(__file__).parent.parent / "templates")


@router.get("/", response_class=HTMLResponse)
async def index(request: Request) -> HTMLResponse:
    recipes = await request.app.state.pool.fetch("select title, steps from recipe order by id")
    title = request.app.state.settings.title
    return templates.TemplateResponse(request, "index.html", {"title": title, "recipes": recipes})


@router.post("/recipes")
async def write(request: Request, title: str = Form(), steps: str = Form()) -> RedirectResponse:
    await request.app.state.pool.execute("insert into recipe (title, steps) values ($1, $2)", title, steps)
    return RedirectResponse("/", status_code=303)
