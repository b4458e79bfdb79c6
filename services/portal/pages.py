"""Templates become pages: one Jinja environment for each language, and what every template knows."""

import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_datetime, format_time, format_timedelta
from babel.numbers import format_decimal
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.portal.languages import locale_of, translations

FOLDER = Path(str(files("services.portal")))
STATIC = FOLDER / "static"

_STOP_TWICE = re.compile(r"(\d\s[ap]\.\s?m\.)\.")

Moment = Callable[..., str]


@cache
def environment(language: str) -> Environment:
    env = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
        auto_reload=False,
    )
    env.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    env.globals["_"] = texts(language)
    env.globals["asset"] = asset
    env.globals["number"] = lambda value: format_decimal(value, locale=locale_of(language))
    return env


def texts(language: str) -> Callable[..., Markup]:
    """`_` of templates: as the extension's own, but a text without blanks is made once."""
    gettext = translations(language).gettext
    whole: dict[str, Markup] = {}

    def text(message: str, /, **values: object) -> Markup:
        if values:
            return Markup(gettext(message)) % values
        if message not in whole:
            whole[message] = Markup(gettext(message)) % {}
        return whole[message]

    return text


@cache
def asset(name: str) -> str:
    """The address of a file under static/; it changes with the content, so a browser may keep it for good."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]
    return f"/static/{digest}/{name}"


def moments(language: str, zone: str, now: datetime) -> Moment:
    """`moment(when, style)` for templates. Styles: `full` Tuesday, August 4 at 9:14 AM; `date`; `time`; `ago` 3 hours
    ago, `exact` with the seconds, for the desk."""
    locale, tz = locale_of(language), ZoneInfo(zone)

    def moment(when: datetime | str, style: str = "full") -> str:
        if isinstance(when, str):
            when = datetime.fromisoformat(when)
        there = when.astimezone(tz)
        if style == "ago":
            return format_timedelta(when - now, add_direction=True, locale=locale)
        if style == "time":
            return format_time(there, "short", locale=locale)
        if style == "date":
            return format_date(there, "long", locale=locale)
        if style == "exact":
            return format_datetime(there, "medium", locale=locale)
        same_year = there.year == now.astimezone(tz).year
        day = format_date(there, "full", locale=locale)
        if same_year and language == "en":
            day = day.removesuffix(f", {there.year}")
        elif same_year:
            day = day.removesuffix(f" de {there.year}")
        return translations(language).gettext("%(day)s at %(time)s") % {
            "day": day,
            "time": format_time(there, "short", locale=locale),
        }

    return moment


def render(language: str, template: str, context: dict[str, Any]) -> str:
    """A page. A sentence that ends with a time of day such as "9:14 a. m." has one full stop."""
    return _STOP_TWICE.sub(r"\1", environment(language).get_template(template).render(context))
