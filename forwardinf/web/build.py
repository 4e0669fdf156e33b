"""The pages of an index put together, with a profile that shares nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr
from fastapi import FastAPI, Request

from ..config import Settings
from ..jobs.builds import Builds
from ..review.cases import Case, list_cases
from . import api, attribute, build_page, cases, evidence, guard, history, method, site, theme, training_set
from .served import Served
from .shelf import Elsewhere, Place


@dataclass(frozen=True)
class Page:
    name: str
    path: str
    description: str  # for previews of a link
    add: Callable[[Served], None]

    @property
    def head(self) -> site.Head:
        title = f"{self.name} · {site.NAME}" if self.path else f"{site.NAME}: {QUESTION}"
        return site.Head(title, self.description)


UPLOADS_KEPT = 600  # seconds that Gradio has its copy of an upload for; ours stays until the visitor leaves
QUESTION = "which training images made this picture?"
PAGES = (
    Page(
        "Attribute",
        "",
        "Give a picture to a generative model and see which of its training images shaped it, who made them, and "
        "whether any of them stands out.",
        attribute.add,
    ),
    Page(
        "Training set",
        "training-set",
        "Every image that the model was trained on, with its creator and its licence.",
        training_set.add,
    ),
    Page(
        "Method",
        "method",
        "How the influence of a training image on a picture is estimated, and what the answer does not mean.",
        method.add,
    ),
    Page(
        "Evidence",
        "evidence",
        "How accurate the answers are, measured where the true answer is known, beside other methods.",
        evidence.add,
    ),
)
PAGE_NAMES = tuple((page.name, page.path) for page in PAGES)


def review_pages(settings: Settings) -> cases.Navigation:
    """Name and path of the pages beside Gradio's.

    The history is not among them where strangers may use the app, as it lists what others asked.
    """
    own = settings.is_local or settings.asks_to_sign_in
    return (("Cases", "cases"), ("History", history.PLACE)) if own else (("Cases", "cases"),)


def build(served: Served, beside: cases.Navigation = (), begun: Callable[[], Sequence[Case]] = tuple) -> gr.Blocks:
    """Gradio's pages, not yet served; the navigation leads to those `beside` them too.

    Programs are told of the cases that are `begun`.
    """
    first, *others = PAGES
    site.set_heads({page.path: page.head for page in PAGES})
    with gr.Blocks(title=site.NAME, analytics_enabled=False, delete_cache=(UPLOADS_KEPT, UPLOADS_KEPT)) as app:
        gr.Navbar(list(beside), main_page_name=first.name)
        first.add(served)
        api.add(served, begun)
        app.unload(_leaver(served))
    for page in others:
        with app.route(page.name, page.path):
            gr.Navbar(list(beside), main_page_name=first.name)
            page.add(served)
    return app


def _leaver(served: Served) -> Callable[[gr.Request], None]:
    def leave(browser: gr.Request) -> None:
        served.leave(browser.session_hash)

    return leave


def application(
    desk: cases.Desk,
    lifespan: site.Lifespan,
    settings: Settings,
    sessions: guard.Sessions | None,
    uploads: guard.Quota | None = None,
    builds: Builds | None = None,
) -> Place:
    """The pages of an index and all they need, by themselves and behind what keeps strangers within bounds."""
    pages = build(desk.served, review_pages(settings), lambda: list_cases(desk.database))

    def shows(number: int) -> bool:
        return number in pages.fns and guard.is_for_viewers(pages.fns[number].fn)

    building = None if builds is None else build_page.BuildPages(builds, settings, desk.navigation)
    app = mounted(desk, pages, lifespan, guard.name_of if sessions else None, building)
    return Place(desk.served, app, guard.guarded(Elsewhere(app, desk.served), settings, sessions, shows, uploads))


def mounted(
    desk: cases.Desk,
    pages: gr.Blocks,
    lifespan: site.Lifespan,
    name_of: Callable[[Request], str | None] | None,
    building: build_page.BuildPages | None = None,
) -> FastAPI:
    """The pages, the files they need and the files of kept results, as one web application.

    `name_of` says who asks, where people have to sign in.
    """
    app = site.routes(desk.served, lifespan)
    cases.add_to(app, desk)
    if history.PLACE in dict(desk.navigation).values():
        history.add_to(app, desk)
    if building is not None:
        build_page.add_to(app, building)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="SSR mode")  # it is off
        return gr.mount_gradio_app(
            app,
            pages.queue(api_open=False),
            path="/",
            auth_dependency=name_of,
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=not desk.served.prefix,
            footer_links=[],
            show_error=False,
            max_file_size="20mb",
            theme=theme.THEME,
            head=theme.HEAD,
            app_kwargs={"exception_handlers": site.ERRORS},
        )
