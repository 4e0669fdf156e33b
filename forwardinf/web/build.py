"""The app: its pages put together, and served with a profile that shares nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from ..config import Settings
from ..errors import InvalidSettings
from ..index.catalog import Catalog
from ..models import load_model
from . import about, generate, theme, training_set
from .served import Served


@dataclass(frozen=True)
class Page:
    name: str
    path: str
    add: Callable[[Served], None]


# The first page is the one at the root, whatever its path.
PAGES = (
    Page("Generate", "generate", generate.add),
    Page("Training set", "training-set", training_set.add),
    Page("About", "about", about.add),
)


def build(served: Served) -> gr.Blocks:
    """All pages of the app, not yet launched."""
    first, *others = PAGES
    with gr.Blocks(title="Forward-INF", analytics_enabled=False) as app:
        gr.Navbar(main_page_name=first.name)
        first.add(served)
    for page in others:
        with app.route(page.name, page.path):
            gr.Navbar(main_page_name=first.name)
            page.add(served)
    return app


def serve(settings: Settings) -> None:
    """Load what `settings` name and serve it until interrupted; raises ForwardInfError where it cannot be used."""
    catalog = Catalog.load(settings.artwork)
    model = load_model(settings.model_spec())
    gr.set_static_paths([catalog.folder / "pictures"])
    # A host that nobody set is left to Gradio, which on a Space takes it from GRADIO_SERVER_NAME.
    host = settings.host if "host" in settings.model_fields_set else None
    app = build(Served(model, catalog)).queue(api_open=False)
    try:
        app.launch(
            server_name=host,
            server_port=settings.port,
            share=False,
            strict_cors=True,
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
            max_file_size="20mb",
            theme=theme.THEME,
            head=theme.HEAD,
        )
    except OSError as error:
        raise InvalidSettings(
            f"The app cannot listen on port {settings.port}; it may be in use. Set FORWARDINF_PORT to another."
        ) from error
    print(f"Forward-INF is at {app.local_url}", flush=True)
    app.block_thread()
