"""The page: what visitors see and click."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from mvmsr.web.job import FORMATS, SCALES, Job, size_within
from mvmsr.web.job_queue import JobQueue
from mvmsr.web.limits import Refused
from mvmsr.web.watch import Stopped

_SHOWN_SECONDS = 20
_QUIETLY: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "Consolas", "monospace"]
_SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
HEAD = f"<script>{_SCRIPT}</script>"
CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def theme() -> Any:
    """Colours and fonts; the fonts are the reader's own, as others would be fetched from the net."""
    return gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=_FONTS, font_mono=_MONO)


def build(jobs: JobQueue) -> gr.Blocks:
    """The page, whose visitors' jobs go into the queue."""
    actions, limits, names = _Actions(jobs), jobs.limits, jobs.models.names
    with gr.Blocks(title="mvmsr", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(
            "# Enlarge an image\n"
            f"Files of up to {limits.upload_bytes / 2**20:,.4g} MiB and {limits.pixels / 1e6:,.4g} million pixels. "
            "Images stay on the machine that serves this page, and are deleted there after a while."
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320):
                upload = gr.File(label="Image", file_types=["image"], height=150, elem_id="upload")
                about = gr.Markdown(elem_id="about")
                model = gr.Dropdown(
                    [(jobs.models.title(name), name) for name in names], value=names[0], label="Model", elem_id="model"
                )
                scale = gr.Radio([(f"x{n}", n) for n in SCALES], value=4, label="Scale", elem_id="scale", min_width=250)
                format_ = gr.Radio(list(FORMATS), value="PNG", label="Format", elem_id="format")
                quality = gr.Slider(
                    1, 100, value=95, step=1, label="Quality", visible=False, elem_id="quality", buttons=[]
                )
                with gr.Row():
                    go = gr.Button("Enlarge", variant="primary", elem_id="go", min_width=120)
                    halt = gr.Button("Stop", elem_id="stop", min_width=80)
            with gr.Column(scale=3, min_width=300):
                compared = gr.ImageSlider(
                    label="Left bicubic, right the result",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id="compared",
                    max_height=640,
                    type="filepath",
                )
                told = gr.Markdown(elem_id="told")
                download = gr.DownloadButton("Download", interactive=False, elem_id="download")
        for changes in (upload.change, scale.change):
            changes(actions.look, [upload, scale], about, **_QUIETLY)
        format_.change(lambda chosen: gr.Slider(visible=chosen != "PNG"), format_, quality, **_QUIETLY)
        running = go.click(
            actions.enlarge,
            [upload, model, scale, format_, quality],
            [compared, download, told],
            api_name="enlarge",
            concurrency_limit=1,
            show_progress_on=compared,
            scroll_to_output=True,
        )
        halt.click(actions.stop, None, told, cancels=running, **_QUIETLY)
        page.unload(actions.leave)
    return page


class _Actions:
    """What the page does when a visitor uses its controls."""

    def __init__(self, jobs: JobQueue) -> None:
        self.jobs = jobs

    def look(self, uploaded: str | None, scale: int) -> str:
        """What is said of a chosen file."""
        if uploaded is None:
            return ""
        path = Path(uploaded)
        try:
            height, width = size_within(path, scale, self.jobs.limits)
        except ValueError as error:
            return f"⚠️ {_plain(_said(error, path))}"
        return f"{_plain(path.name)}: {_size(width, height)} becomes {_size(width * scale, height * scale)}."

    def enlarge(
        self,
        uploaded: str | None,
        model: str,
        scale: int,
        format_: str,
        quality: int,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # gradio finds it by this default
    ) -> tuple[tuple[str, str], Any, str]:
        """Both previews, the button for the download, and what is said below them."""
        if uploaded is None:
            raise gr.Error("Choose an image first.", duration=_SHOWN_SECONDS, print_exception=False)
        visitor = str(request.session_hash)
        progress(0, desc="Enlarging")
        try:
            job = Job(Path(uploaded), model, int(scale), format_, int(quality))
            finished = self.jobs.run(visitor, job, lambda part: progress(part, desc="Enlarging"))
        except (Stopped, Refused) as error:
            title = "Stopped" if isinstance(error, Stopped) else "Not done"
            raise gr.Error(str(error), duration=_SHOWN_SECONDS, print_exception=False, title=title) from error
        result = finished.result
        told = f"{_size(result.width, result.height)} pixels in {finished.seconds:.1f} s. " + " ".join(result.notes)
        label = f"Download {format_} ({_amount(result.file.stat().st_size)})"
        download = gr.DownloadButton(label, value=str(result.file), interactive=True)
        return (str(result.before), str(result.after)), download, told

    def stop(self, request: gr.Request) -> str:
        """Call off this visitor's work."""
        self.jobs.cancel(str(request.session_hash))
        return "Stopped."

    def leave(self, request: gr.Request) -> None:
        """As `stop`, without a word: nobody reads it."""
        self.jobs.cancel(str(request.session_hash))


def _said(error: ValueError, path: Path) -> str:
    cause = getattr(error, "cause", None)
    return f"{path.name} {cause}." if cause else str(error)


def _plain(text: str) -> str:
    """Text that Markdown and HTML show as it is: names of files are the visitor's."""
    return "".join(f"&#{ord(sign)};" if sign in "&<>\"'`*_[]()#!|\\~$:" else sign for sign in text)


def _size(width: int, height: int) -> str:
    return f"{width}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}{height}"


def _amount(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size / 2**10:,.0f} KiB"
