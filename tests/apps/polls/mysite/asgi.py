"""The application: Django, and beside it the files that `manage.py collectstatic` has collected."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

django = get_asgi_application()

app = Starlette(
    routes=[
        Mount("/static", StaticFiles(directory=settings.STATIC_ROOT, check_dir=False)),
        Mount("/", django),
    ]
)
