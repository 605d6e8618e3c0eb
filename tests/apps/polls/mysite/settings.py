"""Django's settings, for a service that tenfold runs: everything that differs comes from the environment."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = os.environ.get("SECRET_KEY", "only for commands")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "polls.test"]

INSTALLED_APPS = ["django.contrib.staticfiles", "polls"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
ROOT_URLCONF = "mysite.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]


def database(url: str) -> dict[str, Any]:
    """Django's settings for the address that tenfold gives: several hosts, one of which takes writes."""
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            **dict(parse_qsl(parts.query)),  # host, port, target_session_attrs=read-write
            "connect_timeout": 2,
            "tcp_user_timeout": 5000,
            "options": "-c statement_timeout=8s",
        },
    }


DATABASES = {"default": database(os.environ.get("DATABASE_URL", "postgresql:///polls"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"  # Django makes it the whole process's, the log's too

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static"
