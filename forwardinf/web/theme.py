"""Colours and type: paper, ink, and one accent. Fonts come with Gradio; nothing is fetched from elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from urllib.parse import quote

import gradio as gr
from gradio.themes import Base, LocalFont

from . import view

# In the head the styles apply as written; given as `css`, Gradio rewrites selectors, and loses those in media queries.
STYLES = sorted(Path(__file__).parent.glob("*.css"))
HEAD = "".join(f"<style>{path.read_text(encoding='utf-8')}</style>" for path in STYLES)

html = partial(gr.HTML, apply_default_css=False)


def url_of(path: Path) -> str:
    """Where the browser finds a file that `gr.set_static_paths` has released."""
    return f"gradio_api/file={quote(path.resolve().as_posix())}"


def with_pictures(markdown: str, folder: Path) -> str:
    """A text whose pictures from `folder`, where it lies, are found by the browser."""
    for name in view.pictures_beside(markdown):
        picture = folder / name
        if picture.is_file():
            gr.set_static_paths([picture])
            markdown = markdown.replace(f"]({name})", f"]({url_of(picture)})")
    return markdown


THEME = Base(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue="stone",
    text_size="lg",
    radius_size="md",
    # Of Gradio's own fonts, these weights cover Latin whole; most others are cut down to a few letters.
    font=(LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"),
    font_mono=(LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
).set(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_900",
    body_text_color="*neutral_900",
    body_text_color_dark="*neutral_100",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_400",
    block_background_fill="transparent",
    block_background_fill_dark="transparent",
    block_border_width="0px",
    block_shadow="none",
    block_padding="0px",
    block_label_text_color="*neutral_700",
    block_title_text_color="*neutral_700",
    block_title_text_color_dark="*neutral_300",
    block_title_text_weight="600",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_400",
    input_background_fill="white",
    input_background_fill_dark="*neutral_800",
    input_border_color="*neutral_300",
    input_border_color_dark="*neutral_700",
    input_border_width="1px",
    input_border_color_focus="*primary_700",
    input_border_color_focus_dark="*primary_400",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_primary_text_color="white",
    button_secondary_background_fill="white",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_dark="*neutral_800",
    button_secondary_background_fill_hover_dark="*neutral_700",
    button_secondary_border_color="*neutral_300",
    button_secondary_border_color_dark="*neutral_700",
    link_text_color="*primary_700",
    link_text_color_hover="*primary_800",
    link_text_color_visited="*primary_700",
    link_text_color_dark="*primary_300",
    link_text_color_hover_dark="*primary_200",
    link_text_color_visited_dark="*primary_300",
)
