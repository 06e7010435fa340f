"""Serving the page until somebody stops it."""

from __future__ import annotations

import importlib
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass

from mvmsr.web.folder import Folder
from mvmsr.web.gate import Gate, Rules
from mvmsr.web.job_queue import JobQueue
from mvmsr.web.limits import Limits
from mvmsr.web.models import Models

_SWEEP_SECONDS = 60.0
_KEEP_SECONDS = 3600.0
_UPLOADS_KEPT = 64
"""The folder holds about so many of the largest uploads, and as much again in results, before uploads must wait."""

_SHARED_SCRIPTS = ("https://gradio.s3-us-west-2.amazonaws.com",)
"""Under a public address gradio's page takes its own programs from there."""


@dataclass(frozen=True)
class Address:
    """Where the page is served.

    Attributes:
        host: address of this machine; 127.0.0.1 is reachable from nowhere else.
        port: of it.
        share: make a public address too, through gradio's tunnel.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    share: bool = False

    @property
    def local(self) -> bool:
        """Whether nobody but this machine's own users can reach it."""
        return self.host in ("127.0.0.1", "localhost", "::1") and not self.share


def serve(
    models: Models, limits: Limits, address: Address, until: threading.Event, ready: Callable[[str, str | None], object]
) -> None:
    """Serves the page until the event is set, then removes all files of it.

    Args:
        ready: told the address, and the public one where `share` asked for it, once the page can be opened.

    Raises:
        OSError: the address is in use or not this machine's.
        RuntimeError: no public address could be had.
    """
    _check_free(address)
    folder = Folder()
    try:
        _prepare(folder)
        _serve(JobQueue(models, limits, folder), address, until, ready)
    finally:
        folder.remove()


def _check_free(address: Address) -> None:
    try:
        # TIME_WAIT of a server that has just ended is no obstacle.
        socket.create_server((address.host, address.port), family=_family(address.host)).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise OSError(
            f"{address.host}:{address.port} cannot be served on ({why}); choose another --port or --host"
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _prepare(folder: Folder) -> None:
    """Settings that gradio reads when it is first imported; none of the user's can open what is closed here."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ["GRADIO_TEMP_DIR"] = str(folder.files)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in ("no_proxy", "NO_PROXY"):  # gradio asks its own page whether it is there
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "localhost", "127.0.0.1", "0.0.0.0")))
    tempfile.tempdir = str(folder.parts)


def _serve(
    jobs: JobQueue, address: Address, until: threading.Event, ready: Callable[[str, str | None], object]
) -> None:
    from starlette.middleware import Middleware

    page_module = importlib.import_module("mvmsr.web.page")  # imports gradio, which reads the settings of `_prepare`
    limits, folder = jobs.limits, jobs.folder
    scripts = _SHARED_SCRIPTS if address.share else ()
    rules = Rules(folder, limits.upload_bytes, 2 * _UPLOADS_KEPT * limits.upload_bytes, address.local, scripts)
    page = page_module.build(jobs)
    page.queue(max_size=limits.waiting, default_concurrency_limit=1, api_open=False)
    page.launch(
        server_name=address.host,
        server_port=address.port,
        share=address.share,
        prevent_thread_lock=True,
        inbrowser=False,
        quiet=True,
        show_error=True,
        allowed_paths=[],
        max_file_size=limits.upload_bytes,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        footer_links=[],
        app_kwargs={
            "middleware": [Middleware(Gate, rules=rules)],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
        theme=page_module.theme(),
        css=page_module.CSS,
        head=page_module.HEAD,
    )
    try:
        if address.share and not page.share_url:
            raise RuntimeError("no public address could be had; is this machine on the net? The page was not served.")
        ready(page.local_url, page.share_url if address.share else None)
        kept = max(_KEEP_SECONDS, 2 * limits.seconds * (limits.waiting + 1))
        while not until.wait(_SWEEP_SECONDS):
            folder.sweep(kept)
    finally:
        jobs.close()
        page.close(verbose=False)
