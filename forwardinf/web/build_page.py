"""The page that builds an index from a folder on the server, or from an uploaded ZIP, and a model: for reviewers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ValidationError

from ..config import Settings
from ..errors import InvalidRequest
from ..examples.unpacking import unpack
from ..jobs.builds import SOURCE, AskedBuild, Build, Builds
from . import guard
from .frame import Frame, Navigation
from .templates import render

PLACE = "build"
UPLOADED = "upload.zip"
OFF = (
    "Building in the browser is off. Start the app with --build-root FOLDER, below which training images, models and "
    "LoRAs may be named; beyond this machine it takes sign-in as well."
)


class AskedFor(BaseModel):
    name: str
    source: str = ""  # a folder below the roots; or else `upload`
    upload: str = ""
    model: str = ""  # empty for the model in use
    lora: str = ""


@dataclass(frozen=True)
class BuildPages:
    """Each method answers one address."""

    builds: Builds
    settings: Settings
    navigation: Navigation

    def page(self, request: Request) -> str:
        self._require_reviewer(request)
        frame = Frame.of(request, self.navigation)
        roots = self.settings.build_roots if self.settings.may_build else ()
        body = render(
            "build.html", root=frame.root, roots=roots, off=OFF, model=self.settings.model, list=self._list(frame.root)
        )
        return frame.page("Build an index", body, "build.js", PLACE)

    def state(self, request: Request) -> dict[str, Any]:
        """The builds as HTML, and whether any has not ended."""
        self._require_reviewer(request)
        ended = sum(build.record.state == "finished" for build in self.builds.all())
        running = any(not build.ended for build in self.builds.all())
        return {"html": self._list(request.scope.get("root_path", "")), "runs": running, "finished": ended}

    async def upload(self, request: Request) -> dict[str, str]:
        """A ZIP, whose bytes are the body."""
        self._require_reviewer(request)
        self._require_on()
        folder = await run_in_threadpool(self.builds.place)
        with (folder / UPLOADED).open("wb") as file:
            async for chunk in request.stream():
                await run_in_threadpool(file.write, chunk)
        try:
            await run_in_threadpool(unpack, folder / UPLOADED, folder / SOURCE)
        finally:
            (folder / UPLOADED).unlink()
        return {"upload": folder.name}

    async def ask(self, request: Request) -> dict[str, str]:
        self._require_reviewer(request)
        self._require_on()
        try:
            asked = AskedFor.model_validate_json(await request.body())
        except ValidationError as error:
            raise InvalidRequest("The page sent something that cannot be read. Load it again.") from error
        build = await run_in_threadpool(self._asked, asked)
        return {"id": build.record.id}

    def stop(self, request: Request, build_id: str) -> dict[str, Any]:
        self._require_reviewer(request)
        self.builds.stop(build_id)
        return self.state(request)

    def resume(self, request: Request, build_id: str) -> dict[str, Any]:
        self._require_reviewer(request)
        self.builds.resume(build_id)
        return self.state(request)

    def _asked(self, asked: AskedFor) -> Build:
        name = re.sub(r"[^\w.-]+", "-", asked.name).strip("-.")[:60]
        if not name:
            raise InvalidRequest("Name the index, with a letter or a digit.")
        model = self._allowed(asked.model, "model") if asked.model.strip() else self.settings.model
        lora = self._allowed(asked.lora, "LoRA") if asked.lora.strip() else ""
        if not re.fullmatch("[0-9a-f]{16}|", asked.upload):
            raise InvalidRequest("This upload is not known here. Give the ZIP again.")
        folder = self.builds.folder / asked.upload if asked.upload else self.builds.place()
        source = folder / SOURCE if asked.upload else Path(self._allowed(asked.source, "folder of training images"))
        if not source.is_dir():
            raise InvalidRequest(f"“{source.name}” is no folder. Name the one that holds the training images.")
        given = AskedBuild(name=name, source=str(source), model=model, lora=lora, device=self.settings.device)
        return self.builds.ask(folder, given)

    def _allowed(self, written: str, what: str) -> str:
        """A path below one of the roots, links followed; raises InvalidRequest where it is not there."""
        path = Path(written.strip()).resolve()
        roots = [root.resolve() for root in self.settings.build_roots]
        if not any(path.is_relative_to(root) for root in roots) or not path.exists():
            raise InvalidRequest(
                f"The {what} “{written.strip() or '…'}” is not there, or not below a folder that may be named: "
                f"{', '.join(map(str, self.settings.build_roots))}."
            )
        return str(path)

    def _require_on(self) -> None:
        if not self.settings.may_build:
            raise InvalidRequest(OFF)

    def _require_reviewer(self, request: Request) -> None:
        user = guard.user_of(request)
        if user is not None and user.role != "reviewer":
            raise HTTPException(403, "Only a reviewer can build an index.")

    def _list(self, root: str) -> str:
        return render("builds.html", root=root, builds=list(reversed(self.builds.all())), left=_left)


def _left(build: Build) -> str:
    """“about 3 min left of this stage”; empty where that is not known."""
    seconds = build.seconds_left
    if seconds is None or build.done >= build.total:
        return ""
    return f"about {seconds:.0f} s left of this stage" if seconds < 90 else f"about {seconds / 60:.0f} min left of it"


def add_to(app: FastAPI, pages: BuildPages) -> None:
    router = APIRouter(prefix=f"/{PLACE}")
    router.add_api_route("", pages.page, response_class=HTMLResponse)
    router.add_api_route("", pages.ask, methods=["POST"])
    router.add_api_route("/state", pages.state)
    router.add_api_route("/zip", pages.upload, methods=["POST"])
    router.add_api_route("/{build_id}/stop", pages.stop, methods=["POST"])
    router.add_api_route("/{build_id}/resume", pages.resume, methods=["POST"])
    app.include_router(router)
