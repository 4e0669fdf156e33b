"""What surrounds a page that is none of Gradio's: the same look, name and navigation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from fastapi import Request
from markupsafe import Markup

from .. import __version__
from . import guard, theme
from .site import NAME
from .templates import render

AUTHOR = "reviewer"  # the cookie that holds the name under which a browser's decisions are recorded
LONGEST_AUTHOR = 200  # characters

Navigation = tuple[tuple[str, str], ...]  # name and path of each page of the app


@dataclass(frozen=True)
class Frame:
    """What surrounds a page."""

    root: str  # the path that the app is served under; empty for none
    navigation: Navigation
    author: str  # who reviews: who is signed in, else as the browser says; empty where nobody has said yet
    request: Request

    @classmethod
    def of(cls, request: Request, navigation: Navigation) -> Self:
        """The frame of the page that a request is answered by."""
        author = guard.name_of(request) or unquote(request.cookies.get(AUTHOR, ""))[:LONGEST_AUTHOR].strip()
        return cls(request.scope.get("root_path", ""), navigation, author, request)

    @property
    def signed_in(self) -> bool:
        return guard.user_of(self.request) is not None

    def page(self, title: str, body: str, script: str = "", place: str = "") -> str:
        """A whole page of `body`, with a script of `static/`, in the `place` of the navigation with this path."""
        return render(
            "frame.html",
            root=self.root,
            config={"root": self.root},
            request=self.request,
            navigation=self.navigation,
            title=title,
            place=place,
            name=NAME,
            styles=Markup(theme.HEAD),
            body=body,
            script=script,
            version=__version__,
        )

    def refused(self, message: str) -> str:
        body = render("refused.html", root=self.root, message=message)
        return self.page("This did not work", body)
